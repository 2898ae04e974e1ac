"""Calls that a server did not take → lines on disk that any later process can send."""

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from pipelines.files import append_row, read_rows, write_text

Call = dict[str, Any]  # what JSON can hold; `file` is the path of a file that goes with it
ASIDE = {"image", "file", "table", "model", "forget"}  # kinds that no call of another builds on
PATIENCE = 30.0  # seconds that failing calls of ASIDE may take; then the others wait untried


class AsideError(ConnectionError):
    """Calls of ASIDE were not taken; all others were."""


class Backlog:
    """Calls that wait in a file, in order, with copies of the files that go with them.

    Threads and processes may share it. A process that is killed while it sends leaves its calls
    to be sent again, so sending one twice must do no harm.

    Args:
        path: of the calls, there while any wait; copied files lie beside, without its suffix.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.files = path, path.with_suffix("")

    def __len__(self) -> int:
        return self.path.read_bytes().count(b"\n") if self.path.exists() else 0

    def add(self, call: Call) -> None:
        """Let a call wait behind those that do."""
        with self._locked():
            if "file" in call:
                copy = self.files / uuid4().hex / Path(call["file"]).name
                copy.parent.mkdir(parents=True)
                shutil.copy(call["file"], copy)
                call = call | {"file": str(copy.relative_to(self.files))}
            append_row(self.path, call)

    def send(
        self, action: Callable[[Call], None], wait: bool = True, with_aside: bool = True
    ) -> None:
        """Hand the calls to `action` in order; where it raises, that call and the rest stay.

        Where it raises at a call of ASIDE, only those about the same thing stay with it.

        Args:
            action: raises OSError where a call is not taken.
            wait: for another process that is at them.
            with_aside: whether to try calls of ASIDE.

        Raises:
            AsideError: calls of ASIDE stay, for the reason of the first.
            BlockingIOError: another process is at them, and `wait` is false.
            OSError: of `action`, or the file is damaged.
        """
        if not self.path.exists():
            return
        with self._locked(wait):
            calls = read_rows(self.path)[0]
            self._remove({one.name for one in self.files.glob("*")} - _folders(calls))
            waiting = dict(enumerate(calls))
            try:
                self._hand_on(action, waiting, with_aside)
            finally:
                if not waiting:
                    self.path.unlink()
                elif len(waiting) < len(calls):
                    text = "".join(json.dumps(call) + "\n" for call in waiting.values())
                    write_text(self.path, text)
                # others may be adding by now, so that only what was sent may go
                self._remove(_folders(calls) - _folders(waiting.values()))

    def _hand_on(
        self, action: Callable[[Call], None], waiting: dict[int, Call], with_aside: bool
    ) -> None:
        """Take what `action` takes out of `waiting`; see `send`."""
        late, lost, trouble = set(), 0.0, None
        for number, call in list(waiting.items()):
            subject, begun = _subject(call), time.monotonic()
            if subject and (not with_aside or subject in late or lost > PATIENCE):
                continue
            has_file = "file" in call
            try:
                action(call | {"file": str(self.files / call["file"])} if has_file else call)
                del waiting[number]
            except OSError as error:
                if not subject:
                    raise
                late.add(subject)
                lost += time.monotonic() - begun
                trouble = trouble or error
        if trouble:
            raise AsideError(str(trouble)) from trouble

    def _remove(self, folders: set[str]) -> None:
        """Delete copies of files, by the folders that hold one each."""
        for name in folders:
            shutil.rmtree(self.files / name, ignore_errors=True)
        with suppress(OSError):
            self.files.rmdir()

    @contextmanager
    def _locked(self, wait: bool = True) -> Iterator[None]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            with self.path.open("a") as file:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
                if self._is_current(file.fileno()):
                    yield
                    return

    def _is_current(self, descriptor: int) -> bool:
        """Whether an open file is still at the path: who sent its calls has removed it."""
        try:
            return os.path.samestat(os.fstat(descriptor), self.path.stat())
        except FileNotFoundError:
            return False


def _folders(calls: Iterable[Call]) -> set[str]:
    return {Path(call["file"]).parts[0] for call in calls if "file" in call}


def _subject(call: Call) -> tuple[Any, ...] | None:
    """What a call of ASIDE is about: none may overtake another about the same. None: of others."""
    kind = call.get("kind")
    if kind not in ASIDE:
        return None
    name = call.get("path") or call.get("name") or Path(call["file"]).name
    return name, call.get("folder"), call.get("step") if kind == "image" else None


def send_waiting(
    folder: Path, action: Callable[[Call], None], but: Path | None = None
) -> dict[Path, OSError]:
    """Send all backlogs of a folder but one, and those that another process is sending.

    Returns:
        What could not be sent, and why; see `Backlog.send`.
    """
    trouble = {}
    for path in sorted(set(folder.glob("[!.]*.jsonl")) - {but}):
        try:
            Backlog(path).send(action, wait=False)
        except BlockingIOError:
            continue
        except OSError as error:
            trouble[path] = error
    return trouble
