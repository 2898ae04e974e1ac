"""Batches of frame pairs → a trained model: one step of a phase, device-agnostic, torch only."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from fixtalk import losses
from fixtalk.discriminator import Discriminator
from fixtalk.model import FixTalk, ModelConfig
from fixtalk.shapes import Bool, Float

TERMS = ("reconstruction", "pyramid", "warp_truth", "adversarial", "feature_matching")
PENALTY_EVERY = 16  # discriminator steps between two R1 terms (StyleGAN2's lazy regularisation)


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One stretch of training: how long, how fast, and what is minimised."""

    __pydantic_config__: ClassVar[dict] = {"extra": "forbid", "strict": True}

    name: str
    steps: int
    learning_rate: float  # Adam's, at the first step of the phase
    final_learning_rate: float  # at its last step; linear in between
    discriminator_learning_rate: float  # 0 leaves the discriminator out
    penalty: float  # weight γ of R1, applied every 16 steps
    weights: dict[str, float]  # of the loss terms

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"phase {self.name}: steps {self.steps} must be at least 1")
        unknown = sorted(set(self.weights) - set(TERMS))
        if unknown:
            raise ValueError(
                f"phase {self.name}: unknown loss {unknown}, choose from {', '.join(TERMS)}"
            )
        if self.uses_discriminator and self.discriminator_learning_rate <= 0:
            raise ValueError(
                f"phase {self.name}: adversarial and feature_matching need "
                "discriminator_learning_rate above 0"
            )

    @property
    def uses_discriminator(self) -> bool:
        """Whether a loss term looks at the discriminator."""
        return any(self.weights.get(t, 0) > 0 for t in ("adversarial", "feature_matching"))


@dataclass(frozen=True)
class Batch:
    """Frames in [-1, 1]; the target is the driver before its augmentation, where it shows one.

    A driver of another person than the source is no target: only the warp can be learned.
    """

    source: Float[Tensor, "batch 3 h w"]
    driver: Float[Tensor, "batch 3 h w"]
    target: Float[Tensor, "batch 3 h w"]
    shows_target: Bool[Tensor, " batch"]  # the driver is the source's person
    flow: Float[Tensor, "batch h w 2"] | None = None  # exact warp of source onto driver
    valid: Bool[Tensor, "batch h w"] | None = None  # where that warp exists

    def to(self, device: torch.device) -> "Batch":
        """The batch on another device."""
        pictures = (self.source, self.driver, self.target)
        tensors = (*pictures, self.shows_target, self.flow, self.valid)
        return Batch(*(t if t is None else t.to(device, non_blocking=True) for t in tensors))


class Reenactment(nn.Module):
    """Source and driver frames in one forward pass: what data parallelism wraps."""

    def __init__(self, model: FixTalk) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, source: Float[Tensor, "batch 3 h w"], driver: Float[Tensor, "batch 3 h w"]
    ) -> tuple[Tensor, list[Tensor]]:
        """Unclamped frames and flows, coarse first."""
        return self.model.render(self.model.encode_source(source), self.model.motion(driver))


@dataclass
class TrainState:
    """Everything a step changes: saved and restored as one."""

    model: FixTalk
    average: FixTalk  # exponential moving average of the model: what is exported
    discriminator: Discriminator
    optimiser: torch.optim.Optimizer
    discriminator_optimiser: torch.optim.Optimizer
    step: int = 0
    parallel: dict[str, nn.Module] = field(default_factory=dict)  # wrapped networks, never saved

    def state_dict(self) -> dict:
        """All tensors and the step, ready for `torch.save`."""
        return {name: getattr(self, name).state_dict() for name in _SAVED} | {"step": self.step}

    def load_state_dict(self, saved: dict) -> None:
        """Continue exactly where `state_dict` was taken."""
        for name in _SAVED:
            getattr(self, name).load_state_dict(saved[name])
        self.step = saved["step"]


_SAVED = ("model", "average", "discriminator", "optimiser", "discriminator_optimiser")


def start(config: ModelConfig, betas: tuple[float, float], seed: int) -> TrainState:
    """A state at step 0, its weights drawn from the seed."""
    torch.manual_seed(seed)
    model = FixTalk(config)
    discriminator = Discriminator(config.channels)
    return TrainState(
        model=model,
        average=copy.deepcopy(model).requires_grad_(False),
        discriminator=discriminator,
        optimiser=torch.optim.Adam(model.parameters(), betas=betas),
        discriminator_optimiser=torch.optim.Adam(discriminator.parameters(), betas=(0.0, 0.99)),
    )


def phase_at(phases: list[Phase], step: int) -> tuple[Phase, float]:
    """The phase that a global step belongs to, and how far on the phase is: 0 first, 1 last."""
    for phase in phases:
        if step < phase.steps:
            return phase, step / max(1, phase.steps - 1)
        step -= phase.steps
    raise IndexError(f"step {step} lies behind the last phase {phases[-1].name}")


def train_step(
    state: TrainState, batch: Batch, phases: list[Phase], *, decay: float, bfloat16: bool
) -> dict[str, float]:
    """One optimiser step of each network; the value of every loss term.

    Args:
        state: changed in place.
        batch: this worker's share.
        phases: the whole schedule; the state's step picks the phase.
        decay: of the moving average of weights.
        bfloat16: run convolutions in bfloat16.

    Raises:
        FloatingPointError: a loss is not finite; names step, phase and terms.
    """
    phase, done = phase_at(phases, state.step)
    fall = phase.final_learning_rate - phase.learning_rate
    _set_learning_rate(state.optimiser, phase.learning_rate + done * fall)
    _set_learning_rate(state.discriminator_optimiser, phase.discriminator_learning_rate)
    network = state.parallel.get("model") or Reenactment(state.model)
    with torch.autocast(batch.source.device.type, torch.bfloat16, enabled=bfloat16):
        fake, flows = network(batch.source, batch.driver)
        state.discriminator.requires_grad_(False)
        terms = dict(_terms(state, phase, batch, fake, flows))
    total = torch.stack([phase.weights[name] * term for name, term in terms.items()]).sum()
    state.optimiser.zero_grad(set_to_none=True)
    total.backward()
    values = {name: float(term.detach()) for name, term in terms.items()}
    if not torch.isfinite(total):
        raise FloatingPointError(f"step {state.step}, phase {phase.name}: losses {values}")
    state.optimiser.step()
    if phase.uses_discriminator:
        shown = batch.shows_target
        real, made = batch.target[shown], fake[shown].detach()
        values |= _discriminator_step(state, phase, real, made, bfloat16)
    state.step += 1
    _update_average(state, min(decay, (1 + state.step) / (10 + state.step)))
    return values


def _terms(
    state: TrainState, phase: Phase, batch: Batch, fake: Tensor, flows: list[Tensor]
) -> Iterator[tuple[str, Tensor]]:
    """Loss terms that this phase weighs above zero."""
    made, target = fake[batch.shows_target], batch.target[batch.shows_target]
    wanted = {name for name, weight in phase.weights.items() if weight > 0}
    if "reconstruction" in wanted:
        yield "reconstruction", losses.reconstruction(made, target)
    if "pyramid" in wanted:
        yield "pyramid", losses.pyramid(made, target)
    if "warp_truth" in wanted and batch.flow is not None:
        yield "warp_truth", losses.warp_truth(flows, batch.flow, batch.valid)
    if phase.uses_discriminator:
        logits, features = state.discriminator(made)
        if "adversarial" in wanted:
            yield "adversarial", losses.adversarial(logits)
        if "feature_matching" in wanted:
            with torch.no_grad():
                real = state.discriminator(target)[1]
            yield "feature_matching", losses.feature_matching(features, real)


def _discriminator_step(
    state: TrainState, phase: Phase, real: Tensor, fake: Tensor, bfloat16: bool
) -> dict[str, float]:
    """One step of the discriminator, with R1 every 16th."""
    state.discriminator.requires_grad_(True)
    network = state.parallel.get("discriminator") or state.discriminator
    penalise = phase.penalty > 0 and state.step % PENALTY_EVERY == 0
    real = real.detach().requires_grad_(penalise)
    # R1 differentiates twice, which bfloat16 convolutions do not survive
    with torch.autocast(real.device.type, torch.bfloat16, enabled=bfloat16 and not penalise):
        logits = network(torch.cat([real, fake]), sets=2)[0]
    real_logits, fake_logits = logits.chunk(2)
    loss = losses.discrimination(real_logits, fake_logits)
    values = {"discrimination": float(loss.detach())}
    if penalise:
        penalty = losses.gradient_penalty(real, real_logits)
        values["gradient_penalty"] = float(penalty.detach())
        loss = loss + phase.penalty / 2 * PENALTY_EVERY * penalty
    state.discriminator_optimiser.zero_grad(set_to_none=True)
    loss.backward()
    state.discriminator_optimiser.step()
    return values


@torch.no_grad()
def _update_average(state: TrainState, decay: float) -> None:
    """Pull the averaged weights towards the current ones."""
    average, current = list(state.average.parameters()), list(state.model.parameters())
    torch._foreach_lerp_(average, current, 1 - decay)


def _set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate
