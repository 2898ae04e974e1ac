"""Training states → local, NFS or fsspec storage; the newest whole one back.

A state is a file of its own (`step-00000100-<sha256>.pt`), and counts from the moment its mark
(`step-00000100.json`) names it. So a kill at any point, even when a step is saved anew, leaves
what was there before. One process writes to a place; any number may read.
"""

import contextlib
import errno
import hashlib
import io
import json
import logging
import math
import shutil
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from pipelines.files import replacing

FULL = {errno.ENOSPC, errno.EDQUOT}

_log = logging.getLogger(__name__)


class Kept(NamedTuple):
    """A committed state: its name, training step, score (higher is better) and the file's hash."""

    name: str
    step: int
    score: float | None
    sha256: str

    @property
    def mark(self) -> str:
        """The file that commits the state."""
        return f"{self.name}.json"

    @property
    def file(self) -> str:
        """The file that holds the state."""
        return f"{self.name}-{self.sha256[:12]}.pt"


class Checkpoints:
    """The states of one training run: the last few and the best."""

    def __init__(self, place: str, keep: int = 2) -> None:
        """Open a folder of states; it is made if missing.

        Args:
            place: a path or any fsspec URL.
            keep: how many of the newest states stay, besides the best.

        Raises:
            ValueError: no state is to be kept, or nothing here can open such a URL.
            OSError: the folder cannot be made.
        """
        if keep < 1:
            raise ValueError(f"keep {keep}: at least one state must stay")
        try:
            self._fs, self._root = url_to_fs(place)
        except (ImportError, ValueError) as error:
            raise ValueError(f"{place}: {error}") from error
        try:
            self._fs.makedirs(self._root, exist_ok=True)
        except Exception as error:  # each storage has its own
            raise OSError(
                f"{place}: no folder for training states can be made there: {error}. "
                "Check the address and your rights, or point FIXTALK_CHECKPOINTS elsewhere"
            ) from error
        self.place, self.keep = place.rstrip("/"), keep
        self._local = isinstance(self._fs, LocalFileSystem)
        self._writer = ThreadPoolExecutor(1, "checkpoints")
        self._write: Future | None = None
        self._whole: set[int] = set()  # steps that this process wrote or read in full

    def save(self, state: Mapping[str, Any], step: int, score: float | None = None) -> None:
        """Take a snapshot now and write it in the background, after the write before.

        If that one failed, but for a full disk, a storage that was away for a while has a second
        chance: this one is waited for.

        Args:
            state: what `torch.load(weights_only=True)` can read back, tensors on any device.
            step: a state of the same step is replaced.
            score: decides which state is the best; higher is better.

        Raises:
            OSError: the write before failed, and so did this one; or the disk is full.
        """
        try:
            self.flush()
            has_failed = False
        except OSError as error:
            if getattr(error.__cause__, "errno", None) in FULL:
                raise
            _log.warning("%s", error)
            has_failed = True
        snapshot = io.BytesIO()
        torch.save(state, snapshot)
        self._write = self._writer.submit(self._commit, snapshot.getvalue(), step, score)
        if has_failed:
            self.flush()

    def flush(self) -> None:
        """Wait until all is written.

        Raises:
            OSError: it was not; names the place, the bytes needed and free, and what to do.
        """
        write, self._write = self._write, None
        if write is not None:
            write.result()

    def kept(self) -> list[Kept]:
        """What the storage holds now, oldest first."""
        found = []
        for name in self._names():
            if not (name.startswith("step-") and name.endswith(".json")):
                continue
            try:
                facts = json.loads(self._fs.cat_file(f"{self._root}/{name}"))
                stem = name.removesuffix(".json")
                found.append(Kept(stem, facts["step"], facts["score"], facts["sha256"]))
            except FileNotFoundError:
                continue  # pruned since it was listed
            except (ValueError, KeyError, TypeError) as error:
                _log.warning("%s/%s: not the mark of a state: %r", self.place, name, error)
        return sorted(found, key=lambda kept: kept.step)

    def load(self, kept: Kept) -> dict[str, Any]:
        """The state, with its tensors on the CPU.

        Raises:
            ValueError: its file is gone or not what was written; names it.
        """
        path = f"{self.place}/{kept.file}"
        try:
            data = self._fs.cat_file(f"{self._root}/{kept.file}")
        except FileNotFoundError as error:
            raise ValueError(f"{path}: missing, though {kept.mark} names it") from error
        if (found := hashlib.sha256(data).hexdigest()) != kept.sha256:
            raise ValueError(
                f"{path}: damaged: sha256 {found} of {len(data):,} bytes, "
                f"but {kept.mark} says {kept.sha256}"
            )
        self._whole.add(kept.step)
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)

    def newest(self) -> tuple[Kept, dict[str, Any]] | None:
        """The newest whole state. Damaged ones are passed over with a warning and left in place."""
        for kept in reversed(self.kept()):
            try:
                return kept, self.load(kept)
            except ValueError as damage:
                _log.warning("%s; going back to the state before", damage)
        return None

    def _commit(self, data: bytes, step: int, score: float | None) -> None:
        """Write a state, then its mark, then remove what is not needed any more."""
        kept = Kept(f"step-{step:08d}", step, score, hashlib.sha256(data).hexdigest())
        facts = {"step": step, "sha256": kept.sha256, "bytes": len(data), "score": score}
        try:
            self._put(kept.file, data)
            self._put(kept.mark, json.dumps(facts).encode())
            self._whole.add(step)
            self._prune()
        except Exception as error:
            free = f", {shutil.disk_usage(self._root).free:,} free" if self._local else ""
            raise OSError(
                f"{self.place}: saving step {step} failed ({len(data):,} bytes needed{free}): "
                f"{error}. Free space or point FIXTALK_CHECKPOINTS elsewhere; the same command "
                f"goes on from step {max(self._whole, default=0)}"
            ) from error

    def _put(self, name: str, data: bytes) -> None:
        """Write a file so that it is there whole or not at all, whatever dies meanwhile."""
        if not self._local:
            self._fs.pipe_file(f"{self._root}/{name}", data)
            return
        with replacing(Path(self._root) / name) as temporary:
            temporary.write_bytes(data)

    def _prune(self) -> None:
        """Remove old states, and files without a mark that killed runs left behind."""
        kept = self.kept()
        best = _best(kept)
        whole = [k.step for k in kept if k.step in self._whole]
        stay = {
            name
            for k in kept
            if k == best or sum(step > k.step for step in whole) < self.keep
            for name in (k.mark, k.file)
        }
        ours = {name for name in self._names() if name.lstrip(".").startswith("step-")}
        # marks first: a state without a mark is only a stray file
        for name in sorted(ours - stay, key=lambda name: not name.endswith(".json")):
            with contextlib.suppress(FileNotFoundError):
                self._fs.rm_file(f"{self._root}/{name}")

    def _names(self) -> list[str]:
        self._fs.invalidate_cache()
        try:
            return [path.rsplit("/", 1)[-1] for path in self._fs.ls(self._root, detail=False)]
        except FileNotFoundError:  # object stores know no empty folder
            return []


def _best(states: Iterable[Kept]) -> Kept | None:
    """The state with the highest score, the oldest of equals."""
    scored = (k for k in states if k.score is not None and not math.isnan(k.score))
    return max(scored, key=lambda k: k.score, default=None)
