"""What every dataset hands to the download stage."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class DownloadError(RuntimeError):
    """A dataset is unknown, not set up or too incomplete; the message says what to do."""


@dataclass(frozen=True)
class Collected:
    """A dataset whose files are there.

    Attributes:
        rows: of the manifest.
        folder: holds the files that the rows name; the manifest goes there.
        notes: for the user, one line each.
        left_out: what the dataset lists and nobody wants, with the reason; it lowers no coverage.
    """

    rows: list[dict[str, Any]]
    folder: Path
    notes: tuple[str, ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)


def keep_only(rows: list[dict[str, Any]], raw: Path) -> None:
    """Delete videos below `raw` that no row names, and what a killed run left half written."""
    named = {row["video"] for row in rows if row["status"] == "ok"}
    for path in list(raw.rglob("*.mp4*")):
        if path.relative_to(raw).as_posix() not in named:
            path.unlink()
