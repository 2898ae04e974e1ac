"""Parquet shards of clips → rows, their label blobs as arrays; and the schema of the shards."""

import json
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from fixtalk.shapes import Float

Row = dict[str, Any]  # a clip's columns by name
# Labels of every frame as float32: 68 points, eyes-nose-mouth in crop pixels; yaw, pitch, roll in
# radians, as estimated of the five points and, with a shift, as the dataset gives them.
ARRAYS = {
    "landmarks": (-1, 68, 2), "arkit": (-1, 52), "pose": (-1, 6),
    "points": (-1, 5, 2), "head_pose": (-1, 3), "mouth": (-1,),
}  # fmt: skip

FOOTERS = "footers.json"  # beside the shards: name → CRC-32 of its footer


def clip_schema() -> Any:
    """The pyarrow schema of a shard: one row a clip.

    "pose" is what the dataset knows, "head_pose" what is estimated of "points", for every clip;
    "mouth" is null without "landmarks". See docs/clips.md.
    """
    import pyarrow as pa

    text, number, blob = pa.string(), pa.int32(), pa.large_binary()
    fields = [
        ("clip", text), ("person", text), ("split", text), ("session", text), ("motion", text),
        ("emotion", text), ("level", number), ("sentence", text), ("frames", number),
        ("video", blob), ("audio", blob), ("box", pa.list_(pa.float32(), 3)),
        ("source_fps", pa.float32()),
        ("landmarks", blob), ("arkit", blob), ("pose", blob), ("identity_seed", pa.int64()),
        ("camera", text), ("face_probability", pa.float32()),
        ("points", blob), ("head_pose", blob), ("mouth", blob),
        ("face_pixels", pa.float32()), ("sharpness", pa.float32()), ("speech", pa.float32()),
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
        ShardError: a shard that cannot be read.
    """
    return [row for shard in find_shards(clips) for row in read_shard(shard, split, columns)]


def read_shard(
    shard: Path, split: str | None = None, columns: Sequence[str] | None = None
) -> list[Row]:
    """Rows of one shard, as `read_clips` gives those of all."""
    import pyarrow.parquet as pq

    with naming(shard):
        check_footer(shard)
        check_columns(pq.read_schema(shard).names)
        table = pq.read_table(
            shard,
            columns=None if columns is None else list(columns),
            filters=None if split is None else [("split", "=", split)],
            schema=clip_schema(),
            page_checksum_verification=True,
        )
        return [decode_labels(row) for row in table.to_pylist()]


def check_columns(names: Sequence[str]) -> None:
    """Raise ValueError unless a shard has all columns."""
    if lacking := set(clip_schema().names) - set(names):
        raise ValueError(f"it lacks the columns {', '.join(sorted(lacking))}")


def footer_crc(shard: Path) -> int:
    """CRC-32 of a Parquet file's footer, the one part that Parquet has no checksum of.

    Raises:
        ValueError: the file has no footer.
    """
    with shard.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - 8))
        length = int.from_bytes(file.read(4), "little")
        if file.read() != b"PAR1" or length > end - 8:
            raise ValueError("it has no footer: cut off or overwritten")
        file.seek(end - 8 - length)
        return zlib.crc32(file.read())


def check_footer(shard: Path) -> None:
    """Raise ValueError if the footer is not the written one: pyarrow aborts on some damage.

    Shards without FOOTERS beside them, which the crop stage never leaves, are taken as they are.
    """
    known = shard.with_name(FOOTERS)
    if not known.is_file():
        return
    sums = json.loads(known.read_bytes())
    if not isinstance(sums, dict) or sums.get(shard.name) != footer_crc(shard):
        raise ValueError(f"its footer is not the one in {FOOTERS}")


class ShardError(ValueError):
    """A shard cannot be read; the message names it and the remedy."""


@contextmanager
def naming(shard: Path) -> Iterator[None]:
    """Turn what pyarrow and damaged labels raise into a ShardError with the shard's name."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise ShardError(f"{shard} cannot be read ({error}): run the crop stage again") from error


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
