"""Model + held-out clips → lossless videos of every protocol pair, and the list of the pairs."""

import csv
import hashlib
import io
import json
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field

import fixtalk
from fixtalk.dataset import read_clips
from fixtalk.media import decode_frames, read_video, to_float, to_uint8, write_video
from pipelines import talk
from pipelines.cluster import map_parallel
from pipelines.config import StageConfig, load_config
from pipelines.files import append_row, read_rows, write_text
from pipelines.protocols import Pair, audio_pairs, cross_pairs, self_pairs
from pipelines.speed import Stopwatch, summarise
from pipelines.talk import CONTROLS, Script, perform, scripts

COLUMNS = ["clip", "person", "session", "motion", "frames", "video", "audio", "emotion", "level"]
COPY_SOURCE = "copy_source"
PAIRS = {"self": lambda rows: (self_pairs(rows), []), "cross": cross_pairs, "audio": audio_pairs}
NONE = {  # why a protocol has no pairs
    "self": "no test clip",
    "cross": "no motion is shown by two people of the test split",
    "audio": "no test clip has sound",
}


class GenerateConfig(StageConfig):
    """Which pairs are generated."""

    dataset: str = Field(description="folder below data/clips whose test split is used")
    protocols: list[Literal["self", "cross", "audio"]] = Field(min_length=1)
    max_pairs: int = Field(ge=1, description="pairs of each protocol, spread over people")
    batch: int = Field(ge=1, description="frames the model sees at once")
    gains: dict[Literal["lip", "pose", "expression"], Annotated[float, Field(ge=0, le=10)]] = Field(
        description="times each component's motion in the audio protocol; where missing: 1"
    )


@dataclass(frozen=True)
class Job:
    """A pair with all a fresh process needs to make its video."""

    pair: Pair
    model: Path
    batch: int
    source: bytes
    driver: bytes
    script: Script | None  # of the audio protocol
    video: Path


Render = Callable[[np.ndarray, np.ndarray, Job, Stopwatch], Iterator[np.ndarray]]


def generate(config: GenerateConfig, clips: Path, model: Path, videos: Path) -> None:
    """Write `<protocol>/<pair>.mkv`, pairs.csv, coverage.json and system.json into `videos`.

    The folder appears when it is complete; beside it lies speed.json, which differs from run to
    run. After an interruption the same command keeps the
    videos it had finished, unless the model, the clips, the code or the pairs changed.

    Raises:
        ValueError: no pair can be made, or a clip does not fit the model.
    """
    described = _described(model)
    rows = {row["clip"]: row for row in read_clips(clips, "test", COLUMNS)}
    system, speaks = videos.parent.name, _speaks(described)
    pairs, coverage = _choose(config, list(rows.values()), system, speaks)
    if not pairs:
        raise ValueError(f"{clips}: no pair can be made: {json.dumps(coverage)}")
    partial = videos.parent / f".{videos.name}.partial"
    _start_or_resume(partial, _fingerprint(config, model, system, pairs, rows))
    made = partial / "videos"
    spoken = scripts(pairs, rows, system, config.gains)
    jobs = [
        Job(pair, model, config.batch, rows[pair.source_clip]["video"],
            rows[pair.driver_clip]["video"], script, made / pair.protocol / f"{pair.pair}.mkv")
        for pair, script in zip(pairs, spoken, strict=True)
    ]  # fmt: skip
    missing = [job for job in jobs if not job.video.exists()]
    times = partial / "speed.jsonl"
    for clip in map_parallel(_make, missing, f"generate {system}", on_gpu=True):
        append_row(times, clip)
    facts = {
        "system": system,
        "dataset": config.dataset,
        "key": _run_key(described, system, model.name, config.dataset),
    }
    write_text(made / "pairs.csv", _as_csv(pairs))
    write_text(made / "coverage.json", json.dumps(coverage, indent=1) + "\n")
    write_text(made / "system.json", json.dumps(facts, indent=1) + "\n")
    speed = summarise(read_rows(times)[0], config.batch)
    write_text(videos.parent / "speed.json", json.dumps(speed, indent=1) + "\n")
    _publish(partial, videos)


def _choose(
    config: GenerateConfig, rows: list[dict[str, Any]], system: str, speaks: bool
) -> tuple[list[Pair], dict[str, dict[str, Any]]]:
    """Pairs of all protocols, cut to the wanted number, and how many there were."""
    chosen, coverage = [], {}
    for protocol in config.protocols:
        if refused := _refused(protocol, system, speaks):
            coverage[protocol] = {"pairs": 0, "possible": 0, "reason": refused, "skipped": []}
            continue
        pairs, skipped = PAIRS[protocol](rows)
        if system == "shuffled" and len(pairs) < 2:
            pairs, skipped = [], [_lonely(pair) for pair in pairs]
        chosen += pairs[: config.max_pairs]
        report = {"pairs": min(len(pairs), config.max_pairs), "possible": len(pairs)}
        if not pairs:
            report["reason"] = f"{config.dataset}: {NONE[protocol] if rows else 'no test clip'}"
            if skipped:
                report["reason"] = f"{config.dataset}: all {len(skipped)} candidates left out"
        coverage[protocol] = {**report, "skipped": skipped}
    return chosen, coverage


def _lonely(pair: Pair) -> dict[str, str]:
    clip = pair.truth_clip
    return {"truth": clip, "driver": clip, "reason": f"no voice but that of {clip}"}


def _refused(protocol: str, system: str, speaks: bool) -> str | None:
    """Why a system has no part in a protocol."""
    if protocol == "audio":
        return None if speaks else "this model has no audio encoder"
    return "a control of the audio protocol" if system in CONTROLS else None


def _make(job: Job) -> dict[str, Any]:
    """Generate one video; says how long that took."""
    render, device = _renderer(job.model)
    watch = Stopwatch(device)
    driver = read_video(job.driver)
    if len(driver) != job.pair.frames:
        raise ValueError(
            f"clip {job.pair.driver_clip}: {len(driver)} frames decoded, {job.pair.frames} listed: "
            "run the crop stage again"
        )
    source = decode_frames(job.source, [job.pair.source_frame])
    write_video(job.video, render(source, driver, job, watch), lossless=True)
    return watch.stop(len(driver))


@cache
def _renderer(model: Path) -> tuple[Render, torch.device]:
    """Source and driver frames → generated frames; the model is read once per process."""
    if _described(model).get("architecture") == COPY_SOURCE:
        return lambda source, driver, job, watch: (source[0] for _ in driver), torch.device("cpu")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = fixtalk.load_checkpoint(str(model)).to(device).eval()
    blank = torch.zeros(1, 3, *[network.config.resolution] * 2, device=device)
    with torch.inference_mode():  # first calls are slow, on a GPU above all
        network.animate(network.encode_source(blank), network.motion(blank))
    return lambda *clip: _animate(network, *clip), device


def _described(model: Path) -> dict[str, Any]:
    path = model / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: not found; train a model first (make repro)")
    return json.loads(path.read_text(encoding="utf-8"))


def _speaks(described: Mapping[str, Any]) -> bool:
    """Whether the model can be driven by speech; a copied frame needs no encoder for that."""
    return described["architecture"] == COPY_SOURCE or bool(described["model"].get("speech"))


def _run_key(described: Mapping[str, Any], system: str, name: str, dataset: str) -> str:
    """Key of the MLflow run: the training's own on its own dataset, another on any other."""
    key = described.get("inputs", name)
    if system != name:  # a control borrows its model
        key = f"{key}:{system}"
    return key if described.get("dataset") == dataset else f"{key}:{dataset}"


def _animate(
    network: Any, source: np.ndarray, driver: np.ndarray, job: Job, watch: Stopwatch
) -> Iterator[np.ndarray]:
    """Frames of the source person, one batch of driver frames at a time."""
    resolution = network.config.resolution
    for role, clip, frames in (
        ("source", job.pair.source_clip, source),
        ("driver", job.pair.driver_clip, driver),
    ):
        if frames.shape[1:3] != (resolution, resolution):
            raise ValueError(
                f"pair {job.pair.pair}: {role} clip {clip} has {frames.shape[2]}x{frames.shape[1]} "
                f"pixels, model {job.model} needs {resolution}x{resolution}: set crop.resolution "
                f"to {resolution}, or train a model at {frames.shape[1]}"
            )
    if job.script is not None:
        yield from perform(network, source, driver, job.script, job.batch, watch)
        return
    device = next(network.parameters()).device
    with torch.inference_mode():
        person = network.encode_source(_as_input(source, device))
        for start in range(0, len(driver), job.batch):
            batch = _as_input(driver[start : start + job.batch], device)
            with watch.lap(len(batch)):
                frames = network.animate(person, network.motion(batch))
            if not torch.isfinite(frames).all():
                raise ValueError(
                    f"pair {job.pair.pair}: model {job.model} gave NaN in frames {start} to "
                    f"{start + len(frames) - 1}: its training diverged; train it again"
                )
            yield from to_uint8(frames).permute(0, 2, 3, 1).cpu().numpy()


def _as_input(frames: np.ndarray, device: torch.device) -> torch.Tensor:
    return to_float(torch.from_numpy(frames).permute(0, 3, 1, 2)).to(device)


def _fingerprint(
    config: GenerateConfig,
    model: Path,
    system: str,
    pairs: list[Pair],
    rows: Mapping[str, Mapping[str, Any]],
) -> str:
    """Hash of all that decides the videos, so that a resumed folder never mixes two models."""
    digest = hashlib.sha256(
        f"{system} {config.batch} {sorted(config.gains.items())} {torch.__version__}".encode()
    )
    weights = [model / "config.json", *model.glob("*.safetensors")]
    for path in sorted({*weights, *Path(fixtalk.__file__).parent.glob("*.py")}):
        digest.update(path.name.encode() + path.read_bytes())
    digest.update(Path(__file__).read_bytes() + Path(talk.__file__).read_bytes())
    digest.update(_as_csv(pairs).encode())
    for clip in sorted({clip for pair in pairs for clip in (pair.source_clip, pair.driver_clip)}):
        digest.update(hashlib.sha256(rows[clip]["video"]).digest())
        digest.update(hashlib.sha256(rows[clip]["audio"] or b"").digest())
        digest.update(f"{rows[clip]['emotion']} {rows[clip]['level']}".encode())
    return digest.hexdigest()


def _start_or_resume(partial: Path, fingerprint: str) -> None:
    stamp = partial / "inputs.sha256"
    if not stamp.is_file() or stamp.read_text(encoding="utf-8") != fingerprint:
        _remove(partial)
        (partial / "videos").mkdir(parents=True)
        write_text(stamp, fingerprint)
    for leftover in (partial / "videos").glob("*/.*"):  # a video that was being written
        _remove(leftover)


def _publish(partial: Path, videos: Path) -> None:
    """Put the finished folder in place of an older one."""
    _remove(partial / "old")
    if videos.exists():
        videos.replace(partial / "old")
    (partial / "videos").replace(videos)
    shutil.rmtree(partial)


def _remove(path: Path) -> None:
    """Delete a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _as_csv(pairs: Iterable[Pair]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([field.name for field in fields(Pair)])
    writer.writerows(astuple(pair) for pair in pairs)
    return buffer.getvalue()


if __name__ == "__main__":
    from pipelines.generate import GenerateConfig, generate  # by the name that workers know

    generate(load_config(GenerateConfig, "generate"), *map(Path, sys.argv[1:]))
