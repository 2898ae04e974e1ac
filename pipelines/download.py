"""A dataset's name → data/raw/<dataset>: its videos and manifest.jsonl, one line a video."""

import hashlib
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache, partial
from importlib.metadata import version
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from fixtalk import container, encoding, synthetic
from fixtalk.encoding import write_video
from fixtalk.synthetic.camera import Camera
from fixtalk.synthetic.clip import render_clip
from fixtalk.synthetic.corpus import FRAMING, ClipPlan, Seeds, plan_corpus
from fixtalk.synthetic.head import load_head
from fixtalk.synthetic.render import Renderer, build_person
from fixtalk.synthetic.speech import find_engine
from pipelines.cluster import map_parallel
from pipelines.config import StageConfig, load_config

VIDEO_SUFFIXES = {".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v"}
MANIFEST = "manifest.jsonl"
KEY = "render.key"
MAX_LISTED = 20  # bad videos named in an error message
CRF, GOP = 10, 25  # of the raw video: near lossless, the crop stage encodes again


class DownloadError(RuntimeError):
    """A dataset is unknown, not set up or too incomplete; the message says what to do."""


class SyntheticConfig(StageConfig):
    """The embedded corpus; every key changes the pictures."""

    resolution: int = Field(ge=32, multiple_of=2, description="pixels, side of the raw frame")
    mesh_level: int = Field(ge=0, le=2, description="Catmull-Clark subdivisions of the head")
    supersampling: int = Field(ge=1, le=4, description="rays per pixel side")
    train_people: int = Field(ge=0, description="number of people to train on")
    test_people: int = Field(ge=0, description="number of held-out people")
    clips_per_person: int = Field(ge=1, description="ordinary clips of each person")
    cross_motions: int = Field(ge=0, description="motions rendered on every held-out person")
    max_seconds: float = Field(gt=0, description="a clip is cut here")
    identity_seed: int = Field(ge=0, description="of faces, hair, clothes")
    motion_seed: int = Field(ge=0, description="of sentences, blinks, gaze, head")
    light_seed: int = Field(ge=0, description="of lamps and backgrounds")
    voice_seed: int = Field(ge=0, description="of voices")


class FolderConfig(StageConfig):
    """A user's own videos."""

    path: str | None = Field(description="folder that is searched for videos; null: none")


class DownloadConfig(StageConfig):
    """What is fetched or made, and how much of it may be missing."""

    min_coverage: float = Field(ge=0, le=1, description="share of videos that must be usable")
    synthetic: SyntheticConfig
    folder: FolderConfig


def download(config: DownloadConfig, dataset: str, raw: Path) -> None:
    """Fill `raw` with a dataset; a run that was interrupted continues where it stopped.

    Raises:
        DownloadError: unknown dataset, none of its videos found, or too few of them usable.
    """
    sources: dict[str, Callable[[DownloadConfig, Path], None]] = {
        "synthetic": _render_corpus,
        "folder": _list_folder,
    }
    if dataset not in sources:
        raise DownloadError(f"unknown dataset '{dataset}': known are {', '.join(sorted(sources))}")
    sources[dataset](config, raw)


def _render_corpus(config: DownloadConfig, raw: Path) -> None:
    """Renders into a hidden folder beside `raw` and renames it when everything is there."""
    find_engine()  # a missing engine is told at once, not by a worker
    key = _render_key(config.synthetic)
    work = raw.with_name(f".{raw.name}-{key[:16]}")
    if not work.exists() and (raw / KEY).is_file() and (raw / KEY).read_text() == key:
        raw.rename(work)
    work.mkdir(parents=True, exist_ok=True)
    numbers = config.synthetic
    plans = plan_corpus(
        numbers.train_people,
        numbers.test_people,
        numbers.clips_per_person,
        numbers.cross_motions,
        Seeds(numbers.identity_seed, numbers.motion_seed, numbers.light_seed, numbers.voice_seed),
    )
    by_person = sorted(plans, key=attrgetter("person"))
    people = [tuple(clips) for _, clips in groupby(by_person, key=attrgetter("person"))]
    render = partial(_render_person, numbers, work)
    rows = [row for rows in map_parallel(render, people, "render") for row in rows]
    _require_coverage(rows, config.min_coverage, raw)
    _clear_leftovers(work)
    (work / KEY).write_text(key)
    _write_manifest(rows, work / MANIFEST)
    _replace_folder(work, raw)


def _render_key(config: SyntheticConfig) -> str:
    """Hash of all that decides the files: numbers, program, mesh, voices and encoder."""
    digest = hashlib.sha256(config.model_dump_json().encode())
    package = sorted(Path(synthetic.__file__).parent.glob("*.*"))
    for path in [*package, Path(encoding.__file__), Path(container.__file__), Path(__file__)]:
        digest.update(path.name.encode() + path.read_bytes())
    for library in ("espeakng-loader", "av"):
        digest.update(f"{library} {version(library)}".encode())
    return digest.hexdigest()


@cache
def _renderer(resolution: int, mesh_level: int, supersampling: int) -> Renderer:
    """The renderer of this process."""
    return Renderer(load_head(mesh_level), Camera(resolution), supersampling)


def _render_person(
    config: SyntheticConfig, work: Path, plans: tuple[ClipPlan, ...]
) -> list[dict[str, Any]]:
    """Manifest rows of one person's clips, after rendering those that are not there yet."""
    missing = [plan for plan in plans if not _is_done(work, plan)]
    if missing:
        renderer = _renderer(config.resolution, config.mesh_level, config.supersampling)
        person = build_person(renderer.head, plans[0].identity_seed, config.resolution)
        for plan in missing:
            clip = render_clip(renderer, person, plan, config.max_seconds)
            _write_labels(work / f"{plan.clip}.npz", clip.labels())
            video = work / f"{plan.clip}.mp4"
            write_video(video, clip.frames, crf=CRF, gop=GOP, audio=clip.audio)
    return [_row_of_plan(plan, work, config.resolution) for plan in plans]


def _is_done(work: Path, plan: ClipPlan) -> bool:
    # The video comes last and under its name only when complete.
    return (work / f"{plan.clip}.npz").is_file() and (work / f"{plan.clip}.mp4").is_file()


def _write_labels(path: Path, labels: dict[str, np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    with unfinished.open("wb") as file:
        np.savez_compressed(file, **labels)
    unfinished.replace(path)


def _clear_leftovers(work: Path) -> None:
    """Deletes what a killed run left below `work` under temporary names: all begin with a dot."""
    for path in list(work.rglob(".*")):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _row_of_plan(plan: ClipPlan, work: Path, resolution: int) -> dict[str, Any]:
    video = work / f"{plan.clip}.mp4"
    return {
        "clip": plan.clip,
        "video": f"{plan.clip}.mp4",
        "person": plan.person,
        "split": plan.split,
        "session": plan.session,
        "box": [round(share * resolution) for share in FRAMING],
        "motion": plan.motion,
        "emotion": plan.emotion,
        "level": plan.level,
        "sentence": plan.sentence,
        "labels": f"{plan.clip}.npz",
        "identity_seed": plan.identity_seed,
        "licence": "CC0-1.0",
        "sha256": _sha256(video),
        "bytes": video.stat().st_size,
        "status": "ok",
        "reason": None,
    }


def _list_folder(config: DownloadConfig, raw: Path) -> None:
    """Lists the videos of the user's folder; they stay where they are."""
    if config.folder.path is None:
        raise DownloadError("download.folder.path in params.yaml is null: name your folder there")
    folder = Path(config.folder.path).expanduser().resolve()
    if not folder.is_dir():
        raise DownloadError(f"download.folder.path: {folder} is not a folder")
    videos = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()
    )
    if not videos:
        suffixes = ", ".join(sorted(VIDEO_SUFFIXES))
        raise DownloadError(f"{folder}: no video found ({suffixes})")
    bare = [path.relative_to(folder).with_suffix("").as_posix() for path in videos]
    uses = Counter(bare)
    # a.mp4 beside a.mov: both keep their suffix in the name
    names = [
        name if uses[name] == 1 else path.relative_to(folder).as_posix()
        for name, path in zip(bare, videos, strict=True)
    ]
    items = list(zip(names, videos, strict=True))
    rows = list(map_parallel(_row_of_file, items, "inspect"))
    _require_coverage(rows, config.min_coverage, raw)
    raw.mkdir(parents=True, exist_ok=True)
    _write_manifest(rows, raw / MANIFEST)


def _row_of_file(item: tuple[str, Path]) -> dict[str, Any]:
    name, video = item
    status, reason, digest, num_bytes = "ok", None, None, None
    from fixtalk.media import MediaError, probe

    try:
        num_bytes = video.stat().st_size
        digest = _sha256(video)
        if num_bytes == 0:
            status, reason = "empty", f"{video}: 0 bytes; copy the file again"
        else:
            probe(video)
    except (MediaError, OSError) as error:
        status, reason = "unreadable", str(error)
    row: dict[str, Any] = dict.fromkeys(
        ("session", "box", "motion", "emotion", "level", "sentence", "labels")
    )
    return row | {
        "clip": name,
        "video": str(video),
        "person": name,
        "split": "test",
        "identity_seed": None,
        "licence": "own",
        "sha256": digest,
        "bytes": num_bytes,
        "status": status,
        "reason": reason,
    }


def _require_coverage(rows: list[dict[str, Any]], min_coverage: float, raw: Path) -> None:
    """Raises, after leaving the manifest beside `raw`, when too few videos are usable."""
    beside = raw.with_name(f"{raw.name}.{MANIFEST}")
    bad = [row for row in rows if row["status"] != "ok"]
    coverage = 1 - len(bad) / len(rows) if rows else 0.0
    if rows and coverage >= min_coverage:
        beside.unlink(missing_ok=True)
        return
    raw.parent.mkdir(parents=True, exist_ok=True)
    _write_manifest(rows, beside)
    listed = [f"  {row['clip']}: {row['reason']}" for row in bad[:MAX_LISTED]]
    if len(bad) > MAX_LISTED:
        listed.append(f"  and {len(bad) - MAX_LISTED} more")
    raise DownloadError(
        f"{len(rows) - len(bad)} of {len(rows)} videos are usable ({coverage:.0%}), "
        f"download.min_coverage asks for {min_coverage:.0%}; all are listed in {beside}\n"
        + "\n".join(listed)
    )


def _write_manifest(rows: Iterable[dict[str, Any]], path: Path) -> None:
    unfinished = path.with_name(f".{path.name}.part")
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    unfinished.write_text("".join(lines), encoding="utf-8")
    unfinished.replace(path)


def _replace_folder(work: Path, raw: Path) -> None:
    """Puts `work` in the place of `raw` and clears what other settings left behind."""
    old = raw.with_name(f".{raw.name}-old")
    shutil.rmtree(old, ignore_errors=True)
    if raw.exists():
        raw.rename(old)
    work.rename(raw)
    for stale in raw.parent.glob(f".{raw.name}-*"):
        shutil.rmtree(stale, ignore_errors=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    from pipelines.download import DownloadConfig, download  # by the name that workers know

    download(load_config(DownloadConfig, "download"), sys.argv[1], Path(sys.argv[2]))
