"""Calls that a server did not take → lines on disk that any later process can send."""

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from pipelines.files import append_row, read_rows, write_text

Call = dict[str, Any]  # what JSON can hold; `file` is the path of a file that goes with it


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

    def send(self, action: Callable[[Call], None], wait: bool = True) -> None:
        """Hand the calls to `action` in order; where it raises, that call and the rest stay.

        Raises:
            BlockingIOError: another process is at them, and `wait` is false.
            OSError: the file is damaged.
        """
        if not self.path.exists():
            return
        with self._locked(wait):
            calls, sent = read_rows(self.path)[0], 0
            try:
                for call in calls:
                    has_file = "file" in call
                    action(call | {"file": str(self.files / call["file"])} if has_file else call)
                    sent += 1
            finally:
                if sent == len(calls):
                    self.path.unlink()
                    shutil.rmtree(self.files, ignore_errors=True)
                elif sent:
                    write_text(self.path, "".join(json.dumps(c) + "\n" for c in calls[sent:]))

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


def send_waiting(folder: Path, action: Callable[[Call], None]) -> dict[Path, OSError]:
    """Send all backlogs of a folder but those that another process is sending; see `send`.

    Returns:
        What could not be sent, and why.
    """
    trouble = {}
    for path in sorted(folder.glob("[!.]*.jsonl")):
        try:
            Backlog(path).send(action, wait=False)
        except BlockingIOError:
            continue
        except OSError as error:
            trouble[path] = error
    return trouble
