"""Generated videos + true clips → a value for every pair and metric, their means, and previews."""

import csv
import hashlib
import json
import shutil
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from fixtalk.dataset import read_clips
from fixtalk.media import decode_frames, read_video, write_video
from fixtalk.sheet import enlarge, picture_sheet, read_picture, write_picture
from metrics.protocol import Protocol, identify
from pipelines.cluster import map_parallel
from pipelines.config import StageConfig, load_config, read_params
from pipelines.evidence import describe_detector
from pipelines.measure import ClipScorer, ClipScores
from pipelines.panel import NO_LOCAL, read_accuracies, seat_panel
from pipelines.provenance import circumstances
from pipelines.slices import describe_motion
from pipelines.summary import Totals, write_scores

COLUMNS = ["clip", "emotion", "video", "audio", "pose", "head_pose", "arkit", "level"]
FACTS = ("protocol", "pair", "person", "source_clip", "driver_clip", "truth_clip")
PIECE = 32  # frames scored at once: bounds memory, not the result
PREVIEW_PEOPLE = 8  # of each protocol
PREVIEW_VIDEOS = 24  # of each protocol, what the report can play
PREVIEW_SIDE = 128  # pixels, smaller frames are enlarged
TITLES = ["source", "driver", "generated", "truth"]


class ScoreConfig(StageConfig):
    """How faces are looked for, and how far a shift of the sound is searched."""

    min_probability: float = Field(gt=0, lt=1, description="of a detection that counts as a face")
    detect_resolution: int = Field(ge=64, description="pixels, frames are resized to it")
    detect_every: int = Field(ge=1, description="frames between looks at faces and people")
    max_shift: int = Field(ge=1, description="frames of sync offset tried on each side")


class Folders(NamedTuple):
    """Where the stage reads: clips, the project's own judges, official weights, videos."""

    clips: Path
    judges: Path
    weights: Path
    videos: Path


@dataclass(frozen=True)
class Job:
    """One pair with all a fresh process needs to score it."""

    config: ScoreConfig
    pair: dict[str, str]
    video: Path
    source: bytes
    driver: bytes
    truth: bytes
    audio: bytes
    emotion: str | None
    motion: dict[str, float | None]
    panel: tuple[Path, Path | None, str]
    preview: Path
    is_shown: bool
    is_filmed: bool


def score(config: ScoreConfig, folders: Folders, out: Path) -> None:
    """Write scores.parquet, metrics.json and the folder preview into `out`.

    A pair's value is the mean over its frames, a system's the mean over its pairs. Values that
    do not exist are null with a reason. Identical frames have infinite psnr: they are left out
    of the mean and counted (`left_out`).

    Raises:
        FileNotFoundError: a listed video is missing.
        ValueError: a video does not fit its true clip.
    """
    videos, provenance = folders.videos, circumstances(read_params())
    with (videos / "pairs.csv").open(encoding="utf-8", newline="") as file:
        pairs = list(csv.DictReader(file))
    missing = [path for pair in pairs if not (path := _video(videos, pair)).is_file()]
    if missing:
        more = f"{len(missing) - 1} more of {len(pairs)} pairs"
        raise FileNotFoundError(f"{missing[0]}: missing, and {more}: run generate")
    system = json.loads((videos / "system.json").read_text(encoding="utf-8"))
    coverage = json.loads((videos / "coverage.json").read_text(encoding="utf-8"))
    accuracies = read_accuracies(folders.judges)
    out.mkdir(parents=True, exist_ok=True)
    preview = out / ".preview"
    shutil.rmtree(preview, ignore_errors=True)
    preview.mkdir()
    local = folders.judges if accuracies["dataset"] == system["dataset"] else None
    jobs = _jobs(config, folders, local, pairs, preview)
    totals = {pair["protocol"]: Totals() for pair in pairs}
    results = map_parallel(_score_pair, jobs, f"score {system['system']}", on_gpu=True)
    for job, (resolution, scores) in zip(jobs, results, strict=True):
        facts = {"system": system["system"], **{name: job.pair[name] for name in FACTS}}
        facts |= job.motion
        totals[job.pair["protocol"]].add({**facts, "resolution": resolution}, scores)
    for name, total in totals.items():
        sizes = sorted({row["resolution"] for row in total.rows})
        total.protocol = _protocol(config, name, jobs, ", ".join(sizes))
    _publish_preview(jobs, preview, out / "preview")
    empty = {name: report for name, report in coverage.items() if name not in totals}
    cropped = json.loads((folders.clips / "coverage.json").read_text(encoding="utf-8"))
    facts = {**system, "judges": accuracies["judges"] if local else {}}
    facts |= {"split": cropped["split_hash"], "provenance": provenance}
    possible = {name: report["possible"] for name, report in coverage.items()}
    write_scores(out, totals, facts, possible, {n: r.get("reason") for n, r in empty.items()})


def _jobs(
    config: ScoreConfig,
    folders: Folders,
    local: Path | None,
    pairs: list[dict[str, str]],
    preview: Path,
) -> list[Job]:
    rows = {row["clip"]: row for row in read_clips(folders.clips, "test", COLUMNS)}
    shown: dict[str, list[str]] = {}
    filmed: Counter[str] = Counter()
    jobs = []
    for pair in pairs:
        for role in ("source_clip", "driver_clip", "truth_clip"):
            if pair[role] not in rows:
                raise ValueError(
                    f"pair {pair['pair']}: {role} {pair[role]!r} is not a test clip of "
                    f"{folders.clips}: run generate on these clips again"
                )
        people = shown.setdefault(pair["protocol"], [])
        is_shown = pair["person"] not in people and len(people) < PREVIEW_PEOPLE
        if is_shown:
            people.append(pair["person"])
        filmed[pair["protocol"]] += 1
        source, driver, truth = (rows[pair[f"{r}_clip"]] for r in ("source", "driver", "truth"))
        jobs.append(
            Job(config, pair, _video(folders.videos, pair), source["video"], driver["video"],
                truth["video"], driver["audio"], driver["emotion"], describe_motion(truth),
                (folders.weights, local, NO_LOCAL),
                preview / pair["protocol"] / f"{pair['pair']}.png",
                is_shown, filmed[pair["protocol"]] <= PREVIEW_VIDEOS)
        )  # fmt: skip
    return jobs


def _score_pair(job: Job) -> tuple[str, ClipScores]:
    """The size of the pair's frames and what they scored."""
    generated, driver, truth = map(read_video, (job.video, job.driver, job.truth))
    frames = int(job.pair["frames"])
    for name, video in ((str(job.video), generated), ("driver", driver), ("truth", truth)):
        if video.shape != truth.shape or len(video) != frames:
            raise ValueError(
                f"pair {job.pair['pair']}: {name} has {len(video)} frames of {video.shape[1:3]}, "
                f"expected {frames} of {truth.shape[1:3]} like the truth: run generate again"
            )
    if job.is_shown or job.is_filmed:
        source = decode_frames(job.source, [int(job.pair["source_frame"])])
        _preview(job, np.broadcast_to(source, truth.shape), driver, generated, truth)
    height, width = truth.shape[1:3]
    protocol = _protocol(job.config, job.pair["protocol"], [], f"{width}x{height}")
    scorer = ClipScorer(seat_panel(*job.panel), protocol)
    is_led = job.pair["driver_clip"] != job.pair["truth_clip"]  # else the person drives itself
    for start in range(0, frames, PIECE):
        piece = slice(start, start + PIECE)
        other = _channels_first(driver[piece]) if is_led else None
        scorer.add(_channels_first(generated[piece]), _channels_first(truth[piece]), other)
    audio = torch.from_numpy(np.frombuffer(job.audio, "<i2").astype(np.int16))
    return protocol.resolution, scorer.finish(audio, job.emotion)


def _protocol(config: ScoreConfig, name: str, jobs: list[Job], resolution: str) -> Protocol:
    """Everything that must be equal for two numbers to stand in one table."""
    of_protocol = [job for job in jobs if job.pair["protocol"] == name]
    clips = [
        hashlib.sha256(clip).hexdigest()
        for job in of_protocol
        for clip in (job.source, job.driver, job.truth, job.audio)
    ]
    pairs = [[*sorted(job.pair.items()), job.emotion] for job in of_protocol]
    return Protocol(
        name=name,
        resolution=resolution,
        codec="lossless",
        detector=describe_detector(),
        inputs=identify([pairs, clips]),
        **config.model_dump(),
    )


def _publish_preview(jobs: list[Job], made: Path, preview: Path) -> None:
    """Put the pictures, and a sheet of them, in place of an older folder."""
    strips = [read_picture(job.preview) for job in jobs if job.is_shown]
    tiles = [np.split(strip, len(TITLES), axis=1) for strip in strips]
    write_picture(made / "sheet.png", picture_sheet(tiles, TITLES))
    shutil.rmtree(preview, ignore_errors=True)
    made.replace(preview)


def _preview(job: Job, *videos: np.ndarray) -> None:
    """The middle frame of source, driver, generated and truth side by side, and the film of it."""
    middle = len(videos[0]) // 2
    if job.is_shown:
        write_picture(job.preview, np.hstack([video[middle] for video in videos]))
    if job.is_filmed:
        frames = enlarge(np.concatenate(videos, axis=2), PREVIEW_SIDE)
        audio = np.frombuffer(job.audio, "<i2") if job.audio else None
        write_video(job.preview.with_suffix(".mp4"), frames, crf=20, gop=25, audio=audio)


def _channels_first(video: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(video)).permute(0, 3, 1, 2)


def _video(videos: Path, pair: dict[str, str]) -> Path:
    return videos / pair["protocol"] / f"{pair['pair']}.mkv"


if __name__ == "__main__":
    from pipelines.score import Folders, ScoreConfig, score  # by the name that workers know

    *read, written = map(Path, sys.argv[1:])
    score(load_config(ScoreConfig, "score"), Folders(*read), written)
