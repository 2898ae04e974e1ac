"""data/raw/<dataset> videos → data/clips/<dataset> square face clips, index.csv, coverage.json."""

import hashlib
import inspect
import json
import os
import shutil
import sys
from collections.abc import Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from fixtalk.dataset import clip_schema, to_blob
from fixtalk.face import (
    FaceDetector,
    SquareBox,
    crop_frame,
    head_square,
    outside_share,
    to_crop_pixels,
)
from fixtalk.media import (
    SAMPLES_PER_FRAME,
    MediaError,
    VideoReader,
    encode_video,
    probe,
    read_audio,
)
from fixtalk.shards import ROW_GROUP, ShardWriter, coverage_of
from fixtalk.tracks import Track, cut_track, find_tracks, main_tracks, spans_without_face
from pipelines.cluster import map_parallel
from pipelines.config import StageConfig, load_config
from pipelines.manifest import read_manifest


class CropConfig(StageConfig):
    """How raw videos become clips."""

    resolution: int = Field(ge=16, multiple_of=2, description="pixels, side of the clip")
    margin: float = Field(ge=0, le=2, description="enlargement of the face box on each side")
    detect_every: int = Field(ge=1, description="frames between face detections")
    detect_resolution: int = Field(ge=72, description="pixels, shorter side the detector sees")
    min_probability: float = Field(ge=0, le=1, description="of the detector, below: no face")
    min_frames: int = Field(ge=1, description="shorter tracks are dropped with a reason")
    max_frames: int = Field(ge=1, description="longer tracks are cut into pieces")
    crf: int = Field(ge=0, le=51, description="x264 quality of the stored clips")
    gop: int = Field(ge=1, description="frames between key frames")
    clips_per_shard: int = Field(ge=1, description="rows of a Parquet file")
    min_coverage: float = Field(ge=0, le=1, description="usable videos / listed videos")


class CropError(ValueError):
    """Too few of the listed videos are usable; the message lists them with their reasons."""


class Job(NamedTuple):
    """One video to crop: everything a worker needs, and where its result goes."""

    config: CropConfig
    entry: dict[str, Any]
    raw: Path
    result: Path


class Piece(NamedTuple):
    """Frames start..stop-1 of a video, one clip: what of it to keep and how to cut it out."""

    start: int
    stop: int
    box: SquareBox
    probability: float


def crop(config: CropConfig, raw: Path, clips: Path) -> None:
    """Crop all videos of a raw folder's manifest, in parallel, to one square face each.

    Run again after an interruption it goes on with the videos that are not done. Nothing is
    at `clips` before all is.

    Raises:
        ManifestError: no usable manifest, or a person in both splits.
        CropError: coverage below the minimum.
    """
    entries = read_manifest(raw / "manifest.jsonl")
    work = clips.parent / f".{clips.name}.crop"
    work.mkdir(parents=True, exist_ok=True)
    jobs = [
        Job(config, entry, raw.resolve(), work / f"{_key(config, entry, raw)}.parquet")
        for entry in entries
    ]
    waiting = [job for job in jobs if not job.result.is_file()]
    list(map_parallel(_crop_video, waiting, f"crop {raw.name}"))  # the results are on disk
    partial = work / "clips"
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "shards").mkdir(parents=True)
    reports = []
    shards = ShardWriter(partial / "shards", config.clips_per_shard)
    for job in jobs:
        with pq.ParquetFile(job.result) as stored:
            reports.append(json.loads(stored.metadata.metadata[b"report"]))
            for batch in stored.iter_batches(batch_size=ROW_GROUP):
                shards.add(batch)
    index = shards.close()
    coverage = coverage_of(reports, index)
    _require_coverage(coverage, config.min_coverage, clips)
    index.to_csv(partial / "index.csv", index=False)
    (partial / "coverage.json").write_text(json.dumps(coverage, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(clips, ignore_errors=True)
    partial.replace(clips)
    shutil.rmtree(work)


def _key(config: CropConfig, entry: dict[str, Any], raw: Path) -> str:
    """Name of a video's result: another setting, video, label or code never finds an old one."""
    settings = config.model_dump(exclude={"clips_per_shard", "min_coverage"})
    digest = hashlib.sha256(json.dumps([settings, entry], sort_keys=True).encode())
    digest.update(_code())
    labels = raw / (entry.get("labels") or "")
    if labels.is_file():  # the manifest has the hash of the video only
        digest.update(labels.read_bytes())
    return digest.hexdigest()[:32]


@cache
def _code() -> bytes:
    package = Path(inspect.getfile(FaceDetector)).parent
    names = ["container", "dataset", "encoding", "face", "media", "shards", "tracks"]
    sources = [package / f"{name}.py" for name in names] + [Path(__file__)]
    return b"".join(source.read_bytes() for source in sources)


def _crop_video(job: Job) -> None:
    """Write the clips of one video and, as metadata, the report on it to `job.result`."""
    temporary = job.result.with_suffix(f".{os.getpid()}.partial")
    report = {"clip": job.entry["clip"], "video": job.entry["video"], "dropped": [], "pieces": []}
    with pq.ParquetWriter(temporary, clip_schema(), compression="none") as writer:
        try:
            for row in _clips(job, report):
                writer.write_table(pa.Table.from_pylist([row], clip_schema()))
        except MediaError as error:
            _drop(report, job.entry["clip"], error.reason, str(error))
        writer.add_key_value_metadata({"report": json.dumps(report)})
    temporary.replace(job.result)


def _clips(job: Job, report: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Rows of one video; what is left out goes into the report."""
    config, entry, clip = job.config, job.entry, job.entry["clip"]
    if entry["status"] != "ok":
        _drop(report, clip, f"manifest: {entry['status']}", entry.get("reason"))
        return
    video = job.raw / entry["video"]
    info = probe(video)
    reader = VideoReader(video)
    detector = _detector(config.detect_resolution, config.min_probability)
    tracks, others = main_tracks(find_tracks(reader, detector, config.detect_every))
    report["damage"] = reader.damage
    for track in others:
        _drop(report, clip, "several faces", _frames(track.start, track.stop))
    for start, stop in spans_without_face(tracks, reader.frames):
        if not tracks or stop - start >= config.min_frames:
            _drop(report, clip, "face lost" if tracks else "no face", _frames(start, stop))
    pieces = list(_pieces(config, report, tracks, entry.get("box")))
    if not pieces:
        return
    labels = _read_labels(job, reader.frames)
    audio = read_audio(video, reader.frames)
    if not audio.any():
        audio = audio[:0]  # a sound track of zeros is no sound
    frames, position = iter(VideoReader(video)), 0
    for number, piece in enumerate(pieces):
        name = clip if len(pieces) == 1 else f"{clip}#{number}"
        chosen = islice(frames, piece.start - position, piece.stop - position)
        position = piece.stop
        row = _row(job, piece, chosen, audio, labels)
        padded = outside_share(piece.box, info.width, info.height)
        enlarged = piece.box.side < config.resolution
        report["pieces"].append({"silent": not audio.size, "padded": padded, "enlarged": enlarged})
        yield row | {"clip": name, "source_fps": info.fps}


def _pieces(
    config: CropConfig,
    report: dict[str, Any],
    tracks: list[Track],
    given: list[float] | None,
) -> Iterator[Piece]:
    """Tracks cut to at most max_frames, with one box for a whole track; short ones reported.

    A box that the manifest gives is taken, rounded to pixels: datasets publish them, and clips of
    one session must share theirs to be compared pixel by pixel.
    """
    for track in tracks:
        boxes = [detection.box for detection in track.detections]
        box = _published(given) if given else head_square(boxes, config.margin)
        for start, stop in cut_track(track, config.max_frames):
            if stop - start < config.min_frames:
                reason = "too short" if start == track.start else "tail too short"
                _drop(report, report["clip"], reason, _frames(start, stop))
            else:
                yield Piece(start, stop, box, track.probability(start, stop))


def _published(box: list[float]) -> SquareBox:
    x0, y0, side = map(round, box)
    return SquareBox(x0=x0, y0=y0, side=side)


@cache
def _detector(resolution: int, min_probability: float) -> FaceDetector:
    """One detector a worker process."""
    return FaceDetector(resolution, min_probability)


def _read_labels(job: Job, frames: int) -> dict[str, Any]:
    """Label arrays of the whole video, in picture pixels; empty without labels."""
    if not job.entry.get("labels"):
        return {}
    path = job.raw / job.entry["labels"]
    try:
        with np.load(path, allow_pickle=False) as stored:
            labels = {name: stored[name] for name in ("landmarks", "arkit", "pose", "camera")}
    except (OSError, KeyError, ValueError) as error:
        raise MediaError(f"{path}: not readable as labels: {error}", "labels") from None
    lengths = {name: len(labels[name]) for name in ("landmarks", "arkit", "pose")}
    if set(lengths.values()) != {frames}:
        raise MediaError(f"{path}: {lengths} labels for {frames} frames", "labels")
    return labels


def _row(
    job: Job,
    piece: Piece,
    frames: Iterator[np.ndarray],
    audio: np.ndarray,
    labels: dict[str, Any],
) -> dict[str, Any]:
    """One clip of the schema, but for its name."""
    config, entry, box = job.config, job.entry, piece.box
    used = slice(piece.start, piece.stop)
    heard = slice(piece.start * SAMPLES_PER_FRAME, piece.stop * SAMPLES_PER_FRAME)
    motion = entry.get("motion")
    if motion is not None and piece.start:
        # Equal motion ids promise equal frames: a piece that starts later is another motion.
        motion = f"{motion}@{piece.start}"
    pictures = (crop_frame(frame, box, config.resolution) for frame in frames)
    points = to_crop_pixels(labels["landmarks"][used], box, config.resolution) if labels else None
    return {
        **{name: entry[name] for name in ("person", "split")},
        **{
            name: entry.get(name)
            for name in ("session", "emotion", "level", "sentence", "identity_seed")
        },
        "motion": motion,
        "frames": piece.stop - piece.start,
        "video": encode_video(pictures, crf=config.crf, gop=config.gop),
        "audio": audio[heard].astype("<i2").tobytes(),
        "box": [box.x0, box.y0, box.side],
        "landmarks": to_blob(points),
        "arkit": to_blob(labels["arkit"][used]) if labels else None,
        "pose": to_blob(labels["pose"][used]) if labels else None,
        "camera": str(labels["camera"]) if labels else None,
        "face_probability": piece.probability,
    }


def _frames(start: int, stop: int) -> str:
    return f"frames {start} to {stop - 1}"


def _drop(report: dict[str, Any], clip: str, reason: str, detail: str | None) -> None:
    report["dropped"].append(
        {"clip": clip, "video": report["video"], "reason": reason, "detail": detail}
    )


def _require_coverage(coverage: dict[str, Any], minimum: float, clips: Path) -> None:
    """Stop below the minimum, leaving the coverage beside the missing clips to be read."""
    report = clips.with_name(f"{clips.name}.coverage.json")
    if coverage["coverage"] >= minimum and coverage["clips"]:
        report.unlink(missing_ok=True)
        return
    report.write_text(json.dumps(coverage, indent=1) + "\n", encoding="utf-8")
    lines = [f"  {one['clip']}: {one['reason']} ({one['detail']})" for one in coverage["dropped"]]
    found = f"{coverage['usable']} of {coverage['videos']} videos usable, crop.min_coverage is"
    raise CropError("\n".join([f"{found} {minimum}; all reasons are in {report}:", *lines[:20]]))


if __name__ == "__main__":
    from pipelines.crop import CropConfig, crop  # by the name that workers know

    crop(load_config(CropConfig, "crop"), *map(Path, sys.argv[1:]))
