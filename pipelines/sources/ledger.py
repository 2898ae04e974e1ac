"""What became of each source and each clip → one SQLite file that outlives a kill at any point."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from threading import Lock
from typing import Any

from pipelines.sources.collected import DownloadError

TABLES = """
CREATE TABLE IF NOT EXISTS sources (source TEXT PRIMARY KEY, state TEXT, reason TEXT);
CREATE TABLE IF NOT EXISTS clips (clip TEXT PRIMARY KEY, plan TEXT, row TEXT);
"""


class State(StrEnum):
    """Of a source: a video of YouTube or an archive of Drive."""

    TODO = "todo"  # not tried yet, or stopped in between
    OK = "ok"  # all its clips are made or refused for good
    GONE = "gone"  # private, removed, closed account: never tried again
    BLOCKED = "blocked"  # the server refuses for now, maybe everybody: tried again later
    REFUSED = "refused"  # this one, while others are served: tried again in the next run
    FAILED = "failed"  # for a reason that nobody knows: tried again in the next run
    FORMAT_MISSING = "format-missing"  # nothing of use is offered: tried again in the next run
    CORRUPT = "corrupt"  # what arrived is damaged: fetched again


class FetchError(RuntimeError):
    """A source cannot be had; the message says why.

    `is_doubtful`: the source may be REFUSED, as its state says, or everything BLOCKED.
    """

    def __init__(self, state: State, message: str, *, is_doubtful: bool = False) -> None:
        super().__init__(message)
        self.state = state
        self.is_doubtful = is_doubtful


class Ledger:
    """States of sources and manifest rows of clips; threads may share it.

    Every method raises a DownloadError that names the file if it is damaged.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._lock = path, Lock()
        with self._told():
            self._base = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._base.executescript(TABLES)

    def close(self) -> None:
        """Give the file back."""
        self._base.close()

    def state(self, source: str) -> tuple[State, str | None]:
        """State of a source and its reason; TODO where it was never tried."""
        found = self._one("SELECT state, reason FROM sources WHERE source = ?", source)
        with self._told():
            return (State(found[0]), found[1]) if found else (State.TODO, None)

    def knows_server(self) -> bool:
        """Whether anything was ever had from it; archives of the user's own do not count."""
        served = "SELECT 1 FROM sources WHERE state = ? AND source NOT LIKE '/%' LIMIT 1"
        return self._one(served, State.OK) is not None

    def enter(self, source: str, state: State, reason: str | None = None) -> None:
        """Note what became of a source."""
        self._write("INSERT OR REPLACE INTO sources VALUES (?, ?, ?)", source, state, reason)

    def row(self, clip: str, plan: Any) -> dict[str, Any] | None:
        """Row of a clip that was made by the same plan."""
        found = self._one("SELECT plan, row FROM clips WHERE clip = ?", clip)
        with self._told():
            return json.loads(found[1]) if found and found[0] == json.dumps(plan) else None

    def add(self, clip: str, plan: Any, row: dict[str, Any]) -> None:
        """Note the row of a clip that is done."""
        text = json.dumps(plan), json.dumps(row)
        self._write("INSERT OR REPLACE INTO clips VALUES (?, ?, ?)", clip, *text)

    def _one(self, query: str, key: str) -> Any:
        with self._lock, self._told():
            return self._base.execute(query, (key,)).fetchone()

    def _write(self, query: str, *values: str | None) -> None:
        with self._lock, self._told():
            self._base.execute(query, values)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise DownloadError(
                f"{self._path}: {error}; see that the disk has room and the file is yours to write"
            ) from None
        except (sqlite3.DatabaseError, ValueError) as error:
            raise DownloadError(
                f"{self._path}: damaged ({error}); put back a copy of it, or delete it: then "
                "everything is fetched again"
            ) from None
