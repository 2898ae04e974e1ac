"""Scores of all systems → leaderboard.md and .csv, contact sheet, and one MLflow run per row."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field

from fixtalk.sheet import picture_sheet, read_picture, write_picture
from metrics import METRICS, Metric
from pipelines import tracking
from pipelines.config import StageConfig, load_config
from pipelines.files import read_table, write_text

FLOOR = "copy_source"
RESAMPLES = 2000
SEED = 0
WITH_INTERVAL = ("psnr", "ssim")
DIGITS = {"dB": 2, "px of 128": 2, "1": 3}
ARROWS = {True: "↑", False: "↓", None: "→0"}
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


def person_interval(scores: pd.DataFrame) -> tuple[float, float] | None:
    """95 % interval of the mean of `value`, people drawn with replacement; None for one person.

    Frames and clips of a person are alike: drawing them one by one would make the interval
    several times too narrow.
    """
    finite = scores[np.isfinite(scores["value"].astype(float))]
    groups = finite.groupby("person")["value"].agg(["sum", "count"]).astype(float)
    if len(groups) < 2:
        return None
    draws = np.random.default_rng(SEED).integers(len(groups), size=(RESAMPLES, len(groups)))
    sums, counts = (groups[name].to_numpy()[draws].sum(axis=1) for name in ("sum", "count"))
    low, high = np.percentile(sums / counts, [2.5, 97.5])
    return float(low), float(high)


def _read(folder: Path) -> System:
    for name in ("metrics.json", "scores.parquet"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder / name}: missing; run score for {folder.name} first")
    scores, facts = read_table(folder / "scores.parquet")
    means = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    name, dataset, key = (facts[field] for field in ("system", "dataset", "key"))
    return System(name, dataset, key, folder, means, scores, facts["protocols"])


def _rows(board: System) -> list[dict[str, Any]]:
    """One leaderboard row for each protocol in which the system has pairs."""
    rows = []
    for protocol, means in board.means.items():
        if not means["pairs"]:
            continue
        row = {name: means[name] for name in ("protocol_id", "pairs", "people", "frames")}
        row = {"protocol": protocol, "system": board.name, **row}
        for metric in METRICS:
            row[metric] = means[metric]
            if metric in WITH_INTERVAL:
                chosen = (board.scores.protocol == protocol) & (board.scores.metric == metric)
                interval = person_interval(board.scores[chosen])
                row[f"{metric}_low"], row[f"{metric}_high"] = interval or (None, None)
        rows.append(row)
    return rows


def _markdown(boards: Sequence[System], table: pd.DataFrame) -> str:
    lines = ["# Leaderboard", ""]
    for (protocol, protocol_id), rows in table.groupby(["protocol", "protocol_id"], sort=False):
        about = next(
            board.protocols[protocol]
            for board in boards
            if board.means.get(protocol, {}).get("protocol_id") == protocol_id
        )
        lines += [
            f"## {protocol} (protocol {protocol_id})", "",
            f"{about['resolution']} px, {about['colour']}, {about['codec']} video; "
            f"{about['detector']} in every {about['detect_every']}th frame; "
            f"means {about['aggregation']}.",
            "", *_table_lines(rows), "",
        ]  # fmt: skip
    return "\n".join([*lines, *_footer(boards, table)]) + "\n"


def _table_lines(rows: pd.DataFrame) -> list[str]:
    shown = [name for name in METRICS if rows[name].notna().any()]
    heads, columns = ["system"], [rows["system"].tolist()]
    for name in shown:
        heads.append(f"{name} {ARROWS[METRICS[name].higher_is_better]}{_unit(METRICS[name])}")
        columns.append(_cells(name, rows))
        if name == "psnr" and FLOOR in set(rows["system"]):
            heads.append(f"Δ {FLOOR} (dB)")
            gains = rows["psnr_over_floor"]
            columns.append(["–" if np.isnan(gain) else f"{gain:+.2f}" for gain in gains])
    for name in ("pairs", "people"):
        heads.append(name)
        columns.append([str(count) for count in rows[name]])
    lines = [heads, ["---"] + ["---:"] * (len(heads) - 1), *zip(*columns, strict=True)]
    return [f"| {' | '.join(line)} |" for line in lines]


def _cells(name: str, rows: pd.DataFrame) -> list[str]:
    """Values of a column, the best in bold, with their interval where there is one."""
    digits, values = DIGITS[METRICS[name].unit], rows[name].astype(float)
    best = _best(METRICS[name], values) if values.nunique() > 1 else None
    cells = []
    for index, value in values.items():
        cell = "–" if np.isnan(value) else f"{value:.{digits}f}"
        cell = f"**{cell}**" if value == best else cell
        if name in WITH_INTERVAL and pd.notna(rows.at[index, f"{name}_low"]):
            low, high = rows.at[index, f"{name}_low"], rows.at[index, f"{name}_high"]
            cell += f" [{low:.{digits}f}, {high:.{digits}f}]"
        cells.append(cell)
    return cells


def _best(metric: Metric, values: pd.Series) -> float:
    if metric.higher_is_better is None:
        return float(values[values.abs().idxmin()])
    return float(values.max() if metric.higher_is_better else values.min())


def _footer(boards: Sequence[System], table: pd.DataFrame) -> list[str]:
    lines = ["## How to read", ""]
    for name in METRICS:
        if table[name].notna().any():
            metric = METRICS[name]
            arrow = ARROWS[metric.higher_is_better]
            lines.append(f"- `{name}` {arrow}{_unit(metric)}: {metric.meaning}. {metric.source}.")
    lines += [
        f"- `{FLOOR}` repeats the source frame: the floor that a model has to beat.",
        f"- In brackets: 95 % interval of the mean, {RESAMPLES} draws of people. Two systems with "
        "overlapping intervals may still differ: they are scored on the same pairs.",
        "- `–` has no value. Bold is best of its table. Tables of different protocol ids do not "
        "compare.",
    ]
    notes: dict[str, None] = {}
    for board in boards:
        for protocol, means in board.means.items():
            if not means["pairs"]:
                notes[f"- No `{protocol}` pairs for `{board.name}`: {means['reason']}."] = None
            elif means["pairs"] < means["possible"]:
                counts = f"{means['pairs']} of {means['possible']} possible pairs"
                notes[f"- `{protocol}` shows {counts}, spread over people."] = None
            for metric, reason in means.get("reasons", {}).items():
                of_protocol = table[table["protocol"] == protocol]
                whom = f" of `{board.name}`" if of_protocol[metric].notna().any() else ""
                notes[f"- No `{metric}`{whom} in `{protocol}`: {reason}."] = None
            for metric in METRICS:
                count = means.get(f"{metric}_left_out", 0)
                if count and means[metric] is not None:
                    why = "identical to the truth" if metric == "psnr" else "that lack it"
                    note = f"`{metric}` of `{board.name}` in `{protocol}` leaves out {count} frames"
                    notes[f"- {note} {why}."] = None
    return lines + list(notes)


def _contact_sheet(boards: Sequence[System], people: int) -> np.ndarray:
    """Source, driver, every trained system, truth; one row a person, protocols in turn."""
    trained = [board for board in boards if board.name != FLOOR] or list(boards)
    strips = {board.name: _strips(board) for board in boards}
    ids = set(boards[-1].scores["protocol_id"])  # one resolution: pictures of others do not fit
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
    pairs = board.scores[["person", "protocol", "protocol_id", "pair"]].drop_duplicates()
    found = {}
    for key in pairs.itertuples(index=False, name=None):
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
            numbers = {name: row[name] for name in METRICS if pd.notna(row[name])}
            run.log_metrics({f"{row['protocol']}.{name}": value for name, value in numbers.items()})
        run.log_table(table, "leaderboard")
        run.log_file(out / "leaderboard.md")
        run.log_file(out / "contact_sheet.png")
        for film in sorted((board.folder / "preview").glob("*/*.mp4")):
            run.log_file(film, f"videos/{film.parent.name}")


def _unit(metric: Metric) -> str:
    return "" if metric.unit == "1" else f" ({metric.unit})"


def _order(protocol: str) -> int:
    """Place of a protocol on the page."""
    return ["self", "cross"].index(protocol)


if __name__ == "__main__":
    leaderboard(
        load_config(LeaderboardConfig, "leaderboard"),
        [Path(folder) for folder in sys.argv[2:]],
        Path(sys.argv[1]),
    )
