"""A user's clone of a system → its command run on one pair, in its own environment."""

import os
import shutil
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipelines.assignments import ROLES, Assignment
from pipelines.revision import git

SUFFIXES = {"source": (".png", ".jpg", ".jpeg"), "driving": (".mp4",), "audio": (".wav",)}
GRACE = 10  # seconds that a stopped command has to end its own children
OURS = ("PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV")  # would give their Python our packages


class LostError(Exception):
    """A pair has no video; says why."""


@dataclass(frozen=True)
class Checkout:
    """The clone, and how its command is called.

    Attributes:
        folder: where it lies; the command runs there.
        python: interpreter of its own environment.
        command: list of arguments with placeholders, as systems.yaml explains.
        suffixes: what a file may end in, by role.
        output: pattern of the result's name in {out}.
        out: gets work/ for a while, and logs/.
        timeout: seconds a pair may take.
    """

    folder: Path
    python: Path
    command: list[str]
    suffixes: dict[str, tuple[str, ...]]
    output: str
    out: Path
    timeout: float

    def commit(self) -> str:
        """What is checked out, "-dirty" where files of it were changed; "unknown" without git."""
        arguments = ("describe", "--always", "--dirty", "--abbrev=40", "--exclude", "*")
        # a .git of its own, lest a repository around it answers
        return git("--git-dir", ".git", *arguments, folder=self.folder) or "unknown"

    def inputs(self, pair: Assignment) -> dict[str, Path]:
        """The files that the command names, by role.

        Raises:
            LostError: one is not listed, or of a kind that the system cannot read.
        """
        found = {}
        for role in ROLES:
            if not any(f"{{{role}}}" in part for part in self.command):
                continue
            path, suffixes = getattr(pair, role), self.suffixes[role]
            if path is None:
                raise LostError(f"{role}: none listed, and the command needs one")
            if path.suffix.lower() not in suffixes:
                raise LostError(f"{role}: {path} does not end in {' or '.join(suffixes)}")
            found[role] = path.resolve()
        return found

    def make(self, pair: Assignment, inputs: dict[str, Path]) -> Path:
        """Run the command; the path of its video, good until the next call.

        Raises:
            LostError: it failed, took too long, or left no video where it is documented to.
        """
        work = self.out / "work"
        shutil.rmtree(work, ignore_errors=True)
        places = {"python": self.python, "out": work / "out"}
        places["out"].mkdir(parents=True)
        for role, path in inputs.items():  # by plain names: not every script takes every name
            places[role] = work / f"{role}{path.suffix.lower()}"
            places[role].symlink_to(path)
        log = self.out / "logs" / f"{pair.pair}.log"
        log.parent.mkdir(exist_ok=True)
        self._call([part.format_map(places) for part in self.command], log)
        made = sorted(places["out"].glob(self.output))
        if len(made) != 1:
            raise LostError(f"ended well but left {len(made)} files {self.output}; see {log}")
        return made[0]

    def _call(self, arguments: list[str], log: Path) -> None:
        environment = {key: value for key, value in os.environ.items() if key not in OURS}
        folders = [str(self.python.parent), environment.get("PATH", os.defpath)]
        environment["PATH"] = os.pathsep.join(folders)
        with log.open("wb") as file:
            process = subprocess.Popen(
                arguments, cwd=self.folder, env=environment, stdin=subprocess.DEVNULL,
                stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
            try:
                status = process.wait(self.timeout)
            except subprocess.TimeoutExpired:
                raise LostError(f"stopped after {self.timeout:g} s; see {log}") from None
            finally:
                _stop(process)
        if status:
            lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
            last = next((line.strip() for line in reversed(lines) if line.strip()), "no output")
            raise LostError(f"ended with status {status}: {last[-200:]}; see {log}")


def _stop(process: subprocess.Popen) -> None:
    """End a command that still runs, and what it started."""
    if process.poll() is not None:
        return
    with suppress(ProcessLookupError, subprocess.TimeoutExpired):
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(GRACE)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
