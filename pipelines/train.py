"""Clips → trained model: Ray Train around `fixtalk.training`, resumed by the same command."""

import hashlib
import json
import logging
import os
import sys
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import Field, model_validator

import fixtalk
from fixtalk.checkpoint import DISCRIMINATOR, save_checkpoint
from fixtalk.dataset import find_shards
from fixtalk.edi import EDIConfig
from fixtalk.emi import EMIConfig
from fixtalk.losses import Direction
from fixtalk.model import ModelConfig
from fixtalk.pairs import Augmentation
from fixtalk.phases import Phase, Stretch, parts_of, terms_of
from fixtalk.training import TrainState
from pipelines import tracking
from pipelines.checkpoints import Checkpoints
from pipelines.config import StageConfig, load_config
from pipelines.feed import find_corpus, training_pairs
from pipelines.files import only_one, write_text
from pipelines.monitor import mirror
from pipelines.worker import Job, work
from pipelines.worker_group import run_workers

BASE = "base"  # the variant that all others go on from
STOPPED = 143  # what a shell says of a process that SIGTERM ended


Share = Annotated[float, Field(ge=0, lt=1)]


class Variant(StageConfig):
    """One model of the ablation."""

    indicators: list[Literal["emi", "edi"]]
    steps: list[dict[str, int]] = Field(min_length=1)  # of one phase after the other


class TrainConfig(StageConfig):
    """Section `train` of params.yaml."""

    datasets: list[str] = Field(min_length=1, max_length=2)  # dvc.yaml names first and last
    seed: int = Field(ge=0)  # of weights and pairs
    model: ModelConfig  # of the base
    emi: EMIConfig  # of variants with that indicator
    edi: EDIConfig
    batch: int = Field(ge=2)  # pairs a step over all workers
    microbatch: int = Field(ge=2)  # pairs computed at once: a stranger is never alone
    pairs_per_visit: int = Field(ge=1)  # drawn of a clip in an epoch
    precision: Literal["bfloat16", "float32"]  # of convolutions
    betas: tuple[Share, Share]  # of the model's Adam
    average_decay: Share  # of the moving average that is exported
    perceptual: Literal["discriminator", "vgg19"]  # whose features L_per compares
    margin: float = Field(ge=-1, le=1)  # ξ of L_dis
    alignment: Direction  # of the KL divergence of L_align
    distance: int = Field(ge=1)  # frames between source and driver
    motion_gate: float = Field(ge=0)  # sides that landmarks move in pairs that L_dis counts
    augmentation: Augmentation
    strangers: float = Field(ge=0, le=0.5)  # share of drivers of another person: warp_truth only
    validation_people: int = Field(ge=0)  # left out of training, watched by the curves
    checkpoint_every: int = Field(ge=1)  # steps
    sample_every: int = Field(ge=1)  # steps between two sample grids and validations
    phases: dict[str, Phase]
    variants: dict[str, Variant]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.batch % self.microbatch:
            raise ValueError(f"batch {self.batch} is no multiple of microbatch {self.microbatch}")
        if self.sample_every % self.checkpoint_every:
            raise ValueError("sample_every is a multiple of checkpoint_every: scores need a state")
        if self.model.emi or self.model.edi:
            raise ValueError("model is the base's: indicators are sized by emi and edi beside it")
        for name, variant in self.variants.items():
            if not all(len(stretch) == 1 for stretch in variant.steps):
                raise ValueError(f"variants.{name}: write steps as [phase: steps, phase: steps]")
            given = dict(item for stretch in variant.steps for item in stretch.items())
            if unknown := sorted(set(given) - set(self.phases)):
                raise ValueError(f"variants.{name}: unknown phase {', '.join(unknown)}")
            if min(given.values()) < 1:
                raise ValueError(f"variants.{name}: a phase lasts at least one step")
            self._check_phases(name)
        steps = {name: self.steps(name) for name in self.variants if name != BASE}
        if BASE in self.variants and self.variants[BASE].indicators:
            raise ValueError(f"variants.{BASE}: its indicators would not be gone on from; leave []")
        if BASE not in self.variants or len(set(steps.values())) > 1:
            raise ValueError(f"variants needs {BASE}, and equal steps of all others, got {steps}")
        used = [s.phase for name in self.variants for s in self.schedule(name)]
        if any(phase.weighs("warp_truth") for phase in used) and not self.model.align_corners:
            raise ValueError("warp_truth is given for model.align_corners: true only")
        return self

    def _check_phases(self, variant: str) -> None:
        """Each phase must have something to train in this variant, and a loss to train it by."""
        indicators = self.variants[variant].indicators
        self.architecture(variant)  # sizes that do not fit are refused here
        for stretch in self.schedule(variant):
            if not any(map(stretch.phase.trained, parts_of(indicators))):
                raise ValueError(f"variants.{variant}: {stretch.name} trains no part of that model")
            if not any(map(stretch.phase.weighs, terms_of(indicators))):
                raise ValueError(f"variants.{variant}: {stretch.name} has no loss of that model")

    def steps(self, variant: str) -> int:
        """Length of a variant's schedule."""
        return sum(stretch.steps for stretch in self.schedule(variant))

    def schedule(self, variant: str) -> list[Stretch]:
        """What a variant goes through."""
        return [
            Stretch(name, self.phases[name], steps)
            for stretch in self.variants[variant].steps
            for name, steps in stretch.items()
        ]

    def architecture(self, variant: str) -> ModelConfig:
        """The base with the variant's indicators."""
        sizes = {name: getattr(self, name) for name in self.variants[variant].indicators}
        return replace(self.model, **sizes)


def train(
    config: TrainConfig,
    clips: Path,
    weights: Path,
    checkpoints: Path,
    model: Path,
    base: Path | None = None,
) -> None:
    """Train the variant that the model folder is named after, and export the averaged model.

    Args:
        config: what to train and for how long.
        clips: folder of the crop stage, with the datasets.
        weights: folder of published weights, for VGG19 where the config asks for it.
        checkpoints: journal and training states live below, in a folder named after the inputs'
            hash; an interrupted run with the same inputs goes on there, others never touch it.
            FIXTALK_CHECKPOINTS, a folder or fsspec URL, takes the states elsewhere.
        model: folder to export to.
        base: folder of the model to start from; None draws all weights from the seed.

    Raises:
        ValueError: unknown variant, clips of another resolution than the model, too few people.
        BlockingIOError: another process trains from the same inputs.
        SystemExit: asked to stop by SIGTERM; all is saved.
    """
    variant = model.name
    if variant not in config.variants:
        names = ", ".join(config.variants)
        raise ValueError(f"{model}: train.variants has no {variant!r}, only {names}")
    corpus, steps = find_corpus(config, clips.resolve()), config.steps(variant)
    if any(stretch.phase.swaps_mouths for stretch in config.schedule(variant)):
        training_pairs(config, corpus).check_swaps()
    key = inputs_hash(config, variant, clips, base)
    folder = tracking.project_root() / checkpoints / key
    place = str(folder)
    if root := os.environ.get("FIXTALK_CHECKPOINTS"):
        root = root if "://" in root else tracking.project_root() / root
        place = f"{root}/{variant}/{key}"
    tags = {"variant": variant, "l_per": config.perceptual, **corpus.tags}
    if base is not None:
        has_one = (base / DISCRIMINATOR).is_file()
        tags["discriminator"] = "of the base" if has_one else "anew: the base has none"
    job = Job(config, variant, corpus, weights.resolve(), folder, place, base and base.resolve())
    with (
        only_one(folder),
        tracking.open_run(variant, key, tracking.provenance("train") | tags, beside=folder) as run,
    ):
        run.log_params({"train": _recipe(config, variant), "clips": corpus.clips})
        state = _train(job, run)
        dataset = "+".join(config.datasets)
        facts = {"variant": variant, "dataset": dataset, "inputs": key, "steps": steps}
        save_checkpoint(state.average, model, facts, state.discriminator)
        run.log_file(model / "config.json", "model")
        run.log_file(model / "model.safetensors", "model")


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
    """The newest state; one in the place of an earlier run is brought along."""
    note, newest = job.folder / "place", saved.newest()
    earlier = note.read_text(encoding="utf-8").strip() if note.exists() else job.place
    if newest is None and earlier != job.place and (newest := Checkpoints(earlier).newest()):
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


def inputs_hash(config: TrainConfig, variant: str, clips: Path, base: Path | None) -> str:
    """16 hex digits of all that decides a variant: its recipe, clips, base, code, and torch."""
    recipe = json.dumps(_recipe(config, variant), sort_keys=True)
    digest = hashlib.sha256(f"{recipe} {torch.__version__}".encode())
    package = Path(fixtalk.__file__).parent
    code = [p for p in package.rglob("*") if p.suffix in (".py", ".npz")]
    start = sorted(base.glob("*.safetensors")) if base else []
    shards = [shard for name in config.datasets for shard in find_shards(clips / name)]
    stage = [Path(__file__).with_name(f"{name}.py") for name in ("feed", "perception")]
    for path in [*shards, *start, *stage, *sorted(code)]:
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _recipe(config: TrainConfig, variant: str) -> dict[str, Any]:
    """The config without what other variants need."""
    stretches = config.schedule(variant)
    intervals = {"checkpoint_every", "sample_every"}  # change nothing of what is trained
    shared = config.model_dump(exclude={"model", "emi", "edi", "phases", "variants", *intervals})
    return {
        **shared,
        "variant": variant,
        "model": asdict(config.architecture(variant)),
        "phases": [{s.name: asdict(s.phase) | {"steps": s.steps}} for s in stretches],
    }


if __name__ == "__main__":
    from pipelines.train import TrainConfig, train  # by the name that workers know

    train(load_config(TrainConfig, "train"), *map(Path, sys.argv[1:]))
