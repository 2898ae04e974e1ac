"""Parquet shards of clips → rows, their label blobs as arrays; and the schema of the shards."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fixtalk.shapes import Float

Row = dict[str, Any]  # a clip's columns by name
ARRAYS = {"landmarks": (-1, 68, 2), "arkit": (-1, 52), "pose": (-1, 6)}


def clip_schema() -> Any:
    """The pyarrow schema of a shard: one row a clip."""
    import pyarrow as pa

    text, number, blob = pa.string(), pa.int32(), pa.large_binary()
    fields = [
        ("clip", text), ("person", text), ("split", text), ("session", text), ("motion", text),
        ("emotion", text), ("level", number), ("sentence", text), ("frames", number),
        ("video", blob), ("audio", blob), ("box", pa.list_(pa.float32(), 3)),
        ("source_fps", pa.float32()),
        ("landmarks", blob), ("arkit", blob), ("pose", blob), ("identity_seed", pa.int64()),
        ("camera", text), ("face_probability", pa.float32()),
    ]  # fmt: skip
    return pa.schema(fields)


def to_blob(array: Float[np.ndarray, "..."] | None) -> bytes | None:
    """Bytes of a float32 label array, None for none."""
    return None if array is None else np.ascontiguousarray(array, dtype="<f4").tobytes()


def read_clips(
    clips: Path, split: str | None = None, columns: Sequence[str] | None = None
) -> list[Row]:
    """Rows of all shards in file order, label blobs turned into arrays.

    Args:
        clips: folder written by the crop stage.
        split: "train" or "test"; None for both.
        columns: what to read; None for all.

    Raises:
        FileNotFoundError: no shard below `clips`.
    """
    import pyarrow.parquet as pq

    wanted = None if columns is None else list(columns)
    chosen = None if split is None else [("split", "=", split)]
    tables = (pq.read_table(shard, columns=wanted, filters=chosen) for shard in find_shards(clips))
    return [decode_labels(row) for table in tables for row in table.to_pylist()]


def find_shards(clips: Path) -> list[Path]:
    """Shards below `clips` in the order of their names.

    Raises:
        FileNotFoundError: none.
    """
    shards = sorted((clips / "shards").glob("*.parquet"))
    if not shards:
        raise FileNotFoundError(f"{clips}/shards holds no *.parquet: run the crop stage first")
    return shards


def decode_labels(row: Row) -> Row:
    """A row as Parquet gives it, its label blobs turned into arrays in place."""
    for name, shape in ARRAYS.items():
        if row.get(name) is not None:
            row[name] = np.frombuffer(row[name], dtype="<f4").reshape(shape)
    return row
