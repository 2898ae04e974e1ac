"""Means and rows → Markdown tables, and the report of one comparison."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from metrics.catalogue import METRICS, is_column, metric_of
from pipelines.files import write_text

DIGITS = {"dB": 2, "frames": 2}
ARROWS = {True: "↑", False: "↓", None: "→0"}
FLOOR = "copy_source"
TRUTH = "truth"  # the row of what the true clips score themselves
Column = tuple[str, str]  # name, id of its numbers
LISTED = 20  # clips named in the report; coverage.json has all


def write_report(
    path: Path,
    protocol: Mapping[str, Any],
    means: Mapping[str, Any],
    facts: Mapping[str, Any],
    coverage: Mapping[str, Any],
) -> str:
    """Write the report; returns its text but for counts and ids, which fill the file's end."""
    compared, possible = coverage["frames"]
    lines = [
        f"# {facts['system']} against {facts['dataset']}", "",
        f"Protocol `{protocol['name']}` ({means['protocol_id']}): {_describe(protocol)}.", "",
        f"{coverage['scored']} of {coverage['matched']} clips scored; "
        f"{compared} of {possible} true frames compared.", "",
        *means_lines(means), "", *_remarks(means, coverage, facts["judges"]),
    ]  # fmt: skip
    text = "\n".join(lines) + "\n"
    write_text(path, "\n".join([text, *_counts(means)]) + "\n")
    return text


def cell(name: str, value: float | None) -> str:
    """A value with the digits of its unit; kernel distances are small."""
    digits = 5 if name.startswith(("kid", "kd")) else DIGITS.get(metric_of(name).unit, 3)
    return "–" if value is None or np.isnan(value) else f"{value:.{digits}f}"


def heading(name: str) -> str:
    """Name of a column, its direction and unit."""
    metric = metric_of(name)
    unit = "" if metric.unit == "1" else f" ({metric.unit})"
    return f"{name} {ARROWS[metric.higher_is_better]}{unit}"


def line(cells: Sequence[str]) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def columns_of(rows: pd.DataFrame, names: Sequence[str]) -> list[Column]:
    """Columns of a table: each metric with a value, once for each id of its number."""
    return [
        (column, number_id)
        for column in sorted(filter(is_column, rows), key=place)
        if column.partition("@")[0] in names
        for number_id in rows.loc[rows[column].notna(), f"{column}_id"].unique()
    ]


def place(column: str) -> int:
    """Position of a column among METRICS."""
    return list(METRICS).index(column.partition("@")[0])


def table_lines(
    rows: pd.DataFrame, columns: Sequence[Column], leaders: Mapping[Column, Sequence[str]]
) -> list[str]:
    """Systems down, metrics across; numbers of different ids stand in different columns.

    Args:
        rows: one a system.
        columns: to show.
        leaders: of each column, to be marked: bold where it is one, ≈ where they are tied.
    """
    heads, cells = ["system"], [rows["system"].tolist()]
    names = [name for name, _ in columns]
    for name, number_id in columns:
        apart = f" ({number_id})" if names.count(name) > 1 else ""
        heads.append(heading(name) + apart)
        of_id = rows.copy()
        shown = of_id.columns.intersection([name, f"{name}_low", f"{name}_high"])
        of_id.loc[rows[f"{name}_id"] != number_id, shown] = np.nan
        cells.append(_cells(name, of_id, leaders.get((name, number_id), ())))
        if name == "psnr" and FLOOR in set(rows["system"]):
            heads.append(f"Δ {FLOOR} (dB)")
            gains = rows["psnr_over_floor"]
            cells.append(["–" if np.isnan(gain) else f"{gain:+.2f}" for gain in gains])
    heads.append("coverage")
    cells.append(_coverage([name for name in names if f"{name}_coverage" in rows], rows))
    for name in ("pairs", "people"):
        heads.append(name)
        cells.append([str(count) for count in rows[name]])
    lines = [heads, ["---"] + ["---:"] * (len(heads) - 1), *zip(*cells, strict=True)]
    return [line(row) for row in lines]


def _cells(name: str, rows: pd.DataFrame, leaders: Sequence[str]) -> list[str]:
    """Values of a column, with their interval where there is one; the leaders' are marked."""
    cells = []
    for row in rows.to_dict("records"):
        text = cell(name, row[name])
        if row["system"] in leaders:
            text = f"**{text}**" if len(leaders) == 1 else f"{text} ≈"
        cells.append(text + between(name, row.get(f"{name}_low"), row.get(f"{name}_high")))
    return cells


def between(name: str, low: float | None, high: float | None) -> str:
    """An interval in brackets, a space before; nothing where there is none."""
    is_known = low is not None and not np.isnan(low)
    return f" [{cell(name, low)}, {cell(name, high)}]" if is_known else ""


def _coverage(names: Sequence[str], rows: pd.DataFrame) -> list[str]:
    """Share of its true frames that each system has a value of, by the metric that lacks most."""
    shares = rows[[f"{name}_coverage" for name in names]].min(axis=1)
    percent = np.floor((100 * shares).round(6))
    return ["–" if np.isnan(share) else f"{share:.0f} %" for share in percent]


def judge_lines(accuracies: Mapping[str, Any]) -> list[str]:
    """What the project's own judges reach on people they never saw."""
    return [
        f"- Judge `local_{name}` on held-out people: "
        + ", ".join(f"{key} {_short(value)}" for key, value in judge["accuracy"].items())
        + f" (weights {judge['sha256'][:8]})."
        for name, judge in accuracies.items()
    ]


def _describe(protocol: Mapping[str, Any]) -> str:
    pooled = ", ".join(protocol["pooled"])
    return (
        f"crop {protocol['crop']}, {protocol['resolution']} px, {protocol['colour']}, "
        f"{protocol['fps']} fps, read from {protocol['codec']}; faces and features in every "
        f"{protocol['detect_every']}th frame; SyncNet sees {protocol['sync_crop']}, "
        f"±{protocol['max_shift']} frames; means over clips"
        + (f", over all frames for {pooled}" if pooled else "")
    )


def means_lines(means: Mapping[str, Any], names: Collection[str] = METRICS) -> list[str]:
    """Metrics down: value, interval and the truth's own, of those that have a value."""
    lines = ["| metric | value | 95 % interval | truth |", "| --- | ---: | :---: | ---: |"]
    for name in filter(is_column, means):
        if means[name] is None or name.partition("@")[0] not in names:
            continue
        low, high = means.get(f"{name}_low"), means.get(f"{name}_high")
        interval = between(name, low, high).strip()
        for extra, words in (("std", "sd of subsets"), ("residual", "residual of fit")):
            if means.get(f"{name}_{extra}") is not None:
                interval = f"{words} {cell(name, means[f'{name}_{extra}'])}"
        truth = means.get(f"{name}_truth")
        shown = "" if truth is None else cell(name, truth)
        lines.append(f"| {heading(name)} | {cell(name, means[name])} | {interval} | {shown} |")
    return lines


def _counts(means: Mapping[str, Any]) -> list[str]:
    """How many clips a number is of, how many frames it lacks, and its id."""
    lines = [
        "## Counts and ids", "",
        "| metric | clips | frames left out | number id |", "| --- | ---: | ---: | --- |",
    ]  # fmt: skip
    for name in filter(is_column, means):
        counts = [str(means.get(f"{name}_{what}", "")) for what in ("n", "left_out")]
        lines.append(f"| {name} | {counts[0]} | {counts[1]} | {means['ids'].get(name, '')} |")
    return lines


def _remarks(
    means: Mapping[str, Any], coverage: Mapping[str, Any], accuracies: Mapping[str, Any]
) -> list[str]:
    lines = ["## Read with care", ""]
    lines += [f"- {warning}." for warning in means["warnings"]]
    lines += judge_lines(accuracies)
    for reason in dict.fromkeys(means["reasons"].values()):
        names = ", ".join(f"`{name}`" for name, why in means["reasons"].items() if why == reason)
        lines.append(f"- No {names}: {reason}.")
    kinds = {"failed": "Not scored", "differences": "Differs"}
    for kind, title in kinds.items():
        for clip, what in list(coverage[kind].items())[:LISTED]:
            said = what if isinstance(what, str) else "; ".join(what)
            lines.append(f"- {title}: `{clip}`: {said}.")
    lines += [f"- Unmatched: `{line}`." for line in coverage["unmatched"][:LISTED]]
    hidden = sum(max(0, len(coverage[kind]) - LISTED) for kind in (*kinds, "unmatched"))
    return lines + ([f"- {hidden} more in coverage.json."] if hidden else [])


def _short(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(_short, value)) + "]"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
