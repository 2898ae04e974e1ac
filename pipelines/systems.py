"""Systems of others: the registry, running a user's own checkout of one, importing its videos."""

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from pydantic import BaseModel, ConfigDict, model_validator

from fixtalk.encoding import retime
from fixtalk.media import FPS, MediaError, VideoReader, probe
from pipelines.assignments import Assignment, SystemsError, export_protocol, read_assignments
from pipelines.checkout import SUFFIXES, Checkout, LostError
from pipelines.files import only_one, replacing, write_text
from pipelines.listing import VIDEOS, visible_files
from pipelines.matching import by_name
from pipelines.speed import device_name

REGISTRY = Path(__file__).with_suffix(".yaml")
Mode = Literal["video", "audio"]
Files = dict[str, Path]


class System(BaseModel):
    """A published system, as its repository describes it at one commit.

    Attributes:
        commands: by what drives; run in the checkout, with placeholders as systems.yaml explains.
        driving: suffix of the file that drives.
        output: pattern of the result's name in {out}.
        frame_rate: what it writes whatever the driver's rate; None: its videos keep time.
        reason: why `verified` is false.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str
    title: str
    repository: str | None = None
    commit: str | None = None
    licence: str
    commands: dict[Mode, list[str]] = {}
    driving: str = ".mp4"
    output: str | None = None
    inputs: str = ""
    frame_rate: int | None = None
    notes: list[str]
    verified: bool
    reason: str = ""

    @model_validator(mode="after")
    def _is_whole(self) -> "System":
        if self.verified == bool(self.reason) or bool(self.commands) != bool(self.output):
            raise ValueError("a doubt goes with its reason, a command with its output")
        return self

    @property
    def where(self) -> str:
        """Address of the commit that was read."""
        address = f"https://github.com/{self.repository}/tree/{self.commit}"
        return address if self.repository else "not published"

    def command(self, mode: Mode | None) -> list[str]:
        """The command for what drives; None: the only or first one.

        Raises:
            SystemsError: there is none.
        """
        if not self.commands:
            raise SystemsError(f"{self.name} cannot be run: {self.reason}; import its videos")
        if mode and mode not in self.commands:
            raise SystemsError(f"{self.name} has no mode {mode}: use {', '.join(self.commands)}")
        return self.commands[mode or next(iter(self.commands))]


def read_systems() -> dict[str, System]:
    """The systems of the paper's tables by name, in their order."""
    entries = yaml.safe_load(REGISTRY.read_text(encoding="utf-8"))
    return {name: System(name=name, **entry) for name, entry in entries.items()}


def run_system(
    name: str,
    checkout: Path,
    python: str,
    pairs: Path,
    out: Path,
    *,
    mode: Mode | None = None,
    clips: Path = Path("data/clips"),
    timeout: float = 3600.0,
) -> dict[str, Any]:
    """Make videos/<pair>.* in `out` with a system's own code; called again, only what is missing.

    Also in `out`: coverage.json, the logs of commands that failed, videos/system.json and, of a
    protocol, pairs/ with its true videos and sounds.

    Args:
        name: of the registry, in any case.
        checkout: clone of its repository, its weights in it.
        python: interpreter of its own environment.
        pairs: CSV file, or the folder of one protocol that `generate` wrote.
        out: belongs to one system, mode and list of pairs.
        mode: what drives; None: the system's only or first mode.
        clips: parent of the folders of clips, which a protocol needs.
        timeout: seconds a pair may take.

    Returns:
        What coverage.json holds: "made" (pair → hash of what decides its video), "failed" (pair →
        reason), "extra" (empty).

    Raises:
        SystemsError: no command, not its checkout, no interpreter, a list that cannot be read, or
            a file of it that is missing.
        BlockingIOError: another process works in `out`.
    """
    system, checkout, out = _known(name), checkout.resolve(), out.resolve()
    command, interpreter = system.command(mode), shutil.which(python)
    script = next(part for part in command if part.endswith(".py"))
    if not (checkout / script).is_file():
        raise SystemsError(f"{checkout / script}: not found; clone {system.where} there")
    if not interpreter:
        raise SystemsError(f"{python}: not a program; name the Python of {system.name}'s own")
    suffixes = {**SUFFIXES, "driving": (system.driving,)}
    runner = Checkout(checkout, Path(interpreter).absolute(), command, suffixes,
                      str(system.output), out, timeout)  # fmt: skip
    device = device_name(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    facts = {"commit": runner.commit(), "command": command, "device": device}
    with only_one(out):
        if pairs.is_dir():
            pairs = export_protocol(pairs.resolve(), clips, out / "pairs")
        listed = read_assignments(pairs)
        _refuse_absent(pairs, listed)
        coverage = _fill(system, out, facts, listed, runner.inputs, runner.make)
        shutil.rmtree(out / "work", ignore_errors=True)
    return coverage


def import_system(name: str, folder: Path, out: Path, pairs: Path | None = None) -> dict[str, Any]:
    """Copy finished videos of a system, named as the pairs are, to videos/<pair>.* in `out`.

    Args:
        name: of the registry, in any case.
        folder: its videos.
        out: as for `run_system`.
        pairs: CSV file of what there should be; None: what there is.

    Returns:
        As `run_system`; "extra": names in the folder that the list lacks.

    Raises:
        SystemsError: an unknown name, or a list that cannot be read.
        CompareError: no video in the folder, or two of one name.
        BlockingIOError: another process works in `out`.
    """
    system, found = _known(name), by_name(folder, VIDEOS)
    alone = [Assignment(pair, None, None, None) for pair in found]
    listed = read_assignments(pairs) if pairs else alone

    def inputs(pair: Assignment) -> Files:
        if pair.pair not in found:
            raise LostError(f"no video of this name in {folder}")
        return {"video": found[pair.pair]}

    facts = {"commit": "unknown", "command": None, "device": "unknown"}
    extra = sorted(found.keys() - {pair.pair for pair in listed})
    with only_one(out):
        return _fill(system, out, facts, listed, inputs, lambda _, files: files["video"], extra)


def _known(name: str) -> System:
    systems = read_systems()
    for key, system in systems.items():
        if key.casefold() == name.casefold():
            return system
    raise SystemsError(f"system {name!r} is unknown: known are {', '.join(systems)}")


def _fill(
    system: System,
    out: Path,
    facts: dict[str, Any],
    listed: Sequence[Assignment],
    inputs: Callable[[Assignment], Files],
    make: Callable[[Assignment, Files], Path],
    extra: Sequence[str] = (),
) -> dict[str, Any]:
    """Take the video of every pair that has none of these inputs yet; returns the coverage."""
    from rich.progress import track

    videos, record = out / "videos", out / "coverage.json"
    videos.mkdir(exist_ok=True)
    _refuse_strangers(videos, {pair.pair for pair in listed})
    now = datetime.now(UTC).isoformat(timespec="seconds")
    told = {"system": system.name, "licence": system.licence, "date": now, **facts}
    write_text(videos / "system.json", json.dumps(told, indent=1) + "\n")
    before = _made_before(record)
    made = {pair.pair: before[pair.pair] for pair in listed if pair.pair in before}
    failed: dict[str, str] = {}
    coverage = {"made": made, "failed": failed, "extra": list(extra)}
    for pair in track(listed, system.name):
        name = pair.pair
        try:
            files = inputs(pair)
            stamp = _stamp(facts, files)
            if made.get(name) != stamp or not _present(videos, name):
                _take(system, make(pair, files), videos, name)
            made[name] = stamp
        except (LostError, MediaError) as error:
            failed[name] = str(error)
            made.pop(name, None)
            _forget(videos, name)
        else:
            (out / "logs" / f"{name}.log").unlink(missing_ok=True)
        write_text(record, json.dumps(coverage, indent=1) + "\n")
    return coverage


def _made_before(record: Path) -> dict[str, str]:
    """Pair → hash of what decided its video, as an earlier call left it."""
    if not record.is_file():
        return {}
    try:
        return json.loads(record.read_text(encoding="utf-8"))["made"]
    except (ValueError, KeyError, TypeError):
        raise SystemsError(f"{record}: not of this command; take another --out") from None


def _refuse_absent(pairs: Path, listed: Sequence[Assignment]) -> None:
    paths = [path for pair in listed for path in (pair.source, pair.driving, pair.audio) if path]
    absent = [str(path) for path in paths if not path.is_file()]
    if absent:
        raise SystemsError(
            f"{pairs}: {len(absent)} of {len(paths)} listed files are missing: {absent[0]} and so "
            "on; paths start from the folder of the list"
        )


def _refuse_strangers(videos: Path, names: set[str]) -> None:
    """A video that the list lacks may be of other inputs, and would be scored with the rest."""
    found = {path for path in visible_files(videos) if path.suffix.lower() in VIDEOS}
    strangers = sorted(
        str(path)
        for path in found
        if path.relative_to(videos).with_suffix("").as_posix() not in names
    )
    if strangers:
        raise SystemsError(f"{strangers[0]}: not in the list of pairs; take another --out")


def _stamp(facts: dict[str, Any], files: Files) -> str:
    """Hash of all that decides a video."""
    digest = hashlib.sha256(json.dumps([facts["commit"], facts["command"]]).encode())
    for role, path in files.items():
        with path.open("rb") as file:
            digest.update(f"{role}{hashlib.file_digest(file, 'sha256').hexdigest()}".encode())
    return digest.hexdigest()


def _present(videos: Path, name: str) -> list[Path]:
    return [path for suffix in VIDEOS if (path := videos / f"{name}{suffix}").is_file()]


def _forget(videos: Path, name: str) -> None:
    for path in _present(videos, name):
        path.unlink()


def _take(system: System, made: Path, videos: Path, name: str) -> None:
    """Copy a video that can be decoded to its end, with the driver's time in it.

    Raises:
        MediaError: it cannot.
    """
    reader = VideoReader(made)
    for _ in reader:
        pass
    if reader.damage:
        raise MediaError(f"{made}: damaged: {reader.damage}", "damaged")
    target = videos / f"{name}{made.suffix.lower()}"
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as temporary:
        if system.frame_rate and abs(probe(made).fps - system.frame_rate) < 0.01:
            retime(made, temporary, Fraction(system.frame_rate, FPS))
        else:
            shutil.copyfile(made, temporary)
        _forget(videos, name)
