"""Laws that every metric of METRICS keeps, whatever its formula."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from skimage.data import astronaut

from metrics import METRICS, metric_of, mfcc, sync_scores
from metrics.catalogue import GROUPS
from tests.pictures import degrade

FRAMES = 6
PIXELS = ["psnr", "ssim", "ssim_gaussian"]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def photograph(frames=FRAMES, side=200):
    """A photograph that moves by a pixel a frame."""
    wide = astronaut()
    cut = [wide[10 + n : 10 + n + side, 120 + n : 120 + n + side] for n in range(frames)]
    return torch.from_numpy(np.stack(cut)).permute(0, 3, 1, 2)


def truth_of(need):
    """An input that a perfect system would show, by the words of `needs`."""
    if need in ("generated", "truth"):
        return photograph()
    if need.endswith("points68"):
        return normal(FRAMES, 68, 2, seed=1) * 20 + 64
    if need.endswith("points"):
        return normal(FRAMES, 5, 2, seed=1) * 20 + 64
    if need == "driver embeddings":
        return normal(FRAMES, 12, seed=2)
    if need.endswith("embeddings"):
        return normal(FRAMES * 8, 12, seed=1).cumsum(0) if need[0] in "ls" else normal(FRAMES, 12)
    if need.endswith("features"):
        return normal(200, 8, seed=1)
    if need.endswith("emotions"):
        return torch.arange(FRAMES)
    return {"driver": photograph().flip(3), "face probabilities": torch.ones(FRAMES),
            "min_probability": 0.9}[need]  # fmt: skip


def perfect(name):
    return [_flat(name, truth_of(need)) for need in METRICS[name].needs]


def _flat(name, value):
    return value.flatten(1).double() if name == "leak_pixels" else value


def number(name, values):
    """One number of a metric's result: the mean over its frames, the first of a pair."""
    if isinstance(values, tuple):
        return values[0]
    if isinstance(values, float):
        return values
    finite = values[torch.isfinite(values)]
    return finite.mean().item() if len(finite) else values[0].item()


def score(name, inputs):
    return number(name, METRICS[name].function(*inputs))


def is_no_better(name, worse, better):
    """Whether the first of two values is at most as good as the second."""
    higher = METRICS[name].higher_is_better
    if higher is None:
        return abs(worse) >= abs(better) - 1e-9
    return worse <= better + 1e-9 if higher else worse >= better - 1e-9


COMPARED = [name for name, metric in METRICS.items() if any("truth" in n for n in metric.needs)]
ALONE = [  # jitter is a difference in time
    name for name, m in METRICS.items() if m.per == "frame" and not name.startswith("jitter")
]
SEEN = [(n, d) for n, m in METRICS.items() for d in ("blur", "noise")
        if d in m.sees and m.needs[0] == "generated"]  # fmt: skip
BIASED = [
    name for name, m in METRICS.items()
    if m.per == "set" and not name.startswith(("kid", "kd")) and "infinity" not in name
]  # fmt: skip


@pytest.mark.parametrize("name", METRICS)
def test_metric_says_what_it_is(name):
    metric = METRICS[name]

    assert metric.unit
    assert metric.needs
    assert metric.source
    assert metric.meaning
    assert metric.per in ("frame", "clip", "set")
    assert metric.judge is None or name.endswith(("_local", metric.judge, "_fan"))
    assert metric_of(f"{name}@123") is metric
    assert sum(name in group for group in GROUPS.values()) == 1


@pytest.mark.parametrize("name", COMPARED)
def test_perfect_input_scores_best(name):
    value = score(name, perfect(name))

    if METRICS[name].higher_is_better:
        assert value == math.inf if name == "psnr" else value == pytest.approx(1, abs=1e-12)
    elif name.startswith(("kid", "kd")):  # unbiased: of a set with itself it lies below 0
        assert -0.2 < value <= 0
    elif "infinity" in name:  # extrapolated: of a set with itself it lies below 0
        assert -0.5 < value <= 0
    else:
        assert value == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", COMPARED)
def test_imperfect_input_is_never_better(name):
    inputs = perfect(name)
    if name.startswith("acc_emo"):
        other = [inputs[0].roll(1), *inputs[1:]]
    elif inputs[0].dtype == torch.uint8:
        other = [inputs[0].flip(2), *inputs[1:]]
    else:
        other = [inputs[0] + 3 * normal(*inputs[0].shape, seed=9), *inputs[1:]]

    assert is_no_better(name, score(name, other), score(name, inputs))
    assert score(name, other) != score(name, inputs)


@pytest.mark.parametrize("name", ALONE)
def test_frames_are_scored_one_by_one(name):
    inputs = perfect(name)
    function = METRICS[name].function

    together = function(*inputs)
    alone = torch.cat(
        [function(*(v[i : i + 1] if torch.is_tensor(v) else v for v in inputs))
         for i in range(FRAMES)]
    )  # fmt: skip

    assert torch.allclose(together, alone, rtol=1e-12, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", [n for n, metric in METRICS.items() if metric.per == "set"])
def test_order_of_a_set_does_not_matter(name):
    a, b = normal(200, 8, seed=1) + 1, normal(200, 8, seed=2)
    order = torch.randperm(200, generator=generator(3))
    tolerance = 0.2 if "infinity" in name else 1e-9  # which rows a part holds depends on it

    assert score(name, [a[order], b]) == pytest.approx(score(name, [a, b]), rel=tolerance)


@pytest.mark.parametrize(("name", "damage"), SEEN)
def test_more_damage_never_scores_better_where_claimed(name, damage):
    real = astronaut()[10:210, 120:320]
    strengths = {"blur": [0.7, 1.5, 3.0], "noise": [2, 8, 25]}[damage]
    fakes = [
        degrade(real, {"blur_sigma": s}) if damage == "blur" else noisy(real, s) for s in strengths
    ]
    inputs = [[as_frames(fake), as_frames(real)][: len(METRICS[name].needs)] for fake in fakes]

    values = [score(name, each) for each in inputs]

    assert all(is_no_better(name, worse, better) for better, worse in pairwise(values)), values
    assert values[0] != values[-1]


def noisy(picture, strength):
    noise = np.random.default_rng(0).normal(0, strength, picture.shape)
    return np.clip(np.rint(picture + noise), 0, 255).astype(np.uint8)


def as_frames(picture):
    return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None]


@pytest.mark.parametrize("name", [n for n in METRICS if "lmd" in n])
def test_position_is_forgiven_where_claimed(name):
    inputs = perfect(name)
    moved = [inputs[0] + torch.tensor([5.0, -3.0]), inputs[1]]

    if METRICS[name].unit == "eye distances":
        assert score(name, moved) > 0.1
    else:
        assert score(name, moved) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("name", [n for n in METRICS if n.startswith("sync_offset")])
@pytest.mark.parametrize("frames", [-7, -3, 0, 3, 7])
def test_shifted_sound_is_found(name, frames):
    lips = normal(60, 16, seed=4)
    sound = lips.roll(frames, 0)  # comes `frames` later

    assert score(name, [lips, sound]) == -frames


def test_late_sound_is_late_in_its_windows_too():
    audio = (normal(16000, seed=5) * 3000).short()
    late = torch.cat([torch.zeros(3 * 640, dtype=torch.int16), audio])

    assert torch.allclose(mfcc(late)[13:90], mfcc(audio)[1:78], atol=1e-6)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_sync_distance_scales_and_offset_does_not(scale):
    lips = normal(40, 16, seed=6)
    sound = lips.roll(2, 0) + 0.1 * normal(40, 16, seed=7)

    plain, scaled = sync_scores(lips, sound), sync_scores(scale * lips, scale * sound)

    assert scaled.offset == plain.offset == -2
    assert scaled.distance == pytest.approx(scale * plain.distance, rel=1e-3)


@pytest.mark.parametrize("name", BIASED)
def test_small_sets_look_worse_than_large_ones(name):
    real = normal(4000, 32, seed=8)

    few, many = (score(name, [normal(n, 32, seed=9), real]) for n in (60, 2000))

    assert few > 3 * many
