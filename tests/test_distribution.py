"""Distances of distributions: numbers of independent peers, and laws that hold for every set."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

import torchvision_cpu
from metrics.distribution import (
    FeatureMoments,
    frechet_at_infinity,
    frechet_distance,
    frechet_of_moments,
    kernel_distance,
    kernel_distance_without,
)

GOLDEN = Path(__file__).parent / "golden"
FRECHET = json.loads((GOLDEN / "frechet.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def features():
    with np.load(GOLDEN / "features.npz") as stored:
        return {name: torch.from_numpy(stored[name]) for name in stored}


def normal(rows, width, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, width, dtype=torch.float64, generator=generator)


def moments(rows, batch):
    seen = FeatureMoments()
    for part in rows.split(batch):
        seen.add(part)
    return seen


def storage(*tensors):
    return sum(tensor.untyped_storage().nbytes() for tensor in tensors)


@pytest.mark.parametrize("case", FRECHET["cases"], ids=lambda case: case["a"] + case["b"])
def test_frechet_distance_equals_three_peers(case, features):
    a, b = features[case["a"]], features[case["b"]]
    tolerance = FRECHET["tolerance"]["relative_singular" if case["singular"] else "relative"]

    value = frechet_distance(a, b)

    for peer in ("pytorch_fid", "clean_fid", "torch_fidelity"):
        assert value == pytest.approx(case[peer], rel=tolerance), peer


@pytest.mark.parametrize("name", ["A", "B", "C"])
def test_frechet_distance_of_a_set_to_itself_is_zero(name, features):
    rows = features[name]

    assert 0 <= frechet_distance(rows, rows) <= 1e-12 * rows.var(dim=0).sum().item()
    assert 0 <= frechet_distance(rows.float(), rows.float().flip(0)) <= 1e-12


@pytest.mark.parametrize("names", ["AB", "AC", "CB"])
def test_frechet_distance_is_symmetric_and_blind_to_order(names, features):
    a, b = (features[name] for name in names)

    value = frechet_distance(a, b)

    assert value == pytest.approx(frechet_distance(b, a), rel=1e-12)
    assert value == pytest.approx(frechet_distance(a.flip(0), b.roll(3, dims=0)), rel=1e-12)


@pytest.mark.parametrize("name", ["A", "C"])
def test_a_shift_adds_its_squared_length(name, features):
    rows = features[name]
    shift = torch.linspace(-1, 2, rows.shape[1], dtype=torch.float64)

    value = frechet_distance(rows + shift, rows)

    assert value == pytest.approx(shift.square().sum().item(), rel=1e-10)


def test_a_scale_about_the_mean_is_the_change_of_deviations(features):
    rows = features["A"]
    mean, variance = rows.mean(dim=0), rows.var(dim=0).sum().item()

    value = frechet_distance(mean + 1.5 * (rows - mean), rows)

    assert value == pytest.approx(0.25 * variance, rel=1e-10)


def test_frechet_distance_does_not_change_under_rotation(features):
    rotation = torch.linalg.qr(normal(24, 24, seed=3)).Q
    a, b, c = (features[name] for name in "ABC")

    assert frechet_distance(a @ rotation, b @ rotation) == pytest.approx(
        frechet_distance(a, b), rel=1e-12
    )
    assert frechet_distance(c @ rotation, b @ rotation) == pytest.approx(
        frechet_distance(c, b), rel=1e-12
    )


@pytest.mark.parametrize("batch", [1, 7, 200])
@pytest.mark.parametrize("names", ["AB", "AC", "CB"])
def test_moments_give_the_same_distance_in_any_batches(names, batch, features):
    a, b = (features[name] for name in names)

    value = frechet_of_moments(moments(a, batch), moments(b, batch))

    assert value == pytest.approx(frechet_distance(a, b), rel=1e-9)


def test_moments_equal_numpy_far_from_zero():
    rows = normal(500, 6, seed=4) + 1e6

    seen = moments(rows, batch=11)

    assert seen.n == 500
    assert np.allclose(seen.mean, rows.numpy().mean(axis=0), rtol=1e-14)
    assert np.allclose(seen.covariance, np.cov(rows.numpy(), rowvar=False), rtol=1e-9, atol=1e-9)


def test_memory_does_not_grow_with_the_stream():
    seen = FeatureMoments()
    sizes = []

    for count in range(1, 1001):
        clip = normal(3, 16, seed=count)
        seen.add(clip)
        if count in (10, 1000):
            sizes.append(storage(seen.mean, seen.scatter))

    assert seen.n == 3000
    assert sizes[0] == sizes[1] == 8 * (16 + 16**2)


def test_covariance_of_one_feature_is_nan_and_has_no_distance():
    lonely = moments(torch.ones(1, 4), 1)

    assert lonely.covariance.isnan().all()
    with pytest.raises(ValueError, match="b: a covariance needs at least 2 features, got 1"):
        frechet_of_moments(moments(torch.ones(2, 4), 1), lonely)


def test_features_of_another_width_are_refused(unchecked):
    wide, narrow = torch.zeros(5, 4), torch.zeros(5, 3)
    seen = moments(wide, 5)

    for distance in (frechet_distance, kernel_distance):
        with pytest.raises(ValueError, match="'a': 4, 'b': 3"):
            distance(wide, narrow)
    with pytest.raises(ValueError, match="width 3 after features of width 4"):
        seen.add(narrow)
    with pytest.raises(ValueError, match="a 4, b 3"):
        frechet_of_moments(seen, moments(narrow, 5))


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance, frechet_at_infinity])
def test_bad_features_are_refused_by_name(distance, unchecked):
    good, broken = torch.zeros(200, 4), torch.zeros(200, 4)
    broken[7, 2] = torch.nan

    with pytest.raises(ValueError, match="b: 1 frames hold NaN or inf, first is 7"):
        distance(good, broken)
    with pytest.raises(ValueError, match="b: at least 2 rows are needed, got 1"):
        distance(good, good[:1])
    with pytest.raises(ValueError, match=r"a: expected \(rows, features\), got \(200,\)"):
        distance(good[:, 0], good)


def test_accumulators_refuse_nan():
    with pytest.raises(ValueError, match="features: 1 frames hold NaN or inf, first is 1"):
        FeatureMoments().add(torch.tensor([[0.0], [torch.inf]]))


def test_distance_without_each_group_is_that_of_the_other_rows():
    groups = torch.tensor([0, 1, 1, 2, 0, 2, 2, 1, 0, 1] * 3)
    a, b = normal(30, 6, seed=1) + 0.5, normal(30, 6, seed=2)

    whole, without = kernel_distance_without(a, b, groups)

    assert whole == pytest.approx(kernel_distance(a, b)[0], rel=1e-12)
    for group, value in enumerate(without.tolist()):
        others = groups != group
        assert value == pytest.approx(kernel_distance(a[others], b[others])[0], rel=1e-12)
    with pytest.raises(ValueError, match="at least 4 rows"):
        kernel_distance_without(a[:3], b[:3], torch.tensor([0, 1, 1]))


def test_distance_at_infinity_takes_off_the_bias_of_few_rows():
    real = normal(50_000, 12, seed=6)
    values, limits = [], []

    for seed in range(5):
        fake = normal(600, 12, seed=10 + seed) + 0.1
        values.append(frechet_distance(fake, real) - 12 * 0.1**2)
        limit, residual = frechet_at_infinity(fake, real, seed=seed)
        limits.append(limit - 12 * 0.1**2)
        assert 0 < residual < 0.1

    assert abs(np.mean(limits)) < 0.5 * np.mean(values)


def test_distance_at_infinity_is_repeatable_and_needs_rows(features):
    a, b = features["A"], features["B"]

    again = frechet_at_infinity(a, b, seed=1)

    assert frechet_at_infinity(a, b, seed=1) == pytest.approx(again, rel=1e-9)
    with pytest.raises(ValueError, match="a: at least 150 rows are needed, got 149"):
        frechet_at_infinity(a[:149], b)
    with pytest.raises(ValueError, match="points=2"):
        frechet_at_infinity(a, b, points=2)


def test_kernel_distance_equals_piq(features):
    torchvision_cpu.install()
    from piq import KID

    a, b = features["A"][:150], features["B"]

    value, deviation = kernel_distance(a, b)

    assert value == pytest.approx(KID().compute_metric(a, b).item(), rel=1e-9)
    assert math.isnan(deviation)


def test_kernel_distance_of_unequal_counts_equals_its_definition():
    a, b = normal(1100, 5, seed=7), normal(30, 5, seed=8) + 0.3
    kernels = [(x.numpy() @ y.numpy().T / 5 + 1) ** 3 for x, y in ((a, a), (b, b), (a, b))]

    value, _ = kernel_distance(a, b)

    off_diagonal = [k[~np.eye(len(k), dtype=bool)].mean() for k in kernels[:2]]
    assert value == pytest.approx(sum(off_diagonal) - 2 * kernels[2].mean(), rel=1e-9)


def test_kernel_distance_over_subsets_agrees_with_all_rows(features):
    a, b = features["A"], features["B"]

    whole, _ = kernel_distance(a, b)
    mean, deviation = kernel_distance(a, b, subset_size=60, num_subsets=200)

    assert 0 < deviation < 0.5 * whole
    assert mean == pytest.approx(whole, abs=4 * deviation / math.sqrt(200))
    again = kernel_distance(a, b, subset_size=60, num_subsets=200)
    assert again == pytest.approx((mean, deviation), rel=1e-9)


def test_kernel_distance_of_equal_distributions_is_zero_on_average():
    values = [
        kernel_distance(normal(40, 8, seed=s), normal(60, 8, seed=1000 + s))[0] for s in range(100)
    ]

    assert min(values) < 0
    assert abs(np.mean(values)) < 4 * np.std(values) / 10


def test_kernel_distance_refuses_subsets_without_pairs(features):
    with pytest.raises(ValueError, match="subset_size=1"):
        kernel_distance(features["A"], features["B"], subset_size=1)
    with pytest.raises(ValueError, match="num_subsets=0"):
        kernel_distance(features["A"], features["B"], num_subsets=0)
