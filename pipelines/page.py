"""Scores of all systems → the text of leaderboard.md, and of each system's model card."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from metrics.catalogue import GROUPS, MAIN, METRICS, is_column, metric_of
from pipelines.contrast import Scored
from pipelines.published import published_lines
from pipelines.ranking import Ranking
from pipelines.report import (
    FLOOR,
    TRUTH,
    Column,
    between,
    cell,
    columns_of,
    heading,
    judge_lines,
    line,
    means_lines,
    place,
    table_lines,
)

SECTIONS = {"the paper's columns": MAIN} | {
    group: [name for name in names if name not in MAIN] for group, names in GROUPS.items()
}
AXES = {"yaw": "By head yaw", "expression": "By strength of the expression"}
SLICED = ("psnr", "csim_facenet", "csim_local", "f_lmd_dlib68", "f_lmd_local")
SPEED = {"fps_model": "model only ↑ (FPS)", "fps": "end to end ↑ (FPS)",
         "latency_ms_p50": "latency p50 ↓ (ms)", "latency_ms_p99": "p99 ↓ (ms)",
         "memory_mb": "peak memory ↓ (MiB)", "batch": "batch", "clips": "clips"}  # fmt: skip


def page(
    systems: Sequence[Scored],
    table: pd.DataFrame,
    speeds: Mapping[str, Mapping[str, Any]],
    against: str,
) -> str:
    """The whole leaderboard as Markdown.

    Args:
        systems: scored ones, in the order of their rows.
        table: a row for each protocol and system: metric, its id, interval and coverage.
        speeds: what speed.json says of the systems that were generated here.
        against: system that the others are compared with.
    """
    lines = ["# Leaderboard", ""]
    for (protocol, protocol_id), rows in table.groupby(["protocol", "protocol_id"], sort=False):
        rivals = [system for system in systems if system.name in set(rows["system"])]
        about = rivals[0].facts["protocols"][protocol]
        lines += [
            f"## {protocol} (protocol {protocol_id})", "",
            f"{about['resolution']} px, {about['colour']}, {about['codec']} video; "
            f"{about['detector']}; faces and people in every {about['detect_every']}th frame; "
            "means of frames, then of pairs.",
            "",
        ]  # fmt: skip
        lines += _protocol_lines(protocol, rivals, rows, against)
    lines += [*_speed_lines(speeds), *published_lines(), *_footer(systems, table, against)]
    return "\n".join(lines) + "\n"


def card(system: Scored) -> str:
    """What a system is, was scored on and reaches: the description of its run."""
    made = system.facts["provenance"]
    versions = ", ".join(f"{name} {number}" for name, number in made["environment"].items())
    lines = [f"# {system.name}", "", f"Scored on held-out people of `{system.dataset}`."]
    for protocol, means in system.means.items():
        if means["pairs"]:
            counts = f"{means['pairs']} of {means['possible']} pairs, {means['people']} people"
            lines += ["", f"## {protocol} (protocol {means['protocol_id']})", "",
                      f"{counts}.", "", *means_lines(means, MAIN)]  # fmt: skip
    lines += ["", "## Read with care", "",
              "- Made for research: animate no one who has not agreed, and say that it is made.",
              *judge_lines(system.facts["judges"]),
              f"- Scored by commit {made['commit']} with {versions}."]  # fmt: skip
    return "\n".join(lines) + "\n"


def _protocol_lines(
    protocol: str, rivals: Sequence[Scored], rows: pd.DataFrame, against: str
) -> Iterator[str]:
    """Main columns, the others, differences from one system, and slices."""
    ranking = Ranking(rivals, protocol)
    shown = pd.concat([rows, _truth_row(rivals[0].means[protocol])], ignore_index=True)
    for title, names in SECTIONS.items():
        columns = columns_of(shown, names)
        if columns:
            leaders = {column: ranking.leaders(rows, column) for column in columns}
            yield from [f"### {title.capitalize()}", "", *table_lines(shown, columns, leaders), ""]
    if against in ranking.systems and len(rivals) > 1:
        columns = [column for names in SECTIONS.values() for column in columns_of(rows, names)]
        lines = ranking.against_lines(rows, columns, against)
        yield from [f"### Against `{against}`, clip by clip", "", *lines, ""]
    for axis, title in AXES.items():
        lines = _slice_lines(rivals, protocol, axis, columns_of(rows, SLICED))
        yield from [f"### {title}", "", *lines, ""] if lines else []


def _slice_lines(
    systems: Sequence[Scored], protocol: str, axis: str, columns: Sequence[Column]
) -> list[str]:
    """Systems down, metrics and slices across; first the clips of each slice."""
    counts = {
        name: f"{of_slice['pairs']} / {of_slice['people']}"
        for name, of_slice in systems[0].means[protocol]["slices"].get(axis, {}).items()
    }
    chosen = [(*column, name) for column in columns for name in counts]
    if not chosen:
        return []
    lines = [
        line(["system", *(f"{heading(metric)}, {name}" for metric, _, name in chosen)]),
        line(["---", *["---:"] * len(chosen)]),
        line(["clips / people", *(counts[name] for _, _, name in chosen)]),
    ]
    for system in systems:
        means = system.means[protocol]
        cells = []
        for metric, number_id, name in chosen:
            is_shown = means["ids"].get(metric) == number_id
            found = means["slices"][axis].get(name, {}) if is_shown else {}
            ends = (found.get(f"{metric}_{end}") for end in ("low", "high"))
            cells.append(cell(metric, found.get(metric)) + between(metric, *ends))
        lines.append(line([system.name, *cells]))
    return lines


def _speed_lines(speeds: Mapping[str, Mapping[str, Any]]) -> list[str]:
    if not speeds:
        return []
    lines = ["## Speed", "",
             "Of one process, with others beside it where the machine has several cores; rows of "
             "different devices do not compare. Latency is the time of a frame's batch.", "",
             line(["system", "device", *SPEED.values()]),
             line(["---", "---", *["---:"] * len(SPEED)])]  # fmt: skip
    for system, speed in speeds.items():
        values = ["–" if speed[name] is None else f"{speed[name]:g}" for name in SPEED]
        lines.append(line([system, speed["device"], *values]))
    return [*lines, ""]


def _truth_row(means: Mapping[str, Any]) -> pd.DataFrame:
    """What the true clips score by themselves: the ceiling of a judge, the look of real frames."""
    row = {"system": TRUTH, "pairs": means["pairs"], "people": means["people"]}
    names = [name for name in METRICS if means.get(f"{name}_truth") is not None]
    row |= {name: means[f"{name}_truth"] for name in names}
    return pd.DataFrame([row | {f"{name}_id": means["ids"][name] for name in names}])


def _footer(systems: Sequence[Scored], table: pd.DataFrame, against: str) -> list[str]:
    lines = ["## How to read", ""]
    for name in sorted(filter(is_column, table.columns), key=place):
        if table[name].notna().any():
            lines.append(f"- `{heading(name)}`: {metric_of(name).meaning}. "
                         f"{metric_of(name).source}.")  # fmt: skip
    lines += [
        f"- `{FLOOR}` repeats the source frame: the floor that a model has to beat.",
        f"- `{TRUTH}` is what the true clips score themselves: a judge's ceiling.",
        "- In brackets: 95 % interval of the mean, people drawn with replacement; of `acc_emo` "
        "Wilson's, of clips, and its p is McNemar's. Two systems with "
        "overlapping intervals may still differ: they are scored on the same pairs.",
        "- Bold is better than every other system on the same clips (p < 0.05 after Holm's "
        "correction); where none is, the best and all that cannot be told from it carry ≈. "
        "Distances of sets without a paired comparison carry no mark.",
        f"- Against `{against}`: mean difference, its 95 % interval, p after Holm's correction. A "
        "tie may be a difference too small for these people: so many would decide it, by the "
        "spread seen here.",
        "- `coverage` is the share of pairs with a value, of the column that lacks most; a pair "
        "counts by the share of its true frames that are compared. `–` has no value. Tables of "
        "different protocol ids do not compare.",
        *_splits(systems),
    ]
    judges = {k: judge for system in systems for k, judge in system.facts["judges"].items()}
    notes: dict[str, None] = dict.fromkeys(judge_lines(judges))
    for system in systems:
        notes |= dict.fromkeys(_notes(system, systems, table))
    return lines + list(notes)


def _splits(systems: Sequence[Scored]) -> Iterator[str]:
    """Each split that systems are scored on, and which systems."""
    rows: dict[tuple[str, str], list[str]] = {}
    for system in systems:
        if split := system.facts.get("split"):
            rows.setdefault((split, system.dataset), []).append(f"`{system.name}`")
    for (split, dataset), names in rows.items():
        yield (f"- Split `{split}`, of {', '.join(names)}: who and which videos of `{dataset}` are "
               "in train and in test; its card shows the same hash.")  # fmt: skip


def _notes(system: Scored, systems: Sequence[Scored], table: pd.DataFrame) -> Iterator[str]:
    """What a reader of a system's rows should know: what is missing, left out or doubtful."""
    for protocol, means in system.means.items():
        if not means["pairs"]:
            yield f"- No `{protocol}` pairs for `{system.name}`: {means['reason']}."
            continue
        if means["pairs"] < means["possible"]:
            counts = f"{means['pairs']} of {means['possible']} possible pairs"
            yield f"- `{protocol}` shows {counts}, spread over people."
        rivals = [s.means[protocol] for s in systems if s.means.get(protocol, {}).get("pairs")]
        for warning in means["warnings"]:
            is_shared = all(warning in rival["warnings"] for rival in rivals)
            whose = "" if is_shared else f", of `{system.name}`"
            yield f"- In `{protocol}`{whose}: {warning}."
        by_reason: dict[tuple[str, str], list[str]] = {}
        for metric, reason in means["reasons"].items():
            of_protocol = table[table["protocol"] == protocol]
            has_rival = metric in table and of_protocol[metric].notna().any()
            by_reason.setdefault((reason, f" of `{system.name}`" if has_rival else ""), []).append(
                f"`{metric}`"
            )
        for (reason, whom), metrics in by_reason.items():
            yield f"- No {', '.join(metrics)}{whom} in `{protocol}`: {reason}."
        for metric in METRICS:
            count = means.get(f"{metric}_left_out", 0)
            if count and means[metric] is not None:
                # a crop leaves out frames in which it finds no face as well
                is_whole = system.facts["protocols"][protocol]["crop"] == "none"
                is_equal = metric == "psnr" and is_whole
                why = "identical to the truth" if is_equal else "that lack it"
                note = f"`{metric}` of `{system.name}` in `{protocol}` leaves out {count} frames"
                yield f"- {note} {why}."
