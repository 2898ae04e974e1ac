"""Batches of frame pairs → a trained model: one step of a phase, device-agnostic, torch only."""

import copy
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fixtalk import losses
from fixtalk.discriminator import Discriminator
from fixtalk.layers import equalised
from fixtalk.model import FixTalk, ModelConfig
from fixtalk.muon import Muon
from fixtalk.phases import Phase, Stretch, parts, stretch_at, taught_share
from fixtalk.reenactment import Batch, Reenactment
from fixtalk.talking import Talking
from fixtalk.terms import Method, loss_terms, one_by_one

PENALTY_EVERY = 16  # discriminator steps between two R1 terms (StyleGAN2's lazy regularisation)


class Microbatch(NamedTuple):
    """Items that are computed at once, and what their mean counts in the whole batch's."""

    batch: Batch
    weight: float


@dataclass
class TrainState:
    """Everything a step changes: saved and restored as one, all but the wrapping of a phase."""

    model: FixTalk
    average: FixTalk  # exponential moving average of the model: what is exported
    discriminator: Discriminator
    optimiser: torch.optim.Optimizer  # Adam, one group a part of the model
    matrix_optimiser: Muon  # of layers of the backbone and of speech, one group a part
    discriminator_optimiser: torch.optim.Optimizer
    step: int = 0
    wrap: Callable[[nn.Module], nn.Module] = lambda network: network  # for data parallelism
    entered: str | None = None  # phase that the two below are wrapped for, anew in every process
    wrapped_model: nn.Module | None = None
    wrapped_discriminator: nn.Module | None = None

    def to(self, device: torch.device) -> None:
        """Move networks and optimisers, in place."""
        for network in (self.model, self.average, self.discriminator):
            network.to(device)
        for optimiser in (self.optimiser, self.matrix_optimiser, self.discriminator_optimiser):
            optimiser.load_state_dict(optimiser.state_dict())  # moves tensors to their weights

    def groups(self) -> list[dict]:
        """Parameter groups of the model, each with its part."""
        return [*self.optimiser.param_groups, *self.matrix_optimiser.param_groups]

    def state_dict(self) -> dict:
        """All that is needed to go on, ready for `torch.save`.

        The step stands for the phase and the place in the data: both are functions of it.
        """
        position = {"step": self.step, "random": torch.get_rng_state()}
        return {name: getattr(self, name).state_dict() for name in _SAVED} | position

    def load_state_dict(self, saved: dict) -> None:
        """Continue exactly where `state_dict` was taken."""
        for name in _SAVED:
            getattr(self, name).load_state_dict(saved[name])
        torch.set_rng_state(saved["random"])
        self.step, self.entered = saved["step"], None


_OPTIMISERS = ("optimiser", "matrix_optimiser", "discriminator_optimiser")
_SAVED = ("model", "average", "discriminator", *_OPTIMISERS)


def start(config: ModelConfig, betas: tuple[float, float], seed: int) -> TrainState:
    """A state at step 0, its weights drawn from the seed."""
    torch.manual_seed(seed)
    model = FixTalk(config)
    discriminator = Discriminator(config.channels)
    layers = equalised(model.backbone)
    if model.speech is not None:
        layers |= equalised(model.speech)
    adam, muon = [], []
    for part, weights in parts(model).items():
        for groups, turned in ((adam, False), (muon, True)):
            if chosen := [weight for weight in weights if (weight in layers) is turned]:
                groups.append({"params": chosen, "part": part})
    return TrainState(
        model=model,
        average=copy.deepcopy(model).requires_grad_(False),
        discriminator=discriminator,
        optimiser=torch.optim.Adam(adam, betas=betas, fused=True),
        matrix_optimiser=Muon(muon),
        discriminator_optimiser=torch.optim.Adam(
            discriminator.parameters(), betas=(0.0, 0.99), fused=True
        ),
    )


def train_step(
    state: TrainState, share: Sequence[Microbatch], schedule: list[Stretch], method: Method
) -> dict[str, float]:
    """One optimiser step of each network; the value of every loss term.

    Gradients are summed over the share, and averaged over workers where `state.wrap` does that.
    What a loss compares across items it compares within one microbatch, so that the step does
    not depend on how many workers share the batch.

    Args:
        state: changed in place.
        share: this worker's microbatches.
        schedule: all of it; the state's step picks the phase.
        method: what does not change with the phase.

    Raises:
        FloatingPointError: a loss is not finite; names step, phase and terms.
    """
    stretch, done = stretch_at(schedule, state.step)
    phase = stretch.phase
    if state.entered != stretch.name:
        _enter(state, stretch)
    _set_learning_rates(state, phase, done)
    values: Counter = Counter()
    pictures = []
    state.optimiser.zero_grad(set_to_none=True)
    state.matrix_optimiser.zero_grad(set_to_none=True)
    for batch, weight in _accumulating(state.wrapped_model, share):
        taught = _taught(taught_share(done), state.step, batch)
        with torch.autocast(batch.source.device.type, torch.bfloat16, enabled=method.bfloat16):
            seen = state.wrapped_model(batch, phase, taught)
            state.discriminator.requires_grad_(False)
            terms = dict(loss_terms(state.model, state.discriminator, phase, batch, seen, method))
        total = torch.stack([phase.weights[name] * term for name, term in terms.items()]).sum()
        told = {name: float(term.detach()) for name, term in terms.items()} | seen.facts()
        if not torch.isfinite(total):
            raise FloatingPointError(f"step {state.step}, phase {stretch.name}: losses {told}")
        (weight * total).backward()
        values.update({name: weight * value for name, value in told.items()})
        if phase.discriminator:
            shown = batch.shows_target
            made = seen.frames[shown].detach()
            pictures.append(((one_by_one(batch.target[shown]), one_by_one(made)), weight))
    state.optimiser.step()
    state.matrix_optimiser.step()
    if phase.discriminator:
        values.update(_discriminator_step(state, phase, pictures, method.bfloat16))
    state.step += 1
    _update_average(state, min(method.decay, (1 + state.step) / (10 + state.step)))
    return dict(values)


def _accumulating(network: nn.Module, share: Sequence[tuple[Any, float]]) -> Iterator:
    """The share item by item; workers exchange gradients with the last one only."""
    for place, item in enumerate(share, start=1):
        waits = place < len(share) and isinstance(network, DistributedDataParallel)
        with network.no_sync() if waits else nullcontext():
            yield item


def _enter(state: TrainState, stretch: Stretch) -> None:
    """Freeze what the phase does not train; data parallelism has to know before it wraps.

    Raises:
        ValueError: the phase trains nothing of this model.
    """
    trained = 0
    for group in state.groups():
        rate = stretch.phase.trains.get(group["part"], 0)
        trained += rate > 0
        for weight in group["params"]:
            weight.requires_grad_(rate > 0)
            weight.grad = None
    if not trained:
        names = ", ".join(parts(state.model))
        raise ValueError(f"phase {stretch.name} trains no part of this model, which has {names}")
    state.wrapped_model = state.wrapped_discriminator = None  # let go of the phase before, first
    pass_ = Talking if stretch.phase.speaks else Reenactment
    state.wrapped_model = state.wrap(pass_(state.model))
    if stretch.phase.discriminator:
        state.wrapped_discriminator = state.wrap(state.discriminator.requires_grad_(True))
    state.entered = stretch.name


def _set_learning_rates(state: TrainState, phase: Phase, done: float) -> None:
    first, last = phase.learning_rate
    rate = first + done * (last - first)
    for group in state.groups():
        group["lr"] = rate * phase.trains.get(group["part"], 0)
    if phase.discriminator:
        for group in state.discriminator_optimiser.param_groups:
            group["lr"] = phase.discriminator.learning_rate


def _taught(share: float, step: int, batch: Batch) -> Tensor:
    """Items whose detail is read by the teacher's address: all, every other one, or none."""
    turns = torch.arange(len(batch.source), device=batch.source.device) + step
    return turns % 2 < 2 * share


def _discriminator_step(
    state: TrainState,
    phase: Phase,
    share: Sequence[tuple[tuple[Tensor, Tensor], float]],
    bfloat16: bool,
) -> Counter:
    """One step of the discriminator on real and made frames, with R1 every 16th."""
    state.discriminator.requires_grad_(True)
    penalise = phase.discriminator.r1 > 0 and state.step % PENALTY_EVERY == 0
    values: Counter = Counter()
    state.discriminator_optimiser.zero_grad(set_to_none=True)
    for (real, made), weight in _accumulating(state.wrapped_discriminator, share):
        real = real.detach().requires_grad_(penalise)
        # R1 differentiates twice, which bfloat16 convolutions do not survive
        with torch.autocast(real.device.type, torch.bfloat16, enabled=bfloat16 and not penalise):
            logits = state.wrapped_discriminator(torch.cat([real, made]), sets=2)
        real_logits, made_logits = logits.chunk(2)
        loss = losses.discrimination(real_logits, made_logits)
        values["discrimination"] += weight * float(loss.detach())
        if penalise:
            penalty = losses.gradient_penalty(real, real_logits)
            values["gradient_penalty"] += weight * float(penalty.detach())
            loss = loss + phase.discriminator.r1 / 2 * PENALTY_EVERY * penalty
        (weight * loss).backward()
    state.discriminator_optimiser.step()
    return values


@torch.no_grad()
def _update_average(state: TrainState, decay: float) -> None:
    """Pull the averaged weights towards the current ones."""
    average, current = list(state.average.parameters()), list(state.model.parameters())
    torch._foreach_lerp_(average, current, 1 - decay)
