"""Clip rows, one after the other → numbered Parquet shards, their index and the coverage."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from fixtalk.dataset import clip_schema
from fixtalk.media import FPS

ROW_GROUP = 8  # clips read at once by training
INDEX = ["clip", "person", "split", "motion", "emotion", "level", "sentence", "frames"]


class ShardWriter:
    """Rows one after the other → numbered Parquet files with row groups of ROW_GROUP."""

    def __init__(self, folder: Path, clips_per_shard: int) -> None:
        self.folder, self.clips_per_shard = folder, clips_per_shard
        self.waiting: list[pa.RecordBatch] = []
        self.index: list[dict[str, Any]] = []
        self.writer: pq.ParquetWriter | None = None

    def add(self, batch: pa.RecordBatch) -> None:
        """Append rows; at most ROW_GROUP of them stay in memory."""
        for row in range(batch.num_rows):
            one = batch.slice(row, 1)
            shard, position = divmod(len(self.index), self.clips_per_shard)
            if position == 0:
                self._finish()
                name = self.folder / f"{shard:05d}.parquet"
                self.writer = pq.ParquetWriter(name, clip_schema(), compression="none")
            self.waiting.append(one)
            values = one.select([*INDEX, "audio", "face_probability"]).to_pylist()[0]
            values["has_audio"] = bool(values.pop("audio"))
            self.index.append(values | {"shard": f"{shard:05d}.parquet", "row": position})
            if len(self.waiting) == ROW_GROUP:
                self._flush()

    def close(self) -> pd.DataFrame:
        """The index of all rows written."""
        self._finish()
        columns = [*INDEX, "shard", "row", "has_audio", "face_probability"]
        return pd.DataFrame(self.index, columns=columns)

    def _flush(self) -> None:
        if self.waiting:
            self.writer.write_table(pa.Table.from_batches(self.waiting, clip_schema()))
            self.waiting = []

    def _finish(self) -> None:
        if self.writer:
            self._flush()
            self.writer.close()


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
        "reasons": dict(Counter(one["reason"] for one in dropped).most_common()),
        "dropped": dropped,
        "damaged": [
            {"clip": report["clip"], "video": report["video"], "damage": report["damage"]}
            for report in reports
            if report.get("damage")
        ],
    }
