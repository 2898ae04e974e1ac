"""Two scored systems → PASS, FAIL or INCONCLUSIVE: is the current one no worse than the baseline?

Non-inferiority: a metric may lose up to its margin τ, the larger of what matters in practice and
twice the deviation of repeated evaluations. Oriented so that more is better, with the 95 % interval
[L, U] of the paired difference Δ: PASS if L > -τ; FAIL if U < -τ, or Δ < -τ with p < 0.05 (Holm);
else INCONCLUSIVE, with the number of people that would decide.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import Field, model_validator

from metrics.catalogue import IN_EVERY_FRAME, is_column, metric_of
from metrics.statistics import holm
from pipelines.config import StageConfig
from pipelines.contrast import Difference, Scored, contrast, number_ids, read_scores
from pipelines.report import cell, heading

State = Literal["PASS", "FAIL", "INCONCLUSIVE"]
EXIT_CODES: Mapping[State, int] = {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 3}
SIGNIFICANT = 0.05
SIGMAS = 2.0  # of repeated evaluations that a margin is at least
DECIMALS = 9  # of a difference: beyond, it is rounding of the machine


class Margin(StageConfig):
    """What a family of metrics may lose, and what happens if it loses more."""

    tier: Literal["hard", "soft", "monitor"] = Field(
        description="hard: fails; soft: makes the verdict inconclusive; monitor: is shown"
    )
    absolute: float | None = Field(None, ge=0, description="in the metric's unit")
    relative: float | None = Field(None, ge=0, description="share of the baseline's mean")

    @model_validator(mode="after")
    def _is_one(self) -> "Margin":
        if (self.absolute is None) == (self.relative is None):
            raise ValueError("give either absolute or relative")
        return self


class GateConfig(StageConfig):
    """How much worse the current system may be."""

    coverage: float = Field(gt=0, le=1, description="share of the baseline's clips with a value")
    coverage_drop: float = Field(ge=0, lt=1, description="share of its frames that may be lost")
    margins: dict[str, Margin] = Field(description="metric, or the beginning of its name")
    rerun_sigma: dict[str, float] = Field(description="metric → deviation of repeated evaluations")


@dataclass(frozen=True)
class Row:
    """What became of one metric of one protocol.

    Attributes:
        margin: in the metric's unit.
        difference: None where the two cannot be compared.
        note: what a reader should know.
    """

    protocol: str
    metric: str
    tier: str
    state: State
    margin: float | None
    difference: Difference | None
    note: str


@dataclass(frozen=True)
class Verdict:
    """Whether the current system may take the baseline's place.

    Attributes:
        reasons: why the two cannot be compared at all; each fails.
    """

    state: State
    rows: list[Row]
    reasons: list[str]
    text: str


def gate(config: GateConfig, baseline: Path, current: Path) -> Verdict:
    """Compare two folders that `fixtalk score` or the score stage wrote.

    Raises:
        FileNotFoundError: a folder is not scored.
        ValueError: a file is damaged, or no metric with a margin has a value.
    """
    sides = read_scores(baseline), read_scores(current)
    reasons = list(_unequal(*sides))
    rows = []
    for protocol, means in sides[0].means.items():
        if not means["pairs"]:
            continue
        broken = list(_unfit(config, *sides, protocol))
        reasons += broken
        if not broken:
            rows += _judge(config, *sides, protocol)
    if not rows and not reasons:
        raise ValueError(f"{baseline}: no metric of gate.margins has a value: nothing to gate")
    state = _overall(rows, reasons)
    return Verdict(state, rows, reasons, _markdown(state, rows, reasons, *sides))


def _unequal(baseline: Scored, current: Scored) -> Iterator[str]:
    """Circumstances that must be the same, as far as both sides tell them."""
    told = [
        {
            "split": side.facts.get("split"),
            "device": _device_class(side.facts["provenance"]["environment"]["device"]),
        }
        for side in (baseline, current)
    ]
    for name, before in told[0].items():
        after = told[1][name]
        if None not in (before, after) and before != after:
            yield f"{name} is {after}, the baseline's {before}"


def _device_class(device: str) -> str:
    return device if device == "cpu" else "gpu"


def _unfit(config: GateConfig, baseline: Scored, current: Scored, protocol: str) -> Iterator[str]:
    """Why a protocol of the two sides does not compare."""
    before, after = (side.means.get(protocol, {}) for side in (baseline, current))
    if not after.get("pairs"):
        yield f"{protocol}: no pairs, the baseline has {before['pairs']}"
        return
    if before["protocol_id"] != after["protocol_id"]:
        ours, theirs = (side.facts["protocols"][protocol] for side in (current, baseline))
        changed = [f"{k} {ours.get(k)} (baseline {v})" for k, v in theirs.items()
                   if ours.get(k) != v]  # fmt: skip
        yield f"{protocol}: protocol id {after['protocol_id']}, the baseline's " \
              f"{before['protocol_id']}: {', '.join(changed)}"  # fmt: skip
        return
    had, has = (_frames(side, protocol) for side in (baseline, current))
    lost = 1 - has.sum() / had.sum()
    if lost > config.coverage_drop:
        clip = had.sub(has, fill_value=0).idxmax()
        yield (f"{protocol}: {has.sum()} frames compared, {had.sum()} in the baseline: {lost:.1%} "
               f"lost, most of {clip}; {config.coverage_drop:.1%} may be")  # fmt: skip


def _frames(side: Scored, protocol: str) -> pd.Series:
    """Pair → its frames that are compared."""
    rows = side.scores[side.scores["protocol"] == protocol]
    return rows[rows["metric"] == IN_EVERY_FRAME].set_index("pair")["frames"]


def _judge(config: GateConfig, baseline: Scored, current: Scored, protocol: str) -> Iterator[Row]:
    """A row for every metric that has a margin and, in the baseline, a value."""
    means = baseline.means[protocol]
    values = {name.partition("@")[0]: means[name] for name in filter(is_column, means)}
    margins = {
        name: found
        for name, value in values.items()
        if value is not None and (found := _margin(config, name, value))
    }
    limits = {name: limit for name, (_, limit) in margins.items()}
    differences = {d.metric: d for d in contrast(baseline, current, protocol, limits)}
    gated = {n: differences[n].p for n, (tier, _) in margins.items()
             if tier != "monitor" and n in differences}  # fmt: skip
    adjusted = holm(gated)
    before, after = (number_ids(side.means[protocol]) for side in (baseline, current))
    for name, (tier, limit) in margins.items():
        found = differences.get(name)
        if fault := _fault(config, current, protocol, name, found, before[name] != after.get(name)):
            weight = "hard" if tier == "soft" else tier  # there is no value to be lenient with
            yield Row(protocol, name, weight, "FAIL", limit, found, fault)
        else:
            found = replace(found, p_holm=adjusted.get(name, found.p_holm))
            state, note = _decide(found, limit)
            yield Row(protocol, name, tier, state, limit, found, note)


def _margin(config: GateConfig, name: str, value: float) -> tuple[str, float] | None:
    """Tier and τ of a metric, from the longest entry that begins its name."""
    fitting = [key for key in config.margins if f"{name}_".startswith(f"{key}_")]
    if not fitting:
        return None
    margin = config.margins[max(fitting, key=len)]
    practical = margin.relative * abs(value) if margin.absolute is None else margin.absolute
    return margin.tier, max(practical, SIGMAS * config.rerun_sigma.get(name, 0.0))


def _fault(
    config: GateConfig,
    current: Scored,
    protocol: str,
    name: str,
    found: Difference | None,
    is_other: bool,
) -> str | None:
    """Why a metric fails whatever its values are."""
    means, rows = current.means[protocol], current.scores
    rows = rows[(rows["protocol"] == protocol) & (rows["metric"] == name)]
    broken = rows[rows["value"].isna() & rows["reason"].isna()]
    if len(broken):
        return f"NaN in {len(broken)} clips, first {broken['pair'].iloc[0]}"
    if found is None:
        if name in means["reasons"]:
            return f"no value: {means['reasons'][name]}"
        return "its judge or version changed: refresh the baseline" if is_other else "no value"
    covered = found.clips / (found.clips + found.missing)
    if covered < config.coverage:
        return (f"{found.missing} of {found.clips + found.missing} clips lost their value, "
                f"{config.coverage:.0%} must keep it")  # fmt: skip
    return None


def _decide(found: Difference, limit: float) -> tuple[State, str]:
    """State of a metric whose two sides compare."""
    sign = 1 if metric_of(found.metric).higher_is_better else -1
    delta = round(sign * found.delta, DECIMALS)
    if found.low is None:
        return ("PASS", "") if delta == 0 else ("INCONCLUSIVE", "one person has no interval")
    low, high = sorted(round(sign * end, DECIMALS) for end in (found.low, found.high))
    if low > -limit or (low == high == 0):
        return "PASS", ""
    if high < -limit or (delta < -limit and found.p_holm < SIGNIFICANT):
        return "FAIL", f"worse by {cell(found.metric, -delta)}"
    if found.needed is None:
        return "INCONCLUSIVE", ""
    return "INCONCLUSIVE", f"about {max(found.needed, found.people + 1)} people would decide"


def _overall(rows: list[Row], reasons: list[str]) -> State:
    if reasons or any(row.tier == "hard" and row.state == "FAIL" for row in rows):
        return "FAIL"
    is_doubtful = any(
        (row.tier == "hard" and row.state == "INCONCLUSIVE")
        or (row.tier == "soft" and row.state == "FAIL")
        for row in rows
    )
    return "INCONCLUSIVE" if is_doubtful else "PASS"


def _markdown(
    state: State, rows: list[Row], reasons: list[str], baseline: Scored, current: Scored
) -> str:
    lines = [f"## Gate: {state}", "", f"`{current.name}` ({current.folder}) against the baseline "
             f"`{baseline.name}` ({baseline.folder}).", ""]  # fmt: skip
    lines += [f"- Not comparable: {reason}." for reason in reasons]
    if not rows:
        return "\n".join(lines) + "\n"
    heads = ["protocol", "metric", "baseline", "current", "Δ [95 %]", "margin", "p (Holm)",
             "clips / people", "tier", "verdict"]  # fmt: skip
    lines += [f"| {' | '.join(heads)} |", "| " + " | ".join(["---"] * len(heads)) + " |"]
    for row in rows:
        cells = ["–"] * 5
        if found := row.difference:
            name = row.metric
            ends = "" if found.low is None else \
                f" [{cell(name, found.low)}, {cell(name, found.high)}]"  # fmt: skip
            cells = [cell(name, found.baseline), cell(name, found.mean),
                     cell(name, found.delta) + ends, f"{found.p_holm:.3f}",
                     f"{found.clips} / {found.people}"]  # fmt: skip
        verdict = row.state if row.tier == "hard" or row.state == "PASS" else f"({row.state})"
        lines.append("| " + " | ".join([
            row.protocol, heading(row.metric), *cells[:3], cell(row.metric, row.margin),
            *cells[3:], row.tier, f"{verdict} {row.note}".strip(),
        ]) + " |")  # fmt: skip
    return "\n".join(lines) + "\n"
