"""Systems of one protocol id → the tables, forest plots and slices that the page shows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from metrics.catalogue import MAIN, METRICS
from pipelines.contrast import Scored
from pipelines.forest import Estimate, forest
from pipelines.page import AXES, SECTIONS
from pipelines.ranking import Ranking, verdict
from pipelines.report import Column, between, cell, columns_of, heading


@dataclass(frozen=True)
class Contest:
    """Systems whose numbers may stand side by side: of one protocol id."""

    protocol: str
    protocol_id: str
    systems: tuple[Scored, ...]

    @property
    def key(self) -> str:
        """Name in the page's markup."""
        return f"{self.protocol}-{self.protocol_id}"

    @property
    def about(self) -> dict[str, Any]:
        """What the protocol fixes."""
        return self.systems[0].facts["protocols"][self.protocol]


def contests_of(systems: Sequence[Scored]) -> list[Contest]:
    """Systems grouped by what may be compared, protocols in the order in which they come."""
    groups: dict[tuple[str, str], list[Scored]] = {}
    for system in systems:
        for protocol, means in system.means.items():
            if means["pairs"]:
                groups.setdefault((protocol, means["protocol_id"]), []).append(system)
    return [Contest(*key, tuple(members)) for key, members in groups.items()]


def describe(contest: Contest, against: str) -> dict[str, Any]:
    """What the page shows of a contest without a script."""
    ranking = Ranking(contest.systems, contest.protocol)
    rows = pd.DataFrame(
        {"system": system.name, **means, **{f"{name}_id": n for name, n in means["ids"].items()}}
        for system in contest.systems
        for means in [system.means[contest.protocol]]
    )
    columns = columns_of(rows, list(METRICS))
    has_rivals = len(contest.systems) > 1
    baseline = against if has_rivals and against in ranking.systems else None
    titles = titles_of(columns)
    plots = {
        column: {"title": titles[column], **plot}
        for column in columns
        if (plot := _forests(rows, column, ranking, baseline))
    }
    main = columns_of(rows, MAIN)
    return {
        "key": contest.key,
        "protocol": contest.protocol,
        "protocol_id": contest.protocol_id,
        "about": contest.about,
        "counts": f"{rows['pairs'].max()} pairs of {rows['people'].max()} people",
        "baseline": baseline,
        "tables": [
            _table(title, rows, found, ranking)
            for title, names in SECTIONS.items()
            if (found := columns_of(rows, names))
        ],
        "forests": [plots[column] for column in main if column in plots],
        "other_forests": [plot for column, plot in plots.items() if column not in main],
        "slices": [found for axis in AXES if (found := _slices(contest, axis, columns))],
        "notes": list(dict.fromkeys(_notes(contest))),
    }


def titles_of(columns: Sequence[Column]) -> dict[Column, str]:
    """Heading of each column, with the id of its numbers where another has the same name."""
    names = [name for name, _ in columns]
    return {
        (name, number_id): heading(name) + (f" {number_id}" if names.count(name) > 1 else "")
        for name, number_id in columns
    }


def _table(
    title: str, rows: pd.DataFrame, columns: Sequence[Column], ranking: Ranking
) -> dict[str, Any]:
    """Systems down, metrics across, and what the true clips score themselves."""
    titles = titles_of(columns)
    leaders = {column: ranking.leaders(rows, column) for column in columns}
    body = [
        (row, [_cell(row, column, leaders[column]) for column in columns])
        for row in rows.to_dict("records")
    ]
    truth = [_truth(rows, column) for column in columns]
    return {
        "title": title,
        "heads": [titles[column] for column in columns],
        "rows": [(row["system"], row["pairs"], row["people"], cells) for row, cells in body],
        "truth": [cell(name, value) for (name, _), value in zip(columns, truth, strict=True)],
        "has_truth": any(value is not None for value in truth),
    }


def _cell(row: Mapping[str, Any], column: Column, leaders: Sequence[str]) -> dict[str, Any]:
    name, number_id = column
    value = row.get(name) if row.get(f"{name}_id") == number_id else None
    value = None if value is None or np.isnan(value) else value
    ends = (row.get(f"{name}_{end}") if value is not None else None for end in ("low", "high"))
    mark = ("best" if len(leaders) == 1 else "tied") if row["system"] in leaders else ""
    return {"value": value, "text": cell(name, value), "mark": mark,
            "between": between(name, *ends).strip()}  # fmt: skip


def _truth(rows: pd.DataFrame, column: Column) -> float | None:
    name, number_id = column
    if f"{name}_truth" not in rows:
        return None
    values = rows.loc[rows[f"{name}_id"] == number_id, f"{name}_truth"].dropna()
    return float(values.iloc[0]) if len(values) else None


def _forests(
    rows: pd.DataFrame, column: Column, ranking: Ranking, baseline: str | None
) -> dict[str, Any] | None:
    """Means, and differences from the baseline; None where there is no interval to draw."""
    name = column[0]
    means, moved = [], []
    for row in rows.to_dict("records"):
        found = _cell(row, column, ())
        if found["value"] is None:
            continue
        ends = (row[f"{name}_{end}"] if found["between"] else None for end in ("low", "high"))
        text = f"{found['text']} {found['between']}"
        means.append(Estimate(row["system"], found["value"], *ends, text))
    if baseline in [one.name for one in means]:
        for other in [one.name for one in means if one.name != baseline]:
            found = ranking.differences(baseline, other).get(name.partition("@")[0])
            if found:
                sign = "+" if found.delta > 0 else ""
                text = f"{sign}{cell(name, found.delta)}{between(name, found.low, found.high)}"
                moved.append(
                    Estimate(other, found.delta, found.low, found.high, text, verdict(found))
                )
    if not moved and all(one.low is None for one in means):
        return None
    truth = _truth(rows, column)
    return {
        "means": forest(means, truth),
        "truth": None if truth is None else cell(name, truth),
        "differences": forest(moved, 0.0) if moved else None,
    }


def _slices(contest: Contest, axis: str, columns: Sequence[Column]) -> dict[str, Any] | None:
    """A row for each metric and system, a column for each slice of the clips."""
    sliced = {
        system.name: system.means[contest.protocol].get("slices", {}).get(axis, {})
        for system in contest.systems
    }
    heads = {name: of_slice for found in sliced.values() for name, of_slice in found.items()}
    if not heads:
        return None
    rows, titles = [], titles_of(columns)
    for name, number_id in columns:
        for system in contest.systems:
            of_system = sliced[system.name]
            is_same = system.means[contest.protocol]["ids"].get(name) == number_id
            values = [of_system.get(head, {}).get(name) for head in heads]
            if is_same and any(value is not None for value in values):
                cells = [
                    (cell(name, value),
                     between(name, *(of_system.get(head, {}).get(f"{name}_{end}")
                                     for end in ("low", "high"))).strip())
                    for head, value in zip(heads, values, strict=True)
                ]  # fmt: skip
                rows.append((f"{name} {number_id}", titles[name, number_id], system.name, cells))
    counts = [(name, of_slice["pairs"], of_slice["people"]) for name, of_slice in heads.items()]
    return {"title": AXES[axis], "heads": counts, "rows": rows}


def _notes(contest: Contest) -> Iterator[str]:
    """What a reader should know: pairs left out, warnings, and why a metric has no value."""
    for system in contest.systems:
        means = system.means[contest.protocol]
        if means["pairs"] < means["possible"]:
            yield f"{means['pairs']} of {means['possible']} possible pairs are scored."
        yield from (f"{system.name}: {warning}." for warning in means["warnings"])
        reasons = means["reasons"]
        for reason in dict.fromkeys(reasons.values()):
            lacking = ", ".join(name for name, why in reasons.items() if why == reason)
            yield f"No {lacking}: {reason}."
