"""data/raw/<dataset> videos → data/clips/<dataset> square face clips, index.csv, coverage.json."""

import hashlib
import inspect
import json
import shutil
import sys
from functools import cache
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, model_validator

from fixtalk.face import FaceDetector
from fixtalk.shards import ROW_GROUP, ShardWriter, coverage_of
from pipelines import marks, pieces
from pipelines.card import write_card
from pipelines.cluster import map_parallel
from pipelines.config import StageConfig, load_config
from pipelines.leaks import LeakConfig, find_leaks, require_no_leak
from pipelines.manifest import read_manifest, split_hash
from pipelines.pieces import Job, crop_video


class FilterConfig(StageConfig):
    """What a clip must be like to be kept; null: no matter."""

    min_face: float | None = Field(ge=0, description="pixels of the face's shorter side, raw video")
    min_sharpness: float | None = Field(ge=0, description="of the face, see fixtalk/quality.py")
    max_yaw: float | None = Field(ge=0, le=180, description="degrees, farthest turn of the head")
    min_speech: float | None = Field(ge=0, le=1, description="share of frames with speech")

    def refuse(self, measured: dict[str, float]) -> tuple[str | None, str]:
        """Why a clip is not kept, with value and bound; (None, "") if it is."""
        rules = (
            ("face too small", "min_face", "face_pixels", 1),
            ("blurred", "min_sharpness", "sharpness", 1),
            ("turned away", "max_yaw", "yaw", -1),
            ("no speech", "min_speech", "speech", 1),
        )
        for reason, key, name, sign in rules:
            bound, value = getattr(self, key), measured[name]
            if bound is not None and not sign * value >= sign * bound:  # nan fails too
                return reason, f"{name} is {value:.4g}, crop.filters.{key} is {bound:g}"
        return None, ""


class CropConfig(StageConfig):
    """How raw videos become clips."""

    resolution: int = Field(ge=16, multiple_of=2, description="pixels, side of the clip")
    margin: float = Field(ge=0, le=2, description="enlargement of the face box on each side")
    detect_every: int = Field(ge=1, description="frames between face detections")
    detect_resolution: int = Field(ge=72, description="pixels, shorter side the detector sees")
    min_probability: float = Field(ge=0, le=1, description="of the detector, below: no face")
    scene_change: float | None = Field(gt=0, le=255, description="mean change of a pixel at a cut")
    min_frames: int = Field(ge=1, description="shorter tracks are dropped with a reason")
    max_frames: int = Field(ge=1, description="longer tracks are cut into pieces")
    filters: FilterConfig
    landmarks: Literal["dlib68"] | None = Field(description="of clips without labels")
    crf: int = Field(ge=0, le=51, description="x264 quality of the stored clips")
    gop: int = Field(ge=1, description="frames between key frames")
    shard_megabytes: float = Field(gt=0, description="of a Parquet file, at most")
    min_coverage: float = Field(ge=0, le=1, description="usable videos / listed videos")
    leaks: LeakConfig

    @model_validator(mode="after")
    def _pieces_can_be_long_enough(self) -> "CropConfig":
        if self.min_frames > self.max_frames:
            raise ValueError(f"min_frames {self.min_frames} is more than max_frames: none is kept")
        return self


class CropError(ValueError):
    """Too few videos are usable, or two clips have one name; the message lists them."""


def crop(config: CropConfig, raw: Path, clips: Path, weights: Path) -> None:
    """Crop all videos of a raw folder's manifest, in parallel, to one square face each.

    Run again after an interruption it goes on with the videos that are not done. Nothing is
    at `clips` before all is.

    Args:
        config: of the stage.
        raw: folder written by the download stage.
        clips: folder to write.
        weights: folder that `fixtalk weights fetch` fills, for the check of identities.

    Raises:
        ManifestError: no usable manifest, or a person in both splits.
        CropError: coverage below the minimum, or two clips of one name.
        LeakError: the same sound or face in train and test.
    """
    entries = read_manifest(raw / "manifest.jsonl")
    work = clips.parent / f".{clips.name}.crop"
    work.mkdir(parents=True, exist_ok=True)
    jobs = [
        Job(config, entry, raw.resolve(), work / f"{_key(config, entry, raw)}.parquet")
        for entry in entries
    ]
    waiting = [job for job in jobs if not _is_done(job.result)]
    list(map_parallel(crop_video, waiting, f"crop {raw.name}"))  # the results are on disk
    partial = work / "clips"
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "shards").mkdir(parents=True)
    reports, index = _gather(config, jobs, partial / "shards")
    coverage = coverage_of(reports, index)
    coverage["split_hash"] = split_hash(entry for entry in entries if entry["status"] == "ok")
    _require_coverage(coverage, config.min_coverage, clips)
    _require_names(index)
    coverage["leaks"] = find_leaks(config.leaks, partial, weights)
    for name, check in coverage["leaks"].items():
        if "not_done" in (check or {}):
            sys.stderr.write(f"crop.leaks.{name} was not done: {check['not_done']}\n")
    require_no_leak(coverage, clips)
    index.to_csv(partial / "index.csv", index=False)
    (partial / "coverage.json").write_text(json.dumps(coverage, indent=1) + "\n", encoding="utf-8")
    write_card(partial, clips.name, coverage, index)
    shutil.rmtree(clips, ignore_errors=True)
    partial.replace(clips)
    shutil.rmtree(work)


def _is_done(result: Path) -> bool:
    """Whether a video's result is there; one that a power cut left unreadable is made again."""
    try:
        return b"report" in (pq.read_metadata(result).metadata or {})
    except (pa.ArrowException, OSError):
        return False


def _gather(
    config: CropConfig, jobs: list[Job], folder: Path
) -> tuple[list[dict[str, Any]], pd.DataFrame]:
    """Reports on all videos and the index of their clips, which are put into shards."""
    reports = []
    shards = ShardWriter(folder, config.shard_megabytes)
    for job in jobs:
        with pq.ParquetFile(job.result) as stored:
            reports.append(json.loads(stored.metadata.metadata[b"report"]))
            for batch in stored.iter_batches(batch_size=ROW_GROUP):
                shards.add(batch)
    return reports, shards.close()


def _key(config: CropConfig, entry: dict[str, Any], raw: Path) -> str:
    """Name of a video's result: another setting, video, label or code never finds an old one."""
    settings = config.model_dump(exclude={"shard_megabytes", "min_coverage", "leaks"})
    digest = hashlib.sha256(json.dumps([settings, entry], sort_keys=True).encode())
    digest.update(_code())
    labels = raw / (entry.get("labels") or "")
    if labels.is_file():  # the manifest has the hash of the video only
        digest.update(labels.read_bytes())
    return digest.hexdigest()[:32]


@cache
def _code() -> bytes:
    package = Path(inspect.getfile(FaceDetector)).parent
    names = ["container", "dataset", "encoding", "face", "head_pose", "media", "quality", "shots"]
    sources = [package / f"{name}.py" for name in [*names, "sound", "tracks"]]
    sources += [Path(inspect.getfile(module)) for module in (marks, pieces)]
    return b"".join(source.read_bytes() for source in [*sources, Path(__file__)])


def _require_names(index: pd.DataFrame) -> None:
    twice = index["clip"][index["clip"].duplicated()].unique()
    if len(twice):
        raise CropError(
            f"two clips are called {', '.join(twice[:5])}: pieces of a video are numbered after #; "
            "rename the clips of the manifest that end so"
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
