"""Seeds → the embedded corpus: rendered people who speak, with exact labels."""

import hashlib
import os
import shutil
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
from pipelines.config import StageConfig
from pipelines.manifest import manifest_row, sha256_of
from pipelines.sources.collected import Collected

KEY = "render.key"
CRF, GOP = 10, 25  # of the raw video: near lossless, the crop stage encodes again


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


def render_corpus(config: SyntheticConfig, raw: Path) -> Collected:
    """Render into a hidden folder beside `raw`; what an earlier run rendered so stays."""
    find_engine()  # a missing engine is told at once, not by a worker
    key = _render_key(config)
    work = raw.with_name(f".{raw.name}-{key[:16]}")
    if not work.exists() and (raw / KEY).is_file() and (raw / KEY).read_text() == key:
        raw.rename(work)
    work.mkdir(parents=True, exist_ok=True)
    plans = plan_corpus(
        config.train_people,
        config.test_people,
        config.clips_per_person,
        config.cross_motions,
        Seeds(config.identity_seed, config.motion_seed, config.light_seed, config.voice_seed),
    )
    by_person = sorted(plans, key=attrgetter("person"))
    people = [tuple(clips) for _, clips in groupby(by_person, key=attrgetter("person"))]
    render = partial(_render_person, config, work)
    rows = [row for rows in map_parallel(render, people, "render") for row in rows]
    _clear_leftovers(work)
    (work / KEY).write_text(key)
    return Collected(rows, work)


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
    return manifest_row(
        clip=plan.clip,
        video=f"{plan.clip}.mp4",
        person=plan.person,
        split=plan.split,
        session=plan.session,
        box=[round(share * resolution) for share in FRAMING],
        motion=plan.motion,
        emotion=plan.emotion,
        level=plan.level,
        sentence=plan.sentence,
        labels=f"{plan.clip}.npz",
        identity_seed=plan.identity_seed,
        licence="CC0-1.0",
        sha256=sha256_of(video),
        bytes=video.stat().st_size,
        status="ok",
    )
