"""Clips → trained model: Ray Train around `fixtalk.training`, resumed by the same command."""

import gc
import hashlib
import json
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch.nn.parallel import DistributedDataParallel

import fixtalk
from fixtalk.checkpoint import (
    DISCRIMINATOR,
    load_state,
    save_checkpoint,
    save_state,
    start_from_base,
)
from fixtalk.edi import EDIConfig
from fixtalk.emi import EMIConfig
from fixtalk.losses import Direction
from fixtalk.model import ModelConfig
from fixtalk.pairs import Augmentation
from fixtalk.phases import Phase, Stretch, parts_of, stretch_at, terms_of
from fixtalk.training import Method, TrainState, start, train_step
from pipelines import cluster, tracking
from pipelines.config import StageConfig, load_config
from pipelines.feed import label_tags, split_people, training_pairs, validation_pairs
from pipelines.monitor import HISTORY, Monitor, progress
from pipelines.perception import vgg19

STATE = "state.pt"
BASE = "base"  # the variant that all others go on from


Share = Annotated[float, Field(ge=0, lt=1)]


class Variant(StageConfig):
    """One model of the ablation."""

    indicators: list[Literal["emi", "edi"]]
    steps: list[dict[str, int]] = Field(min_length=1)  # of one phase after the other


class TrainConfig(StageConfig):
    """Section `train` of params.yaml."""

    dataset: str  # its clips are trained on
    seed: int = Field(ge=0)  # of weights and pairs
    model: ModelConfig  # of the base
    emi: EMIConfig  # of variants with that indicator
    edi: EDIConfig
    batch: int = Field(ge=2, multiple_of=2)  # pairs a step over all workers
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


@dataclass(frozen=True)
class Job:
    """What a worker needs to know."""

    config: TrainConfig
    variant: str
    clips: Path
    weights: Path
    store: Path
    base: Path | None
    run: tracking.Run

    @property
    def schedule(self) -> list[Stretch]:
        """What the variant goes through."""
        return self.config.schedule(self.variant)

    @property
    def steps(self) -> int:
        """Length of that."""
        return self.config.steps(self.variant)


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
        clips: folder of the crop stage.
        weights: folder of published weights, for VGG19 where the config asks for it.
        checkpoints: training states live below, in a folder named after the inputs' hash; an
            interrupted run with the same inputs goes on there, others never touch it.
        model: folder to export to.
        base: folder of the model to start from; None draws all weights from the seed.

    Raises:
        ValueError: unknown variant, clips of another resolution than the model, too few people.
    """
    variant = model.name
    if variant not in config.variants:
        names = ", ".join(config.variants)
        raise ValueError(f"{model}: train.variants has no {variant!r}, only {names}")
    rows, steps = split_people(config, clips)[0], config.steps(variant)
    if any(stretch.phase.swaps_mouths for stretch in config.schedule(variant)):
        training_pairs(config, rows).check_swaps()
    key = inputs_hash(config, variant, clips, base)
    store = checkpoints.resolve() / key
    store.mkdir(parents=True, exist_ok=True)
    facts = {"variant": variant, "dataset": config.dataset, "inputs": key, "steps": steps}
    tags = {"variant": variant, "l_per": config.perceptual, **label_tags(rows)}
    if base is not None:
        has_one = (base / DISCRIMINATOR).is_file()
        tags["discriminator"] = "of the base" if has_one else "anew: the base has none"
    run = tracking.open_run(variant, key, tracking.provenance("train") | tags)
    job = Job(config, variant, clips.resolve(), weights.resolve(), store,
              base and base.resolve(), run)  # fmt: skip
    state = _start(job)
    with run, progress(store / HISTORY, steps, run):
        run.log_params({"train": _recipe(config, variant), "clips": len(rows)})
        if state.step < steps:
            # shares of at least two: a stranger alone would leave its worker without a target
            cluster.run_workers(_work, job, store, config.batch // 2)
            load_state(state, store / STATE)
        save_checkpoint(state.average, model, facts, state.discriminator)
        run.log_file(model / "config.json", "model")
        run.log_file(model / "model.safetensors", "model")


def inputs_hash(config: TrainConfig, variant: str, clips: Path, base: Path | None) -> str:
    """16 hex digits of all that decides a variant: its recipe, clips, base, code, and torch."""
    recipe = json.dumps(_recipe(config, variant), sort_keys=True)
    digest = hashlib.sha256(f"{recipe} {torch.__version__}".encode())
    package = Path(fixtalk.__file__).parent
    code = [p for p in package.rglob("*") if p.suffix in (".py", ".npz")]
    start = sorted(base.glob("*.safetensors")) if base else []
    shards = sorted((clips / "shards").glob("*.parquet"))
    stage = [Path(__file__).with_name(f"{name}.py") for name in ("train", "feed", "perception")]
    for path in [*shards, *start, *stage, *sorted(code)]:
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _recipe(config: TrainConfig, variant: str) -> dict[str, Any]:
    """The config without what other variants need."""
    stretches = config.schedule(variant)
    shared = config.model_dump(exclude={"model", "emi", "edi", "phases", "variants"})
    return {
        **shared,
        "variant": variant,
        "model": asdict(config.architecture(variant)),
        "phases": [{s.name: asdict(s.phase) | {"steps": s.steps}} for s in stretches],
    }


def _start(job: Job) -> TrainState:
    """The last state of a run, or its first."""
    state = start(job.config.architecture(job.variant), job.config.betas, job.config.seed)
    if (job.store / STATE).is_file():
        load_state(state, job.store / STATE)
    elif job.base is not None:
        start_from_base(state, job.base)
    return state


def _work(job: Job) -> None:
    """What each Ray worker does: its share of every batch, from the last checkpoint on."""
    import ray.train
    from ray.train.torch import get_device

    config, schedule, steps = job.config, job.schedule, job.steps
    context = ray.train.get_context()
    rank, share = context.get_world_rank(), config.batch // context.get_world_size()
    device = get_device()
    if device.type == "cpu":
        torch.set_num_threads(max(1, cluster.cores() // context.get_world_size()))
    training, validation = split_people(config, job.clips)
    sampler = training_pairs(config, training)
    state = _start(job)
    state.to(device)
    if context.get_world_size() > 1:
        state.wrap = _parallel
    method = _method(job, device)
    monitor = None
    if rank == 0:
        pairs = validation_pairs(config, validation)
        monitor = Monitor(job.store / HISTORY, job.run, pairs, config.sample_every, steps)
    clock, waited = time.monotonic(), 0.0
    indices = range(rank * share, (rank + 1) * share)
    while state.step < steps:
        begin = time.monotonic()
        phase = stretch_at(schedule, state.step)[0].phase
        batch = sampler.batch(state.step, indices, warps=phase.weighs("warp_truth"),
                              swaps=phase.swaps_mouths).to(device)  # fmt: skip
        waited += time.monotonic() - begin
        values = train_step(state, batch, schedule, method)
        if monitor:
            elapsed = time.monotonic() - clock
            monitor.look(state, values | {"seconds": elapsed, "data_share": waited / elapsed})
        if state.step % config.checkpoint_every == 0 or state.step == steps:
            if rank == 0:
                save_state(state, job.store / STATE)
            ray.train.report({"step": state.step})  # a barrier: no rank runs ahead of the file


def _method(job: Job, device: torch.device) -> Method:
    """What stays the same over all steps."""
    config = job.config
    return Method(
        decay=config.average_decay,
        bfloat16=config.precision == "bfloat16",
        margin=config.margin,
        alignment=config.alignment,
        look=vgg19(job.weights, device) if config.perceptual == "vgg19" else None,
    )


def _parallel(network: torch.nn.Module) -> DistributedDataParallel:
    """The network with gradients averaged over workers."""
    gc.collect()  # hooks of the phase before go with their wrapper
    return DistributedDataParallel(network)


if __name__ == "__main__":
    train(load_config(TrainConfig, "train"), *map(Path, sys.argv[1:]))
