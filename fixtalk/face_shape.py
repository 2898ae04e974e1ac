"""Landmarks of a frame → the numbers that lips, head, brows and eyes are told by."""

import numpy as np

from fixtalk.shapes import Float

BROWS, MOUTH = slice(17, 27), slice(48, 68)  # of the 68 landmarks of iBUG 300-W
EYES = slice(36, 42), slice(42, 48)
INNER_LIPS = [62, 66]  # middle of the upper one and of the lower one
CORNERS = [48, 54]
OUTER_LIPS = [51, 57]  # middle of the upper one and of the lower one
INNER_BROWS, OUTER_BROWS = [21, 22], [17, 26]  # their ends
LIDS = (37, 41), (38, 40), (43, 47), (44, 46)  # upper and lower
# Middle and spread of each number, about as in 523 rendered clips, whose mouths are 0.23 and 0.77
# (0.13 and 0.09). Lengths are in distances between the eyes, angles in radians, places in sides of
# the frame.
USUAL_MOUTH = np.array([0.25, 0.75], np.float32), np.array([0.13, 0.14], np.float32)
USUAL_CORNERS = np.float32(0.04), np.float32(0.06)
USUAL_HEAD = (
    np.array([0.0, 0.0, 0.0, 0.5, 0.47, -1.57], np.float32),
    np.array([0.28, 0.14, 0.1, 0.12, 0.06, 0.15], np.float32),
)
USUAL_BROWS = (
    np.array([0.28, 0.37, 0.48, 0.12], np.float32),
    np.array([0.08, 0.07, 0.055, 0.03], np.float32),
)
MIRRORED = np.float32([-1, 1, -1, -1, 1, 1])  # times `head_shape`: that of the mirror image
FARTHEST = 3.0  # usual changes: a face in profile, or points that are none, would drown all others
TINY = 1e-6


def mouth_shape(points: Float[np.ndarray, "68 2"]) -> Float[np.ndarray, " 2"]:
    """How far a mouth is open and how wide it is: 0 as mouths mostly are, ±1 a usual change.

    Args:
        points: landmarks in any unit; it does not matter where the head is and how it is rolled,
            but one that turns away brings the eyes together.
    """
    lengths = [np.linalg.norm(np.subtract(*points[ends])) for ends in (INNER_LIPS, CORNERS)]
    middle, spread = USUAL_MOUTH
    return ((np.float32(lengths) / _eye_distance(points) - middle) / spread).astype(np.float32)


def lip_shape(points: Float[np.ndarray, "68 2"]) -> Float[np.ndarray, " 3"]:
    """`mouth_shape`, and how far the corners of the mouth lie above its middle; ±3 at most.

    Args:
        points: landmarks as above.
    """
    corners = _heights(points, CORNERS).mean() - _heights(points, OUTER_LIPS).mean()
    middle, spread = USUAL_CORNERS
    return _bounded(np.append(mouth_shape(points), (corners - middle) / spread))


def head_shape(
    points: Float[np.ndarray, "68 2"], angles: Float[np.ndarray, " 3"], side: int
) -> Float[np.ndarray, " 6"]:
    """How a head is turned, where it is and how large: 0 as mostly, ±1 a usual change, ±3 at most.

    Args:
        points: landmarks in pixels.
        angles: yaw, pitch, roll in radians.
        side: of the frame, pixels.
    """
    x, y = np.mean([points[eye].mean(0) for eye in EYES], axis=0) / side
    size = np.log(_eye_distance(points) / side)
    middle, spread = USUAL_HEAD
    return _bounded((np.float32([*angles, x, y, size]) - middle) / spread)


def brow_shape(points: Float[np.ndarray, "68 2"]) -> Float[np.ndarray, " 4"]:
    """Height of the brows' inner and outer ends above the eyes, their gap, and how open eyes are.

    0 as mostly, ±1 a usual change, ±3 at most; the mean of left and right.

    Args:
        points: landmarks in any unit.
    """
    eyes = _eye_distance(points)
    gap = np.linalg.norm(np.subtract(*points[INNER_BROWS]))
    opening = np.mean([np.linalg.norm(points[upper] - points[lower]) for upper, lower in LIDS])
    heights = [_heights(points, ends).mean() for ends in (INNER_BROWS, OUTER_BROWS)]
    middle, spread = USUAL_BROWS
    return _bounded((np.float32([*heights, gap / eyes, opening / eyes]) - middle) / spread)


def _bounded(numbers: Float[np.ndarray, " numbers"]) -> Float[np.ndarray, " numbers"]:
    return numbers.clip(-FARTHEST, FARTHEST).astype(np.float32)


def _eye_distance(points: Float[np.ndarray, "68 2"]) -> float:
    """In the unit of the points, never quite 0."""
    return max(float(np.linalg.norm(np.subtract(*(points[eye].mean(0) for eye in EYES)))), TINY)


def _heights(points: Float[np.ndarray, "68 2"], which: list[int]) -> Float[np.ndarray, " points"]:
    """Of some points above the line between the eyes, in distances between these."""
    left, right = (points[eye].mean(0) for eye in EYES)
    x, y = right - left
    up = np.array([y, -x]) / max(x * x + y * y, TINY)
    return (points[which] - (left + right) / 2) @ up
