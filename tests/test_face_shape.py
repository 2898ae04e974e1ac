"""What landmarks say of lips, head, brows and eyes."""

import numpy as np
import pytest

from fixtalk.face_shape import (
    FARTHEST,
    USUAL_BROWS,
    USUAL_CORNERS,
    USUAL_HEAD,
    USUAL_MOUTH,
    brow_shape,
    head_shape,
    lip_shape,
    mouth_shape,
)
from tests.drawn_faces import face_points

APART = 20.0  # pixels between the eyes of the drawn face, whose line is level at 26


@pytest.fixture
def points():
    """A drawn face with lips and brows of known size."""
    points = face_points()
    for eye, x in ((slice(36, 42), 22), (slice(42, 48), 42)):
        points[eye] += [x, 26] - points[eye].mean(0)
    points[[48, 54]] = [[32 - 7.5, 46], [32 + 7.5, 46]]
    points[[51, 57]] = [[32, 43], [32, 49]]
    points[[62, 66]] = [[32, 44], [32, 49]]
    points[[17, 21, 22, 26]] = [[14, 20], [27, 21], [37, 21], [50, 20]]
    return points.astype(np.float32)


def test_mouth_is_told_in_distances_between_eyes(points):
    points[66] = [32, 44 + 0.38 * APART]

    assert mouth_shape(points) == pytest.approx([0.13 / USUAL_MOUTH[1][0], 0], abs=1e-4)


def test_smile_is_told_by_corners_above_the_middle(points):
    level = lip_shape(points)
    points[[48, 54], 1] -= 1.2

    smiling = lip_shape(points)

    assert level == pytest.approx([0, 0, -USUAL_CORNERS[0] / USUAL_CORNERS[1]], abs=1e-4)
    assert smiling[:2] == pytest.approx(level[:2], abs=1e-4)
    assert smiling[2] - level[2] == pytest.approx(1.2 / APART / USUAL_CORNERS[1], abs=1e-4)


def test_brows_and_eyes_are_told_in_distances_between_eyes(points):
    calm = brow_shape(points)
    points[[21, 22], 1] -= 2
    points[[17, 26], 1] -= 1
    points[[21, 22], 0] += [1, -1]

    middle, spread = USUAL_BROWS
    lids = [
        np.linalg.norm(points[a] - points[b]) for a, b in ((37, 41), (38, 40), (43, 47), (44, 46))
    ]
    numbers = [5 / APART, 6 / APART, 10 / APART, np.mean(lids) / APART]
    assert calm == pytest.approx((numbers - middle) / spread, abs=1e-4)
    changes = [2 / APART, 1 / APART, -2 / APART, 0] / spread
    assert brow_shape(points) - calm == pytest.approx(changes, abs=1e-4)


def test_head_is_told_its_angles_its_place_and_its_size(points):
    middle, spread = USUAL_HEAD
    told = head_shape(points, np.float32([0.28, -0.14, 0]), 64)

    numbers = [0.28, -0.14, 0, 32 / 64, 26 / 64, np.log(APART / 64)]
    assert told == pytest.approx((numbers - middle) / spread, abs=1e-4)
    assert head_shape(points / 2, np.zeros(3, np.float32), 32)[3:] == pytest.approx(
        told[3:], abs=1e-4
    )


@pytest.mark.parametrize("shape", [lip_shape, brow_shape])
def test_shape_does_not_depend_on_where_and_how_large_the_face_is(points, shape):
    turn = np.deg2rad(25)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])

    moved = (3 * points @ rotation + 40).astype(np.float32)

    assert shape(moved) == pytest.approx(shape(points), abs=1e-3)


@pytest.mark.parametrize("share", [0.0, 1e-3, 0.1])
def test_points_that_are_no_face_and_faces_in_profile_stay_within_bounds(points, share):
    points[:, 0] *= share

    head = head_shape(points, np.zeros(3, np.float32), 64)
    for shape in (lip_shape(points), brow_shape(points), head):
        assert np.abs(shape).max() <= FARTHEST
