"""Faces: detection on a real portrait, tracking of boxes, and a crop that never squashes."""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from skimage.data import astronaut

import torchvision_cpu
from fixtalk.face import (
    Detection,
    FaceDetector,
    SquareBox,
    crop_frame,
    head_square,
    outside_share,
    overlap,
    to_crop_pixels,
)
from fixtalk.tracks import (
    Track,
    cut_track,
    find_tracks,
    link_tracks,
    main_tracks,
    spans_without_face,
)


def face(x: float, y: float = 20.0, side: float = 40.0, probability: float = 1.0) -> Detection:
    box = np.array([x, y, x + side, y + side])
    return Detection(box=box, points=np.zeros((5, 2)), probability=probability)


def test_install_is_idempotent_and_gives_a_working_nms():
    first = torchvision_cpu.install()

    assert first in {"native", "shim"}
    assert torchvision_cpu.install() == first
    boxes = torch.tensor([[0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10], [0, 0, 10, 4]])
    scores = torch.tensor([0.8, 0.9, 0.7, 0.6])
    nms = sys.modules["torchvision"].ops.nms
    assert nms(boxes.float(), scores, 0.5).tolist() == [1, 2, 3]
    assert nms(boxes.float()[:0], scores[:0], 0.5).tolist() == []


def test_bundled_network_finds_what_was_measured_with_a_native_torchvision():
    torchvision_cpu.install()
    from facenet_pytorch import MTCNN

    golden = json.loads((Path(__file__).parent / "golden" / "faces.json").read_text())
    boxes, probabilities, points = MTCNN(keep_all=True).detect(astronaut()[None], landmarks=True)

    close = {"rtol": 0, "atol": golden["tolerance_pixels"]}
    np.testing.assert_allclose(boxes[0].astype(float), [golden["box"]], **close)
    np.testing.assert_allclose(points[0].astype(float), [golden["points"]], **close)
    assert float(probabilities[0][0]) == pytest.approx(golden["probability"], abs=1e-4)


def test_detector_finds_the_astronaut_and_nothing_else():
    picture = astronaut()
    blank = np.full_like(picture, 90)
    noise = np.random.default_rng(0).integers(0, 256, picture.shape, dtype=np.uint8)
    detector = FaceDetector(256, 0.9)

    portrait, nothing, nobody = detector(np.stack([picture, blank, noise]))

    assert len(portrait) == 1
    assert overlap(portrait[0].box, np.array([181.1, 62.2, 267.7, 172.1])) > 0.75
    assert portrait[0].probability > 0.99
    left_eye, right_eye, nose = portrait[0].points[:3]
    assert left_eye[0] < nose[0] < right_eye[0]
    assert nothing == nobody == []
    assert detector(blank[None]) == [[]]


def test_detector_leaves_the_number_of_threads_alone():
    torch.set_num_threads(2)
    try:
        FaceDetector(128, 0.9)(astronaut()[None])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_a_moving_face_is_one_track():
    tracks = link_tracks(range(0, 40, 8), [[face(x)] for x in (0, 4, 8, 12, 16)])

    assert [(track.start, track.stop) for track in tracks] == [(0, 33)]


def test_a_face_that_leaves_its_first_box_starts_a_new_track():
    tracks = link_tracks(range(5), [[face(x)] for x in (0, 10, 20, 30, 40)])

    assert [track.frames for track in tracks] == [[0, 1, 2], [3, 4]]


def test_short_misses_are_bridged_and_long_ones_end_the_track():
    seen, missed = [face(10)], []
    frames = range(0, 72, 8)

    bridged = link_tracks(frames, [seen, missed, missed, seen, seen, seen, seen, seen, seen])
    ended = link_tracks(frames, [seen, seen, missed, missed, missed, seen, seen, seen, seen])

    assert [(track.start, track.stop) for track in bridged] == [(0, 65)]
    assert [(track.start, track.stop) for track in ended] == [(0, 9), (40, 65)]
    assert spans_without_face(ended, 80) == [(9, 40), (65, 80)]
    assert spans_without_face([], 80) == [(0, 80)]


def test_of_two_faces_the_larger_stays_and_the_other_is_reported():
    big = [face(10, side=60) for _ in range(4)]
    small = [face(100, side=30) for _ in range(4)]

    kept, others = main_tracks(link_tracks(range(4), zip(small, big, strict=True)))

    assert [track.detections[0].box[0] for track in kept] == [10]
    assert [track.detections[0].box[0] for track in others] == [100]


def test_tracks_one_after_the_other_both_stay():
    found = [[face(10)], [face(10)], [face(200)], [face(200)]]

    kept, others = main_tracks(link_tracks(range(4), found))

    assert [(track.start, track.stop) for track in kept] == [(0, 2), (2, 4)]
    assert others == []


def test_every_nth_frame_and_the_last_are_looked_at():
    looked = []

    def detector(frames):
        looked.extend(int(frame[0, 0, 0]) for frame in frames)
        return [[face(10)] for _ in frames]

    frames = (np.full((8, 8, 3), number, np.uint8) for number in range(150))
    tracks = find_tracks(frames, detector, 8)

    assert looked == [*range(0, 150, 8), 149]
    assert [(track.start, track.stop) for track in tracks] == [(0, 150)]


def test_few_large_frames_wait_for_the_detector():
    at_once = []

    def detector(frames):
        at_once.append(len(frames))
        return [[] for _ in frames]

    find_tracks([np.zeros((2160, 3840, 3), np.uint8)] * 5, detector, 1)

    assert at_once == [2, 2, 1]


def test_track_is_cut_and_its_probability_interpolated():
    track = Track([10, 30], [face(0, probability=0.9), face(0, probability=1.0)])

    assert cut_track(track, 8) == [(10, 18), (18, 26), (26, 31)]
    assert track.probability(10, 11) == pytest.approx(0.9)
    assert track.probability(10, 31) == pytest.approx(0.95)


def test_square_holds_all_boxes_with_the_margin_and_is_not_clamped():
    boxes = [np.array([-10.0, 0.0, 50.0, 100.0]), np.array([20.0, 10.0, 80.0, 110.0])]

    square = head_square(boxes, 0.1)

    assert square.side == round(120 * 1.2)  # union 120 high with the forehead on top
    assert (square.x0 + square.side / 2, square.y0 + square.side / 2) == (35, 50)
    assert square.y0 < 0


@pytest.mark.parametrize("resolution", [32, 64, 150])
@pytest.mark.parametrize("box", [(40, 10, 60), (-30, -12, 120), (60, 30, 90)])
def test_a_circle_stays_a_circle_and_landmarks_stay_on_it(box, resolution):
    square = SquareBox(x0=box[0], y0=box[1], side=box[2])
    frame = np.zeros((80, 120, 3), np.uint8)
    centre, radius = np.array([75.0, 50.0]), 12
    rows, columns = np.mgrid[:80, :120] + 0.5
    frame[np.hypot(columns - centre[0], rows - centre[1]) < radius] = 255

    cropped = crop_frame(frame, square, resolution)

    assert cropped.shape == (resolution, resolution, 3)
    lit = cropped[..., 0].astype(float) / 255
    grid = np.arange(resolution) + 0.5
    found = np.array([(lit.sum(0) * grid).sum(), (lit.sum(1) * grid).sum()]) / lit.sum()
    assert found == pytest.approx(to_crop_pixels(centre, square, resolution), abs=0.1)
    width, height = (lit.sum(axis).max() for axis in (1, 0))
    assert width == pytest.approx(height, rel=0.05)
    assert width == pytest.approx(2 * radius * resolution / square.side, rel=0.08)


def test_a_dot_is_found_where_the_landmark_points():
    square = SquareBox(x0=-4, y0=6, side=32)
    frame = np.zeros((40, 40, 3), np.uint8)
    frame[20, 9] = 255

    cropped = crop_frame(frame, square, 64)

    x, y = to_crop_pixels(np.array([9.5, 20.5]), square, 64)
    lit = cropped[..., 0].astype(float)
    grid = np.arange(64) + 0.5
    assert (lit.sum(0) * grid).sum() / lit.sum() == pytest.approx(x, abs=0.1)
    assert (lit.sum(1) * grid).sum() / lit.sum() == pytest.approx(y, abs=0.1)


def test_outside_the_picture_the_edge_is_repeated():
    frame = np.full((20, 30, 3), 50, np.uint8)
    frame[:, 0] = 200

    cropped = crop_frame(frame, SquareBox(x0=-10, y0=-5, side=20), 20)

    assert (cropped[:, :11] == 200).all()
    assert (cropped[:, 11:] == 50).all()
    assert outside_share(SquareBox(x0=-10, y0=-5, side=20), 30, 20) == 1 - 10 * 15 / 400
    far = crop_frame(frame, SquareBox(x0=-90, y0=90, side=20), 20)
    assert (far == 200).all()
    assert outside_share(SquareBox(x0=-90, y0=90, side=20), 30, 20) == 1


def test_shrinking_does_not_alias():
    frame = np.zeros((64, 64, 3), np.uint8)
    frame[:, ::2] = 200

    cropped = crop_frame(frame, SquareBox(x0=0, y0=0, side=64), 16)

    assert np.abs(cropped.astype(int) - 100).max() <= 1
    assert cv2.PSNR(cropped, np.full_like(cropped, 100)) > 45
