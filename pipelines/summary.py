"""Scores of the clips of a protocol → their means, intervals, distances of whole sets, warnings."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save
from torch import Tensor

from metrics import METRICS
from metrics.catalogue import FEATURE_JUDGES, FEW_FRAMES, IN_EVERY_FRAME, is_column
from metrics.distribution import (
    FeatureMoments,
    frechet_at_infinity,
    frechet_of_moments,
    kernel_distance,
)
from metrics.emotion import wilson_interval
from metrics.protocol import CROP_JUDGES, Protocol
from metrics.sample import Reservoir
from metrics.statistics import cluster_interval
from pipelines.files import FEATURES, replacing, write_table, write_text
from pipelines.measure import ClipScores
from pipelines.provenance import circumstances
from pipelines.slices import slices

MEANS = "metrics.json"  # written last: who reads a folder asks for it first
SAMPLED = 4096  # features kept, at most, for the distances that need them side by side


@dataclass
class FeatureSets:
    """Features of the generated and the true frames of one judge, in bounded memory.

    Attributes:
        people: pair → person.
    """

    moments: tuple[FeatureMoments, FeatureMoments] = field(
        default_factory=lambda: (FeatureMoments(), FeatureMoments())
    )
    sample: Reservoir = field(default_factory=lambda: Reservoir(SAMPLED))
    people: dict[str, str] = field(default_factory=dict)

    def add(self, pair: str, person: str, features: tuple[np.ndarray, np.ndarray]) -> None:
        """Take in the features of one clip, of as many generated as true frames."""
        rows = [torch.from_numpy(values) for values in features]
        for values, moments in zip(rows, self.moments, strict=True):
            moments.add(values)
        names = [f"{pair}@{number}" for number in range(len(rows[0]))]
        self.sample.add(torch.cat(rows, dim=1), names)
        self.people[pair] = person

    def kept(self) -> tuple[Tensor, list[str], list[str]]:
        """The sample: generated and true features side by side, names, and people of the rows."""
        names = self.sample.names
        return self.sample.features, names, [self.people[n.rpartition("@")[0]] for n in names]

    def distances(self, judge: str) -> tuple[dict[str, float | None], list[str]]:
        """Distances between the two sets by column name, and what to be careful about."""
        suffix, (fid, kid) = judge, FEATURE_JUDGES[judge]
        n = min(moments.n for moments in self.moments)
        if n < 2:
            return {}, [f"{fid}_{suffix}: {n} frames; a distance needs at least 2"]
        samples = self.sample.features.chunk(2, dim=1)
        m = len(self.sample.names)
        kernel, deviation = kernel_distance(*samples)
        values: dict[str, float | None] = {
            f"{fid}_{suffix}@{n}": frechet_of_moments(*self.moments),
            f"{kid}_{suffix}@{m}": kernel,
            f"{kid}_{suffix}@{m}_std": None if np.isnan(deviation) else deviation,
        }
        warnings = []
        if n < FEW_FRAMES:
            warnings.append(
                f"{fid}_{suffix}@{n}: {n} frames; below {FEW_FRAMES} it is far too high, and only "
                "values of equally many frames compare"
            )
        try:
            limit, residual = frechet_at_infinity(*samples)
        except ValueError as error:
            return values, [*warnings, f"{fid}_infinity_{suffix}: {error}"]
        values[f"{fid}_infinity_{suffix}@{m}"] = limit
        values[f"{fid}_infinity_{suffix}@{m}_residual"] = residual
        return values, warnings


class Totals:
    """Clips of one protocol, one after the other → everything that metrics.json says of it."""

    def __init__(self) -> None:
        self.protocol: Protocol | None = None  # known when all clips are
        self.rows: list[dict[str, Any]] = []
        self.sets: dict[str, FeatureSets] = {}
        self.missing: dict[str, str] = {}
        self.judges: dict[str, str] = {}
        self.lost: dict[str, str] = {}  # pair → why it could not be scored
        self.cautions: list[str] = []

    def people_are_clips(self) -> bool:
        """Whether every clip is of a person who has its name."""
        return all(row["person"] == row["pair"] for row in self.rows)

    def add(self, facts: Mapping[str, Any], scores: ClipScores) -> None:
        """Take in the scores of one clip.

        Args:
            facts: columns of all its rows, with "pair" and "person" among them.
            scores: what it scored.
        """
        self.rows += [{**facts, **row} for row in scores.rows]
        for judge, features in scores.features.items():
            sets = self.sets.setdefault(judge, FeatureSets())
            sets.add(facts["pair"], facts["person"], features)
        self.missing |= scores.missing
        self.judges |= scores.judges

    def lose(self, facts: Mapping[str, Any], reason: str) -> None:
        """Count a clip that could not be scored: it has all rows, and none has a value.

        Args:
            facts: columns of all its rows, with "pair" and "person" among them.
            reason: why it could not.
        """
        blank = {"value": None, "truth": None, "frames": 0, "left_out": 0, "reason": reason}
        per_clip = (name for name, metric in METRICS.items() if metric.per != "set")
        self.rows += [{**facts, "metric": name, **blank} for name in per_clip]
        self.lost[facts["pair"]] = reason

    def means(self) -> dict[str, Any]:
        """Mean, interval, count and id of every metric, or why it has none; means by slice too."""
        protocol, table = self.protocol, pd.DataFrame(self.rows)
        means: dict[str, Any] = {
            "protocol_id": protocol.id,
            "pairs": int(table["pair"].nunique()),
            "people": int(table["person"].nunique()),
            "frames": int(table.loc[table["metric"] == IN_EVERY_FRAME, "frames"].sum()),
        }
        reasons, ids, warnings = {}, {}, []
        told = table[~table["pair"].isin(self.lost)]
        for name, rows in table.groupby("metric", sort=False):
            means |= _mean(name, rows, name in protocol.pooled)
            if means[name] is None:
                reasons[name] = told.loc[told["metric"] == name, "reason"].value_counts().index[0]
            ids[name] = self.number_id(name)
        for judge, sets in self.sets.items():
            values, cautions = sets.distances(judge)
            # beyond nine digits they depend on where matrices lie in memory
            means |= {n: None if v is None else float(f"{v:.9g}") for n, v in values.items()}
            warnings += cautions
            ids |= {column: self.number_id(column) for column in values if is_column(column)}
        reasons |= self.missing
        if self.lost:
            clip, reason = next(iter(self.lost.items()))
            of = f"{len(self.lost)} of {means['pairs']} clips"
            warnings.append(f"{of} without any value, the first {clip}: {reason}")
        known = told[~told["metric"].isin(reasons)]
        warnings += _absences(known, means["pairs"]) + self.cautions
        sliced = _sliced(table, protocol.pooled)
        return {**means, "reasons": reasons, "ids": ids, "warnings": warnings, "slices": sliced}

    def number_id(self, column: str) -> str:
        """What must be equal for two numbers of a column to compare."""
        name, protocol = column.partition("@")[0], self.protocol
        metric = METRICS[name]
        asked = [metric.judge] if metric.judge else []
        asked += ["dlib68"] if protocol.crop == "eat128" or metric.judge == "emotion_fan" else []
        if metric.judge == "syncnet" and protocol.sync_crop != "whole":
            asked.append(CROP_JUDGES[protocol.sync_crop])
        hashes = [self.judges[name] for name in asked if name in self.judges]
        return protocol.id_of(name, metric.version, hashes)


def write_scores(
    out: Path,
    totals: Mapping[str, Totals],
    facts: Mapping[str, Any],
    possible: Mapping[str, int],
    empty: Mapping[str, str],
) -> dict[str, Any]:
    """Write scores.parquet (pair × metric), its features and metrics.json (protocol → means).

    `protocol_id` says which numbers may stand in one table, `number_id` (in metrics.json under
    "ids") which may stand in one column: it follows the judge's weights too. Earlier files are
    replaced; a run that ends in between leaves no metrics.json, hence a folder that is not scored.

    Args:
        out: folder, which is there.
        totals: protocol → its clips.
        facts: about the system, kept with the table; "provenance" is added where it lacks.
        possible: protocol → pairs there could be.
        empty: protocol → why it has no pair.

    Returns:
        What metrics.json says.
    """
    rows = [
        {**row, "number_id": total.number_id(row["metric"])}
        for total in totals.values()
        for row in total.rows
    ]
    protocols = {name: asdict(total.protocol) for name, total in totals.items()}
    means = {name: total.means() for name, total in totals.items()}
    means |= {name: {"pairs": 0, "reason": reason} for name, reason in empty.items()}
    means = {name: {**of_name, "possible": possible[name]} for name, of_name in means.items()}
    text = json.dumps(means, indent=1, allow_nan=False) + "\n"
    facts = {"provenance": circumstances(), **facts, "protocols": protocols}
    (out / MEANS).unlink(missing_ok=True)
    write_table(out / "scores.parquet", rows, facts)
    _write_features(out / FEATURES, totals)
    write_text(out / MEANS, text)
    return means


def _write_features(path: Path, totals: Mapping[str, Totals]) -> None:
    """Keep a sample of features by protocol and judge: two systems' sets compare frame by frame."""
    kept = {
        f"{name}.{judge}": sets.kept()
        for name, total in totals.items()
        for judge, sets in total.sets.items()
    }
    rows = {key: {"names": names, "people": people} for key, (_, names, people) in kept.items()}
    with replacing(path) as temporary:
        tensors = {key: features.contiguous() for key, (features, _, _) in kept.items()}
        temporary.write_bytes(save(tensors, {"rows": json.dumps(rows)}))


def _absences(table: pd.DataFrame, pairs: int) -> list[str]:
    """What some clips have no value of, and why: what is hard to measure must not just vanish."""
    empty = table[table["reason"].notna()]
    lines: dict[tuple[str, int], list[str]] = {}
    for (name, reason), rows in empty.groupby(["metric", "reason"], sort=False):
        lines.setdefault((reason, len(rows)), []).append(name)
    return [
        f"{', '.join(names)}: {count} of {pairs} clips without a value ({reason})"
        for (reason, count), names in lines.items()
    ]


def _mean(name: str, rows: pd.DataFrame, is_pooled: bool) -> dict[str, Any]:
    """Mean over clips, or over all frames; infinite values stay out and are counted."""
    values = rows["value"].astype(float)
    finite = rows[np.isfinite(values)]
    weights = "frames" if is_pooled else None
    mean = _average(finite, "value", weights)
    if name.startswith("acc_emo") and len(finite):
        interval = wilson_interval(round(finite["value"].sum()), len(finite))
    else:
        weight = finite[weights] if weights else None
        interval = cluster_interval(finite["value"], finite["person"], weight)
    low, high = interval or (None, None)
    return {
        name: mean,
        f"{name}_low": low if low is None else round(low, 6),
        f"{name}_high": high if high is None else round(high, 6),
        f"{name}_truth": _average(finite[finite["truth"].notna()], "truth", weights),
        f"{name}_n": len(finite),
        f"{name}_left_out": int(rows["left_out"].sum()),
    }


def _sliced(table: pd.DataFrame, pooled: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Axis → slice → its counts and the means of what has a value in it."""
    found: dict[str, dict[str, Any]] = {}
    for axis, name, part in slices(table):
        means: dict[str, Any] = {
            "pairs": int(part["pair"].nunique()),
            "people": int(part["person"].nunique()),
        }
        for metric, rows in part[part["value"].notna()].groupby("metric", sort=False):
            means |= _mean(metric, rows, metric in pooled)
        found.setdefault(axis, {})[name] = means
    return found


def _average(rows: pd.DataFrame, column: str, weights: str | None) -> float | None:
    if not len(rows):
        return None
    weight = rows[weights].astype(float) if weights else None
    return round(float(np.average(rows[column].astype(float), weights=weight)), 6)
