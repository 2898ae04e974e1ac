"""A dataset's name → data/raw/<dataset>: its videos and manifest.jsonl, one line a video."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import Field

from pipelines.config import StageConfig, load_config
from pipelines.manifest import NAME, write_manifest
from pipelines.sources.collected import Collected, DownloadError
from pipelines.sources.folder import FolderConfig, list_folder
from pipelines.sources.synthetic import SyntheticConfig, render_corpus

MAX_LISTED = 20  # bad videos named in an error message
SOURCES: dict[str, Callable[[Any, Path], Collected]] = {
    "synthetic": render_corpus,
    "folder": list_folder,
}


class DownloadConfig(StageConfig):
    """What is fetched or made, and how much of it may be missing."""

    min_coverage: float = Field(ge=0, le=1, description="share of videos that must be usable")
    synthetic: SyntheticConfig
    folder: FolderConfig


def download(config: DownloadConfig, dataset: str, raw: Path) -> None:
    """Fill `raw` with a dataset; a run that was interrupted continues where it stopped.

    Raises:
        DownloadError: unknown dataset, none of its videos found, or too few of them usable.
    """
    if dataset not in SOURCES:
        raise DownloadError(f"unknown dataset '{dataset}': known are {', '.join(sorted(SOURCES))}")
    found = SOURCES[dataset](getattr(config, dataset), raw)
    _require_coverage(found.rows, config.min_coverage, raw)
    found.folder.mkdir(parents=True, exist_ok=True)
    write_manifest(found.folder / NAME, found.rows)
    if found.folder != raw:
        _replace_folder(found.folder, raw)


def _require_coverage(rows: list[dict[str, Any]], min_coverage: float, raw: Path) -> None:
    """Raises, after leaving the manifest beside `raw`, when too few videos are usable."""
    beside = raw.with_name(f"{raw.name}.{NAME}")
    bad = [row for row in rows if row["status"] != "ok"]
    coverage = 1 - len(bad) / len(rows) if rows else 0.0
    if rows and coverage >= min_coverage:
        beside.unlink(missing_ok=True)
        return
    raw.parent.mkdir(parents=True, exist_ok=True)
    write_manifest(beside, rows)
    listed = [f"  {row['clip']}: {row['reason']}" for row in bad[:MAX_LISTED]]
    if len(bad) > MAX_LISTED:
        listed.append(f"  and {len(bad) - MAX_LISTED} more")
    raise DownloadError(
        f"{len(rows) - len(bad)} of {len(rows)} videos are usable ({coverage:.0%}), "
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
    from pipelines.download import DownloadConfig, download  # by the name that workers know

    download(load_config(DownloadConfig, "download"), sys.argv[1], Path(sys.argv[2]))
