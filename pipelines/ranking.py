"""Paired differences of systems → who leads a column, who is tied, and what would decide it."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import pandas as pd

from metrics.catalogue import MAIN, metric_of
from metrics.statistics import holm
from pipelines.contrast import Difference, Scored, contrast
from pipelines.report import Column, between, cell, heading, line

ALPHA = 0.05  # a difference of lower p, after Holm, is one


class Ranking:
    """The systems of one table, compared pair by pair when it is asked for."""

    def __init__(self, systems: Iterable[Scored], protocol: str) -> None:
        self.systems = {system.name: system for system in systems}
        self.protocol = protocol
        self._known: dict[tuple[str, str], dict[str, Difference]] = {}

    def differences(self, baseline: str, current: str) -> dict[str, Difference]:
        """What `differences` says of two of the systems, kept for the next who asks."""
        key = (baseline, current)
        if key not in self._known:
            systems = (self.systems[name] for name in key)
            self._known[key] = differences(*systems, self.protocol)
        return self._known[key]

    def leaders(self, rows: pd.DataFrame, column: Column) -> list[str]:
        """The best of a column and all that cannot be told from it; none where nothing tells."""
        name, number_id = column
        values = rows[rows[f"{name}_id"] == number_id].set_index("system")[name].astype(float)
        values = values.reindex(list(self.systems)).dropna()
        if len(values) < 2:
            return []
        best = _in_order(name, values)[0]
        found = {
            other: self.differences(best, other).get(name.partition("@")[0])
            for other in values.index.drop(best)
        }
        words = {other: verdict(one) if one else "better" for other, one in found.items()}
        if "better" in words.values():  # on other clips than its own mean is of
            return []
        return [best, *(other for other, word in words.items() if word == "tie")]

    def against_lines(
        self, rows: pd.DataFrame, columns: Sequence[Column], baseline: str
    ) -> list[str]:
        """Markdown table: metrics down, systems across, differences from `baseline`."""
        others = [name for name in self.systems if name != baseline]
        lines = [line(["metric", *others, "clips", "people"])]
        lines += [line(["---", *["---:"] * (len(others) + 2)])]
        ids = rows.set_index("system")
        for name, number_id in columns:
            found = {
                other: self.differences(baseline, other).get(name.partition("@")[0])
                for other in others
                if {ids.at[other, f"{name}_id"], ids.at[baseline, f"{name}_id"]} == {number_id}
            }
            known = [one for one in found.values() if one]
            if known:
                counts = [_range([getattr(one, of) for one in known]) for of in ("clips", "people")]
                cells = [describe(found.get(other)) for other in others]
                lines.append(line([heading(name), *cells, *counts]))
        return lines if len(lines) > 2 else []


def differences(baseline: Scored, current: Scored, protocol: str) -> dict[str, Difference]:
    """Metric → how far the current system lies from the baseline on the clips that both have.

    Holm's correction is of the main metrics among themselves, and of the others: looking at many
    more must not hide what the main ones show.
    """
    found = contrast(baseline, current, protocol)
    families = ([one for one in found if (one.metric in MAIN) == is_main] for is_main in (1, 0))
    return {one.metric: one for family in families for one in _adjusted(family)}


def verdict(difference: Difference) -> str:
    """One word: better or worse than the baseline, or a tie where noise may have made it."""
    if difference.p_holm >= ALPHA:
        return "tie"
    is_higher_better = bool(metric_of(difference.metric).higher_is_better)  # None: best is 0
    return "better" if (difference.delta > 0) == is_higher_better else "worse"


def describe(difference: Difference | None) -> str:
    """Difference with interval, verdict and p; of a tie how many people would decide it."""
    if difference is None:
        return "–"
    name, word = difference.metric, verdict(difference)
    text = ("+" if difference.delta > 0 else "") + cell(name, difference.delta)
    text += between(name, difference.low, difference.high)
    if word != "tie":
        return f"{text} **{word}** (p {difference.p_holm:.2g})"
    decide = f"; {difference.needed} people decide" if difference.needed else ""
    return f"{text} tie (p {difference.p_holm:.2g}{decide})"


def fewest_people(tests: int) -> int:
    """Below it flipped signs reach no p that stays under ALPHA among so many tests."""
    return math.floor(2 + math.log2(tests / ALPHA))


def _adjusted(family: Sequence[Difference]) -> list[Difference]:
    """The differences with Holm's p, and as many people needed as that asks for: more than here."""
    p_values, fewest = holm({one.metric: one.p for one in family}), fewest_people(len(family) or 1)
    adjusted = []
    for one in family:
        needed = one.needed and max(one.needed, fewest, one.people + 1)
        adjusted.append(replace(one, p_holm=p_values[one.metric], needed=needed))
    return adjusted


def _in_order(name: str, values: pd.Series) -> list[str]:
    """Systems from the best value to the worst."""
    direction = metric_of(name).higher_is_better
    keys = values.abs() if direction is None else values
    return keys.sort_values(ascending=not direction, kind="stable").index.tolist()


def _range(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}"
