"""Mouth swap: the donor's mouth in the right place, all else untouched, no seam."""

import cv2
import numpy as np
import pytest

from fixtalk.swap import mouth_box, swap_mouth
from tests.drawn_faces import face_points, flat_face


def smooth_picture(side, seed=0):
    coarse = np.random.default_rng(seed).integers(60, 200, (8, 8, 3)).astype(np.uint8)
    return cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)


def test_own_mouth_changes_nothing():
    face, points = smooth_picture(64), face_points()

    assert np.array_equal(swap_mouth(face, points, face, points), face)


def test_turned_and_scaled_donor_fits_back_in():
    # the donor is the face itself, turned by 20° and enlarged: its mouth must land pixel by pixel
    side, scale = 256, 1.2
    face, points = smooth_picture(side), face_points() * 4
    turn = scale * np.exp(1j * np.deg2rad(20))
    rotation = np.array([[turn.real, -turn.imag], [turn.imag, turn.real]])
    shift = np.array([30.0, -60.0])
    index_shift = rotation @ [0.5, 0.5] + shift - 0.5
    donor = cv2.warpAffine(face, np.column_stack([rotation, index_shift]), (side, side))
    donor_points = (points @ rotation.T + shift).astype(np.float32)

    swapped = swap_mouth(face, points, donor, donor_points)

    assert np.abs(swapped.astype(int) - face).max() <= 2


def test_donor_gives_the_mouth_and_nothing_else():
    face, donor = flat_face(160, mouth=0.5), flat_face(80, mouth=1.5)

    swapped = swap_mouth(face, face_points(), donor, face_points())

    assert np.abs(swapped[43:49, 26:38] - 240.0).max() <= 2  # as bright against its own skin
    outside = np.ones((64, 64), bool)
    outside[40:52, 22:42] = False  # the mouths and a margin of 5 / 256 of the side
    assert np.array_equal(swapped[outside], face[outside])


def test_rectangle_holds_the_larger_mouth_whole():
    points = face_points()
    wide = points.copy()
    wide[48:68, 1] = 46 + 2.5 * (points[48:68, 1] - 46)
    donor = flat_face(100, mouth=1.0)
    donor[36:56, 24:40] = 40

    swapped = swap_mouth(flat_face(100, mouth=1.0), points, donor, wide)

    assert (swapped[37:55, 25:39] == 40).all()


def test_edge_of_the_paste_is_soft():
    # at the corners of the mouth the donor is darker and brighter than the face by about 35
    face = np.full((256, 256, 3), 100, np.uint8)
    ramp = np.clip(100.0 + np.arange(256) - 127.5, 0, 255).astype(np.uint8)
    donor = np.broadcast_to(ramp[None, :, None], face.shape).copy()

    swapped = swap_mouth(face, face_points() * 4, donor, face_points() * 4).astype(int)

    assert np.abs(swapped - 100).max() > 25
    assert np.abs(np.diff(swapped, axis=1)).max() <= 10
    assert np.abs(np.diff(swapped, axis=0)).max() <= 10


@pytest.mark.parametrize(
    ("points", "message"),
    [(np.zeros((68, 2)), "less than 2 pixels apart"), (np.full((68, 2), np.nan), "no numbers")],
)
def test_landmarks_that_are_no_face_are_refused(points, message):
    face, points = flat_face(100, mouth=0.5), points.astype(np.float32)

    with pytest.raises(ValueError, match=message):
        swap_mouth(face, face_points(), face, points)
    with pytest.raises(ValueError, match=message):
        swap_mouth(face, points, face, face_points())


def test_mouth_outside_the_frame_is_refused():
    face = flat_face(100, mouth=0.5)

    with pytest.raises(ValueError, match=r"outside the 64×64 frame"):
        swap_mouth(face, face_points() + np.float32(60), face, face_points())


def test_box_of_a_mouth_is_widened_by_a_fifth_of_its_width():
    # the mouth reaches from 24 to 40 and from 42 to 50: 3.2 pixels more on each side
    box = mouth_box(face_points(), 64)

    rows, columns = box.nonzero()
    assert (columns.min(), columns.max()) == (21, 42)
    assert (rows.min(), rows.max()) == (39, 52)
    assert box.sum() == (42 - 21 + 1) * (52 - 39 + 1)


def test_box_ends_at_the_frame_and_is_empty_outside():
    assert mouth_box(face_points() + np.array([30, 0]), 64)[45, 63]
    assert not mouth_box(face_points() + np.array([90, 0]), 64).any()
