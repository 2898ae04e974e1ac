"""Two scored folders → what differs between them, and how far each metric moved."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipelines.contrast import Scored, number_ids, read_scores
from pipelines.ranking import describe, differences
from pipelines.report import cell, heading, line

ABSENT = "absent"
SHOWN = 30  # differences of one cause; more are counted


def why(before: Path, after: Path) -> str:
    """Markdown: causes that two results folders leave open, and the metrics that moved.

    What is recorded tells that causes differ, not the share of each: where several do, the text
    says how to part them.

    Raises:
        FileNotFoundError: a folder is not scored.
        ValueError: a file is damaged.
    """
    sides = read_scores(before), read_scores(after)
    causes = {cause: list(lines) for cause, lines in _causes(*sides)}
    lines = [f"# From `{before}` to `{after}`", "", _conclusion(causes), ""]
    for cause, found in causes.items():
        if found:
            lines += [f"## {cause.capitalize()}", "", *(f"- {text}" for text in found[:SHOWN])]
            hidden = len(found) - SHOWN
            lines += [f"- and {hidden} more"] if hidden > 0 else []
            lines.append("")
    for protocol in (name for name, means in sides[0].means.items() if means["pairs"]):
        lines += [f"## Metrics of {protocol}", "", *_metric_lines(*sides, protocol), ""]
    return "\n".join(lines) + "\n"


def _causes(before: Scored, after: Scored) -> Iterator[tuple[str, Iterator[str]]]:
    """Every cause and its differences, none where the two sides agree."""
    facts = [_recorded(side) for side in (before, after)]
    for cause in facts[0]:
        yield cause, _changes(facts[0][cause], facts[1][cause])
    yield "judges and versions of metrics", _renumbered(before, after)


def _recorded(side: Scored) -> dict[str, Any]:
    """Cause → what the folder records of it."""
    made, protocols = side.facts["provenance"], side.facts["protocols"]
    return {
        "data": {
            "dataset": side.dataset,
            "split": side.facts.get("split", ABSENT),
            "compared clips": {name: about["inputs"] for name, about in protocols.items()},
        },
        "model": {
            "system": side.name,
            "key of its training": side.facts["key"],
            "videos": side.facts.get("videos", ABSENT),
        },
        "code": {"commit": made["commit"], "uncommitted changes": made["dirty"], **made["code"]},
        "parameters": made["params"],
        "environment": made["environment"],
        "protocol": {
            name: {field: value for field, value in about.items() if field != "inputs"}
            for name, about in protocols.items()
        },
    }


def _renumbered(before: Scored, after: Scored) -> Iterator[str]:
    """Metrics whose number has another id though the protocol is the same."""
    for protocol, means in before.means.items():
        other = after.means.get(protocol, {})
        if means["pairs"] and means["protocol_id"] == other.get("protocol_id"):
            ids = number_ids(means), number_ids(other)
            for metric in sorted(ids[0].keys() & ids[1].keys()):
                yield from _changes(ids[0][metric], ids[1][metric], f"{protocol}.{metric}")


def _changes(before: Any, after: Any, place: str = "") -> Iterator[str]:
    """Leaves of two nested dictionaries that differ."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted({*before, *after}):
            inner = f"{place}.{key}" if place else str(key)
            yield from _changes(before.get(key, ABSENT), after.get(key, ABSENT), inner)
    elif before != after:
        yield f"`{place}`: {before} → {after}"


def _conclusion(causes: dict[str, list[str]]) -> str:
    names = [cause for cause, found in causes.items() if found]
    if not names:
        return "Nothing that is recorded differs: what moved is the noise of a repeated run."
    if len(names) == 1:
        return f"One cause differs, {names[0]}: what moved is its doing, or noise."
    return (
        f"{len(names)} causes at once ({', '.join(names)}): what moved is their doing together. To "
        "part them, run one side again with all but one cause as on the other."
    )


def _metric_lines(before: Scored, after: Scored, protocol: str) -> list[str]:
    """Both means and their paired difference, or why there is none."""
    ids = [side.means.get(protocol, {}).get("protocol_id") for side in (before, after)]
    if ids[0] != ids[1]:
        return [f"Protocol ids {ids[0]} and {ids[1]}: the numbers do not compare."]
    frames = [side.means[protocol]["frames"] for side in (before, after)]
    lines = []
    if frames[0] != frames[1]:
        lines = [f"Means are of {frames[0]} true frames before, of {frames[1]} after.", ""]
    lines += [line(["metric", "before", "after", "difference", "clips", "people"]),
              line(["---", *["---:"] * 5])]  # fmt: skip
    for name, one in differences(before, after, protocol).items():
        means = (cell(name, one.baseline), cell(name, one.mean))
        lines.append(line([heading(name), *means, describe(one), str(one.clips), str(one.people)]))
    return lines
