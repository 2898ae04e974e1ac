"""Cuts between shots: found to the frame, none where only the picture moves."""

import numpy as np
import pytest
from skimage.data import astronaut, coffee

from fixtalk.shots import CutFinder
from fixtalk.tracks import Track, split_tracks
from tests.test_face import face

FACE = np.ascontiguousarray(astronaut()[:200, 120:420])
CUP = np.ascontiguousarray(coffee()[:200, 100:400])


def shot(picture, frames, speed=0):
    return [np.roll(picture, speed * number, axis=1) for number in range(frames)]


def cuts(frames, least_change=15.0):
    finder = CutFinder(frames, least_change)
    passed = list(finder)
    assert len(passed) == len(frames)
    assert all(one is other for one, other in zip(passed, frames, strict=True))
    return finder.cuts


@pytest.mark.parametrize("first", [1, 2, 7, 18, 19])
def test_a_cut_is_found_at_its_frame_even_at_the_ends(first):
    assert cuts(shot(FACE, first) + shot(CUP, 20 - first)) == [first]


def test_every_shot_of_a_dialogue_is_found():
    assert cuts([*shot(FACE, 9), *shot(CUP, 3), *shot(FACE, 6), *shot(CUP, 12)]) == [9, 12, 18]


@pytest.mark.parametrize("speed", [0, 1, 4, 12])
def test_a_moving_camera_is_no_cut(speed):
    assert cuts(shot(FACE, 30, speed)) == []


def test_repeated_frames_of_a_slower_film_are_no_cuts():
    assert cuts([frame for frame in shot(FACE, 15, 2) for _ in range(2)]) == []


def test_a_change_below_the_bound_is_none():
    brighter = (FACE.astype(int) + 20).clip(0, 255).astype(np.uint8)

    assert cuts(shot(FACE, 8) + shot(brighter, 8)) == []
    assert cuts(shot(FACE, 8) + shot(brighter, 8), least_change=4.0) == [8]


@pytest.mark.parametrize("frames", [0, 1, 2])
def test_few_frames_have_no_cut(frames):
    assert cuts(shot(FACE, frames)) == []


def test_no_track_spans_a_cut():
    track = Track([0, 8, 16, 24, 32], [face(float(x)) for x in range(5)])
    lone = Track([3], [face(90.0)])

    parts = split_tracks([track, lone], [16, 30])

    assert [part.frames for part in parts] == [[0, 8], [16, 24], [32], [3]]
    assert [part.detections[0].box[0] for part in parts] == [0, 2, 4, 90]
    assert split_tracks([track], [])[0].frames == track.frames
