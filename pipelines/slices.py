"""Labels of a clip → how far the head turns, how strong the expression is; and clips by that."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

TURNS = (15.0, 30.0)  # degrees between the slices of yaw
YAW = ("up to 15°", "15° to 30°", "above 30°")
EXPRESSION = ("weak third", "middle third", "strong third")


def describe_motion(row: Mapping[str, Any]) -> dict[str, float | None]:
    """Columns by which a clip is sliced, None where its labels do not tell.

    Args:
        row: of a shard, with "pose" (frames, 6) in radians or else its estimate "head_pose"
            (frames, 3), "arkit" (frames, 52) and "level".

    Returns:
        "yaw": the farthest turn from the front in degrees; "expression": mean length of the
        coefficients of a frame, or the level that the dataset gives.
    """
    pose, estimate, arkit, level = (row[n] for n in ("pose", "head_pose", "arkit", "level"))
    pose = estimate if pose is None else pose
    strength = None if level is None else float(level)
    if arkit is not None:
        strength = round(float(np.linalg.norm(arkit, axis=1).mean()), 4)
    turn = None if pose is None else round(float(np.degrees(np.abs(pose[:, 0]).max())), 2)
    return {"yaw": turn, "expression": strength}


def slices(table: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Axis, name of the slice and the rows of its clips, for every slice that has some.

    Slices of yaw end at fixed angles. Those of expression are its values where there are at most
    three, as a dataset's levels, else thirds of the clips at hand; equal clips share a slice.

    Args:
        table: one row a pair and metric; without the column of an axis there is no slice of it.
    """
    for axis in ("yaw", "expression"):
        if axis not in table:
            continue
        values = table.drop_duplicates("pair").set_index("pair")[axis].dropna().astype(float)
        if values.empty:
            continue
        names, ends = (YAW, TURNS) if axis == "yaw" else _strengths(values.to_numpy())
        place = pd.Series(np.searchsorted(ends, values), values.index)
        of_row = table["pair"].map(place)
        for number, name in enumerate(names):
            if (of_row == number).any():
                yield axis, name, table[of_row == number]


def _strengths(values: np.ndarray) -> tuple[Sequence[str], np.ndarray]:
    """Names of the slices of expression, and the last value of each but the strongest."""
    distinct = np.unique(values)
    if len(distinct) <= len(EXPRESSION):
        return [f"strength {value:g}" for value in distinct], distinct[:-1]
    thirds = np.quantile(values, [1 / 3, 2 / 3])
    weak, middle = np.searchsorted(distinct, thirds, side="right") - 1
    weak = min(weak, len(distinct) - 3)  # ties may take a third in whole: each keeps a value
    middle = min(max(middle, weak + 1), len(distinct) - 2)
    return EXPRESSION, distinct[[weak, middle]]
