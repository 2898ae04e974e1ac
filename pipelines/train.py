"""Clips → trained model: Ray Train around `fixtalk.training`, resumed by the same command."""

import hashlib
import shutil
import signal
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

import fixtalk
from fixtalk.model import ModelConfig
from fixtalk.pairs import Augmentation, PairSampler, Place, Row, Truth, WarpTruth
from fixtalk.training import Batch, Phase, TrainState
from pipelines import cluster, tracking
from pipelines.config import StageConfig, load_config
from pipelines.monitor import HISTORY, Monitor, progress

STATE = "state.pt"
VALIDATION_PAIRS = 32
RESTARTS = 3  # of the worker group on a cluster, each from the last checkpoint


class TrainConfig(StageConfig):
    """Section `train` of params.yaml."""

    dataset: str  # its clips are trained on
    seed: int = Field(ge=0)  # of weights and pairs
    model: ModelConfig
    batch: int = Field(ge=2)  # pairs a step over all workers
    precision: Literal["bfloat16", "float32"]  # of convolutions
    betas: tuple[float, float]  # of the generator's Adam
    average_decay: float = Field(ge=0, lt=1)  # of the moving average that is exported
    distance: int = Field(ge=1)  # frames between source and driver
    augmentation: Augmentation
    strangers: float = Field(ge=0, le=0.5)  # share of drivers of another person: warp_truth only
    validation_people: int = Field(ge=0)  # left out of training, watched by the curves
    checkpoint_every: int = Field(ge=1)  # steps
    sample_every: int = Field(ge=1)  # steps between two sample grids and validations
    phases: list[Phase] = Field(min_length=1)

    @model_validator(mode="after")
    def _warps_are_comparable(self) -> Self:
        weighed = any(phase.weights.get("warp_truth", 0) > 0 for phase in self.phases)
        if weighed and not self.model.align_corners:
            raise ValueError("warp_truth is given for model.align_corners: true only")
        return self

    @property
    def steps(self) -> int:
        """Length of the whole schedule."""
        return sum(phase.steps for phase in self.phases)


def train(config: TrainConfig, clips: Path, checkpoints: Path, model: Path) -> None:
    """Train on the clips and export the averaged model.

    Args:
        config: what to train and for how long.
        clips: folder of the crop stage.
        checkpoints: training states live below, in a folder named after the inputs' hash; an
            interrupted run with the same inputs goes on there, others never touch it.
        model: folder to export to.

    Raises:
        ValueError: clips of another resolution than the model, or too few people.
    """
    from fixtalk.checkpoint import load_state, save_checkpoint
    from fixtalk.training import start

    rows = _split(config, clips)[0]
    tags = {"variant": model.name, "warp_truth": _warp_truth(config, rows)}
    key = inputs_hash(config, clips)
    store = checkpoints.resolve() / key
    store.mkdir(parents=True, exist_ok=True)
    facts = {"variant": model.name, "dataset": config.dataset, "inputs": key, "steps": config.steps}
    run = tracking.open_run(model.name, key, tracking.provenance("train") | tags)
    state = start(config.model, config.betas, config.seed)
    with run, progress(store / HISTORY, config.steps, run):
        run.log_params({"train": config.model_dump(), "clips": len(rows)})
        if (store / STATE).is_file():
            load_state(state, store / STATE)
        if state.step < config.steps:
            _fit(config, clips.resolve(), store, run)
            load_state(state, store / STATE)
        save_checkpoint(state.average, model, facts)
        run.log_file(model / "config.json", "model")
        run.log_file(model / "model.safetensors", "model")


def inputs_hash(config: TrainConfig, clips: Path) -> str:
    """16 hex digits that change with the config, the clips, the code that trains, or torch."""
    import torch

    digest = hashlib.sha256(f"{config.model_dump_json()} {torch.__version__}".encode())
    package = Path(fixtalk.__file__).parent
    code = [p for p in package.rglob("*") if p.suffix in (".py", ".npz")]
    for path in [*sorted((clips / "shards").glob("*.parquet")), Path(__file__), *sorted(code)]:
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _split(config: TrainConfig, clips: Path) -> tuple[list[Row], list[Row]]:
    """Training rows and the rows of the validation people."""
    from fixtalk.dataset import read_clips
    from fixtalk.media import probe

    rows = read_clips(clips, "train")
    if not rows:
        raise ValueError(f"{clips}: no clip of split 'train'; train.dataset={config.dataset!r}")
    side, wanted = probe(rows[0]["video"]).width, config.model.resolution
    if side != wanted:
        raise ValueError(
            f"{clips} holds {side} px clips, train.model.resolution is {wanted}: "
            "set it equal to crop.resolution"
        )
    people = sorted({row["person"] for row in rows})
    if len(people) - config.validation_people < 2:
        raise ValueError(
            f"{clips}: {len(people)} people to train on, {config.validation_people} of them for "
            "validation (train.validation_people): at least 2 must remain"
        )
    kept = set(people[config.validation_people :])
    training = [row for row in rows if row["person"] in kept]
    return training, [row for row in rows if row["person"] not in kept]


def _fit(config: TrainConfig, clips: Path, store: Path, run: tracking.Run) -> None:
    """Run the workers until the state in `store` has done all steps."""
    session = cluster.start_ray()
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    workers = max(n for n in range(1, session.workers + 1) if config.batch % n == 0)
    interrupt = signal.getsignal(signal.SIGINT)
    # the state lies in `store`, so Ray has nothing to resume: a half-written snapshot of a
    # killed session would only stop the next one
    shutil.rmtree(store / "ray", ignore_errors=True)
    trainer = TorchTrainer(
        _work,
        train_loop_config={"config": config, "clips": clips, "store": store, "run": run},
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=session.has_gpu),
        torch_config=TorchConfig(backend="nccl" if session.has_gpu else "gloo"),
        run_config=RunConfig(
            name="ray",
            storage_path=str(store),
            failure_config=FailureConfig(max_failures=0 if session.is_local else RESTARTS),
        ),
    )
    try:
        trainer.fit()
    except SystemExit:  # Ray's own Ctrl-C handler leaves with 0, as if all were done
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGINT, interrupt)
        ray.shutdown()


def _work(job: dict[str, Any]) -> None:
    """What each Ray worker does: its share of every batch, from the last checkpoint on."""
    import ray.train
    import torch
    from ray.train.torch import get_device

    from fixtalk.checkpoint import load_state, save_state
    from fixtalk.training import start, train_step

    config, store = job["config"], job["store"]
    context = ray.train.get_context()
    rank, share = context.get_world_rank(), config.batch // context.get_world_size()
    device = get_device()
    if device.type == "cpu":
        torch.set_num_threads(max(1, cluster.cores() // context.get_world_size()))
    training, validation = _split(config, job["clips"])
    sampler = _sampler(config, training)
    state = start(config.model, config.betas, config.seed)
    if (store / STATE).is_file():
        load_state(state, store / STATE)
    _place(state, device, context.get_world_size())
    monitor = None
    if rank == 0:
        pairs = _validation_pairs(config, validation)
        monitor = Monitor(store / HISTORY, job["run"], pairs, config.sample_every, config.steps)
    clock, waited = time.monotonic(), 0.0
    indices = range(rank * share, (rank + 1) * share)
    while state.step < config.steps:
        begin = time.monotonic()
        batch = sampler.batch(state.step, indices).to(device)
        waited += time.monotonic() - begin
        values = train_step(
            state, batch, config.phases,
            decay=config.average_decay, bfloat16=config.precision == "bfloat16",
        )  # fmt: skip
        if monitor:
            elapsed = time.monotonic() - clock
            monitor.look(state, values | {"seconds": elapsed, "data_share": waited / elapsed})
        if state.step % config.checkpoint_every == 0 or state.step == config.steps:
            if rank == 0:
                save_state(state, store / STATE)
            ray.train.report({"step": state.step})  # a barrier: no rank runs ahead of the file


def _place(state: TrainState, device: Any, workers: int) -> None:
    """Move the networks to the device and wrap them for data parallelism."""
    from torch.nn.parallel import DistributedDataParallel

    from fixtalk.training import Reenactment

    for network in (state.model, state.average, state.discriminator):
        network.to(device)
    for optimiser in (state.optimiser, state.discriminator_optimiser):
        optimiser.load_state_dict(optimiser.state_dict())  # moves its tensors to the device
    if workers > 1:
        state.parallel = {
            "model": DistributedDataParallel(Reenactment(state.model)),
            "discriminator": DistributedDataParallel(state.discriminator),
        }


def _validation_pairs(config: TrainConfig, rows: list[Row]) -> Batch | None:
    """Fixed pairs of people left out of training, as they are."""
    if not rows:
        return None
    plain = Augmentation(flip=0.0, colour=0.0, driver_colour=0.0, driver_stretch=0.0)
    sampler = PairSampler(rows, seed=config.seed, distance=config.distance, augmentation=plain)
    return sampler.batch(0, range(VALIDATION_PAIRS))


def _sampler(config: TrainConfig, rows: list[Row]) -> PairSampler:
    """Pairs of the rows, with exact warps where the schedule uses them and the data has them."""
    truth = None
    if _warp_truth(config, rows) == "on":
        truth = _exact_warp(config.model.resolution)
    return PairSampler(
        rows,
        seed=config.seed,
        distance=config.distance,
        augmentation=config.augmentation,
        strangers=config.strangers,
        truth=truth,
    )


def _warp_truth(config: TrainConfig, rows: list[Row]) -> str:
    """Whether exact warps are used: on, or off and why."""
    if not any(phase.weights.get("warp_truth", 0) > 0 for phase in config.phases):
        return "off: no phase weighs it"
    without = sum(row["identity_seed"] is None for row in rows)
    return f"off: {without} of {len(rows)} clips have no exact labels" if without else "on"


def _exact_warp(resolution: int) -> WarpTruth:
    """Exact warps between two frames of a row of the synthetic corpus."""
    from fixtalk.synthetic.camera import Camera
    from fixtalk.synthetic.correspondence import CroppedFrame, FaceGeometry, correspondence
    from fixtalk.synthetic.head import load_head

    head = load_head(0)
    geometry = cache(lambda identity_seed: FaceGeometry(head, identity_seed))

    def warp(source: Place, driver: Place) -> Truth:
        frames = (
            CroppedFrame(row["arkit"][i], row["pose"][i], tuple(row["box"]))
            for row, i in (source, driver)
        )
        person = geometry(source[0]["identity_seed"])
        return correspondence(person, Camera.from_json(source[0]["camera"]), *frames, resolution)

    return warp


if __name__ == "__main__":
    train(load_config(TrainConfig, "train"), *map(Path, sys.argv[1:]))
