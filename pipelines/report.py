"""Means and rows → Markdown tables, and the report of one comparison."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from metrics.catalogue import METRICS, Metric, is_column, metric_of
from pipelines.files import write_text

DIGITS = {"dB": 2, "frames": 2}
ARROWS = {True: "↑", False: "↓", None: "→0"}
FLOOR = "copy_source"
TRUTH = "truth"  # the row of what the true clips score themselves
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
        *_table(means), "", *_remarks(means, coverage, facts["judges"]),
    ]  # fmt: skip
    text = "\n".join(lines) + "\n"
    write_text(path, "\n".join([text, *_counts(means)]) + "\n")
    return text


def cell(name: str, value: float | None) -> str:
    """A value with the digits of its unit; kernel distances are small."""
    digits = 5 if name.startswith(("kid", "kd")) else DIGITS.get(metric_of(name).unit, 3)
    return "–" if value is None else f"{value:.{digits}f}"


def heading(name: str) -> str:
    """Name of a column, its direction and unit."""
    metric = metric_of(name)
    unit = "" if metric.unit == "1" else f" ({metric.unit})"
    return f"{name} {ARROWS[metric.higher_is_better]}{unit}"


def columns_of(rows: pd.DataFrame, names: Sequence[str]) -> list[tuple[str, str]]:
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


def table_lines(rows: pd.DataFrame, columns: Sequence[tuple[str, str]]) -> list[str]:
    """Systems down, metrics across; numbers of different ids stand in different columns."""
    heads, cells = ["system"], [rows["system"].tolist()]
    names = [name for name, _ in columns]
    for name, number_id in columns:
        apart = f" ({number_id})" if names.count(name) > 1 else ""
        heads.append(heading(name) + apart)
        of_id = rows.copy()
        of_id.loc[rows[f"{name}_id"] != number_id, name] = np.nan
        cells.append(_cells(name, of_id))
        if name == "psnr" and FLOOR in set(rows["system"]):
            heads.append(f"Δ {FLOOR} (dB)")
            gains = rows["psnr_over_floor"]
            cells.append(["–" if np.isnan(gain) else f"{gain:+.2f}" for gain in gains])
    for name in ("pairs", "people"):
        heads.append(name)
        cells.append([str(count) for count in rows[name]])
    lines = [heads, ["---"] + ["---:"] * (len(heads) - 1), *zip(*cells, strict=True)]
    return [f"| {' | '.join(line)} |" for line in lines]


def _cells(name: str, rows: pd.DataFrame) -> list[str]:
    """Values of a column, the best system's in bold, with their interval where there is one."""
    values = rows[name].astype(float)
    rivals = values[(rows["system"] != TRUTH) & values.notna()]
    best = _best(metric_of(name), rivals) if rivals.nunique() > 1 else None
    cells = []
    for index, value in values.items():
        text = cell(name, None if np.isnan(value) else value)
        text = f"**{text}**" if value == best and index in rivals.index else text
        if f"{name}_low" in rows and pd.notna(rows.at[index, f"{name}_low"]):
            low, high = (cell(name, rows.at[index, f"{name}_{end}"]) for end in ("low", "high"))
            text += f" [{low}, {high}]"
        cells.append(text)
    return cells


def _best(metric: Metric, values: pd.Series) -> float:
    if metric.higher_is_better is None:
        return float(values[values.abs().idxmin()])
    return float(values.max() if metric.higher_is_better else values.min())


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


def _table(means: Mapping[str, Any]) -> list[str]:
    lines = ["| metric | value | 95 % interval | truth |", "| --- | ---: | :---: | ---: |"]
    for name in filter(is_column, means):
        if means[name] is None:
            continue
        low, high = means.get(f"{name}_low"), means.get(f"{name}_high")
        interval = "" if low is None else f"[{cell(name, low)}, {cell(name, high)}]"
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
