"""Labels of a clip → how far the head turns, how strong the expression is; and clips by that."""

from collections.abc import Iterator, Mapping
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

    Slices of yaw end at fixed angles, those of expression are thirds of the clips at hand.

    Args:
        table: one row a pair and metric; without the column of an axis there is no slice of it.
    """
    for axis, names in (("yaw", YAW), ("expression", EXPRESSION)):
        if axis not in table:
            continue
        values = table.drop_duplicates("pair").set_index("pair")[axis].dropna().astype(float)
        if values.empty:
            continue
        ends = TURNS if axis == "yaw" else np.quantile(values, [1 / 3, 2 / 3])
        place = pd.Series(np.searchsorted(ends, values), values.index)
        of_row = table["pair"].map(place)
        for number, name in enumerate(names):
            if (of_row == number).any():
                yield axis, name, table[of_row == number]
