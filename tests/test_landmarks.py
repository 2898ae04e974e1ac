"""Landmarks of whole clips: golden means, the scale of a face, and how shaky it is."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from metrics.landmarks import (
    face_found,
    interocular_distance,
    jitter,
    landmark_distance,
    normalised_landmark_distance,
)

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def clip():
    with np.load(GOLDEN / "landmarks68.npz") as stored:
        return torch.from_numpy(stored["fake"]), torch.from_numpy(stored["real"])


def test_distances_of_a_clip_equal_their_references(clip):
    expected = json.loads((GOLDEN / "landmarks.json").read_text(encoding="utf-8"))["clip"]

    values = {
        "face": landmark_distance(*clip),
        "mouth": landmark_distance(*clip, "mouth"),
        "face_raw": landmark_distance(*clip, centre=False),
        "mouth_raw": landmark_distance(*clip, "mouth", centre=False),
        "face_interocular": normalised_landmark_distance(*clip),
    }

    for name, value in values.items():
        assert value.mean().item() == pytest.approx(expected[name], abs=1e-9), name


def test_normalised_distance_depends_on_neither_resolution_nor_a_common_shift(clip):
    fake, real = clip

    for region in ("face", "mouth"):
        value = normalised_landmark_distance(fake, real, region)

        assert torch.allclose(value, normalised_landmark_distance(4 * fake, 4 * real, region))
        assert torch.allclose(value, normalised_landmark_distance(fake + 9, real + 9, region))
        assert torch.all(value < normalised_landmark_distance(fake + 9, real, region))


def test_normalised_distance_without_a_scale_is_nan(clip):
    fake, real = clip
    real = real.clone()
    real[2, 36:48] = 50.0

    value = normalised_landmark_distance(fake, real)

    assert value.isnan().tolist() == [False, False, True, False, False, False]


def test_interocular_distance_joins_the_centres_of_the_eyes():
    points = torch.zeros(2, 68, 2)
    points[:, 42:48] = torch.tensor([30.0, 40.0])
    points[1, 36] = torch.tensor([18.0, 24.0])  # one of six points: moves the centre by a sixth

    assert interocular_distance(points).tolist() == pytest.approx([50.0, 45.0])


def test_five_points_have_no_eyes(unchecked):
    with pytest.raises(ValueError, match=r"\(2, 5, 2\)"):
        interocular_distance(torch.zeros(2, 5, 2))


def test_still_and_steadily_moving_points_have_no_jitter(clip):
    face = clip[1][:1]
    time = torch.arange(8.0)[:, None, None]
    still, moving = face.repeat(8, 1, 1), face + time * torch.tensor([3.0, -1.0])

    for points in (still, moving):
        assert jitter(points)[1:-1].abs().max() < 1e-12


def test_jitter_is_the_mean_second_difference():
    points = torch.zeros(5, 2, 2)
    points[2, 0] = torch.tensor([3.0, 4.0])

    value = jitter(points)

    assert value.isnan().tolist() == [True, False, False, False, True]
    assert value[1:-1].tolist() == [2.5, 5.0, 2.5]


def test_more_noise_is_more_jitter(clip):
    still = clip[1][:1].repeat(30, 1, 1)
    noise = torch.randn(still.shape, generator=torch.Generator().manual_seed(1))

    values = [jitter(still + share * noise)[1:-1].mean() for share in (0.0, 0.1, 0.5, 2.0)]

    assert values == sorted(set(values))


def test_jitter_is_undefined_around_a_frame_without_a_face():
    points = torch.zeros(7, 5, 2)
    points[2] = torch.nan

    assert jitter(points).isnan().tolist() == [True, True, True, True, False, False, True]


@pytest.mark.parametrize("frames", [1, 2])
def test_jitter_of_fewer_than_three_frames_is_nan(frames):
    value = jitter(torch.zeros(frames, 5, 2))

    assert value.shape == (frames,)
    assert value.isnan().all()


def test_clips_without_frames_are_refused():
    with pytest.raises(ValueError, match=r"points is empty: \(0, 68, 2\)"):
        jitter(torch.zeros(0, 68, 2))
    with pytest.raises(ValueError, match="probabilities is empty"):
        face_found(torch.zeros(0), 0.9)
