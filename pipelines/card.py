"""Finished clips → card/: README.md, histograms and a sheet of faces, to judge a dataset by."""

from html import escape
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from fixtalk.dataset import find_shards, read_shard
from fixtalk.media import FPS, decode_frames
from fixtalk.pages import Page, read_page
from fixtalk.shapes import Float, UInt8
from fixtalk.shards import MEASURED
from fixtalk.sheet import picture_sheet, write_picture
from pipelines.files import replacing, write_text

ROWS, COLUMNS = 4, 6  # of the sheet
SIDE = 128  # pixels, of a face on it
SEED = 0  # of the choice of faces
BINS = 36
NAME = 16  # letters of an emotion beside its bar, at most
COLOUR = "#33415c"
TITLES = {  # of the measured columns
    "face_probability": "detector's probability",
    "face_pixels": "face, pixels in the video",
    "sharpness": "sharpness",
    "speech": "share of speech",
}


def write_card(clips: Path, dataset: str, coverage: dict[str, Any], index: pd.DataFrame) -> None:
    """Write the card of a dataset into `clips`/card.

    Args:
        clips: folder with shards.
        dataset: its name.
        coverage: of its videos.
        index: of its clips.
    """
    card = clips / "card"
    card.mkdir()
    motion = _read_motion(clips)
    _draw_histograms(card / "histograms.png", motion, index)
    write_picture(card / "faces.png", _sheet(clips, index))
    write_text(card / "README.md", _text(dataset, coverage, index, motion))


def _read_motion(clips: Path) -> dict[str, Float[np.ndarray, " frames"]]:
    """Yaw in degrees and mouth of every frame, and what five points miss of known angles."""
    yaw, mouth, misses = [], [], []
    for shard in find_shards(clips):
        for row in read_shard(shard, columns=["pose", "head_pose", "mouth"]):
            known, estimated = row["pose"], row["head_pose"]
            yaw.append(np.degrees((estimated if known is None else known)[:, 0]))
            if known is not None:
                misses.append(np.degrees(np.abs(known[:, :3] - estimated)))
            if row["mouth"] is not None:
                mouth.append(row["mouth"])
    none = np.zeros(0, np.float32)
    missed = np.concatenate(misses).mean(axis=0) if misses else none
    return {
        "yaw": np.concatenate([none, *yaw]),
        "mouth": np.concatenate([none, *mouth]),
        "missed": missed,
    }


def _draw_histograms(path: Path, motion: dict[str, np.ndarray], index: pd.DataFrame) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.2), dpi=100, layout="constrained")
    yaw, mouth, emotion = figure.subplots(1, 3)
    yaw.hist(motion["yaw"], bins=BINS, range=(-90, 90), color=COLOUR)
    yaw.set_title("head yaw, degrees; frames")
    mouth.set_title("mouth opening, eye distances; frames")
    if motion["mouth"].size:
        mouth.hist(motion["mouth"], bins=BINS, color=COLOUR)
    else:
        mouth.text(0.5, 0.5, "no landmarks", ha="center", transform=mouth.transAxes)
    counts = index["emotion"].fillna("not given").value_counts()[::-1]
    names = [n if len(n) <= NAME else f"{n[: NAME - 1]}…" for n in counts.index]
    emotion.barh(range(len(counts)), counts.to_numpy(), color=COLOUR, tick_label=names)
    emotion.set_title("emotion; clips")
    with replacing(path) as temporary:
        FigureCanvasAgg(figure).print_png(temporary)


def _sheet(clips: Path, index: pd.DataFrame) -> UInt8[np.ndarray, "height width 3"]:
    """Middle frames of clips drawn at random; the first people again where there are few clips."""
    drawn = index.sample(min(ROWS * COLUMNS, len(index)), random_state=SEED)
    faces = [_face(clips, one) for one in drawn.itertuples()]
    columns = min(COLUMNS, len(faces))
    faces = faces[: len(faces) // columns * columns]
    rows = [faces[start : start + columns] for start in range(0, len(faces), columns)]
    return picture_sheet(rows, [""] * columns, min_side=SIDE)


def _face(clips: Path, one: Any) -> UInt8[np.ndarray, "side side 3"]:
    import pyarrow.parquet as pq

    shard, row = clips / "shards" / one.shard, int(one.row)
    with pq.ParquetFile(shard) as file:
        lengths = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
    ends = np.cumsum(lengths)
    group = int(np.searchsorted(ends, row, side="right"))
    place = row - int(ends[group]) + lengths[group]
    found = read_page(Page(shard, group, (place,), (one.person,)))[0]
    picture = decode_frames(found["video"], [found["frames"] // 2])[0]
    if len(picture) <= SIDE:
        return picture
    return cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def _text(
    dataset: str, coverage: dict[str, Any], index: pd.DataFrame, motion: dict[str, np.ndarray]
) -> str:
    """The card as Markdown."""
    lines = [
        f"# {_plain(dataset)}",
        "",
        f"{coverage['clips']} clips, {coverage['hours']:.2f} hours, of {coverage['usable']} of "
        f"{coverage['videos']} videos ({coverage['coverage']:.1%}); {coverage['cuts']} cuts "
        f"between shots; {coverage['silent']} clips are silent, {coverage['enlarged']} enlarged.",
        "",
        "Licences as the manifest states them: "
        + "; ".join(
            f"{_plain(name)} ({count} videos)" for name, count in coverage["licences"].items()
        )
        + ".",
        "",
        *_splits(index, coverage["split_hash"]),
        "",
        *_measured(index),
        "",
        *_reasons(coverage),
        "",
        *_leaks(coverage["leaks"]),
        "",
        *_angles(motion["missed"]),
        "![Histograms of yaw, mouth opening and emotion](histograms.png)",
        "",
        "![Faces drawn at random](faces.png)",
        "",
    ]
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Anybody's text as one line of Markdown that is neither HTML nor a cell's end."""
    return escape(" ".join(text.split()), quote=False).replace("|", "\\|")


def _splits(index: pd.DataFrame, split_hash: str) -> list[str]:
    rows = [
        f"| {_plain(split)} | {people} | {clips} | {frames / FPS / 3600:.2f} |"
        for split, people, clips, frames in index.groupby("split")
        .agg(people=("person", "nunique"), clips=("clip", "size"), frames=("frames", "sum"))
        .itertuples()
    ]
    return [
        "| split | people | clips | hours |",
        "| --- | ---: | ---: | ---: |",
        *rows,
        "",
        f"Hash of the splits: `{split_hash}`.",
    ]


def _measured(index: pd.DataFrame) -> list[str]:
    """What the bounds of crop.filters can be chosen by."""
    table = index[MEASURED].astype(float).quantile([0.01, 0.05, 0.5, 0.95])
    rows = [
        f"| {TITLES[name]} | " + " | ".join(f"{value:.3g}" for value in table[name]) + " |"
        for name in MEASURED
    ]
    return ["| clips | 1 % | 5 % | median | 95 % |", "| --- | ---: | ---: | ---: | ---: |", *rows]


def _reasons(coverage: dict[str, Any]) -> list[str]:
    if not coverage["reasons"]:
        return ["Nothing was left out."]
    rows = [f"| {_plain(reason)} | {count} |" for reason, count in coverage["reasons"].items()]
    return ["| left out | times |", "| --- | ---: |", *rows, "", "Each one: `coverage.json`."]


def _leaks(leaks: dict[str, Any]) -> list[str]:
    texts = []
    for name, check in leaks.items():
        if check is None:
            texts.append(f"- {name}: not looked for (`crop.leaks.{name}` is null)")
        elif "not_done" in check:
            texts.append(f"- {name}: **not done**: {_plain(check['not_done'])}")
        else:
            train, test = check["compared"]["train"], check["compared"]["test"]
            among = f"{train} of train and {test} of test compared, bound {check['bound']:g}"
            texts.append(f"- {name}: none in both splits ({among})")
    return ["Overlap of train and test:", *texts]


def _angles(missed: Float[np.ndarray, " angles"]) -> list[str]:
    if not missed.size:
        return ["Yaw is estimated of five points, see docs/clips.md.", ""]
    yaw, pitch, roll = missed
    return [
        f"Yaw is the corpus's own. The estimate of five points misses it by {yaw:.1f}°, pitch by "
        f"{pitch:.1f}°, roll by {roll:.1f}° on average.",
        "",
    ]
