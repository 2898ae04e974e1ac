"""Scores of all systems → leaderboard.md and .csv, contact sheet, report, one MLflow run a row."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field

from fixtalk.sheet import picture_sheet, read_picture, write_picture
from metrics.catalogue import is_column
from pipelines import tracking
from pipelines.config import StageConfig, load_config
from pipelines.contrast import Scored, read_scores
from pipelines.files import write_text
from pipelines.gallery import write_gallery
from pipelines.page import card, page
from pipelines.report import FLOOR

BLANK = 230  # grey of a picture that a system does not have
ORDER = ("self", "cross", "audio")  # of protocols on the page, before those of `fixtalk score`
SPEED = "speed.json"
FILMS = 2  # of each protocol, beside the curves of a run; the report plays the others


class LeaderboardConfig(StageConfig):
    """What is shown."""

    sheet_rows: int = Field(ge=1, description="people on the contact sheet")
    against: str = Field(description="system that all others are compared with, clip by clip")
    imported: list[str] = Field(description="folders that `fixtalk score` wrote, as further rows")


def leaderboard(config: LeaderboardConfig, folders: Sequence[Path], out: Path) -> None:
    """Write leaderboard.md and .csv, contact_sheet.png and report/ into `out`, and log each row.

    The run of the system that others are compared with gets the report as well.

    Numbers of different protocol ids never share a table.

    Raises:
        FileNotFoundError: a results folder is not scored.
        ValueError: no folder, two of one system, or none of the one to compare with.
    """
    own = [read_scores(folder) for folder in folders]
    systems = [*own, *(read_scores(Path(folder)) for folder in config.imported)]
    names = [system.name for system in systems]
    if not own or len(set(names)) != len(names):
        raise ValueError(f"expected results folders of different systems, got {names}")
    if config.against not in names:
        raise ValueError(f"leaderboard.against: {config.against!r} is none of {names}")
    table = pd.DataFrame([row for system in systems for row in _rows(system)])
    floors = table[table.system == FLOOR].set_index("protocol_id")["psnr"].astype(float)
    table["psnr_over_floor"] = table["psnr"].astype(float) - table["protocol_id"].map(floors)
    table = table.sort_values("protocol", key=lambda c: c.map(_order), kind="stable")
    speeds = {
        system.name: json.loads((system.folder / SPEED).read_text(encoding="utf-8"))
        for system in systems
        if (system.folder / SPEED).is_file()
    }
    out.mkdir(parents=True, exist_ok=True)
    sheet = _contact_sheet(own, config.sheet_rows)
    write_text(out / "leaderboard.csv", table.round(6).to_csv(index=False, lineterminator="\n"))
    write_picture(out / "contact_sheet.png", sheet)
    write_text(out / "leaderboard.md", page(systems, table, speeds, config.against))
    write_gallery([system.folder for system in systems], out / "report", "FixTalk", config.against)
    for system in systems:
        _log(system, table, speeds.get(system.name, {}), out, system.name == config.against)


def _rows(system: Scored) -> list[dict[str, Any]]:
    """One leaderboard row for each protocol in which the system has pairs."""
    rows, scores = [], system.scores
    # the score stage refuses videos that lack frames, and keeps no share of them
    covered = scores["value"].notna() * scores.get("covered", 1.0)
    coverage = covered.groupby([scores["protocol"], scores["metric"]]).mean()
    for protocol, means in system.means.items():
        if not means["pairs"]:
            continue
        row = {name: means[name] for name in ("protocol_id", "pairs", "people", "frames")}
        row = {"protocol": protocol, "system": system.name, **row}
        row["split"] = system.facts.get("split")  # unknown of clips that nobody split here
        for name in filter(is_column, means):
            row[name], row[f"{name}_id"] = means[name], means["ids"].get(name)
            for of in ("low", "high", "n"):
                if f"{name}_{of}" in means:
                    row[f"{name}_{of}"] = means[f"{name}_{of}"]
            if (protocol, name) in coverage:
                row[f"{name}_coverage"] = coverage[protocol, name]
        rows.append(row)
    return rows


def _contact_sheet(systems: Sequence[Scored], people: int) -> np.ndarray:
    """Source, driver, every trained system, truth; one row a person, protocols in turn."""
    trained = [system for system in systems if system.name != FLOOR] or list(systems)
    strips = {system.name: _strips(system) for system in systems}
    # one resolution: pictures of other protocols do not fit
    ids = {means.get("protocol_id") for means in systems[-1].means.values()}
    known = {k: strip for found in strips.values() for k, strip in found.items() if k[2] in ids}
    if not known:
        raise FileNotFoundError(f"{systems[-1].folder / 'preview'}: no picture; run score again")
    rows, labels, seen = [], [], set()
    for key in _protocols_in_turn(known):
        person, protocol = key[0], key[1]
        if person in seen or len(rows) == people:
            continue
        seen.add(person)
        source, driver, _, truth = known[key]
        blank = np.full_like(truth, BLANK)
        made = [strips[system.name].get(key, (blank,) * 4)[2] for system in trained]
        rows.append([source, driver, *made, truth])
        labels.append(f"{person} ({protocol})")
    titles = ["source", "driver", *(system.name for system in trained), "truth"]
    return picture_sheet(rows, titles, labels)


def _strips(system: Scored) -> dict[tuple[str, str, str, str], list[np.ndarray]]:
    """(person, protocol, protocol id, pair) → source, driver, generated, truth of the previews."""
    pairs = system.scores[["person", "protocol", "pair"]].drop_duplicates()
    found = {}
    for person, protocol, pair in pairs.itertuples(index=False, name=None):
        key = (person, protocol, system.means[protocol]["protocol_id"], pair)
        path = system.folder / "preview" / key[1] / f"{key[3]}.png"
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


def _log(
    system: Scored, table: pd.DataFrame, speed: Mapping[str, Any], out: Path, has_report: bool
) -> None:
    made, rows = system.facts["provenance"], table[table.system == system.name]
    tags = {
        "system": system.name,
        "dataset": system.dataset,
        "split": system.facts.get("split", "unknown"),
        "git_sha": made["commit"] or "unknown",
        "dirty": str(made["dirty"]).lower(),
        "mlflow.note.content": card(system),
        **{f"protocol_id.{row.protocol}": row.protocol_id for row in rows.itertuples()},
        **tracking.provenance("leaderboard"),
    }
    if speed:
        tags["device"] = speed["device"]
    with tracking.open_run(system.name, system.facts["key"], tags) as run:
        for row in rows.to_dict("records"):
            run.log_metrics(dict(_numbers(row)))
        numbers = {f"speed.{name}": value for name, value in speed.items() if name != "device"}
        run.log_metrics(numbers)
        run.log_table(table, "leaderboard")
        run.log_file(out / "leaderboard.md")
        run.log_file(out / "contact_sheet.png")
        for protocol in sorted((system.folder / "preview").glob("*")):
            for film in sorted(protocol.glob("*.mp4"))[:FILMS]:
                run.log_file(film, f"videos/{protocol.name}")
        report = sorted((out / "report").rglob("*.*")) if has_report else []
        for path in report:
            run.log_file(path, path.parent.relative_to(out).as_posix())


def _numbers(row: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Values of a leaderboard row by their names in MLflow, with interval and count."""
    for name in filter(is_column, row):
        for suffix, of in (("", ""), ("_lo", "_low"), ("_hi", "_high"), ("_n", "_n")):
            value = row.get(f"{name}{of}")
            if pd.notna(row[name]) and pd.notna(value):
                yield f"{row['protocol']}.{name.replace('@', '_at_')}{suffix}", value


def _order(protocol: str) -> int:
    """Place of a protocol on the page."""
    return ORDER.index(protocol) if protocol in ORDER else len(ORDER)


if __name__ == "__main__":
    leaderboard(
        load_config(LeaderboardConfig, "leaderboard"),
        [Path(folder) for folder in sys.argv[2:]],
        Path(sys.argv[1]),
    )
