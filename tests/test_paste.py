"""Paste-back: the face in its place, a soft edge, and nothing else changed."""

import numpy as np
import pytest

from fixtalk.face import SquareBox
from fixtalk.paste import FEATHER, PasteBack, feathered

PICTURE = np.random.default_rng(0).integers(0, 256, (101, 151, 3), np.uint8)


@pytest.mark.parametrize(
    ("x0", "y0", "side", "inside"),
    [(40, 20, 50, (45, 65)), (-10, -20, 60, (10, 20)), (110, 70, 80, (99, 149)),
     (-30, -40, 260, (50, 75))],
)  # fmt: skip
def test_only_the_square_changes_and_sides_are_even(x0, y0, side, inside):
    pasted = PasteBack(PICTURE, SquareBox(x0=x0, y0=y0, side=side))(np.zeros((64, 64, 3), np.uint8))

    outside = np.ones((100, 150), bool)
    outside[max(0, y0) : max(0, y0 + side), max(0, x0) : max(0, x0 + side)] = False
    assert pasted.shape == (100, 150, 3)
    assert np.array_equal(pasted[outside], PICTURE[:100, :150][outside])
    assert (pasted[inside] == 0).all()


def test_same_face_pasted_leaves_the_picture_as_it_is():
    box = SquareBox(x0=30, y0=10, side=64)

    pasted = PasteBack(PICTURE, box)(PICTURE[10:74, 30:94])

    assert np.array_equal(pasted, PICTURE[:100, :150])


def test_frames_do_not_mix():
    paste = PasteBack(PICTURE, SquareBox(x0=30, y0=10, side=64))
    white = paste(np.full((64, 64, 3), 255, np.uint8))
    paste(np.zeros((64, 64, 3), np.uint8))

    assert np.array_equal(paste(np.full((64, 64, 3), 255, np.uint8)), white)


def test_edge_is_soft_and_symmetric():
    weights = feathered(100)

    assert weights[0].max() == 0
    assert weights[50, 50] == 1
    assert np.array_equal(weights, weights.T)
    assert np.array_equal(weights, weights[::-1, ::-1])
    assert 0 < np.diff(weights[50, : round(FEATHER * 100)]).max() < 0.15
