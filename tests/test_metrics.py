"""Metrics: numbers of independent peers, and laws that hold for every input."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import data

from metrics import (
    METRICS,
    cosine_similarity,
    face_found,
    identity_leakage,
    landmark_distance,
    point_distance,
    psnr,
    ssim,
)
from tests.pictures import as_clip, reference, variant

GOLDEN = Path(__file__).parent / "golden"
IMAGE_METRICS = ["psnr", "ssim", "ssim_gaussian"]


def load(name):
    return json.loads((GOLDEN / name).read_text(encoding="utf-8"))


@pytest.fixture
def clip():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (5, 3, 24, 20), dtype=torch.uint8, generator=generator)


def noisy(frames, strength, seed=1):
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(frames.shape, generator=generator) * strength
    return (frames + noise).round().clamp(0, 255).to(torch.uint8)


@pytest.mark.parametrize(
    "case", load("image.json")["cases"], ids=lambda case: f"{case['image']}-{case['recipe']}"
)
def test_image_metrics_equal_scikit_image(case):
    fake, real = as_clip(variant(case)), as_clip(reference(case))

    values = [psnr(fake, real), ssim(fake, real), ssim(fake, real, "gaussian")]

    assert values[0].item() == pytest.approx(case["psnr"], rel=1e-9)
    assert values[1].item() == pytest.approx(case["ssim_uniform"], abs=1e-9)
    assert values[2].item() == pytest.approx(case["ssim_gaussian"], abs=1e-9)


def test_landmark_distances_equal_eat():
    frames = load("landmarks.json")["frames"]
    fake, real = (
        torch.tensor([frame[key] for frame in frames], dtype=torch.float64).reshape(-1, 68, 2)
        for key in ("fake", "real")
    )

    for region in ("face", "mouth"):
        centred = landmark_distance(fake, real, region)
        raw = landmark_distance(fake, real, region, centre=False)

        assert centred.tolist() == pytest.approx([f[region] for f in frames], abs=1e-9)
        assert raw.tolist() == pytest.approx([f[f"{region}_raw"] for f in frames], abs=1e-9)


def test_cosine_equals_numpy():
    pairs = load("identity.json")["pairs"]
    a, b = (torch.tensor([p[key] for p in pairs], dtype=torch.float64) for key in ("a", "b"))

    cosine = cosine_similarity(a, b)

    assert cosine.tolist() == pytest.approx([pair["cosine"] for pair in pairs], abs=1e-12)


@pytest.mark.parametrize("name", IMAGE_METRICS)
def test_identical_frames_score_best(name, clip):
    values = METRICS[name].function(clip, clip)

    assert torch.all(values == (torch.inf if name == "psnr" else 1.0))


@pytest.mark.parametrize("name", IMAGE_METRICS)
def test_frames_are_scored_one_by_one(name, clip):
    function, fake = METRICS[name].function, noisy(clip, 20)

    together = function(fake, clip)
    alone = torch.cat([function(fake[i : i + 1], clip[i : i + 1]) for i in range(len(clip))])
    long = function(fake.repeat(40, 1, 1, 1), clip.repeat(40, 1, 1, 1))

    assert torch.equal(together, alone)
    assert torch.equal(long, together.repeat(40))


@pytest.mark.parametrize("name", IMAGE_METRICS)
def test_pixel_metrics_are_symmetric(name, clip):
    function, fake = METRICS[name].function, noisy(clip, 20)

    assert torch.allclose(function(fake, clip), function(clip, fake), rtol=1e-14)


@pytest.mark.parametrize("name", IMAGE_METRICS)
def test_more_noise_never_scores_better(name):
    real = as_clip(data.astronaut()[20:148, 110:238])

    values = [
        METRICS[name].function(noisy(real, strength), real).item() for strength in (2, 5, 12, 30)
    ]

    assert values == sorted(set(values), reverse=True)


def test_psnr_pools_channels_before_the_logarithm():
    real = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
    fake = real.clone()
    fake[0, 0] = 30

    value = psnr(fake, real).item()

    assert value == pytest.approx(10 * np.log10(255**2 / 300), abs=1e-12)


@pytest.mark.parametrize("name", IMAGE_METRICS)
def test_frames_of_other_shape_are_refused_with_both_shapes(name, clip, unchecked):
    with pytest.raises(ValueError, match=r"\(5, 3, 24, 20\).*\(4, 3, 24, 20\)"):
        METRICS[name].function(clip, clip[:4])


@pytest.mark.parametrize("name", IMAGE_METRICS)
def test_float_frames_and_empty_clips_are_refused(name, clip, unchecked):
    with pytest.raises(TypeError, match=r"torch\.float32"):
        METRICS[name].function(clip.float(), clip.float())
    with pytest.raises(ValueError, match="empty"):
        METRICS[name].function(clip[:0], clip[:0])
    with pytest.raises(ValueError, match=r"\(frames, 3, height, width\)"):
        METRICS[name].function(clip[:, :1], clip[:, :1])


@pytest.mark.parametrize(("window", "taps"), [("uniform", 7), ("gaussian", 11)])
def test_frames_smaller_than_the_window_are_refused(window, taps):
    frames = torch.zeros(1, 3, taps, taps - 1, dtype=torch.uint8)

    with pytest.raises(ValueError, match=rf"\({taps}, {taps - 1}\).*{taps}x{taps}"):
        ssim(frames, frames, window)


def test_unknown_window_and_region_name_the_choices(clip, unchecked):
    with pytest.raises(ValueError, match="uniform, gaussian"):
        ssim(clip, clip, "box")
    with pytest.raises(ValueError, match="face, mouth"):
        landmark_distance(torch.zeros(1, 68, 2), torch.zeros(1, 68, 2), "eyes")


@pytest.mark.parametrize("region", ["face", "mouth"])
def test_centring_forgives_translation_only(region):
    points = torch.rand(3, 68, 2, generator=torch.Generator().manual_seed(2)).double() * 100
    shifted = points + torch.tensor([3.0, 4.0])

    centred = landmark_distance(shifted, points, region)
    raw = landmark_distance(shifted, points, region, centre=False)
    scaled = landmark_distance(points * 1.1, points, region)

    assert torch.all(centred < 1e-12)
    assert torch.allclose(raw, torch.full((3,), 5.0, dtype=torch.float64))
    assert torch.all(scaled > 0.1)


def test_only_the_mouth_moves_the_mouth_distance():
    real = torch.zeros(1, 68, 2)
    fake = real.clone()
    fake[0, 0, 0] = 68.0

    assert landmark_distance(fake, real, "mouth").item() == 0.0
    assert landmark_distance(fake, real, "face", centre=False).item() == 1.0


def test_points_of_another_count_are_refused_by_the_68_point_distance(unchecked):
    five = torch.zeros(2, 5, 2)

    assert point_distance(five, five).tolist() == [0.0, 0.0]
    with pytest.raises(ValueError, match=r"\(2, 5, 2\)"):
        landmark_distance(five, five)


def test_nan_is_refused_with_the_frame_and_the_input():
    clean, broken = torch.zeros(4, 8), torch.zeros(4, 8)
    broken[2, 3] = torch.nan

    with pytest.raises(ValueError, match="b: 1 frames hold NaN or inf, first is 2"):
        cosine_similarity(clean, broken)
    with pytest.raises(ValueError, match="driver: 1 frames"):
        identity_leakage(clean, clean, broken)


def test_leakage_is_the_share_of_the_way_to_the_driver():
    source = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    driver = torch.tensor([[3.0, 0.0]]).repeat(4, 1)
    generated = torch.tensor([[1.0, 0.0], [3.0, 0.0], [2.0, 9.0], [0.0, 0.0]])

    leak = identity_leakage(generated, source, driver)

    assert leak.tolist() == [0.0, 1.0, 0.5, -0.5]


def test_leakage_without_a_difference_to_leak_is_nan():
    same = torch.ones(2, 3)

    assert identity_leakage(same * 2, same, same).isnan().all()


def test_cosine_of_a_zero_embedding_is_nan_and_of_itself_one():
    a = torch.tensor([[0.0, 0.0], [3.0, 4.0]])

    cosine = cosine_similarity(a, a)

    assert cosine[0].isnan()
    assert cosine[1].item() == pytest.approx(1.0)


def test_face_found_counts_probabilities_above_the_bound():
    assert face_found(torch.tensor([0.0, 0.9, 0.95, 1.0]), 0.9).tolist() == [0, 0, 1, 1]
