"""Two folders of videos matched by name → scores of anybody's system, and a report."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from fixtalk.media import MediaError, VideoReader, probe, read_audio
from fixtalk.sound import read_sound
from metrics.judges import Dlib68
from metrics.protocol import PRESETS, Protocol, identify
from pipelines.cluster import map_parallel
from pipelines.evidence import describe_detector
from pipelines.files import write_text
from pipelines.lips import NoLipsError, track_lips
from pipelines.matching import SOUNDS, CompareError, by_name, match, read_labels
from pipelines.measure import ClipScorer, ClipScores
from pipelines.panel import NO_LOCAL, read_accuracies, seat_panel
from pipelines.report import write_report
from pipelines.summary import Totals, write_scores

LABELS = "labels.csv"  # beside the reference videos: clip,emotion and, where known, person
MIN_SIDE = 16  # pixels; smaller frames hold no window of ssim
PIECE = 32  # frames scored at once: bounds memory, not the result


@dataclass(frozen=True)
class Job:
    """One clip to score."""

    clip: str
    generated: Path
    reference: Path
    sound: Path | None
    emotion: str | None
    protocol: Protocol
    panel: tuple[Path, Path | None, str]


@dataclass
class Outcome:
    """What became of one clip.

    Attributes:
        scores: None where it could not be scored.
        reason: why it could not.
        notes: differences between the two videos that a reader should know.
        size: of the compared frames, as "256x256".
        codec: of the generated video.
        sha256: of the reference video.
    """

    clip: str
    scores: ClipScores | None = None
    reason: str | None = None
    notes: list[str] = field(default_factory=list)
    size: str = ""
    codec: str = ""
    sha256: str = ""


def compare(
    generated: Path,
    reference: Path,
    out: Path,
    *,
    preset: str,
    weights: Path,
    audio: Path | None = None,
    judges: Path | None = None,
) -> str:
    """Write scores.parquet, metrics.json, coverage.json and report.md into `out`.

    Args:
        generated: videos of the system, matched with `reference` by name without suffix.
        reference: true videos, and labels.csv where emotions are known.
        out: folder; files of an earlier run in it are replaced.
        preset: key of PRESETS.
        weights: official weights that `fixtalk weights fetch` has brought.
        audio: sounds by name; None: the generated video's own track, else the reference's.
        judges: the project's own judges; they know rendered people only.

    Returns:
        The text of report.md.

    Raises:
        CompareError: a folder or preset is missing, no name matches, no clip can be scored.
    """
    if preset not in PRESETS:
        raise CompareError(f"protocol '{preset}' is unknown: known are {', '.join(PRESETS)}")
    found, alone = match(generated, reference)
    labels = read_labels(reference / LABELS)
    alone += [f"{LABELS}/{clip}: no such clip" for clip in sorted(labels.keys() - found.keys())]
    accuracies = read_accuracies(judges)["judges"] if judges else {}
    sounds = by_name(audio, SOUNDS) if audio else {}
    protocol = _protocol(preset)
    jobs = [
        Job(clip, *paths, sounds.get(clip), labels.get(clip, {}).get("emotion"), protocol,
            (weights, judges, NO_LOCAL))
        for clip, paths in found.items()
    ]  # fmt: skip
    total, outcomes = Totals(), []
    for job, outcome in zip(jobs, map_parallel(_score_clip, jobs, "score"), strict=True):
        if audio and not job.sound:
            outcome.notes.append(f"no sound of this name in {audio}")
        if outcome.scores:
            person = labels.get(job.clip, {}).get("person") or job.clip
            facts = {"system": generated.name, "pair": job.clip, "person": person}
            total.add(facts, outcome.scores)
        outcome.scores = None  # the totals have what is needed of it
        outcomes.append(outcome)
    total.protocol = _completed(protocol, outcomes)
    facts = {"system": generated.name, "dataset": reference.name, "key": generated.name}
    facts["judges"] = accuracies
    return _write(out, total, facts, outcomes, alone)


def _protocol(preset: str) -> Protocol:
    """The protocol of a preset, as far as it is known before a video is read."""
    chosen = PRESETS[preset]
    if chosen.crop == "eat128":
        Dlib68()  # a missing package is told at once, not by a worker
    return Protocol(
        name=preset, resolution="", codec="", inputs="", detector=describe_detector(),
        crop=chosen.crop, sync_crop=chosen.sync_crop, pooled=chosen.pooled,
    )  # fmt: skip


def _completed(protocol: Protocol, outcomes: list[Outcome]) -> Protocol:
    """The protocol with what the scored clips turned out to be."""
    scored = [outcome for outcome in outcomes if outcome.reason is None]
    if not scored:
        reasons = "\n".join(f"  {o.clip}: {o.reason}" for o in outcomes[:20])
        raise CompareError(f"none of {len(outcomes)} clips could be scored:\n{reasons}")
    return replace(
        protocol,
        resolution=_common([outcome.size for outcome in scored]),
        codec=_common([outcome.codec for outcome in scored]),
        inputs=identify([[outcome.clip, outcome.sha256] for outcome in scored]),
    )


def _write(
    out: Path, total: Totals, facts: dict[str, Any], outcomes: list[Outcome], alone: list[str]
) -> str:
    """All files of the output folder; the text of the report."""
    out.mkdir(parents=True, exist_ok=True)
    name = total.protocol.name
    means = write_scores(out, {name: total}, facts, {name: len(outcomes) + len(alone)}, {})
    coverage = {
        "matched": len(outcomes),
        "scored": len([outcome for outcome in outcomes if outcome.reason is None]),
        "unmatched": alone,
        "failed": {o.clip: o.reason for o in outcomes if o.reason},
        "differences": {o.clip: o.notes for o in outcomes if o.notes},
    }
    write_text(out / "coverage.json", json.dumps(coverage, indent=1) + "\n")
    return write_report(out / "report.md", asdict(total.protocol), means[name], facts, coverage)


def _score_clip(job: Job) -> Outcome:
    """Scores of one clip, or the reason why it has none."""
    outcome = Outcome(job.clip)
    with job.reference.open("rb") as file:
        outcome.sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    try:
        made, true = probe(job.generated), probe(job.reference)
        size = (made.width, made.height)
        if min(size) < MIN_SIDE:
            raise MediaError(f"{job.generated}: {size} pixels, at least {MIN_SIDE} a side", "tiny")
        outcome.codec = made.codec
        outcome.size = "128x128" if job.protocol.crop == "eat128" else "{}x{}".format(*size)
        for name, info in (("generated", made), ("reference", true)):
            if abs(info.fps - 25) > 0.01:
                outcome.notes.append(f"{name} has {info.fps:.2f} fps: read at 25 by time stamps")
        if (true.width, true.height) != size:
            outcome.notes.append(
                f"reference has {true.width}x{true.height} pixels: resized to {size[0]}x{size[1]}"
            )
        panel, lips = seat_panel(*job.panel), None
        try:
            lips = track_lips(panel, job.protocol, job.generated, job.reference)
        except NoLipsError as error:
            panel = panel.without("syncnet", str(error))
        scorer = ClipScorer(panel, job.protocol, lips)
        counts = [0, 0]
        for pieces in _pieces(job, size, counts):
            scorer.add(*pieces)
        if counts[0] != counts[1]:
            outcome.notes.append(
                f"generated has {counts[0]} frames, reference {counts[1]}: both cut to the shorter"
            )
        audio = _sound(job, scorer.frames, outcome.notes)
        if not scorer.cropped:
            raise MediaError(f"{job.generated}: no frame in which both faces could be aligned", "")
        outcome.scores = scorer.finish(audio, job.emotion)
    except MediaError as error:
        outcome.reason = str(error)
    return outcome


def _pieces(
    job: Job, size: tuple[int, int], counts: list[int]
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Generated and true frames of one size, PIECE at a time; counts those of each video."""
    readers = VideoReader(job.generated), VideoReader(job.reference)
    held: list[tuple[np.ndarray, np.ndarray]] = []
    for made, true in zip_longest(*readers):
        counts[0] += made is not None
        counts[1] += true is not None
        if made is None or true is None:
            continue
        if true.shape != made.shape:
            how = cv2.INTER_AREA if true.shape[0] > size[1] else cv2.INTER_CUBIC
            true = cv2.resize(true, size, interpolation=how)
        held.append((made, true))
        if len(held) == PIECE:
            yield _as_tensors(held)
            held = []
    for reader in readers:
        if reader.damage:
            raise MediaError(f"{reader.video}: damaged: {reader.damage}; make it again", "damaged")
    if held:
        yield _as_tensors(held)


def _as_tensors(held: list[tuple[np.ndarray, np.ndarray]]) -> tuple[torch.Tensor, torch.Tensor]:
    made, true = (torch.from_numpy(np.stack(frames)) for frames in zip(*held, strict=True))
    return made.permute(0, 3, 1, 2), true.permute(0, 3, 1, 2)


def _sound(job: Job, frames: int, notes: list[str]) -> torch.Tensor:
    """The clip's sound, cut to its frames; no samples where there is none."""
    if job.sound:
        samples = read_sound(job.sound)
    else:
        samples = read_audio(job.generated, frames)
        if not samples.any():
            samples = read_audio(job.reference, frames)
            if samples.any():
                notes.append("generated has no sound: scored with the reference's")
    wanted = frames * 640
    if 0 < len(samples) < wanted - 640:
        seconds = len(samples) / 16000
        notes.append(f"sound has {seconds:.2f} s for {frames / 25:.2f} s of frames: cut to it")
    samples = samples[:wanted] if samples.any() else samples[:0]
    return torch.from_numpy(samples.astype(np.int16))


def _common(values: list[str]) -> str:
    unique = sorted(set(values))
    return unique[0] if len(unique) == 1 else f"mixed: {', '.join(unique)}"
