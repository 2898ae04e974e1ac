"""Slices: labels tell the farthest turn and the strength, clips fall into their slices."""

import numpy as np
import pandas as pd
import pytest

from pipelines.slices import describe_motion, slices

NONE = {"pose": None, "head_pose": None, "arkit": None, "level": None}


def test_turn_is_the_farthest_to_either_side_in_degrees():
    pose = np.zeros((4, 6), np.float32)
    pose[2, 0], pose[3, 0], pose[1, 1] = np.radians([10, -40, 60])

    assert describe_motion({**NONE, "pose": pose}) == {"yaw": 40.0, "expression": None}
    estimate = {"head_pose": np.radians([[5.0, 0, 0], [-20.0, 0, 0]])}
    assert describe_motion({**NONE, **estimate})["yaw"] == 20.0
    assert describe_motion({**NONE, **estimate, "pose": pose})["yaw"] == 40.0


def test_strength_is_the_mean_length_of_coefficients_or_the_given_level():
    arkit = np.zeros((2, 52), np.float32)
    arkit[0, :2] = 3, 4

    assert describe_motion({**NONE, "arkit": arkit, "level": 1})["expression"] == 2.5
    assert describe_motion({**NONE, "level": 3})["expression"] == 3.0
    assert describe_motion(NONE) == {"yaw": None, "expression": None}


def table(**columns):
    """Two metrics of every pair."""
    pairs = pd.DataFrame(columns, index=None if columns else range(6))
    pairs["pair"] = pairs.index.astype(str)
    return pd.concat([pairs.assign(metric=name) for name in ("psnr", "ssim")])


def test_clips_fall_into_slices_of_angle_and_thirds():
    rows = table(yaw=[0, 15, 15.1, 30, 31, None], expression=[6, 5, 4, 3, 2, 1])

    found = {(axis, name): sorted(set(part["pair"])) for axis, name, part in slices(rows)}

    assert found == {
        ("yaw", "up to 15°"): ["0", "1"],
        ("yaw", "15° to 30°"): ["2", "3"],
        ("yaw", "above 30°"): ["4"],
        ("expression", "weak third"): ["4", "5"],
        ("expression", "middle third"): ["2", "3"],
        ("expression", "strong third"): ["0", "1"],
    }


@pytest.mark.parametrize("columns", [{}, {"yaw": [None] * 6}])
def test_without_labels_there_is_no_slice(columns):
    assert list(slices(table(**columns))) == []


def test_equally_strong_clips_are_one_slice():
    (found,) = slices(table(expression=[1.0] * 6))

    assert len(found[2]) == 12
    assert found[1] == "strength 1"


@pytest.mark.parametrize(
    ("clips", "expected"),
    [
        ({1: 12, 3: 88}, {"strength 1": [1], "strength 3": [3]}),
        ({1: 50, 3: 50}, {"strength 1": [1], "strength 3": [3]}),
        ({1: 31, 2: 25, 3: 44}, {f"strength {level}": [level] for level in (1, 2, 3)}),
        ({1: 1, 2: 1, 3: 1, 4: 10}, {"weak": [1, 2], "middle": [3], "strong": [4]}),
        ({1: 10, 2: 1, 3: 1, 4: 1}, {"weak": [1], "middle": [2], "strong": [3, 4]}),
        ({1: 1, 2: 10, 3: 1, 4: 1}, {"weak": [1, 2], "middle": [3], "strong": [4]}),
        ({1: 3, 2: 1, 3: 3, 4: 3}, {"weak": [1, 2], "middle": [3], "strong": [4]}),
    ],
)
def test_slices_of_equal_strengths_are_named_by_what_they_hold(clips, expected):
    rows = table(expression=[float(level) for level, count in clips.items() for _ in range(count)])

    found = {name: sorted(set(part["expression"])) for _, name, part in slices(rows)}

    assert {name.removesuffix(" third"): levels for name, levels in found.items()} == expected
