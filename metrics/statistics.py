"""Values of clips of several people → intervals, p values, and how many people would decide.

Frames and clips of a person are alike: people (clusters) are what is drawn, flipped and counted.
"""

import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr, stdtrit

RESAMPLES = 10_000
SEED = 0
LEVEL = 0.95  # probability of an interval; a test may err with the rest
POWER = 0.8  # probability that a test finds a difference that is there
EXACT = 16  # clusters, at most, whose flips are all tried
BLOCK = 500  # resamples held at once: bounds memory, not the result


class Interval(NamedTuple):
    """Between which two values the true one lies, with the level asked for."""

    low: float
    high: float


def cluster_interval(
    values: ArrayLike, clusters: ArrayLike, weights: ArrayLike | None = None, level: float = LEVEL
) -> Interval | None:
    """Interval of the mean of `values`, clusters drawn with replacement; None below two of them.

    Percentiles of the resampled means cover too little where clusters are few (80 % with four, 89 %
    with eight, instead of 95 %). Their deviation is therefore freed of its bias by √(k / (k - 1))
    and reaches as far as t with k - 1 degrees of freedom.

    Args:
        values: (n,).
        clusters: (n,) labels.
        weights: (n,) of the values; None: all weigh the same.
        level: probability of the interval.

    Raises:
        ValueError: lengths differ, or a value is not finite.

    Source: Hesterberg 2015, "What teachers should know about the bootstrap", t interval with the
        bootstrap's standard error and its correction for small samples; on simulated clustered
        data it covers what it says (tests/test_statistics.py).
    """
    values, places = _checked(values, clusters)
    weight = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=float)
    count = int(places.max(initial=-1)) + 1
    if count < 2:
        return None
    sums = np.bincount(places, weight * values)
    totals = np.bincount(places, weight)
    generator = np.random.default_rng(SEED)
    means = np.empty(RESAMPLES)
    for start in range(0, RESAMPLES, BLOCK):
        drawn = generator.integers(count, size=(BLOCK, count))
        means[start : start + BLOCK] = sums[drawn].sum(axis=1) / totals[drawn].sum(axis=1)
    reach = stdtrit(count - 1, (1 + level) / 2) * math.sqrt(count / (count - 1)) * means.std()
    middle = sums.sum() / totals.sum()
    return Interval(float(middle - reach), float(middle + reach))


def jackknife(value: float, without: ArrayLike) -> tuple[Interval, float]:
    """Interval of a value at LEVEL, and two-sided p of its being 0, from values without a cluster.

    For what is no mean of clips, such as the distance of two sets.

    Args:
        value: of all clusters.
        without: (clusters,) values when each in turn is left out, two or more.

    Source: Efron and Tibshirani 1993, equation 11.5, on deleted groups; t with k - 1 degrees.
    """
    left = np.asarray(without, dtype=float)
    count = len(left)
    error = math.sqrt((count - 1) / count * np.square(left - left.mean()).sum())
    if error == 0:
        return Interval(value, value), float(value == 0)
    reach = stdtrit(count - 1, (1 + LEVEL) / 2) * error
    p = 2 * stdtr(count - 1, -abs(value) / error)
    return Interval(value - reach, value + reach), float(p)


def sign_flip(
    differences: ArrayLike, clusters: ArrayLike, weights: ArrayLike | None = None
) -> float:
    """Two-sided p of paired differences: how often flipped signs move the mean as far from 0.

    What a cluster adds to the mean keeps or loses its sign as a whole. Exact for up to EXACT
    clusters.

    Args:
        differences: (n,).
        clusters: (n,) labels.
        weights: (n,) of the differences in the mean; None: all weigh the same.

    Raises:
        ValueError: nothing to flip, lengths differ, or a difference is not finite.

    Source: Fisher 1935, section 21; (b + 1) / (m + 1) for random flips, Phipson and Smyth 2010.
    """
    parts = _cluster_parts(differences, clusters, weights)
    count = len(parts)
    if count == 0:
        raise ValueError("no difference to flip")
    reached = abs(parts.sum()) * (1 - 1e-12)  # rounding must not tell a flip from its mirror
    if count <= EXACT:
        flips = np.arange(2**count)[:, None] >> np.arange(count) & 1
        return float(np.mean(np.abs((1 - 2 * flips) @ parts) >= reached))
    generator = np.random.default_rng(SEED)
    beyond = 0
    for _ in range(RESAMPLES // BLOCK):
        signs = 1 - 2 * generator.integers(2, size=(BLOCK, count))
        beyond += int(np.sum(np.abs(signs @ parts) >= reached))
    return (beyond + 1) / (RESAMPLES + 1)


def mcnemar(first: ArrayLike, second: ArrayLike) -> float:
    """Two-sided exact p of two judgements of the same clips, from those that only one has right.

    Args:
        first: (n,) whether each clip was judged right.
        second: (n,) the same of the other system.

    Raises:
        ValueError: lengths differ.

    Source: McNemar 1947, with binomial probabilities.
    """
    first, second = (np.asarray(side, dtype=bool) for side in (first, second))
    if first.shape != second.shape:
        raise ValueError(f"first has {len(first)} clips, second {len(second)}: pair them first")
    alone = [int(np.sum(first & ~second)), int(np.sum(second & ~first))]
    tail = sum(math.comb(sum(alone), k) for k in range(min(alone) + 1))
    return min(1.0, 2 * tail / 2 ** sum(alone))


def holm(values: Mapping[str, float]) -> dict[str, float]:
    """Values of p by name → the same, raised so that looking at all of them misleads no oftener.

    Source: Holm 1979.
    """
    adjusted, highest = {}, 0.0
    for rank, name in enumerate(sorted(values, key=values.__getitem__)):
        highest = max(highest, min(1.0, (len(values) - rank) * values[name]))
        adjusted[name] = highest
    return {name: adjusted[name] for name in values}


def clusters_needed(
    differences: ArrayLike, clusters: ArrayLike, effect: float, weights: ArrayLike | None = None
) -> int:
    """Clusters among which a true difference of this size would be found with POWER.

    n = ((z₁₋α⸝₂ + z_power) σ / effect)², σ the deviation of what clusters add to the mean here,
    α = 1 - LEVEL of the two-sided test.

    Args:
        differences: (n,).
        clusters: (n,) labels, of two or more.
        effect: the difference to find, in the unit of the differences.
        weights: (n,) of the differences in the mean; None: all weigh the same.

    Raises:
        ValueError: fewer than two clusters, or an effect of 0.
    """
    parts = _cluster_parts(differences, clusters, weights)
    if len(parts) < 2 or effect == 0:
        raise ValueError(f"{len(parts)} clusters, effect {effect}: expected 2 or more, and not 0")
    reach = NormalDist().inv_cdf((1 + LEVEL) / 2) + NormalDist().inv_cdf(POWER)
    return max(2, math.ceil((reach * float(np.std(parts, ddof=1)) / effect) ** 2))


def _cluster_parts(
    values: ArrayLike, clusters: ArrayLike, weights: ArrayLike | None
) -> NDArray[np.float64]:
    """What each cluster adds to the mean, times their number: the mean of these is that mean."""
    values, places = _checked(values, clusters)
    weight = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=float)
    sums = np.bincount(places, weight * values)
    return sums * len(sums) / weight.sum() if len(sums) else sums


def _checked(
    values: ArrayLike, clusters: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Finite values, and the number of each one's cluster."""
    values, clusters = np.asarray(values, dtype=float), np.asarray(clusters)
    if values.shape != clusters.shape or values.ndim != 1:
        raise ValueError(f"values {values.shape} and clusters {clusters.shape}: one label each")
    if not np.isfinite(values).all():
        first = int(np.flatnonzero(~np.isfinite(values))[0])
        raise ValueError(f"value {first} is {values[first]}: leave out what has no value")
    return values, np.unique(clusters, return_inverse=True)[1]
