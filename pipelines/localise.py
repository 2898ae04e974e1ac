"""Base model and FixTalk on held-out people → which encoder map carries identity, and a figure."""

import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from fixtalk.checkpoint import WEIGHTS, load_checkpoint
from fixtalk.dataset import read_clips
from fixtalk.media import read_video, to_float, to_uint8
from fixtalk.model import FixTalk, leak_side
from metrics.identity import cosine_similarity, identity_leakage
from metrics.image import psnr
from metrics.landmarks import point_distance
from pipelines import tracking
from pipelines.cluster import map_parallel
from pipelines.config import StageConfig, load_config
from pipelines.files import write_text
from pipelines.leak_chart import draw_chart
from pipelines.leak_pairs import FramePair, draw_pairs, hash_pairs
from pipelines.panel import read_accuracies, seat_panel
from pipelines.probes import Reading, probe_layers
from pipelines.substitution import (
    animate_with_driver_maps,
    encoder_maps,
    motion_with_statistics,
    motion_without_channels,
)
from pipelines.verdict import (
    MEASURES,
    Key,
    Observed,
    Resamples,
    decide,
    draw_people,
    interval,
    rows_of_pairs,
    rows_of_probes,
)

COLUMNS = ["clip", "person", "motion", "frames", "video", "pose", "arkit"]
JUDGES = ("identity", "landmarks")
JAW = slice(0, 17)  # iBUG points
GROUPS = 16  # of channels of the leak map that are knocked out in turn
AT_ONCE = 25  # pairs of one job

# What is exchanged in which model on which pairs. A: the driver's map painted instead of the
# source's, A_rest: all but that one; B: the source's statistics in the driver's pass; C are the
# probes; D: channels of the leak map silenced.
EXCHANGES: dict[tuple[str, str], tuple[str, ...]] = {
    ("base", "cross"): ("A", "A_rest", "B", "D"),
    ("base", "self"): ("A",),
    ("fixtalk", "cross"): (),
    ("fixtalk", "self"): (),
}


class LocaliseConfig(StageConfig):
    """On which pairs, and how sure."""

    dataset: str = Field(description="folder below data/clips whose test split is used")
    pairs: int = Field(ge=1, description="frames of each kind, or as many as there are")
    seed: int = Field(ge=0, description="of the pairs and of the resamples")
    resamples: int = Field(ge=1, description="draws of people behind each interval")


def localise(
    config: LocaliseConfig, clips: Path, judges: Path, base: Path, fixtalk: Path, out: Path
) -> None:
    """Write localise.json and localise.png into `out`.

    The base's inner variables are exchanged between source and driver (A, B, D) and probed (C);
    FixTalk is probed, and measured without an exchange.

    Raises:
        ValueError: the judges know other people than those of the dataset, or no pair can be made.
    """
    began = time.monotonic()
    facts = read_accuracies(judges)
    if facts["dataset"] != config.dataset:
        raise ValueError(
            f"localise.dataset is {config.dataset!r}, the judges in {judges} know only people of "
            f"{facts['dataset']!r}: localise on that, or train judges on {config.dataset!r}"
        )
    rows = read_clips(clips, "test", COLUMNS)
    people = sorted({row["person"] for row in rows})
    pairs, control = draw_pairs(rows, config.pairs, config.seed)
    draws = draw_people(len(people), config.resamples, config.seed)
    models = {"base": base, "fixtalk": fixtalk}
    observed, readings = _observe(models, judges, rows, people, pairs)
    numbers = {
        kind: np.array([people.index(pair.person) for pair in pairs if pair.kind == kind])
        for kind in ("cross", "self")
    }
    report = {
        **decide(
            observed["base", "cross"], numbers["cross"], readings["base"], draws,
            leak_side(load_checkpoint(base).config.resolution),
        ),
        "control": control,
        "pairs": {kind: len(values) for kind, values in numbers.items()},
        "people": len(people),
        "config": config.model_dump(),
        "sha256": {
            "pairs": hash_pairs(pairs),
            **{name: _sha256(folder / WEIGHTS) for name, folder in models.items()},
        },
        "judges": {f"local_{name}": facts["judges"][name] for name in JUDGES},
        "rows": _table(observed, readings, numbers, draws),
        "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "localise.json", json.dumps(report, indent=1) + "\n")
    draw_chart(report, out / "localise.png")
    _log(report, out)


def _observe(
    models: Mapping[str, Path],
    judges: Path,
    rows: list[dict[str, Any]],
    people: list[str],
    pairs: Sequence[FramePair],
) -> tuple[dict[tuple[str, str], Observed], dict[str, dict[str, Reading]]]:
    """All measures by model and kind of pair, and the readings of both models' layers."""
    frames = {row["clip"]: read_video(row["video"]) for row in rows}
    jobs: list[tuple[Any, Callable[[], Any]]] = [
        (name, partial(_probe, folder, rows, people)) for name, folder in models.items()
    ]
    for (name, kind), variants in EXCHANGES.items():
        chosen = [pair for pair in pairs if pair.kind == kind]
        for start in range(0, len(chosen), AT_ONCE):
            roles = zip(*[pair[2:] for pair in chosen[start : start + AT_ONCE]], strict=True)
            pictures = [
                np.stack([frames[clip][frame] for clip, frame in places]) for places in roles
            ]
            job = partial(_measure, variants, models[name], judges.resolve(), *pictures)
            jobs.append(((name, kind), job))
    results = list(map_parallel(_call, [job for _, job in jobs], "localise", on_gpu=True))
    parts: dict[Any, list[Any]] = {}
    for (label, _), result in zip(jobs, results, strict=True):
        parts.setdefault(label, []).append(result)
    observed = {
        label: {
            key: np.concatenate([part[key] for part in parts[label]]) for key in parts[label][0]
        }
        for label in EXCHANGES
    }
    return observed, {name: parts[name][0] for name in models}


def _call(job: Callable[[], Any]) -> Any:
    """Run a job, on one thread: several run side by side."""
    torch.set_num_threads(1)
    return job()


def _probe(folder: Path, rows: list[dict[str, Any]], people: list[str]) -> dict[str, Reading]:
    return probe_layers(_model(folder), rows, people)


@torch.no_grad()
def _measure(
    variants: Sequence[str],
    folder: Path,
    judges: Path,
    *pictures: np.ndarray,
) -> Observed:
    """`verdict.MEASURES` of every pair of source, driver and reference after each exchange."""
    source, driver, reference = (torch.from_numpy(p).permute(0, 3, 1, 2) for p in pictures)
    model = _model(folder)
    device = next(model.parameters()).device
    panel = seat_panel(judges, judges).judges
    identity, landmarks = panel["local_identity"], panel["local_landmarks"]
    driver_face, true_face = identity.embed(driver), identity.embed(reference)
    driver_points, true_points = (
        _aligned(landmarks.points(frames)) for frames in (driver, reference)
    )
    control = cosine_similarity(true_face, driver_face)
    observed = {}
    inputs = (to_float(frames).to(device) for frames in (source, driver))
    for key, made in _exchanged(model, variants, *inputs):
        pixels = to_uint8(made).cpu()
        face, points = identity.embed(pixels), _aligned(landmarks.points(pixels))
        measures = {
            "li": cosine_similarity(face, driver_face) - control,
            "leak": identity_leakage(face, true_face, driver_face),
            "cs": cosine_similarity(face, true_face),
            "me": point_distance(points, driver_points, centre=False),
            "se": point_distance(points[:, JAW], true_points[:, JAW], centre=False),
            "psnr": psnr(pixels, reference),
        }
        observed[key] = torch.stack([measures[name] for name in MEASURES], 1).numpy()
    return observed


def _exchanged(
    model: FixTalk, variants: Sequence[str], source: Tensor, driver: Tensor
) -> Iterator[tuple[Key, Tensor]]:
    """Frames of the source person after no exchange, and after each of the wanted ones."""
    person, motion = model.encode_source(source), model.motion(driver)
    yield ("none", 0), model.animate(person, motion)
    own, other = (encoder_maps(model, frames) for frames in (source, driver))
    sides = [side for side in own if side > min(own)]  # the smallest is not painted
    painted = {"A": [{side} for side in sides], "A_rest": [{*sides} - {side} for side in sides]}
    for variant in [name for name in painted if name in variants]:
        for side, exchanged in zip(sides, painted[variant], strict=True):
            frames = animate_with_driver_maps(model, person, motion, other, exchanged)
            yield (variant, side), frames
    if "B" in variants:
        for side, features in own.items():
            styled = motion_with_statistics(model, driver, side, features)
            yield ("B", side), model.animate(person, styled)
    if "D" in variants:
        side = leak_side(model.config.resolution)
        step = -(-own[side].shape[1] // GROUPS)
        for number, start in enumerate(range(0, own[side].shape[1], step)):
            silenced = motion_without_channels(model, driver, side, slice(start, start + step))
            yield ("D", number), model.animate(person, silenced)


def _aligned(points: Tensor) -> Tensor:
    """Points around their centre, at a root mean square distance of 1 from it."""
    centred = points.double() - points.double().mean(1, keepdim=True)
    return centred / centred.square().sum(-1).mean(1).sqrt()[:, None, None]


def _table(
    observed: Mapping[tuple[str, str], Observed],
    readings: Mapping[str, Mapping[str, Reading]],
    numbers: Mapping[str, np.ndarray],
    draws: Resamples,
) -> list[dict[str, Any]]:
    """A row for every model, variant and layer."""
    rows = []
    for name, layers in readings.items():
        made = rows_of_pairs(observed[name, "cross"], numbers["cross"], draws)
        own = observed[name, "self"]
        for row in made:
            key = (row["variant"], row["layer"])
            if key in own:
                values = own[key][:, MEASURES.index("psnr")]
                row["psnr_self"] = interval(draws.mean(values, numbers["self"]))
        rows += [{"model": name, **row} for row in [*made, *rows_of_probes(layers, draws)]]
    return rows


@cache
def _model(folder: Path) -> FixTalk:
    """The model, read once per process."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return load_checkpoint(folder).to(device)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _log(report: Mapping[str, Any], out: Path) -> None:
    """The verdict, every row's value and the figure as an MLflow run of their own."""
    key = hashlib.sha256(json.dumps([report["config"], report["sha256"]]).encode()).hexdigest()
    with tracking.open_run("localise", key[:16], tracking.provenance("localise")) as run:
        run.log_params({"localise": report["config"]})
        run.log_metrics(
            {name: float(report[name]) for name in ("chosen", "separable", "agreement", "seconds")}
        )
        run.log_metrics(
            {
                f"{row['model']}.{row['variant']}.{row['layer']}.{name}": row[name][0]
                for row in report["rows"]
                for name in ("li", "identity")
                if name in row
            }
        )
        for name in ("localise.json", "localise.png"):
            run.log_file(out / name)


if __name__ == "__main__":
    from pipelines.localise import LocaliseConfig, localise  # by the name that workers know

    localise(load_config(LocaliseConfig, "localise"), *map(Path, sys.argv[1:]))
