"""Rows of pictures and column titles → one picture to look at."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fixtalk.shapes import UInt8

BAR = 18  # pixels, height of the titles
GAP = 2  # pixels between pictures
PAPER = 255


def picture_sheet(
    rows: Sequence[Sequence[UInt8[np.ndarray, "height width 3"]]],
    titles: Sequence[str],
    labels: Sequence[str] = (),
    min_side: int = 128,
) -> UInt8[np.ndarray, "sheet_height sheet_width 3"]:
    """Pictures in a grid under their column titles, small ones enlarged by whole factors.

    Args:
        rows: equally long lists of pictures of one size.
        titles: one for each column; cut where the column is narrower.
        labels: written over each row; none if empty.
        min_side: pixels; pictures are repeated pixel by pixel up to this height.

    Raises:
        ValueError: no row, or one of another length than the titles.
    """
    if not rows or any(len(row) != len(titles) for row in rows):
        counts = sorted({len(row) for row in rows})
        raise ValueError(f"{len(titles)} titles for rows of {counts} pictures")
    strips = [_spaced([enlarge(picture, min_side) for picture in row]) for row in rows]
    width = strips[0].shape[1]
    parts = [_texts(titles, (width - GAP) // len(titles), width)]
    for number, strip in enumerate(strips):
        if labels:
            parts.append(_texts(labels[number : number + 1], width, width))
        parts.append(strip)
    return np.vstack(parts)


def enlarge(
    picture: UInt8[np.ndarray, "*frames height width 3"], min_side: int
) -> UInt8[np.ndarray, "*frames tall wide 3"]:
    """The picture with every pixel repeated until it is at least `min_side` pixels high."""
    factor = -(-min_side // picture.shape[-3])
    return picture.repeat(factor, axis=-3).repeat(factor, axis=-2) if factor > 1 else picture


def read_picture(path: Path) -> UInt8[np.ndarray, "height width 3"]:
    """RGB pixels of a picture file."""
    from PIL import Image

    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def write_picture(path: Path, picture: UInt8[np.ndarray, "height width 3"]) -> None:
    """Write RGB pixels as PNG, under a temporary name until complete."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}")
    Image.fromarray(picture).save(temporary, format="PNG")
    temporary.replace(path)


def _spaced(pictures: Sequence[np.ndarray]) -> np.ndarray:
    framed = [np.pad(p, ((0, GAP), (GAP, 0), (0, 0)), constant_values=PAPER) for p in pictures]
    return np.pad(np.hstack(framed), ((0, 0), (0, GAP), (0, 0)), constant_values=PAPER)


def _texts(titles: Sequence[str], column: int, width: int) -> np.ndarray:
    from PIL import Image, ImageDraw, ImageFont

    bar = Image.new("RGB", (width, BAR), (PAPER,) * 3)
    draw, font = ImageDraw.Draw(bar), ImageFont.load_default(size=BAR - 6)
    for number, title in enumerate(titles):
        while title and draw.textlength(title, font=font) > column - 2 * GAP:
            title = title[:-1]
        draw.text((number * column + 2 * GAP, 1), title, fill=(0, 0, 0), font=font)
    return np.asarray(bar)
