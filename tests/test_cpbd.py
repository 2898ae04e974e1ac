"""CPBD: the numbers of python-cpbd, and what the metric says of blur, noise and flat frames."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import data
from skimage.feature import canny

from metrics.cpbd import _canny, cpbd
from metrics.smoothing import gaussian_weights, smooth
from tests.pictures import as_clip, degrade, variant

GOLDEN = json.loads((Path(__file__).parent / "golden" / "sharpness.json").read_text("utf-8"))


@pytest.fixture
def photographs():
    """Three frames of 150 x 130 pixels, so that blocks do not fill them."""
    picture = as_clip(data.astronaut())
    return torch.cat([picture[:, :, top : top + 150, 150:280] for top in (0, 40, 80)])


@pytest.mark.parametrize(
    "case", GOLDEN["cases"], ids=lambda c: f"{c['image']}-{c['crop_yx']}-{c['recipe']}"
)
def test_cpbd_equals_python_cpbd(case):
    value = cpbd(as_clip(variant(case)))

    assert value.dtype == torch.float64
    assert value.item() == pytest.approx(case["cpbd"], abs=GOLDEN["tolerance"]["cpbd"])


@pytest.mark.parametrize("name", ["astronaut", "camera", "coffee", "chelsea"])
def test_more_blur_never_scores_better(name):
    picture = getattr(data, name)()
    blurred = [degrade(picture, {"blur_sigma": sigma}) for sigma in (0.8, 1.5, 2.5)]

    values = [cpbd(as_clip(each)).item() for each in (picture, *blurred)]

    assert values == sorted(set(values), reverse=True)


def test_noise_scores_better_which_is_why_cpbd_never_stands_alone():
    picture = data.astronaut()

    noisy = cpbd(as_clip(degrade(picture, {"noise_seed": 1}))).item()

    assert noisy > cpbd(as_clip(picture)).item()


def test_frames_are_scored_one_by_one(photographs):
    together = cpbd(photographs.repeat(3, 1, 1, 1))
    alone = torch.cat([cpbd(frame[None]) for frame in photographs])

    assert torch.equal(together, alone.repeat(3))
    assert len(set(alone.tolist())) == 3


def test_pixels_beyond_whole_blocks_hold_no_counted_edge(photographs):
    frames = photographs[:1].clone()
    frames[:, :, :, :129] = 90

    assert cpbd(frames).item() == 0.0


def test_a_frame_without_an_edge_scores_zero():
    flat = torch.full((2, 3, 70, 90), 131, dtype=torch.uint8)

    assert cpbd(flat).tolist() == [0.0, 0.0]


def test_the_width_of_the_edges_decides():
    # one grey column between dark and bright: an even edge has no single steepest pixel
    columns = np.array([60] * 31 + [120] + [180] * 31 + [120], dtype=np.uint8)
    stripes = np.tile(columns, (128, 2))

    sharp = cpbd(as_clip(stripes)).item()
    soft = cpbd(as_clip(degrade(stripes, {"blur_sigma": 3.0}))).item()

    assert sharp == 1.0
    assert soft == 0.0


def test_a_picture_that_only_brightens_rightwards_has_no_edge_for_the_reference():
    columns = np.array([60] * 40 + [120] + [180] * 47, dtype=np.uint8)
    step = np.tile(columns, (64, 1))

    assert cpbd(as_clip(step)).item() == 0.0
    assert cpbd(as_clip(np.fliplr(step))).item() == 1.0


def test_contours_equal_scikit_image():
    picture = data.camera().astype(np.float64)
    weights = gaussian_weights(4, 1.0)
    inside = smooth(np.pad(np.ones(picture.shape), 4), weights)

    ours = _canny(smooth(np.pad(picture, 4), weights) / inside)
    theirs = canny(picture)

    # rounding may decide a pixel otherwise on another processor
    assert (ours != theirs).mean() < 1e-5
    assert 0.28 < theirs.mean() < 0.29


def test_bad_frames_are_refused_with_the_remedy(photographs, unchecked):
    with pytest.raises(ValueError, match=r"63 x 130.*at least 64"):
        cpbd(photographs[:, :, :63])
    with pytest.raises(TypeError, match=r"torch\.float32"):
        cpbd(photographs.float())
    with pytest.raises(ValueError, match="at least one frame"):
        cpbd(photographs[:0])
    with pytest.raises(ValueError, match=r"\(3, 1, 150, 130\)"):
        cpbd(photographs[:, :1])
