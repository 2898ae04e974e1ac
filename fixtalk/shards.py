"""Clip rows, one after the other → numbered Parquet shards, their index and the coverage."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from fixtalk.dataset import FOOTERS, clip_schema, footer_crc
from fixtalk.media import FPS

ROW_GROUP = 8  # clips read at once by training, at most
ROW_GROUP_BYTES = 16 * 2**20  # of those clips, unless one alone has more
INDEX = ["clip", "person", "split", "motion", "emotion", "level", "sentence", "frames"]
MEASURED = ["face_probability", "face_pixels", "sharpness", "speech"]
MEGABYTE = 2**20


class ShardWriter:
    """Rows one after the other → numbered Parquet files of row groups that are read at once.

    Columns are stored as they are, since videos do not shrink, with a checksum a page. A row
    group ends after ROW_GROUP clips or before it would exceed ROW_GROUP_BYTES, a file before it
    would exceed its bound.

    Args:
        folder: of the files.
        megabytes: of a file at most, unless one row group alone has more.
    """

    def __init__(self, folder: Path, megabytes: float) -> None:
        self.folder, self.most = folder, megabytes * MEGABYTE
        self.waiting: list[pa.RecordBatch] = []
        self.index: list[dict[str, Any]] = []
        self.shards = self.rows = self.written = self.held = 0
        self.writer: pq.ParquetWriter | None = None

    def add(self, batch: pa.RecordBatch) -> None:
        """Append rows; at most a row group of them stays in memory."""
        for row in range(batch.num_rows):
            one = batch.slice(row, 1)
            if len(self.waiting) == ROW_GROUP or self.held + one.nbytes > ROW_GROUP_BYTES:
                self._flush()
            self.waiting.append(one)
            self.held += one.nbytes

    def close(self) -> pd.DataFrame:
        """The index of all rows written."""
        self._flush()
        self._finish()
        sums = {path.name: footer_crc(path) for path in sorted(self.folder.glob("*.parquet"))}
        (self.folder / FOOTERS).write_text(json.dumps(sums, indent=1) + "\n", encoding="utf-8")
        columns = [*INDEX, "shard", "row", "has_audio", *MEASURED]
        return pd.DataFrame(self.index, columns=columns)

    def _flush(self) -> None:
        """Write the waiting rows as one row group, into a new file where they are too many."""
        if not self.waiting:
            return
        if self.writer and self.written + self.held > self.most:
            self._finish()
        name = f"{self.shards:05d}.parquet"
        if not self.writer:
            self.writer = pq.ParquetWriter(
                self.folder / name,
                clip_schema(),
                compression="none",
                use_dictionary=False,
                write_page_checksum=True,
            )
        table = pa.Table.from_batches(self.waiting, clip_schema())
        self.writer.write_table(table)
        for values in table.select([*INDEX, "audio", *MEASURED]).to_pylist():
            values["has_audio"] = bool(values.pop("audio"))
            self.index.append(values | {"shard": name, "row": self.rows})
            self.rows += 1
        self.written += self.held
        self.waiting, self.held = [], 0

    def _finish(self) -> None:
        if self.writer:
            self.writer.close()
            self.writer, self.shards, self.rows, self.written = None, self.shards + 1, 0, 0


def coverage_of(reports: list[dict[str, Any]], index: pd.DataFrame) -> dict[str, Any]:
    """What became of every listed video, as numbers and as a list of what was left out."""
    pieces = [piece for report in reports for piece in report["pieces"]]
    dropped = [one for report in reports for one in report["dropped"]]
    usable = sum(bool(report["pieces"]) for report in reports)
    return {
        "videos": len(reports),
        "usable": usable,
        "coverage": usable / len(reports),
        "clips": len(index),
        "frames": int(index["frames"].sum()),
        "hours": round(float(index["frames"].sum()) / FPS / 3600, 4),
        "silent": sum(piece["silent"] for piece in pieces),
        "enlarged": sum(piece["enlarged"] for piece in pieces),
        "padded_share": round(float(np.mean([p["padded"] for p in pieces] or [0])), 4),
        "face_probability": round(float(index["face_probability"].mean()), 4) if pieces else None,
        "cuts": sum(report["cuts"] for report in reports),
        "reasons": dict(Counter(one["reason"] for one in dropped).most_common()),
        "licences": dict(Counter(report["licence"] for report in reports).most_common()),
        "dropped": dropped,
        "damaged": [
            {"clip": report["clip"], "video": report["video"], "damage": report["damage"]}
            for report in reports
            if report.get("damage")
        ],
    }
