"""Archives of MEAD's actors, local or on Drive → clips and rows of all takes in them."""

import shutil
from contextlib import closing
from functools import partial
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from fixtalk.container import MediaError
from pipelines.files import replacing
from pipelines.manifest import sha256_of
from pipelines.sources.archives import ArchiveError, Member, members, save
from pipelines.sources.breaker import Breaker
from pipelines.sources.collected import is_there
from pipelines.sources.cutting import inspect, join
from pipelines.sources.drive import fetch_file
from pipelines.sources.harvest import Job, harvest
from pipelines.sources.ledger import FetchError, Ledger, State
from pipelines.sources.takes import (
    IN_VIEW,
    ODD_NAME,
    SOUND,
    VIDEO,
    Take,
    facts_of,
    no_view,
    row_of_actor,
    row_of_take,
    take_of,
)


class Archive(NamedTuple):
    """All takes of an actor in one tar.

    Attributes:
        path: of a local archive; None: on Drive.
        url: on Drive.
        sha256: where it is known.
    """

    actor: str
    path: Path | None
    url: str | None
    sha256: str | None
    view: str


class _Work(NamedTuple):
    archive: Archive
    fetched: Path
    raw: Path
    ledger: Ledger

    @property
    def address(self) -> str:
        """What the ledger calls it: another one of the same actor has a state of its own."""
        return str(self.archive.path or self.archive.url)

    @property
    def name(self) -> str:
        """Of temporary files: those of another address never go into this one's clips."""
        digest = sha256(self.address.encode()).hexdigest()
        return f"{self.archive.actor}-{digest[:8]}"

    @property
    def path(self) -> Path:
        return self.archive.path or self.fetched / f"{self.name}.tar"

    @property
    def staging(self) -> Path:
        return self.fetched / self.name

    @property
    def plan(self) -> list[Any]:
        """What decides the clips: a user's archive may be replaced by a better one."""
        local = self.archive.path and self.archive.path.stat()
        changed = [local.st_size, local.st_mtime_ns] if local else []
        return [self.address, self.archive.view, *changed]

    def rows(self) -> list[dict[str, Any]] | None:
        """Rows of all takes, once all are made, or known to be damaged in the archive itself."""
        entry = self.ledger.row(self.archive.actor, self.plan)
        if entry is None or self.may_be_better(entry):
            return None
        made = [row for row in entry["rows"] if row["status"] == "ok"]
        return entry["rows"] if all(is_there(row, self.raw) for row in made) else None

    def may_be_better(self, entry: dict[str, Any]) -> bool:
        """Whether takes may be whole in another copy from Drive; a local one is in the plan."""
        if self.archive.path or not _is_damaged(entry["rows"]):
            return False
        is_other = self.archive.sha256 not in (None, entry.get("sha256"))
        return is_other or not entry.get("came_so_before")

    def failure(self) -> dict[str, Any]:
        """Row that stands for all takes of an archive that could not be read."""
        return row_of_actor(self.archive.actor, "") | self.why()

    def remaining(self) -> list[dict[str, Any]]:
        """Rows of what an earlier run made and is still there; the rest has the archive's state."""
        entry = self.ledger.row(self.archive.actor, self.plan)
        if entry is None:
            return [self.failure()]
        return [
            row | self.why() if row["status"] == "ok" and not is_there(row, self.raw) else row
            for row in entry["rows"]
        ]

    def why(self) -> dict[str, Any]:
        """State of the archive, as part of a row."""
        state, reason = self.ledger.state(self.address)
        return {"status": state.value, "reason": reason or "not tried yet"}

    def clear(self) -> None:
        """Delete what was fetched; a user's own archive stays."""
        shutil.rmtree(self.staging, ignore_errors=True)
        if self.archive.path is None:
            self.path.unlink(missing_ok=True)


def _is_damaged(rows: list[dict[str, Any]]) -> bool:
    """Whether a take of an archive that could be read cannot be."""
    return any(row["status"] == State.CORRUPT for row in rows)


def rows_of_archives(archives: list[Archive], raw: Path, fetched: Path) -> list[dict[str, Any]]:
    """Rows of archives, of which those of Drive are fetched, read and deleted one by one.

    Args:
        archives: of all actors.
        raw: where clips go.
        fetched: where archives lie meanwhile; no other process works there.

    Raises:
        BlockedError: Drive refuses everything.
    """
    path = raw.with_name(f".{raw.name}.ledger.sqlite")
    with closing(Ledger(path)) as ledger:
        work = [_Work(one, fetched, raw, ledger) for one in archives]
        waiting = [one for one in work if one.rows() is None]
        jobs = [Job(one.address, partial(_unpack, one)) for one in waiting]
        _clear_strangers(fetched, {one.name for one in waiting})
        harvest(jobs, ledger, {State.TODO, State.BLOCKED})
        return [row for one in work for row in one.rows() or one.remaining()]


def _clear_strangers(fetched: Path, names: set[str]) -> None:
    """Delete what earlier runs left of archives that are done or no longer named."""
    for path in fetched.iterdir():
        if path.name != "lock" and not any(path.name.startswith(name) for name in names):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def _unpack(work: _Work, breaker: Breaker) -> None:
    """Fetch an archive, make the clips of its takes, delete it if it came from Drive.

    Raises:
        FetchError: it cannot be had, or is damaged.
    """
    archive = work.archive
    if archive.url is not None:
        fetch_file(archive.url, work.path, archive.sha256, breaker)
    try:
        takes, views, refused = _stage(work)
    except ArchiveError as error:
        work.clear()
        raise FetchError(State.CORRUPT, str(error)) from None
    rows = [_make(work, take) for take in takes]
    rows += [row_of_actor(archive.actor, reason, name) for name, reason in refused.items()]
    if not rows:
        rows = [row_of_actor(archive.actor, no_view(archive.view, views))]
    work.ledger.add(archive.actor, work.plan, {"rows": rows} | _digest(work, rows))
    work.clear()


def _digest(work: _Work, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Of a fetched archive with damaged takes, and whether it is known to be like that."""
    if work.archive.path or not _is_damaged(rows):
        return {}
    digest = sha256_of(work.path)
    earlier = work.ledger.row(work.archive.actor, work.plan) or {}
    return {
        "sha256": digest,
        "came_so_before": digest in (work.archive.sha256, earlier.get("sha256")),
    }


def _stage(work: _Work) -> tuple[list[Take], set[str], dict[str, str]]:
    """Takes of the wanted view, saved with their sounds; all views; what was refused, and why."""
    takes, views, refused = [], set(), {}
    for member in members(work.path):
        name = member.name.as_posix()
        seen = IN_VIEW.fullmatch(name)
        if seen:
            views.add(seen["view"])
        take = take_of(work.archive.actor, VIDEO if seen else SOUND, name)
        if seen and seen["view"] != work.archive.view:
            continue
        if take is None:
            if seen:
                refused[name] = ODD_NAME
            continue
        if member.refusal:
            refused[name] = member.refusal
            continue
        _save(member, work.staging / f"{take.clip}{member.name.suffix}")
        if seen:
            takes.append(take)
    return sorted(set(takes)), views, refused


def _save(member: Member, path: Path) -> None:
    if not path.is_file():  # else an interrupted run saved it
        save(member, path)


def _make(work: _Work, take: Take) -> dict[str, Any]:
    video, sound = (work.staging / f"{take.clip}.{kind}" for kind in ("mp4", "m4a"))
    target = work.raw / f"{take.clip}.mp4"
    row = row_of_take(take, f"{take.clip}.mp4") | {
        "source": work.address,
        "tool": f"gdown {version('gdown')}" if work.archive.url else None,
    }
    try:
        if sound.is_file():
            made = join(video, sound, target)
        else:
            made = inspect(video)
            target.parent.mkdir(parents=True, exist_ok=True)
            with replacing(target) as part:
                shutil.copyfile(video, part)
    except MediaError as error:
        return row | {"status": "corrupt", "reason": str(error)}
    return row | facts_of(target, not made.has_audio)
