"""What every dataset hands to the download stage."""

from pathlib import Path
from typing import Any, NamedTuple


class DownloadError(RuntimeError):
    """A dataset is unknown, not set up or too incomplete; the message says what to do."""


class Collected(NamedTuple):
    """A dataset whose files are there.

    Attributes:
        rows: of the manifest.
        folder: holds the files that the rows name; the manifest goes there.
        notes: for the user, one line each.
    """

    rows: list[dict[str, Any]]
    folder: Path
    notes: tuple[str, ...] = ()
