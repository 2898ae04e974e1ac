"""Scored systems → a folder to open in a browser: tables, intervals, films in step, clips."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from metrics.catalogue import METRICS, is_column, metric_of
from pipelines.contest import Contest, contests_of, describe, titles_of
from pipelines.contrast import Scored, read_scores
from pipelines.files import write_text
from pipelines.page import SPEED
from pipelines.published import COLUMNS, read_published
from pipelines.report import FLOOR, cell, heading, judge_lines

HERE = Path(__file__).parent
PICTURES = ("contact_sheet.png", "localise.png")  # of other stages, shown where they are there


def write_gallery(
    results: Sequence[Path], out: Path, title: str, against: str | None = None
) -> Path:
    """Write index.html with its films and pictures into `out`; it needs no server and no network.

    Args:
        results: folders that `fixtalk score` or the score stage wrote; films are optional.
        out: folder, replaced as a whole when the new one is complete. The contact sheet and the
            figure of localise are taken from the folder around it, where they are there.
        title: of the page.
        against: system that the others are compared with, pair by pair; None: the first that is
            not the floor.

    Returns:
        The page.

    Raises:
        FileNotFoundError: a folder is not scored.
        ValueError: no folder, a damaged one, or no system of the name `against`.
    """
    systems = [read_scores(folder) for folder in results]
    names = [system.name for system in systems]
    if not systems or (against and against not in names):
        raise ValueError(f"report: expected results folders, of {against} too, got {names}")
    against = against or next((name for name in names if name != FLOOR), FLOOR)
    contests = contests_of(systems)
    made = out.with_name(f".{out.name}.partial")
    shutil.rmtree(made, ignore_errors=True)
    (made / "videos").mkdir(parents=True)
    names = [contest.protocol for contest in contests]
    data = {
        contest.key: _clips(contest, made, is_only=names.count(contest.protocol) == 1)
        for contest in contests
    }
    pictures = [name for name in PICTURES if (out.parent / name).is_file()]
    for name in pictures:
        shutil.copyfile(out.parent / name, made / name)
    html = _environment().get_template("report.html.j2").render(
        title=title, against=against, data=data, pictures=pictures,
        leak=_leak(out.parent / "localise.json"),
        contests=[describe(contest, against) for contest in contests],
        published=_published(), speed=_speed(systems), provenance=_provenance(systems, contests),
        glossary=_glossary(systems),
    )  # fmt: skip
    write_text(made / "index.html", html)
    shutil.rmtree(out, ignore_errors=True)
    made.replace(out)
    return out / "index.html"


def _environment() -> Any:
    """Templates beside this file: every value is escaped, for file names are anyone's text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    found = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    found.policies["json.dumps_kwargs"] = {"allow_nan": False}  # and contests in their order
    found.globals["read"] = lambda name: (HERE / name).read_text(encoding="utf-8")
    return found


def _clips(contest: Contest, made: Path, is_only: bool) -> dict[str, Any]:
    """Values of all pairs, and their films copied into the folder: what the script works on."""
    parts = [system.scores.assign(system=system.name) for system in contest.systems]
    scores = pd.concat(parts, ignore_index=True)
    scores = scores[scores["protocol"] == contest.protocol]
    of_pairs = scores.assign(length=scores["frames"] + scores["left_out"]).groupby("pair")
    lengths, people = of_pairs["length"].max(), of_pairs["person"].first()
    columns = scores.groupby(["metric", "number_id"], sort=False)
    metrics, titles = [], titles_of(list(columns.groups))
    for (name, number_id), rows in columns:
        finite = rows[np.isfinite(rows["value"].astype(float))]
        if len(finite):
            values: dict[str, dict[str, float]] = {}
            for system, pair, value in finite[["system", "pair", "value"]].itertuples(index=False):
                values.setdefault(system, {})[pair] = float(f"{value:.6g}")
            metrics.append({"key": f"{name} {number_id}", "title": titles[name, number_id],
                            "higher": metric_of(name).higher_is_better,
                            "digits": len(cell(name, 0.0).partition(".")[2]),
                            "values": values})  # fmt: skip
    return {
        "label": contest.protocol if is_only else f"{contest.protocol} ({contest.protocol_id})",
        "fps": contest.about["fps"],
        "systems": [system.name for system in contest.systems],
        "pairs": [{"pair": pair, "person": person, "frames": int(lengths[pair])}
                  for pair, person in people.items()],
        "metrics": metrics,
        "films": {system.name: _films(system, contest.protocol, people.index, made)
                  for system in contest.systems},
    }  # fmt: skip


def _films(system: Scored, protocol: str, pairs: Sequence[str], made: Path) -> dict[str, str]:
    """Pair → its film's copy, under a number: names of clips are no safe addresses."""
    found = {}
    for pair in pairs:
        film = system.folder / "preview" / protocol / f"{pair}.mp4"
        if film.is_file():
            number = len(list((made / "videos").iterdir()))
            found[pair] = f"videos/{number:04d}.mp4"
            shutil.copyfile(film, made / found[pair])
    return found


def _speed(systems: Sequence[Scored]) -> dict[str, Any] | None:
    found = {
        system.name: json.loads((system.folder / "speed.json").read_text(encoding="utf-8"))
        for system in systems
        if (system.folder / "speed.json").is_file()
    }
    rows = [
        (name, [speed["device"], *("–" if speed[of] is None else f"{speed[of]:g}" for of in SPEED)])
        for name, speed in found.items()
    ]
    return {"heads": ["device", *SPEED.values()], "rows": rows} if rows else None


def _published() -> list[dict[str, Any]]:
    """The paper's tables, one for each task, source and list of what is not known."""
    tables = []
    for (task, source, unknown), rows in read_published().groupby(
        ["task", "source", "unknown"], sort=False
    ):
        names = [name for name in COLUMNS if rows[name].any()]
        cells = rows[names].replace("", "–").to_numpy().tolist()
        tables.append(
            {"task": task, "source": source, "unknown": unknown,
             "heads": [COLUMNS[name] for name in names],
             "rows": list(zip(rows["system"], cells, strict=True))}
        )  # fmt: skip
    return tables


def _glossary(systems: Sequence[Scored]) -> list[tuple[str, str]]:
    """Every metric that has a value, with its meaning and its source."""
    known = {
        name.partition("@")[0]
        for system in systems
        for means in system.means.values()
        for name in filter(is_column, means)
        if means[name] is not None
    }
    return [(heading(name), f"{metric.meaning}. {metric.source}.")
            for name, metric in METRICS.items() if name in known]  # fmt: skip


def _leak(path: Path) -> str:
    """The verdict of localise in words, for those who do not see its figure."""
    if not path.is_file():
        return "Identity leakage by layer of the encoder"
    report = json.loads(path.read_text(encoding="utf-8"))
    sure = "" if report["separable"] else "not "
    return (
        f"Identity leakage by layer of the encoder: the leak map is the one of {report['chosen']} "
        f"pixels a side, {sure}separable from the others; {report['people']} held-out people"
    )


def _provenance(systems: Sequence[Scored], contests: Sequence[Contest]) -> list[tuple[str, str]]:
    """What led to these numbers, as pairs of a name and a value."""
    rows = [("dataset", ", ".join(dict.fromkeys(system.dataset for system in systems)))]
    for contest in contests:
        about = contest.about
        rows.append((f"clips of {contest.protocol}", f"hash {about['inputs']}, {about['codec']}, "
                     f"{about['resolution']} px; {about['detector']}"))  # fmt: skip
    scored_by: dict[str, list[str]] = {}
    for system in systems:
        made = system.facts["provenance"]
        versions = ", ".join(f"{name} {number}" for name, number in made["environment"].items())
        dirty = " with uncommitted changes" if made["dirty"] else ""
        commit = f"commit {made['commit'] or 'unknown'}{dirty}; {versions}"
        scored_by.setdefault(commit, []).append(system.name)
    rows += [(f"{', '.join(names)} scored by", commit) for commit, names in scored_by.items()]
    judges = {name: one for system in systems for name, one in system.facts["judges"].items()}
    return [*rows, *(("judge", text.removeprefix("- ")) for text in judge_lines(judges))]
