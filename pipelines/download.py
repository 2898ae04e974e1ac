"""A dataset's name → data/raw/<dataset>: its videos and manifest.jsonl, one line a video."""

import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from pipelines.config import StageConfig, load_config
from pipelines.files import write_text
from pipelines.manifest import NAME, split_hash, write_manifest
from pipelines.sources.collected import Collected, DownloadError, ListedConfig
from pipelines.sources.folder import FolderConfig, list_folder
from pipelines.sources.hdtf import HdtfConfig, fetch_hdtf
from pipelines.sources.mead import MeadConfig, fetch_mead
from pipelines.sources.synthetic import SyntheticConfig, render_corpus
from pipelines.sources.vfhq import VfhqConfig, fetch_vfhq

MAX_LISTED = 20  # bad videos named in an error message
SOURCES: dict[str, Callable[[Any, Path], Collected]] = {
    "synthetic": render_corpus,
    "folder": list_folder,
    "hdtf": fetch_hdtf,
    "vfhq": fetch_vfhq,
    "mead": fetch_mead,
}
TERMS = {
    "hdtf": "github.com/MRzzm/HDTF (annotations CC BY 4.0) and youtube.com/t/terms (videos)",
    "vfhq": "liangbinxie.github.io/projects/vfhq (research use) and youtube.com/t/terms (videos)",
    "mead": "wywu.github.io/projects/MEAD/MEAD.html (non-commercial research, no redistribution)",
}


class DownloadConfig(StageConfig):
    """What is fetched or made, and how much of it may be missing."""

    min_coverage: float = Field(ge=0, le=1, description="share of videos that must be usable")
    accept_terms: tuple[Literal["hdtf", "vfhq", "mead"], ...] = Field(
        description="datasets whose terms the user has read and accepts"
    )
    synthetic: SyntheticConfig
    folder: FolderConfig
    hdtf: HdtfConfig
    vfhq: VfhqConfig
    mead: MeadConfig


def download(config: DownloadConfig, dataset: str, raw: Path) -> None:
    """Fill `raw` with a dataset; a run that was interrupted continues where it stopped.

    Raises:
        DownloadError: unknown dataset, terms not accepted, none of its videos found, or too few of
            them usable.
        BlockedError: a server refuses everything; the same command goes on later.
    """
    if dataset not in SOURCES:
        raise DownloadError(f"unknown dataset '{dataset}': known are {', '.join(sorted(SOURCES))}")
    if dataset in TERMS and dataset not in config.accept_terms:
        raise DownloadError(
            f"{dataset} has terms: {TERMS[dataset]}. Read them; to accept, add {dataset} to "
            "download.accept_terms in params.yaml (docs/data.md)"
        )
    section = getattr(config, dataset)
    found = SOURCES[dataset](section, raw)
    report = _report(found)
    _show(dataset, report)
    own = section.min_coverage if isinstance(section, ListedConfig) else None
    _require_coverage(found, config.min_coverage if own is None else own, raw)
    found.folder.mkdir(parents=True, exist_ok=True)
    write_text(found.folder / "coverage.json", json.dumps(report, indent=1) + "\n")
    write_manifest(found.folder / NAME, found.rows)
    if found.folder != raw:
        _replace_folder(found.folder, raw)


def _report(found: Collected) -> dict[str, Any]:
    """What became of the listed videos, in numbers."""
    statuses = Counter[str]()
    for row in found.rows:
        statuses[row["status"]] += found.stands_for.get(row["clip"], 1)
    usable = [row for row in found.rows if row["status"] == "ok"]
    spans = [row["stop"] - row["start"] for row in usable if row["stop"] is not None]
    return {
        "videos": statuses.total(),
        "usable": len(usable),
        "hours": round(sum(spans) / 3600, 4) if spans else None,
        "statuses": dict(statuses.most_common()),
        "people": {
            split: len({row["person"] for row in usable if row["split"] == split})
            for split in ("train", "test")
        },
        "split_hash": split_hash(usable),
        "notes": found.notes,
        "left_out": found.left_out,
    }


def _show(dataset: str, report: dict[str, Any]) -> None:
    from rich.console import Console

    counts = ", ".join(f"{count} {status}" for status, count in report["statuses"].items())
    hours = "" if report["hours"] is None else f", {report['hours']:.2f} h"
    people = ", ".join(f"{count} people {split}" for split, count in report["people"].items())
    lines = [
        f"{dataset}: {counts}{hours}; {people}; split {report['split_hash']}",
        *report["notes"],
    ]
    if report["left_out"]:
        lines.append(f"{len(report['left_out'])} listed clips left out, see coverage.json")
    Console().print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)


def _require_coverage(found: Collected, min_coverage: float, raw: Path) -> None:
    """Raises, after leaving the manifest beside `raw`, when too few videos are usable."""
    beside = raw.with_name(f"{raw.name}.{NAME}")
    bad = [row for row in found.rows if row["status"] != "ok"]
    usable = len(found.rows) - len(bad)
    total = usable + sum(found.stands_for.get(row["clip"], 1) for row in bad)
    coverage = usable / total if total else 0.0
    if total and coverage >= min_coverage:
        beside.unlink(missing_ok=True)
        return
    raw.parent.mkdir(parents=True, exist_ok=True)
    (raw / NAME).unlink(missing_ok=True)
    write_manifest(beside, found.rows)
    listed = [f"  {row['clip']}: {row['reason']}" for row in bad[:MAX_LISTED]]
    if len(bad) > MAX_LISTED:
        listed.append(f"  and {len(bad) - MAX_LISTED} more")
    raise DownloadError(
        f"{usable} of {total} videos are usable ({coverage:.0%}), "
        f"download.min_coverage asks for {min_coverage:.0%}; all are listed in {beside}\n"
        + "\n".join(listed)
    )


def _replace_folder(work: Path, raw: Path) -> None:
    """Puts `work` in the place of `raw` and clears what other settings left behind."""
    old = raw.with_name(f".{raw.name}-old")
    shutil.rmtree(old, ignore_errors=True)
    if raw.exists():
        raw.rename(old)
    work.rename(raw)
    for stale in raw.parent.glob(f".{raw.name}-*"):
        shutil.rmtree(stale, ignore_errors=True)


if __name__ == "__main__":
    download(load_config(DownloadConfig, "download"), sys.argv[1], Path(sys.argv[2]))
