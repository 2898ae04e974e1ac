"""A sample of named features: uniform, bounded, and the same for all who saw the same names."""

import math

import pytest
import torch

from metrics import Reservoir


def stream(count=500):
    return torch.arange(float(count))[:, None], [f"clip{n // 7}@{n % 7}" for n in range(count)]


def sample(features, names, capacity=20, batch=500):
    found = Reservoir(capacity)
    for start in range(0, len(names), batch):
        found.add(features[start : start + batch], names[start : start + batch])
    return found


@pytest.mark.parametrize("batch", [1, 7, 500])
def test_sample_is_the_same_in_any_batches_and_order(batch):
    features, names = stream()
    order = torch.randperm(500, generator=torch.Generator().manual_seed(0))

    whole = sample(features, names)
    parts = sample(features[order], [names[n] for n in order.tolist()], batch=batch)

    assert torch.equal(whole.features, parts.features)
    assert whole.names == parts.names == [names[int(row)] for row in whole.features]
    assert len(set(whole.names)) == 20


def test_two_systems_keep_the_same_frames():
    features, names = stream()

    first, second = sample(features, names), sample(features * 100, names)

    assert first.names == second.names
    assert torch.equal(first.features * 100, second.features)


def test_short_stream_is_kept_whole():
    features, names = stream(12)

    found = sample(features, names)

    assert sorted(found.features.flatten().tolist()) == list(range(12))


def test_every_feature_is_kept_equally_often():
    kept, features = torch.zeros(4), torch.arange(4.0)[:, None]

    for trial in range(2000):
        found = sample(features, [f"{trial}@{n}" for n in range(4)], capacity=2)
        kept[found.features.flatten().long()] += 1

    # 1000 each, within four standard deviations of a binomial count
    assert (kept - 1000).abs().max() < 4 * math.sqrt(2000 / 4)


def test_what_does_not_fit_is_refused(unchecked):
    found = sample(torch.zeros(5, 4), list("abcde"), capacity=2)

    with pytest.raises(ValueError, match="width 3 after features of width 4"):
        found.add(torch.zeros(1, 3), ["f"])
    with pytest.raises(ValueError, match="2 features with 1 names"):
        found.add(torch.zeros(2, 4), ["f"])
    with pytest.raises(ValueError, match="features: 1 frames hold NaN or inf, first is 1"):
        found.add(torch.tensor([[0.0] * 4, [torch.inf] * 4]), ["f", "g"])
    with pytest.raises(ValueError, match="capacity=0"):
        Reservoir(0)
