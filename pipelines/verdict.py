"""What was measured on every pair and probe → intervals over people, and the layer they name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import rankdata

from pipelines.probes import MOTIONS, Reading

# cosine to the driver less control, `metrics.identity_leakage`, cosine to the reference, errors of
# motion and jaw in radii of the face, PSNR
MEASURES = ("li", "leak", "cs", "me", "se", "psnr")
LI, ME, SE = (MEASURES.index(name) for name in ("li", "me", "se"))
CONFIDENCE = 0.95

Key = tuple[str, int]  # variant, and the side of its map or the number of its group of channels
Observed = dict[Key, np.ndarray]  # (pairs, measures)


@dataclass(frozen=True)
class Resamples:
    """How often each person counts: once in the first row, by chance in the others."""

    weights: np.ndarray  # (1 + resamples, people)

    def mean(self, values: np.ndarray, people: np.ndarray) -> np.ndarray:
        """Mean over frames for each row of weights.

        Args:
            values: (frames, ...) one row a frame.
            people: (frames,) numbers from 0.
        """
        sums = np.zeros((self.weights.shape[1], *values.shape[1:]))
        np.add.at(sums, people, values)
        counts = np.bincount(people, minlength=len(sums)).astype(float)
        return self.ratio(
            sums, np.broadcast_to(counts.reshape(-1, *[1] * (sums.ndim - 1)), sums.shape)
        )

    def ratio(self, sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Ratio of two sums over people for each row of weights."""
        return self.weights @ sums / (self.weights @ counts)


def draw_people(people: int, resamples: int, seed: int) -> Resamples:
    """Everybody once, then `resamples` draws of as many people with replacement.

    Frames of one person are alike, so that people are drawn, not frames.

    Source: cluster bootstrap, Davison and Hinkley 1997, section 3.8.
    """
    chance = np.random.default_rng(seed)
    drawn = chance.multinomial(people, np.full(people, 1 / people), size=resamples)
    return Resamples(np.vstack([np.ones(people), drawn]))


def interval(samples: np.ndarray) -> list[float]:
    """Value, lower and upper end of its 95 % interval; the first sample is the value."""
    outside = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(samples[1:], [outside, 1 - outside]).tolist()
    return [float(samples[0]), low, high]


def rows_of_pairs(observed: Observed, people: np.ndarray, draws: Resamples) -> list[dict[str, Any]]:
    """A row for every exchange: all measures, and how they differ from no exchange.

    `d_me` and `d_se` are shares of the value without an exchange: 1 is twice the error.
    """
    means = {key: draws.mean(values, people) for key, values in observed.items()}
    plain = means["none", 0]
    rows = []
    for (variant, layer), samples in means.items():
        row: dict[str, Any] = {"variant": variant, "layer": layer, "n": len(people)}
        row |= {name: interval(samples[:, n]) for n, name in enumerate(MEASURES)}
        if variant != "none":
            row["d_li"] = interval(samples[:, LI] - plain[:, LI])
            row["d_me"] = interval(samples[:, ME] / plain[:, ME] - 1)
            row["d_se"] = interval(samples[:, SE] / plain[:, SE] - 1)
        if variant == "B":
            row["score"] = interval(_localisation(samples, plain))
        rows.append(row)
    return rows


def rows_of_probes(readings: Mapping[str, Reading], draws: Resamples) -> list[dict[str, Any]]:
    """A row for every layer: share of frames whose person is named, R² of the motion."""
    rows = []
    for layer, reading in readings.items():
        gained = 1 - draws.ratio(reading.errors, reading.spreads)
        row: dict[str, Any] = {"variant": "C", "layer": layer, "n": int(reading.frames.sum())}
        row["identity"] = interval(draws.ratio(reading.hits, reading.frames))
        row["chance"] = 1 / len(reading.hits)
        row |= {f"r2_{name}": interval(gained[:, n]) for n, name in enumerate(MOTIONS)}
        row["score"] = interval(_entanglement(reading, draws))
        rows.append(row)
    return rows


def decide(
    observed: Observed,
    people: np.ndarray,
    readings: Mapping[str, Reading],
    draws: Resamples,
    configured: int,
) -> dict[str, Any]:
    """Which map carries identity: the highest sum of its ranks in A, B and C.

    Where the intervals of the two best rank sums overlap they cannot be told apart, and the
    configured map stays.

    Args:
        observed: of the base's cross pairs.
        people: of the pairs' sources.
        readings: of the base's layers.
        draws: of people.
        configured: side of the map that the model takes for the leak.
    """
    means = {key: draws.mean(values, people) for key, values in observed.items()}
    sides = [layer for variant, layer in means if variant == "A"]
    plain = means["none", 0]
    scores = {
        "A": np.stack([means["A", side][:, LI] for side in sides], 1),
        "B": np.stack([_localisation(means["B", side], plain) for side in sides], 1),
        "C": np.stack([_entanglement(readings[str(side)], draws) for side in sides], 1),
    }
    for name, values in scores.items():
        if not np.isfinite(values).all():
            raise ValueError(f"{name}: a score is not finite; no face to compare, or a flat layer")
    ranks = sum(rankdata(values, axis=1) for values in scores.values())
    intervals = {side: interval(ranks[:, n]) for n, side in enumerate(sides)}
    best, second = sorted(sides, key=lambda side: -intervals[side][0])[:2]
    is_separable = intervals[best][1] > intervals[second][2]
    named = {name: sides[int(values[0].argmax())] for name, values in scores.items()}
    return {
        "chosen": best if is_separable else configured,
        "configured": configured,
        "separable": is_separable,
        "agreement": len(set(named.values())) == 1,
        "named": named,
        "rank_sums": {str(side): values for side, values in intervals.items()},
    }


def _localisation(samples: np.ndarray, plain: np.ndarray) -> np.ndarray:
    """-ΔLI / (1 + ΔME), with ΔME a share of the error without an exchange."""
    return (plain[:, LI] - samples[:, LI]) / (samples[:, ME] / plain[:, ME])


def _entanglement(reading: Reading, draws: Resamples) -> np.ndarray:
    """Identity above chance times R² of the motion, from 0 to 1: high where both can be read.

    A probe that reads motion worse than its mean reads nothing.
    """
    chance = 1 / len(reading.hits)
    identity = (draws.ratio(reading.hits, reading.frames) - chance) / (1 - chance)
    motion = 1 - draws.ratio(reading.errors, reading.spreads)
    return identity.clip(0) * motion.clip(0).mean(1)
