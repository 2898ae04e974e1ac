"""What every dataset hands to the download stage."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field

from pipelines.config import StageConfig
from pipelines.files import require_writable
from pipelines.manifest import NAME, sha256_of


class DownloadError(RuntimeError):
    """A dataset is unknown, not set up or too incomplete; the message says what to do."""


class ListedConfig(StageConfig):
    """Parent of the sections of datasets that others made: parts of them may be missing."""

    min_coverage: float | None = Field(
        default=None, ge=0, le=1, description="instead of download.min_coverage; null: that one"
    )


@dataclass(frozen=True)
class Collected:
    """A dataset whose files are there.

    Attributes:
        rows: of the manifest.
        folder: holds the files that the rows name; the manifest goes there.
        notes: for the user, one line each.
        left_out: what the dataset lists and nobody wants, with the reason; it lowers no coverage.
        stands_for: clip of a row → number of videos, where it stands for more than one.
    """

    rows: list[dict[str, Any]]
    folder: Path
    notes: tuple[str, ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)
    stands_for: dict[str, int] = field(default_factory=dict)


def begin(raw: Path) -> None:
    """Open `raw` to changes: its manifest goes, and comes back last.

    No other stage takes a part for the whole. Whoever calls it has understood its lists.

    Raises:
        OSError: the folder cannot be written.
    """
    require_writable(raw)
    (raw / NAME).unlink(missing_ok=True)


def keep_only(rows: list[dict[str, Any]], raw: Path) -> None:
    """Put videos below `raw` that no row names aside, and delete what a kill left half written."""
    named = {row["video"] for row in rows if row["status"] == "ok"}
    for path in list(raw.rglob("*.mp4*")):
        name = path.relative_to(raw)
        if name.suffix != ".mp4" or name.name.startswith("."):
            path.unlink()
        elif name.as_posix() not in named:
            aside = _aside(raw) / name
            aside.parent.mkdir(parents=True, exist_ok=True)
            path.replace(aside)


def is_there(row: dict[str, Any], raw: Path) -> bool:
    """Whether the file of a row is; one that was put aside, and is the same, comes back."""
    path, aside = raw / row["video"], _aside(raw) / row["video"]
    if not path.is_file() and aside.is_file() and sha256_of(aside) == row["sha256"]:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.replace(path)
    return path.is_file()


def _aside(raw: Path) -> Path:
    return raw.with_name(f".{raw.name}.unused")
