"""Two scored systems → paired differences of every metric, with intervals and p."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError, safe_open

from metrics.catalogue import FEATURE_JUDGES, METRICS
from metrics.distribution import kernel_distance, kernel_distance_without
from metrics.statistics import (
    Interval,
    cluster_interval,
    clusters_needed,
    holm,
    jackknife,
    mcnemar,
    sign_flip,
)
from pipelines.files import FEATURES, read_table


@dataclass(frozen=True)
class Scored:
    """What one results folder says.

    Attributes:
        name: of the system.
        dataset: it was scored on.
        facts: that scores.parquet keeps.
        means: metrics.json.
        scores: pair × metric.
        folder: where they lie.
    """

    name: str
    dataset: str
    facts: dict[str, Any]
    means: dict[str, dict[str, Any]]
    scores: pd.DataFrame
    folder: Path


@dataclass(frozen=True)
class Difference:
    """How much a metric moved on the pairs that both systems have a value for.

    Where the best value is 0, everything is said of distances from it.

    Attributes:
        metric: key of METRICS.
        mean: of the current system.
        baseline: mean of the other.
        delta: current minus baseline.
        low: of the 95 % interval of delta; None for one person.
        high: of it.
        p: two-sided: signs of people flipped, McNemar for emotions, jackknife for sets.
        p_holm: adjusted for all metrics of the protocol.
        clips: compared.
        people: compared.
        missing: clips of which only the baseline has a value.
        needed: people among whom it would be told from 0, or from the margin that was given; None
            if that is unknown.
    """

    metric: str
    mean: float
    baseline: float
    delta: float
    low: float | None
    high: float | None
    p: float
    p_holm: float
    clips: int
    people: int
    missing: int
    needed: int | None


def read_scores(folder: Path) -> Scored:
    """What `fixtalk score` or the score stage wrote.

    Raises:
        FileNotFoundError: not scored.
        ValueError: a file is damaged; names it.
    """
    with _reading(folder / "metrics.json") as path:
        means = json.loads(path.read_text(encoding="utf-8"))
    with _reading(folder / "scores.parquet") as path:
        scores, facts = read_table(path)
        if lacking := {"provenance", "protocols", "judges", "key"} - facts.keys():
            raise ValueError(f"lacks {', '.join(sorted(lacking))}")
        return Scored(facts["system"], facts["dataset"], facts, means, scores, folder)


def contrast(
    baseline: Scored,
    current: Scored,
    protocol: str,
    margins: Mapping[str, float] | None = None,
) -> list[Difference]:
    """Differences of all metrics that both sides have, in the order of METRICS.

    Left out are metrics whose number ids differ, as after a change of the judge, and those of
    which no pair has a value on both sides. Frames identical to the truth have an infinite psnr:
    such pairs stay out, unless there are no others.

    Args:
        baseline: what is compared with.
        current: what is looked at.
        protocol: key of both means.
        margins: metric → what may be lost of it, in its unit; default nothing.

    Raises:
        ValueError: the protocol ids differ, or a side has no such pairs.
    """
    ids = [side.means.get(protocol, {}).get("protocol_id") for side in (baseline, current)]
    if ids[0] != ids[1] or ids[0] is None:
        raise ValueError(
            f"{baseline.folder} has {protocol} pairs of protocol id {ids[0]}, {current.folder} of "
            f"{ids[1]}: only equal ids compare; score both again"
        )
    given = margins or {}
    differences = [*_of_clips(baseline, current, protocol, given),
                   *_of_sets(baseline, current, protocol, given)]  # fmt: skip
    adjusted = holm({difference.metric: difference.p for difference in differences})
    places = list(METRICS)
    return [
        replace(difference, p_holm=adjusted[difference.metric])
        for difference in sorted(differences, key=lambda each: places.index(each.metric))
    ]


def number_ids(means: Mapping[str, Any]) -> dict[str, str]:
    """Metric → id of its number, whatever the number of frames in the column's name."""
    return {column.partition("@")[0]: number_id for column, number_id in means["ids"].items()}


def _comparable(baseline: Scored, current: Scored, protocol: str) -> set[str]:
    ours, theirs = (number_ids(side.means[protocol]) for side in (current, baseline))
    return {metric for metric, number_id in theirs.items() if ours.get(metric) == number_id}


def _of_clips(
    baseline: Scored, current: Scored, protocol: str, margins: Mapping[str, float]
) -> Iterator[Difference]:
    """Differences of what has a value for each clip."""
    columns = ["pair", "metric", "person", "frames", "value"]
    sides = [
        side.scores.loc[side.scores["protocol"] == protocol, columns]
        for side in (baseline, current)
    ]
    pairs = sides[0].merge(sides[1], "left", ["pair", "metric"], suffixes=("", "_current"))
    pooled = baseline.facts["protocols"][protocol]["pooled"]
    for name in sorted(_comparable(baseline, current, protocol)):
        rows = pairs[pairs["metric"] == name]
        before, after = (
            rows[column].to_numpy(dtype=float) for column in ("value", "value_current")
        )
        if METRICS[name].higher_is_better is None:
            before, after = np.abs(before), np.abs(after)
        kept = np.isfinite(before) & np.isfinite(after)
        missing = int(np.sum(~np.isnan(before) & ~kept & ~np.isinf(after)))
        if not kept.any():
            kept = np.isinf(before) & np.isinf(after)
        if kept.any():
            weights = rows["frames"].to_numpy(dtype=float)[kept] if name in pooled else None
            people = rows["person"].to_numpy()[kept]
            yield _difference(
                name, before[kept], after[kept], people, weights, missing, margins.get(name)
            )


def _difference(
    name: str,
    before: np.ndarray,
    after: np.ndarray,
    people: np.ndarray,
    weights: np.ndarray | None,
    missing: int,
    margin: float | None,
) -> Difference:
    changes = np.subtract(after, before, out=np.zeros(len(after)), where=after != before)
    delta = float(np.average(changes, weights=weights))
    interval = cluster_interval(changes, people, weights)
    if not changes.any():
        interval = Interval(0.0, 0.0)
    if name.startswith("acc_emo"):
        p = mcnemar(before > 0.5, after > 0.5)
    else:
        p = sign_flip(changes, people, weights)
    return Difference(
        name, float(np.average(after, weights=weights)),
        float(np.average(before, weights=weights)), delta,
        *(interval or (None, None)), p, p, len(changes), len(np.unique(people)), missing,
        _needed(name, changes, people, delta, margin, weights),
    )  # fmt: skip


def _of_sets(
    baseline: Scored, current: Scored, protocol: str, margins: Mapping[str, float]
) -> Iterator[Difference]:
    """Differences of kernel distances, of the frames that both sides kept features of."""
    comparable = _comparable(baseline, current, protocol)
    for judge, (_, kernel) in FEATURE_JUDGES.items():
        metric = f"{kernel}_{judge}"
        if metric not in comparable:
            continue
        before, after = (
            _features(side.folder / FEATURES, f"{protocol}.{judge}") for side in (baseline, current)
        )
        common = sorted(before.keys() & after.keys())
        if len(common) < 2:
            continue
        people, groups = np.unique([before[name][0] for name in common], return_inverse=True)
        sides = [
            torch.stack([rows[name][1] for name in common]).chunk(2, dim=1)
            for rows in (before, after)
        ]
        clips = [len({name.rpartition("@")[0] for name in names}) for names in (before, common)]
        values, interval, p, parts = _deleting_people(sides, groups)
        delta = values[1] - values[0]
        margin = margins.get(metric)
        needed = None if parts is None else _needed(metric, parts, people, delta, margin)
        yield Difference(
            metric, values[1], values[0], delta, *(interval or (None, None)), p, p, clips[1],
            len(people), clips[0] - clips[1], needed,
        )  # fmt: skip


def _deleting_people(
    sides: Sequence[Sequence[torch.Tensor]], groups: np.ndarray
) -> tuple[list[float], Interval | None, float, np.ndarray | None]:
    """Kernel distances before and after; interval and p of their difference; a part a person."""
    if len(groups) - np.bincount(groups).max() < 2:
        return [kernel_distance(*side)[0] for side in sides], None, 1.0, None
    found = [kernel_distance_without(*side, torch.from_numpy(groups)) for side in sides]
    values, without = [value for value, _ in found], (found[1][1] - found[0][1]).numpy()
    delta, people = values[1] - values[0], len(without)
    return values, *jackknife(delta, without), people * delta - (people - 1) * without


def _features(path: Path, key: str) -> dict[str, tuple[str, torch.Tensor]]:
    """Name of a frame → its person, and its generated and true features side by side."""
    with _reading(path), safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["rows"])[key]
        features = file.get_tensor(key)
    rows = zip(about["people"], features, strict=True)
    return dict(zip(about["names"], rows, strict=True))


@contextmanager
def _reading(path: Path) -> Iterator[Path]:
    """Say which file is missing or damaged, and what to do."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: missing; run score for {path.parent.name} first")
    try:
        yield path
    except (ValueError, KeyError, TypeError, OSError, SafetensorError) as error:
        raise ValueError(f"{path}: damaged ({error}); score {path.parent.name} again") from None


def _needed(
    metric: str,
    changes: np.ndarray,
    people: np.ndarray,
    delta: float,
    margin: float | None,
    weights: np.ndarray | None = None,
) -> int | None:
    sign = 1 if METRICS[metric].higher_is_better else -1
    effect = sign * delta + (margin or 0.0)
    rounding = np.finfo(float).eps * float(np.abs(changes).sum())
    if abs(effect) <= rounding or len(np.unique(people)) < 2:
        return None
    return clusters_needed(changes, people, effect, weights=weights)
