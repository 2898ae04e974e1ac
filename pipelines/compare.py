"""Two folders of videos matched by name → scores of anybody's system, and a report."""

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from fixtalk.media import FPS, MediaError, probe
from metrics.judges import Dlib68
from metrics.protocol import PRESETS, Protocol, identify
from pipelines.cluster import map_parallel
from pipelines.evidence import describe_detector
from pipelines.files import require_writable, write_text
from pipelines.footage import pieces, sounds
from pipelines.lips import NoLipsError, track_lips
from pipelines.matching import SOUNDS, CompareError, Matches, by_name, match, read_labels
from pipelines.measure import ClipScorer, ClipScores
from pipelines.panel import read_accuracies, seat_panel
from pipelines.provenance import circumstances
from pipelines.report import write_report
from pipelines.summary import Totals, write_scores

LABELS = "labels.csv"  # beside the reference videos: clip,emotion and, where known, person
CLIPS_AS_PEOPLE = (
    "each clip counts as a person, since labels.csv names none: where people come twice, intervals "
    "are too narrow"
)
NOT_GENERATED = "not generated"
MIN_SIDE = 16  # pixels; smaller frames hold no window of ssim


@dataclass(frozen=True)
class Job:
    """One clip to score; `generated` is None where the system has none."""

    clip: str
    generated: Path | None
    reference: Path
    sound: Path | None
    emotion: str | None
    protocol: Protocol
    panel: tuple[Path, Path | None]


@dataclass
class Outcome:
    """What became of one clip.

    Attributes:
        scores: None where it could not be scored.
        reason: why it could not.
        notes: differences between the two videos that a reader should know.
        size: of the compared frames, as "256x256".
        codec: of the generated video.
        made: hash of the generated video.
        truth: what the numbers depend on beside the generated video: hashes and label.
        frames: compared, and of the reference.
    """

    clip: str
    scores: ClipScores | None = None
    reason: str | None = None
    notes: list[str] = field(default_factory=list)
    size: str = ""
    codec: str = ""
    made: str | None = None
    truth: tuple[str | None, ...] = ()
    frames: tuple[int, int] = (0, 0)

    @property
    def covered(self) -> float:
        """Share of the reference's frames that are compared."""
        compared, true = self.frames
        return compared / true if true else 0.0


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
        generated: videos of the system, matched with `reference` by name without suffix; where
            system.json lies beside them, it names the system.
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
        OSError: `out` cannot be written.
    """
    if preset not in PRESETS:
        raise CompareError(f"protocol '{preset}' is unknown: known are {', '.join(PRESETS)}")
    matches = match(generated, reference)
    labels = read_labels(reference / LABELS)
    given = by_name(audio, SOUNDS) if audio else {}
    protocol = _protocol(preset)
    system = _system_of(generated)
    facts = {"system": system, "dataset": reference.resolve().name, "key": system}
    facts["judges"] = read_accuracies(judges)["judges"] if judges else {}
    facts["provenance"] = circumstances()
    require_writable(out)
    jobs = [
        Job(clip, *paths, given.get(clip), labels.get(clip, {}).get("emotion") or None, protocol,
            (weights, judges))
        for clip, paths in matches.wanted.items()
    ]  # fmt: skip
    total, outcomes = Totals(), []
    results = map_parallel(_score_clip, jobs, "score", on_gpu=True)
    for job, outcome in zip(jobs, results, strict=True):
        if audio and job.generated and not job.sound:
            outcome.notes.append(f"no sound of this name in {audio}")
        person = labels.get(job.clip, {}).get("person") or job.clip
        about = {"system": system, "protocol": preset, "pair": job.clip, "person": person}
        _take(total, about, outcome)
        outcomes.append(outcome)
    total.protocol = _completed(protocol, outcomes)
    strangers = sorted(labels.keys() - matches.wanted.keys())
    lost = [f"{LABELS}/{clip}: no such clip" for clip in strangers]
    return _write(out, total, facts, outcomes, matches, lost)


def _take(total: Totals, about: dict[str, str], outcome: Outcome) -> None:
    """Add a clip to the totals, which then have all that is needed of its scores."""
    facts = {**about, "covered": outcome.covered}
    if outcome.scores:
        total.add(facts, outcome.scores)
    else:
        total.lose(facts, str(outcome.reason))
    outcome.scores = None


def _system_of(generated: Path) -> str:
    """What made the videos: as the folder says, or the folder's name."""
    described = generated / "system.json"
    if not described.is_file():
        return generated.resolve().name
    try:
        return str(json.loads(described.read_text(encoding="utf-8"))["system"])
    except (ValueError, KeyError, TypeError):
        raise CompareError(f"{described}: names no system; mend or delete it") from None


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
        inputs=identify([[outcome.clip, *outcome.truth] for outcome in outcomes]),
    )


def _write(
    out: Path,
    total: Totals,
    facts: dict[str, Any],
    outcomes: list[Outcome],
    matches: Matches,
    lost: list[str],
) -> str:
    """All files of the output folder, none of an earlier run left; the text of the report."""
    for earlier in ("coverage.json", "report.md"):
        (out / earlier).unlink(missing_ok=True)
    name = total.protocol.name
    made = [[outcome.clip, outcome.made] for outcome in outcomes if outcome.reason is None]
    facts = {**facts, "videos": identify(made)}
    compared, true = (sum(outcome.frames[n] for outcome in outcomes) for n in (0, 1))
    if compared < true:
        total.cautions.append(
            f"{compared} of {true} true frames compared: the others are in no mean"
        )
    if total.people_are_clips():
        total.cautions.append(CLIPS_AS_PEOPLE)
    means = write_scores(out, {name: total}, facts, {name: len(outcomes)}, {})[name]
    coverage = {
        "matched": len(matches.both),
        "scored": len([outcome for outcome in outcomes if outcome.reason is None]),
        "frames": [compared, true],
        "unmatched": [
            *(f"generated/{clip}: no reference" for clip in matches.without_reference),
            *(f"reference/{clip}: {NOT_GENERATED}" for clip in matches.not_generated),
            *lost,
        ],
        "failed": {o.clip: o.reason for o in outcomes if o.reason and o.clip in matches.both},
        "differences": {o.clip: o.notes for o in outcomes if o.notes},
    }
    write_text(out / "coverage.json", json.dumps(coverage, indent=1) + "\n")
    return write_report(out / "report.md", asdict(total.protocol), means, facts, coverage)


def _score_clip(job: Job) -> Outcome:
    """Scores of one clip, or the reason why it has none."""
    outcome = Outcome(job.clip)
    try:
        outcome.truth = (_sha256(job.reference), _sha256(job.sound), job.emotion)
        if job.generated is None:
            outcome.reason = NOT_GENERATED
            return outcome
        outcome.made = _sha256(job.generated)
        if outcome.made == outcome.truth[0]:
            outcome.notes.append("generated and reference are the same file")
        _score_videos(job, outcome)
    except (MediaError, OSError) as error:
        outcome.reason, outcome.scores = str(error), None
        outcome.frames = (0, outcome.frames[1])
    return outcome


def _score_videos(job: Job, outcome: Outcome) -> None:
    """Fills the outcome of a clip whose files can be read."""
    made, true = probe(job.generated), probe(job.reference)
    size = (made.width, made.height)
    if min(size) < MIN_SIDE:
        raise MediaError(f"{job.generated}: {size} pixels, at least {MIN_SIDE} a side", "tiny")
    outcome.codec = made.codec
    outcome.size = "128x128" if job.protocol.crop == "eat128" else "{}x{}".format(*size)
    for name, info in (("generated", made), ("reference", true)):
        if abs(info.fps - FPS) > 0.01:
            outcome.notes.append(f"{name} has {info.fps:.2f} fps: read at {FPS} by time stamps")
    if (true.width, true.height) != size:
        outcome.notes.append(
            f"reference has {true.width}x{true.height} pixels: resized to {size[0]}x{size[1]}"
        )
    panel, lips, counts = seat_panel(*job.panel), None, [0, 0]
    try:
        lips = track_lips(panel, job.protocol, pieces(job.generated, job.reference, size, [0, 0]))
    except NoLipsError as error:
        panel = panel.without("syncnet", str(error))
    scorer = ClipScorer(panel, job.protocol, lips)
    for pair in pieces(job.generated, job.reference, size, counts):
        scorer.add(*pair)
    outcome.frames = (scorer.cropped, counts[1])
    if counts[0] != counts[1]:
        outcome.notes.append(
            f"generated has {counts[0]} frames, reference {counts[1]}: both cut to the shorter"
        )
    if not scorer.cropped:
        raise MediaError(f"{job.generated}: no frame in which both faces could be aligned")
    audio, true_audio = sounds(
        job.generated, job.reference, job.sound, scorer.frames, outcome.notes
    )
    outcome.scores = scorer.finish(audio, job.emotion, true_audio)


def _sha256(path: Path | None) -> str | None:
    if path is None:
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _common(values: list[str]) -> str:
    unique = sorted(set(values))
    return unique[0] if len(unique) == 1 else f"mixed: {', '.join(unique)}"
