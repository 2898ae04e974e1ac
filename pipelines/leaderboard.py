"""Scores of all systems → leaderboard.md and .csv, contact sheet, and one MLflow run per row."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field

from fixtalk.sheet import picture_sheet, read_picture, write_picture
from metrics.catalogue import GROUPS, METRICS, is_column, metric_of
from pipelines import tracking
from pipelines.config import StageConfig, load_config
from pipelines.files import read_table, write_text
from pipelines.report import FLOOR, TRUTH, columns_of, heading, judge_lines, place, table_lines

WITH_INTERVAL = ("psnr", "ssim")
BLANK = 230  # grey of a picture that a system does not have


class LeaderboardConfig(StageConfig):
    """What is shown."""

    sheet_rows: int = Field(ge=1, description="people on the contact sheet")


@dataclass(frozen=True)
class System:
    """What one results folder says."""

    name: str
    dataset: str
    key: str
    folder: Path
    means: dict[str, dict[str, Any]]
    scores: pd.DataFrame
    protocols: dict[str, dict[str, Any]]
    judges: dict[str, Any]


def leaderboard(config: LeaderboardConfig, systems: Sequence[Path], out: Path) -> None:
    """Write leaderboard.md, leaderboard.csv and contact_sheet.png into `out`, and log each row.

    Numbers of different protocol ids never share a table.

    Raises:
        FileNotFoundError: a results folder is not scored.
        ValueError: no folder, or two of one system.
    """
    boards = [_read(folder) for folder in systems]
    names = [board.name for board in boards]
    if not boards or len(set(names)) != len(names):
        raise ValueError(f"expected results folders of different systems, got {names}")
    table = pd.DataFrame([row for board in boards for row in _rows(board)])
    floors = table[table.system == FLOOR].set_index("protocol_id")["psnr"].astype(float)
    table["psnr_over_floor"] = table["psnr"].astype(float) - table["protocol_id"].map(floors)
    table = table.sort_values("protocol", key=lambda c: c.map(_order), kind="stable")
    out.mkdir(parents=True, exist_ok=True)
    sheet = _contact_sheet(boards, config.sheet_rows)
    write_text(out / "leaderboard.csv", table.round(6).to_csv(index=False, lineterminator="\n"))
    write_picture(out / "contact_sheet.png", sheet)
    write_text(out / "leaderboard.md", _markdown(boards, table))
    for board in boards:
        _log(board, table, out)


def _read(folder: Path) -> System:
    for name in ("metrics.json", "scores.parquet"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder / name}: missing; run score for {folder.name} first")
    scores, facts = read_table(folder / "scores.parquet")
    means = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    name, dataset, key = (facts[field] for field in ("system", "dataset", "key"))
    return System(name, dataset, key, folder, means, scores, facts["protocols"], facts["judges"])


def _rows(board: System) -> list[dict[str, Any]]:
    """One leaderboard row for each protocol in which the system has pairs."""
    rows = []
    for protocol, means in board.means.items():
        if not means["pairs"]:
            continue
        row = {name: means[name] for name in ("protocol_id", "pairs", "people", "frames")}
        row = {"protocol": protocol, "system": board.name, **row}
        for name in filter(is_column, means):
            row[name] = means[name]
            row[f"{name}_id"] = means["ids"].get(name)
            if name in WITH_INTERVAL:
                row[f"{name}_low"], row[f"{name}_high"] = (
                    means[f"{name}_low"],
                    means[f"{name}_high"],
                )
        rows.append(row)
    return rows


def _markdown(boards: Sequence[System], table: pd.DataFrame) -> str:
    lines = ["# Leaderboard", ""]
    for (protocol, protocol_id), rows in table.groupby(["protocol", "protocol_id"], sort=False):
        board = next(
            board
            for board in boards
            if board.means.get(protocol, {}).get("protocol_id") == protocol_id
        )
        about = board.protocols[protocol]
        lines += [
            f"## {protocol} (protocol {protocol_id})", "",
            f"{about['resolution']} px, {about['colour']}, {about['codec']} video; "
            f"{about['detector']}; faces and people in every {about['detect_every']}th frame; "
            "means of frames, then of pairs.",
            "",
        ]  # fmt: skip
        rows = pd.concat([rows, _truth_row(board.means[protocol])], ignore_index=True)
        for group, names in GROUPS.items():
            columns = columns_of(rows, names)
            if columns:
                lines += [f"### {group.capitalize()}", "", *table_lines(rows, columns), ""]
    return "\n".join([*lines, *_footer(boards, table)]) + "\n"


def _truth_row(means: Mapping[str, Any]) -> pd.DataFrame:
    """What the true clips score by themselves: the ceiling of a judge, the look of real frames."""
    row = {"system": TRUTH, "pairs": means["pairs"], "people": means["people"]}
    names = [name for name in METRICS if means.get(f"{name}_truth") is not None]
    row |= {name: means[f"{name}_truth"] for name in names}
    return pd.DataFrame([row | {f"{name}_id": means["ids"][name] for name in names}])


def _footer(boards: Sequence[System], table: pd.DataFrame) -> list[str]:
    lines = ["## How to read", ""]
    for name in sorted(filter(is_column, table.columns), key=place):
        if table[name].notna().any():
            lines.append(f"- `{heading(name)}`: {metric_of(name).meaning}. "
                         f"{metric_of(name).source}.")  # fmt: skip
    lines += [
        f"- `{FLOOR}` repeats the source frame: the floor that a model has to beat.",
        f"- `{TRUTH}` is what the true clips score themselves: a judge's ceiling.",
        "- In brackets: 95 % interval of the mean, people drawn with replacement. Two systems with "
        "overlapping intervals may still differ: they are scored on the same pairs.",
        "- `–` has no value. Bold is best of its table. Tables of different protocol ids do not "
        "compare.",
    ]
    judges = {name: judge for board in boards for name, judge in board.judges.items()}
    notes: dict[str, None] = dict.fromkeys(judge_lines(judges))
    for board in boards:
        notes |= dict.fromkeys(_notes(board, table))
    return lines + list(notes)


def _notes(board: System, table: pd.DataFrame) -> Iterator[str]:
    """What a reader of a system's rows should know: what is missing, left out or doubtful."""
    for protocol, means in board.means.items():
        if not means["pairs"]:
            yield f"- No `{protocol}` pairs for `{board.name}`: {means['reason']}."
            continue
        if means["pairs"] < means["possible"]:
            counts = f"{means['pairs']} of {means['possible']} possible pairs"
            yield f"- `{protocol}` shows {counts}, spread over people."
        yield from (f"- In `{protocol}`: {warning}." for warning in means["warnings"])
        by_reason: dict[tuple[str, str], list[str]] = {}
        for metric, reason in means["reasons"].items():
            of_protocol = table[table["protocol"] == protocol]
            has_rival = metric in table and of_protocol[metric].notna().any()
            by_reason.setdefault((reason, f" of `{board.name}`" if has_rival else ""), []).append(
                f"`{metric}`"
            )
        for (reason, whom), metrics in by_reason.items():
            yield f"- No {', '.join(metrics)}{whom} in `{protocol}`: {reason}."
        for metric in METRICS:
            count = means.get(f"{metric}_left_out", 0)
            if count and means[metric] is not None:
                why = "identical to the truth" if metric == "psnr" else "that lack it"
                note = f"`{metric}` of `{board.name}` in `{protocol}` leaves out {count} frames"
                yield f"- {note} {why}."


def _contact_sheet(boards: Sequence[System], people: int) -> np.ndarray:
    """Source, driver, every trained system, truth; one row a person, protocols in turn."""
    trained = [board for board in boards if board.name != FLOOR] or list(boards)
    strips = {board.name: _strips(board) for board in boards}
    # one resolution: pictures of other protocols do not fit
    ids = {means.get("protocol_id") for means in boards[-1].means.values()}
    known = {k: strip for found in strips.values() for k, strip in found.items() if k[2] in ids}
    if not known:
        raise FileNotFoundError(f"{boards[-1].folder / 'preview'}: no picture; run score again")
    rows, labels, seen = [], [], set()
    for key in _protocols_in_turn(known):
        person, protocol = key[0], key[1]
        if person in seen or len(rows) == people:
            continue
        seen.add(person)
        source, driver, _, truth = known[key]
        blank = np.full_like(truth, BLANK)
        made = [strips[board.name].get(key, (blank,) * 4)[2] for board in trained]
        rows.append([source, driver, *made, truth])
        labels.append(f"{person} ({protocol})")
    titles = ["source", "driver", *(board.name for board in trained), "truth"]
    return picture_sheet(rows, titles, labels)


def _strips(board: System) -> dict[tuple[str, str, str, str], list[np.ndarray]]:
    """(person, protocol, protocol id, pair) → source, driver, generated, truth of the previews."""
    pairs = board.scores[["person", "protocol", "pair"]].drop_duplicates()
    found = {}
    for person, protocol, pair in pairs.itertuples(index=False, name=None):
        key = (person, protocol, board.means[protocol]["protocol_id"], pair)
        path = board.folder / "preview" / key[1] / f"{key[3]}.png"
        if path.is_file():
            found[key] = np.split(read_picture(path), 4, axis=1)
    return found


def _protocols_in_turn(keys: Mapping[tuple[str, ...], Any]) -> list[tuple[str, ...]]:
    """Keys such that taking the first of each person alternates between the protocols."""
    people = sorted({key[0] for key in keys})
    protocols = sorted({key[1] for key in keys}, key=_order)
    return sorted(
        keys,
        key=lambda key: (
            people.index(key[0]),
            (protocols.index(key[1]) - people.index(key[0])) % len(protocols),
            key,
        ),
    )


def _log(board: System, table: pd.DataFrame, out: Path) -> None:
    tags = {"system": board.name, "dataset": board.dataset, **tracking.provenance("leaderboard")}
    with tracking.open_run(board.name, board.key, tags) as run:
        for row in table[table.system == board.name].to_dict("records"):
            numbers = {name: row[name] for name in filter(is_column, row) if pd.notna(row[name])}
            run.log_metrics(
                {f"{row['protocol']}.{name.replace('@', '_at_')}": value
                 for name, value in numbers.items()}
            )  # fmt: skip
        run.log_table(table, "leaderboard")
        run.log_file(out / "leaderboard.md")
        run.log_file(out / "contact_sheet.png")
        for film in sorted((board.folder / "preview").glob("*/*.mp4")):
            run.log_file(film, f"videos/{film.parent.name}")


def _order(protocol: str) -> int:
    """Place of a protocol on the page."""
    return ["self", "cross"].index(protocol)


if __name__ == "__main__":
    leaderboard(
        load_config(LeaderboardConfig, "leaderboard"),
        [Path(folder) for folder in sys.argv[2:]],
        Path(sys.argv[1]),
    )
