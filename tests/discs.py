"""Person and motion → a drawn clip of a moving disc, and clips → a folder like crop's."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fixtalk.dataset import clip_schema
from fixtalk.media import encode_video

SPLIT = "0123456789abcdef"


def disc(person, step, resolution=32):
    """A disc in the person's colour that moves right by a pixel a frame."""
    rows, columns = np.mgrid[:resolution, :resolution]
    inside = (rows - 16) ** 2 + (columns - 8 - step) ** 2 < 36
    colour = np.array([60 + 60 * person, 200 - 50 * person, 90], np.uint8)
    return np.where(inside[..., None], colour, np.uint8(30))


def clip_row(clip, person, motion, frames=6, moving=True, split="test", resolution=32):
    pictures = [disc(person, n if moving else 0, resolution) for n in range(frames)]
    row = dict.fromkeys(clip_schema().names)
    return row | {
        "clip": clip,
        "person": f"S{person:03d}",
        "split": split,
        "motion": motion,
        "frames": frames,
        "video": encode_video(pictures, crf=0, gop=5),
        "audio": b"",
        "box": [0.0, 0.0, 32.0],
        "source_fps": 25.0,
        "face_probability": 1.0,
    }


def write_clips(folder, rows):
    (folder / "shards").mkdir(parents=True)
    table = pa.Table.from_pylist(rows, schema=clip_schema())
    pq.write_table(table, folder / "shards" / "000.parquet")
    (folder / "coverage.json").write_text(json.dumps({"split_hash": SPLIT}))
    return folder
