"""What each Ray Train worker does: its share of every batch, from the last checkpoint on."""

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from fixtalk.checkpoint import start_from_base
from fixtalk.phases import Stretch
from fixtalk.reenactment import Batch
from fixtalk.training import Method, Microbatch, TrainState, start, train_step
from pipelines import cluster
from pipelines.checkpoints import Checkpoints, Kept
from pipelines.feed import Corpus, share_of, stream, validation_pairs
from pipelines.monitor import Monitor, NodeMonitor
from pipelines.perception import vgg19

if TYPE_CHECKING:
    from pipelines.train import TrainConfig

SECONDS_BETWEEN_LOOKS = 1.0  # for the file that asks to stop
STEPS_BETWEEN_NOTICES = 20  # asking Ray whether a node goes is a barrier


@dataclass(frozen=True)
class Job:
    """What a worker needs to know."""

    config: "TrainConfig"
    variant: str
    corpus: Corpus
    weights: Path
    folder: Path  # of the journal, seen by all nodes
    place: str  # of the training states: folder or fsspec URL
    base: Path | None

    @property
    def schedule(self) -> list[Stretch]:
        """What the variant goes through."""
        return self.config.schedule(self.variant)

    @property
    def steps(self) -> int:
        """Length of that."""
        return self.config.steps(self.variant)

    @property
    def stop(self) -> Path:
        """File that asks to save and to end."""
        return self.folder / "stop"

    def state(self, saved: dict | None) -> TrainState:
        """The saved state; without one weights drawn from the seed, or those of the base."""
        state = start(self.config.architecture(self.variant), self.config.betas, self.config.seed)
        if saved is not None:
            state.load_state_dict(saved)
        elif self.base is not None:
            start_from_base(state, self.base)
        return state


def work(job: Job) -> None:
    """Train until the schedule ends or someone asks to stop; rank 0 saves and keeps the journal."""
    import ray.train
    from ray.train.torch import get_device

    context, device, config = ray.train.get_context(), get_device(), job.config
    rank, workers = context.get_world_rank(), context.get_world_size()
    if device.type == "cpu":
        cores = cluster.cores() // cluster.CPUS_PER_WORKER
        torch.set_num_threads(max(1, cores // context.get_local_world_size()))
    share = share_of(rank, workers, config.batch // config.microbatch)
    saved = Checkpoints(job.place)
    state = job.state(_agree_on_newest(saved))
    pairs = stream(config, job.corpus, job.schedule, state.step, _lanes(share, config.microbatch))
    state.to(device)
    if workers > 1:
        state.wrap = _parallel
    scribe = _Scribe(job, saved) if rank == 0 else None
    node = NodeMonitor(job.folder, context.get_node_rank())
    is_first_here = context.get_local_rank() == 0
    asked = _asked(job.stop) if rank == 0 else lambda: False
    goes = _notice(workers > context.get_local_world_size())
    method, begin, waited = _method(job, device), None, 0.0
    while state.step < job.steps:
        ready = time.monotonic()
        arrays = next(pairs)
        now = time.monotonic()  # waiting for the first is a part of starting up
        begin, waited = (now, 0.0) if begin is None else (begin, waited + now - ready)
        batches = Batch.of(arrays, device).split(config.microbatch)
        weighted = [Microbatch(b, weight) for b, (_, weight) in zip(batches, share, strict=True)]
        values = train_step(state, weighted, job.schedule, method)
        values, stops = _agree(values, asked(), device)
        is_urgent = goes(state.step) or stops
        if is_first_here:
            node.look(state.step)
        if scribe:
            seconds = time.monotonic() - begin
            facts = {"seconds": seconds, "data_share": waited / seconds, "workers": workers}
            scribe.write(state, values | facts, is_urgent)
        if stops:
            break
    if scribe:
        saved.flush()


class _Scribe:
    """Rank 0's: curves, and states as often as the config says or as it is urgent."""

    def __init__(self, job: Job, saved: Checkpoints) -> None:
        config, self.steps = job.config, job.steps
        pairs = validation_pairs(config, job.corpus)
        self.monitor = Monitor(job.folder, pairs, config.sample_every, job.steps)
        self.every, self.saved = config.checkpoint_every, saved

    def write(self, state: TrainState, values: dict[str, float], is_urgent: bool) -> None:
        score = self.monitor.look(state, values).get("validation_psnr")
        if is_urgent or state.step % self.every == 0 or state.step == self.steps:
            self.saved.save(state.state_dict(), state.step, score)
        if is_urgent:
            self.saved.flush()


def _agree_on_newest(saved: Checkpoints) -> dict | None:
    """The newest whole state that rank 0 finds, on all workers."""
    import ray.train
    from ray.train.collective import broadcast_from_rank_zero

    newest = saved.newest() if ray.train.get_context().get_world_rank() == 0 else None
    name: Kept | None = broadcast_from_rank_zero(newest and newest[0])
    if name is None or newest:
        return newest and newest[1]
    return saved.load(name)


def _lanes(share: list[tuple[int, float]], size: int) -> list[int]:
    """Items of the batch that lie in the microbatches of a share."""
    return [place * size + item for place, _ in share for item in range(size)]


def _agree(
    values: dict[str, float], stops: bool, device: torch.device
) -> tuple[dict[str, float], bool]:
    """Means of all workers' values, and whether any of them is asked to stop."""
    names = sorted(values)
    told = torch.tensor([float(stops), *map(values.get, names)], dtype=torch.float64, device=device)
    distributed.all_reduce(told)
    stops, *sums = told.tolist()
    return {
        n: s / distributed.get_world_size() for n, s in zip(names, sums, strict=True)
    }, stops > 0


def _asked(stop: Path) -> Callable[[], bool]:
    """Whether the file is there, looked for once a second."""
    last = 0.0

    def ask() -> bool:
        nonlocal last
        if time.monotonic() - last < SECONDS_BETWEEN_LOOKS:
            return False
        last = time.monotonic()
        return stop.exists()

    return ask


def _notice(watches: bool) -> Callable[[int], bool]:
    """Whether Ray has just learnt that a node will be taken away; older versions cannot tell."""
    import ray.train

    look = getattr(ray.train, "get_preemption_info", None) if watches else None
    known = None

    def ask(step: int) -> bool:
        nonlocal known
        if look is None or step % STEPS_BETWEEN_NOTICES:
            return False
        before, known = known, look()
        return known is not None and known != before

    return ask


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
