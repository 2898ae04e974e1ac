"""Generated videos + true clips → a value for every pair and metric, their means, and previews."""

import csv
import hashlib
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from fixtalk.dataset import read_clips
from fixtalk.face import FaceDetector
from fixtalk.media import decode_frames, read_video, write_video
from fixtalk.sheet import enlarge, picture_sheet, read_picture, write_picture
from metrics import METRICS
from pipelines.cluster import map_parallel
from pipelines.config import StageConfig, load_config
from pipelines.files import write_table, write_text

COLUMNS = ["clip", "video", "audio"]
FACE_EVERY = 5  # frames between detections: one costs as much as a thousand psnr
LANDMARK_RESOLUTION = 128  # pixels of the frame in which point distances are given
PREVIEW_PEOPLE = 8  # of each protocol
PREVIEW_VIDEOS = 2  # of each protocol
PREVIEW_SIDE = 128  # pixels, smaller frames are enlarged
TITLES = ["source", "driver", "generated", "truth"]
DETECTOR = "mtcnn facenet-pytorch bundled weights"
NO_FACENET = "weights not fetched: facenet vggface2; no other network stands in"
SELF_LEAK = "in self the driver is the person itself"
NO_VALUE = {
    "lmd_mtcnn5": "no frame in which both the generated and the true face were found",
    "leak_pixels": "driver and truth show the same pixels: nothing could leak",
}


class ScoreConfig(StageConfig):
    """How faces are looked for."""

    min_probability: float = Field(gt=0, lt=1, description="of a detection that counts as a face")
    detect_resolution: int = Field(ge=64, description="pixels, frames are resized to it")


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
    preview: Path
    is_shown: bool
    is_filmed: bool


def score(config: ScoreConfig, clips: Path, videos: Path, out: Path) -> None:
    """Write scores.parquet, metrics.json and the folder preview into `out`.

    A pair's value is the mean over its frames, a system's the mean over its pairs. Values that
    do not exist are null with a reason. Identical frames have infinite psnr: they are left out
    of the mean and counted (`left_out`).

    Raises:
        FileNotFoundError: a listed video is missing.
        ValueError: a video does not fit its true clip.
    """
    with (videos / "pairs.csv").open(encoding="utf-8", newline="") as file:
        pairs = list(csv.DictReader(file))
    missing = [path for pair in pairs if not (path := _video(videos, pair)).is_file()]
    if missing:
        more = f"{len(missing) - 1} more of {len(pairs)} pairs"
        raise FileNotFoundError(f"{missing[0]}: missing, and {more}: run generate")
    out.mkdir(parents=True, exist_ok=True)
    preview = out / ".preview"
    shutil.rmtree(preview, ignore_errors=True)
    preview.mkdir()
    jobs = _jobs(config, clips, videos, pairs, preview)
    system = json.loads((videos / "system.json").read_text(encoding="utf-8"))
    results = list(map_parallel(_score_pair, jobs, f"score {system['system']}"))
    resolution = results[0][0]["resolution"]
    names = dict.fromkeys(pair["protocol"] for pair in pairs)
    protocols = {name: _protocol(config, name, jobs, resolution) for name in names}
    rows = [
        {"system": system["system"], "protocol_id": _identify(protocols[row["protocol"]]), **row}
        for result in results
        for row in result
    ]
    strips = [read_picture(job.preview) for job in jobs if job.is_shown]
    tiles = [np.split(strip, len(TITLES), axis=1) for strip in strips]
    write_picture(preview / "sheet.png", picture_sheet(tiles, TITLES))
    shutil.rmtree(out / "preview", ignore_errors=True)
    preview.replace(out / "preview")
    coverage = json.loads((videos / "coverage.json").read_text(encoding="utf-8"))
    write_table(out / "scores.parquet", rows, {**system, "protocols": protocols})
    _write_means(out / "metrics.json", rows, coverage)


def _jobs(
    config: ScoreConfig, clips: Path, videos: Path, pairs: list[dict[str, str]], preview: Path
) -> list[Job]:
    rows = {row["clip"]: row for row in read_clips(clips, "test", COLUMNS)}
    shown: dict[str, list[str]] = {}
    jobs = []
    for pair in pairs:
        for role in ("source_clip", "driver_clip", "truth_clip"):
            if pair[role] not in rows:
                raise ValueError(
                    f"pair {pair['pair']}: {role} {pair[role]!r} is not a test clip of {clips}: "
                    "run generate on these clips again"
                )
        people = shown.setdefault(pair["protocol"], [])
        is_shown = pair["person"] not in people and len(people) < PREVIEW_PEOPLE
        if is_shown:
            people.append(pair["person"])
        source, driver, truth = (rows[pair[f"{r}_clip"]] for r in ("source", "driver", "truth"))
        jobs.append(
            Job(config, pair, _video(videos, pair), source["video"], driver["video"],
                truth["video"], driver["audio"],
                preview / pair["protocol"] / f"{pair['pair']}.png",
                is_shown, is_shown and len(people) <= PREVIEW_VIDEOS)
        )  # fmt: skip
    return jobs


def _score_pair(job: Job) -> list[dict[str, Any]]:
    """One row for each metric."""
    generated, driver, truth = map(read_video, (job.video, job.driver, job.truth))
    frames = int(job.pair["frames"])
    for name, video in ((str(job.video), generated), ("driver", driver), ("truth", truth)):
        if video.shape != truth.shape or len(video) != frames:
            raise ValueError(
                f"pair {job.pair['pair']}: {name} has {len(video)} frames of {video.shape[1:3]}, "
                f"expected {frames} of {truth.shape[1:3]} like the truth: run generate again"
            )
    if job.is_shown:
        source = decode_frames(job.source, [int(job.pair["source_frame"])])
        _preview(job, np.broadcast_to(source, truth.shape), driver, generated, truth)
    given = ("protocol", "pair", "person", "source_clip", "driver_clip", "truth_clip")
    facts = {name: job.pair[name] for name in given} | {"resolution": truth.shape[1]}
    return [
        {**facts, "metric": metric, **_mean(metric, values, reason)}
        for metric, values, reason in _measure(job, generated, driver, truth)
    ]


def _measure(
    job: Job, generated: np.ndarray, driver: np.ndarray, truth: np.ndarray
) -> Iterator[tuple[str, Tensor | None, str | None]]:
    """Each metric with its value of every frame, or with the reason why there is none."""
    fake, real = _channels_first(generated), _channels_first(truth)
    for name in ("psnr", "ssim", "ssim_gaussian"):
        yield name, METRICS[name].function(fake, real), None
    fake_points, probabilities = _faces(job.config, generated[::FACE_EVERY])
    real_points, _ = _faces(job.config, truth[::FACE_EVERY])
    scale = LANDMARK_RESOLUTION / truth.shape[1]
    distances = torch.full((len(probabilities),), torch.nan, dtype=torch.float64)
    seen = torch.isfinite(fake_points + real_points).all(dim=2).all(dim=1)
    if seen.any():
        function = METRICS["lmd_mtcnn5"].function
        distances[seen] = function(fake_points[seen] * scale, real_points[seen] * scale)
    yield "lmd_mtcnn5", distances, None
    found = METRICS["face_found"].function(probabilities, job.config.min_probability)
    yield "face_found", found, None
    if job.pair["protocol"] == "self":
        yield "leak_pixels", None, SELF_LEAK
    else:
        pixels = (_channels_first(v).flatten(1).double() for v in (generated, truth, driver))
        yield "leak_pixels", METRICS["leak_pixels"].function(*pixels), None
    yield "csim_facenet", None, NO_FACENET


def _mean(metric: str, values: Tensor | None, reason: str | None) -> dict[str, Any]:
    """Mean over the frames that have a value, and how many have none."""
    if values is None:
        return {"value": None, "frames": 0, "left_out": 0, "reason": reason}
    finite = values[torch.isfinite(values)]
    counts = {"frames": len(finite), "left_out": len(values) - len(finite)}
    if len(finite):
        return {"value": finite.mean().item(), **counts, "reason": None}
    if values.isinf().any():
        return {"value": torch.inf, **counts, "reason": "all frames are identical to the truth"}
    return {"value": None, **counts, "reason": NO_VALUE[metric]}


def _faces(config: ScoreConfig, frames: np.ndarray) -> tuple[Tensor, Tensor]:
    """Five points of the largest face of each frame, NaN where none is, and its probability."""
    points = np.full((len(frames), 5, 2), np.nan)
    probabilities = np.zeros(len(frames))
    detector = _detector(config.detect_resolution, config.min_probability)
    for number, found in enumerate(detector(frames)):
        if found:
            points[number], probabilities[number] = found[0].points, found[0].probability
    return torch.from_numpy(points), torch.from_numpy(probabilities)


@cache
def _detector(resolution: int, min_probability: float) -> FaceDetector:
    return FaceDetector(resolution, min_probability)


def _protocol(
    config: ScoreConfig, name: str, jobs: Sequence[Job], resolution: int
) -> dict[str, Any]:
    """Everything that must be equal for two numbers to stand in one table."""
    of_protocol = [job for job in jobs if job.pair["protocol"] == name]
    clips = (clip for job in of_protocol for clip in (job.source, job.driver, job.truth))
    package = Path(find_spec("facenet_pytorch").origin).parent
    networks = (package / "data" / f"{name}.pt" for name in ("pnet", "rnet", "onet"))
    return {
        "protocol": name,
        "pairs": _identify([sorted(job.pair.items()) for job in of_protocol]),
        "clips": _identify([hashlib.sha256(clip).hexdigest() for clip in clips]),
        "crop": "as cropped, whole frame",
        "resolution": resolution,
        "colour": "rgb",
        "codec": "lossless",
        "detector": DETECTOR,
        "detector_weights": _identify(
            [hashlib.sha256(network.read_bytes()).hexdigest() for network in networks]
        ),
        "detector_config": config.model_dump(),
        "detect_every": FACE_EVERY,
        "aggregation": "frame->pair->mean",
        "versions": {metric: METRICS[metric].version for metric in sorted(METRICS)},
    }


def _identify(facts: dict[str, Any] | list[Any]) -> str:
    """12 hex digits that change with the facts."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def _write_means(path: Path, rows: list[dict[str, Any]], coverage: dict[str, Any]) -> None:
    means: dict[str, Any] = {}
    for name, report in coverage.items():
        of_protocol = [row for row in rows if row["protocol"] == name]
        none = {"pairs": 0, "reason": report.get("reason")}
        means[name] = _means(of_protocol) if of_protocol else none
        means[name]["possible"] = report["possible"]
    write_text(path, json.dumps(means, indent=1) + "\n")


def _means(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean over pairs of each metric, with the number of pairs that have a value."""
    means: dict[str, Any] = {
        "protocol_id": rows[0]["protocol_id"],
        "pairs": len({row["pair"] for row in rows}),
        "people": len({row["person"] for row in rows}),
        "frames": sum(r["frames"] + r["left_out"] for r in rows if r["metric"] == "psnr"),
    }
    reasons = {}
    for metric in METRICS:
        of_metric = [row for row in rows if row["metric"] == metric]
        values = [row["value"] for row in of_metric if row["value"] not in (None, torch.inf)]
        means[metric] = round(float(np.mean(values)), 6) if values else None
        means[f"{metric}_n"] = len(values)
        means[f"{metric}_left_out"] = sum(row["left_out"] for row in of_metric)
        if not values:
            reasons[metric] = of_metric[0]["reason"]
    return {**means, "reasons": reasons}


def _preview(job: Job, *videos: np.ndarray) -> None:
    """The middle frame of source, driver, generated and truth side by side, and the film of it."""
    middle = len(videos[0]) // 2
    write_picture(job.preview, np.hstack([video[middle] for video in videos]))
    if job.is_filmed:
        frames = enlarge(np.concatenate(videos, axis=2), PREVIEW_SIDE)
        audio = np.frombuffer(job.audio, "<i2") if job.audio else None
        write_video(job.preview.with_suffix(".mp4"), frames, crf=16, gop=25, audio=audio)


def _channels_first(video: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(video)).permute(0, 3, 1, 2)


def _video(videos: Path, pair: dict[str, str]) -> Path:
    return videos / pair["protocol"] / f"{pair['pair']}.mkv"


if __name__ == "__main__":
    score(load_config(ScoreConfig, "score"), *map(Path, sys.argv[1:]))
