"""Clips → trained model: Ray Train around `fixtalk.training`, resumed by the same command."""

import hashlib
import json
import logging
import os
import sys
from functools import partial
from pathlib import Path

import torch

import fixtalk
from fixtalk.checkpoint import DISCRIMINATOR, save_checkpoint
from fixtalk.dataset import find_shards
from fixtalk.training import TrainState
from pipelines import tracking
from pipelines.checkpoints import Checkpoints
from pipelines.config import load_config
from pipelines.feed import find_corpus, training_pairs
from pipelines.files import only_one, write_text
from pipelines.monitor import mirror
from pipelines.perception import EXPERT, load_experts
from pipelines.recipe import TrainConfig
from pipelines.worker import Job, work
from pipelines.worker_group import run_workers

STOPPED = 143  # what a shell says of a process that SIGTERM ended


def train(
    config: TrainConfig,
    clips: Path,
    weights: Path,
    expert: Path,
    checkpoints: Path,
    model: Path,
    base: Path | None = None,
) -> None:
    """Train the variant that the model folder is named after, and export the averaged model.

    Args:
        config: what to train and for how long.
        clips: folder of the crop stage, with the datasets.
        weights: folder of published weights, for VGG19 where the config asks for it.
        expert: folder of the networks behind L_points and L_sync.
        checkpoints: journal and training states live below, in a folder named after the inputs'
            hash; an interrupted run with the same inputs goes on there, others never touch it.
            FIXTALK_CHECKPOINTS, a folder or fsspec URL, takes the states elsewhere.
        model: folder to export to.
        base: folder of the model to start from; None draws all weights from the seed.

    Raises:
        ValueError: unknown variant, clips of another resolution than the model, too few people.
        FileNotFoundError: the expert stage has not run.
        BlockingIOError: another process trains from the same inputs.
        SystemExit: asked to stop by SIGTERM; all is saved.
    """
    variant = model.name
    if variant not in config.variants:
        names = ", ".join(config.variants)
        raise ValueError(f"{model}: train.variants has no {variant!r}, only {names}")
    corpus, steps = find_corpus(config, clips.resolve()), config.steps(variant)
    phases, pairs = [s.phase for s in config.schedule(variant)], training_pairs(config, corpus)
    if any(phase.swaps_mouths for phase in phases):
        pairs.check_swaps()
    if any(phase.speaks for phase in phases):
        pairs.check_speech()
    tags = {"variant": variant, "l_per": config.perceptual, **corpus.tags, **_aids(expert, base)}
    key = inputs_hash(config, variant, clips, expert, base)
    folder = tracking.project_root() / checkpoints / key
    place = str(folder)
    if root := os.environ.get("FIXTALK_CHECKPOINTS"):
        root = root if "://" in root else tracking.project_root() / root
        place = f"{root}/{variant}/{key}"
    job = Job(config, variant, corpus, weights.resolve(), expert.resolve(), folder, place,
              base and base.resolve())  # fmt: skip
    with (
        only_one(folder),
        tracking.open_run(variant, key, tracking.provenance("train") | tags, beside=folder) as run,
    ):
        run.log_params({"train": config.recipe(variant), "clips": corpus.clips})
        state = _train(job, run)
        dataset = "+".join(config.datasets)
        facts = {"variant": variant, "dataset": dataset, "inputs": key, "steps": steps}
        save_checkpoint(state.average, model, facts, state.discriminator)
        run.log_file(model / "config.json", "model")
        run.log_file(model / "model.safetensors", "model")


def _aids(expert: Path, base: Path | None) -> dict[str, str]:
    """Which networks help to train, or why they do not.

    Raises:
        FileNotFoundError: the expert stage has not run.
    """
    experts = load_experts(expert, torch.device("cpu"))
    told = f"off: {experts}" if isinstance(experts, str) else "on"
    tags = {"l_points": told, "l_sync": told}
    if base is not None:
        has_one = (base / DISCRIMINATOR).is_file()
        tags["discriminator"] = "of the base" if has_one else "anew: the base has none"
    return tags


def _train(job: Job, run: tracking.Run) -> TrainState:
    """The state after the last step, from where an earlier run has come to.

    Raises:
        SystemExit: asked to stop; status 143, as the shell gives it for SIGTERM.
        RuntimeError: the workers ended early, and nobody had asked them to.
    """
    saved = Checkpoints(job.place)
    state = _reached(job, saved)
    job.stop.unlink(missing_ok=True)
    with mirror(job.folder, run, job.steps):  # what a killed run did not pass on, if nothing else
        if state.step < job.steps:
            microbatches = job.config.batch // job.config.microbatch
            try:
                run_workers(
                    work, job, job.folder, microbatches, job.stop, partial(_last, job.place)
                )
            finally:
                _list_models(job, saved, run)
            state = _reached(job, saved)
        else:
            _list_models(job, saved, run)
    if state.step < job.steps:
        at = f"{job.variant}: step {state.step} of {job.steps}"
        if not job.stop.exists():
            raise RuntimeError(f"{at}: the workers have ended early; the same command goes on")
        logging.getLogger("fixtalk.train").warning("%s: stopped; the same command goes on", at)
        raise SystemExit(STOPPED)
    return state


def _reached(job: Job, saved: Checkpoints) -> TrainState:
    """The newest state; one in the place of an earlier run, if it is newer, is brought along.

    Raises:
        OSError: that place cannot be read.
    """
    note, newest = job.folder / "place", saved.newest()
    earlier = note.read_text(encoding="utf-8").strip() if note.exists() else job.place
    if earlier != job.place:
        try:
            other = Checkpoints(earlier).newest()
        except Exception as error:  # each storage has its own
            raise OSError(
                f"{earlier}: holds this run's states and cannot be read: {error}. Make it "
                f"reachable, or remove {note} to go on without them"
            ) from error
        if other and (newest is None or other[0].step > newest[0].step):
            newest = other
            saved.save(newest[1], newest[0].step, newest[0].score)
            saved.flush()
    write_text(note, job.place + "\n")
    return job.state(newest and newest[1])


def _last(place: str) -> int | None:
    """Step of the newest state."""
    return max((kept.step for kept in Checkpoints(place).kept()), default=None)


def _list_models(job: Job, saved: Checkpoints, run: tracking.Run) -> None:
    """Let the tracking server know the checkpoints that are kept, and no others."""
    listed = job.folder / "models.json"
    before = json.loads(listed.read_text(encoding="utf-8")) if listed.exists() else []
    try:
        kept = {f"{job.variant}-step-{one.step}": one for one in saved.kept()}
    except Exception as error:  # each storage has its own; the work itself may have gone well
        logging.getLogger("fixtalk.train").warning("%s: not listed: %s", job.place, error)
        return
    for name, one in kept.items():
        score = {} if one.score is None else {"validation_psnr": one.score}
        run.log_model(name, one.step, score, f"{job.place}/{one.file}", {"variant": job.variant})
    for name in before:
        if name not in kept:
            run.forget_model(name)
    write_text(listed, json.dumps(list(kept)) + "\n")


def inputs_hash(
    config: TrainConfig, variant: str, clips: Path, expert: Path, base: Path | None
) -> str:
    """16 hex digits of all that decides a variant: recipe, clips, expert, base, code, torch."""
    recipe = json.dumps(config.recipe(variant), sort_keys=True)
    digest = hashlib.sha256(f"{recipe} {torch.__version__}".encode())
    package = Path(fixtalk.__file__).parent
    code = [p for p in package.rglob("*") if p.suffix in (".py", ".npz")]
    start = sorted(base.glob("*.safetensors")) if base else []
    shards = [shard for name in config.datasets for shard in find_shards(clips / name)]
    stage = [Path(__file__).with_name(f"{name}.py") for name in ("feed", "perception")]
    for path in [*shards, expert / EXPERT, *start, *stage, *sorted(code)]:
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


if __name__ == "__main__":
    from pipelines.train import TrainConfig, train  # by the name that workers know

    train(load_config(TrainConfig, "train"), *map(Path, sys.argv[1:]))
