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
from pipelines.perception import load_experts, vgg19

if TYPE_CHECKING:
    from pipelines.recipe import TrainConfig

SECONDS_AT_RISK = 600.0  # of work: a node that joins restarts the group without a notice
SECONDS_PER_LOOK = 1.0  # for the file that asks to stop, and for what Ray knows of nodes that go


@dataclass(frozen=True)
class Job:
    """What a worker needs to know."""

    config: "TrainConfig"
    variant: str
    corpus: Corpus
    weights: Path
    expert: Path
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
    if device.type == "cpu":  # one core for the readers
        torch.set_num_threads(max(1, cluster.all_cores() // context.get_local_world_size() - 1))
    share = share_of(rank, workers, config.batch // config.microbatch)
    saved = Checkpoints(job.place)
    state = job.state(_agree_on_newest(saved))
    pairs = stream(config, job.corpus, job.schedule, state.step, _lanes(share, config.microbatch))
    state.to(device)
    if workers > 1:
        state.wrap = parallel
    scribe = _Scribe(job, saved) if rank == 0 else None
    node = NodeMonitor(job.folder, context.get_node_rank())
    is_first_here, is_due = context.get_local_rank() == 0, _every(SECONDS_PER_LOOK)
    node_goes = _preemption_notice()
    method, begin, waited = _method(job, device), None, 0.0
    while state.step < job.steps:
        ready = time.monotonic()
        arrays = next(pairs)
        now = time.monotonic()  # waiting for the first is a part of starting up
        begin, waited = (now, 0.0) if begin is None else (begin, waited + now - ready)
        batches = Batch.of(arrays, device).split(config.microbatch)
        weighted = [Microbatch(b, weight) for b, (_, weight) in zip(batches, share, strict=True)]
        values = train_step(state, weighted, job.schedule, method)
        looks = rank == 0 and is_due()
        values, (looks, stops) = _agree(values, [looks, looks and _is_asked(job.stop)], device)
        is_urgent = bool(stops or (looks and node_goes()))
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
    """Rank 0's: curves, and states as often as the config says, each ten minutes, or if urgent."""

    def __init__(self, job: Job, saved: Checkpoints) -> None:
        config, self.steps = job.config, job.steps
        pairs = validation_pairs(config, job.corpus)
        self.monitor = Monitor(job.folder, pairs, config.sample_every, job.steps)
        self.every, self.saved = config.checkpoint_every, saved
        self.last = time.monotonic()  # that a state was saved

    def write(self, state: TrainState, values: dict[str, float], is_urgent: bool) -> None:
        score = self.monitor.look(state, values).get("validation_psnr")
        is_due = state.step % self.every == 0 or time.monotonic() - self.last >= SECONDS_AT_RISK
        if is_urgent or is_due or state.step == self.steps:
            self.saved.save(state.state_dict(), state.step, score)
            self.last = time.monotonic()
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
    values: dict[str, float], flags: list[bool], device: torch.device
) -> tuple[dict[str, float], list[bool]]:
    """Means of all workers' values, and whether any of them raises a flag."""
    names = sorted(values)
    told = [*map(float, flags), *map(values.get, names)]
    told = torch.tensor(told, dtype=torch.float64, device=device)
    distributed.all_reduce(told)
    raised, sums = told[: len(flags)] > 0, told[len(flags) :] / distributed.get_world_size()
    return dict(zip(names, sums.tolist(), strict=True)), raised.tolist()


def _every(seconds: float) -> Callable[[], bool]:
    """Whether so much time has passed since it last had."""
    last = time.monotonic()

    def is_due() -> bool:
        nonlocal last
        if time.monotonic() - last < seconds:
            return False
        last = time.monotonic()
        return True

    return is_due


def _is_asked(stop: Path) -> bool:
    """Whether the file is there; network file systems may forget single names for a while."""
    return stop in stop.parent.iterdir()


def _preemption_notice() -> Callable[[], bool]:
    """Whether Ray has just learnt that a node will be taken away: all workers must ask at once.

    Nobody takes this machine away from a session of its own; older versions of Ray cannot tell.
    """
    import ray.train
    import ray.util

    context, known = ray.train.get_context(), None
    is_alone = context.get_world_size() == context.get_local_world_size()
    is_local = is_alone and ray.util.get_node_ip_address().startswith("127.")
    notice = None if is_local else getattr(ray.train, "get_preemption_info", None)

    def node_goes() -> bool:
        nonlocal known
        before, known = known, notice() if notice else None
        return known is not None and known != before

    return node_goes


def _method(job: Job, device: torch.device) -> Method:
    """What stays the same over all steps."""
    config, experts = job.config, load_experts(job.expert, device)
    return Method(
        decay=config.average_decay,
        bfloat16=config.precision == "bfloat16",
        margin=config.margin,
        alignment=config.alignment,
        look=vgg19(job.weights, device) if config.perceptual == "vgg19" else None,
        **({} if isinstance(experts, str) else experts._asdict()),
    )


def parallel(network: torch.nn.Module) -> DistributedDataParallel:
    """The network with gradients averaged over workers."""
    gc.collect()  # hooks of the phase before go with their wrapper
    return DistributedDataParallel(network, forward_sync_buffers=False)  # no buffer ever changes
