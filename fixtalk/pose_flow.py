"""Poses so far and the sound → how the head moves on: a conditional normalising flow."""

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from fixtalk.layers import EqualLinear, precise
from fixtalk.shapes import Float

COUPLINGS = 4
HEARD = 16  # features of the sound that a pose is drawn from
STEEPEST = 2.0  # log factor that a coupling may apply
# Typical steps from where it starts, within which a head moves freely; it never gets twice as far.
# In three real clips of 8 to 10 s coefficients went 11 to 36 steps (deviations) from the first.
REACH = 35.0
TRIALS = 64  # steps drawn to see how large they are


class PoseFlow(nn.Module):
    """Density of the next step of the head, given the steps before and what is heard.

    A step is the difference of two poses, in coefficients. It is drawn from noise by affine
    couplings, whose factors and offsets depend on the last poses and the sound.

    Args:
        poses: coefficients of a pose.
        sounds: features of the sound around a frame.
        hidden: width of the couplings' networks.
        memory: poses that are looked back at.

    Source: RealNVP (arXiv 1605.08803), sections 3.2 to 3.5, conditioned step by step as in MoGlow
        (arXiv 1905.06598), which EDTalk's authors name for their unreleased audio-to-pose stage.
    """

    def __init__(self, poses: int, sounds: int, hidden: int, memory: int) -> None:
        super().__init__()
        self.memory = memory
        self.listen = EqualLinear(sounds, HEARD, activate=True)
        self.offset, self.log_spread = (nn.Parameter(torch.zeros(poses)) for _ in range(2))
        self.couplings = nn.ModuleList(
            _Coupling(poses, memory * poses + HEARD, hidden, flipped=bool(turn % 2))
            for turn in range(COUPLINGS)
        )

    def surprise(
        self, poses: Float[Tensor, "batch frames poses"], sounds: Float[Tensor, "batch frames n"]
    ) -> Float[Tensor, ""]:
        """Mean negative log-likelihood of the steps in nats a coefficient; lower is better.

        Raises:
            ValueError: fewer than memory + 1 frames.
        """
        frames = poses.shape[1]
        if frames <= self.memory:
            raise ValueError(f"{frames} poses: memory {self.memory} needs one more than that")
        poses = precise(poses)
        told = torch.stack(
            [
                self._context(poses[:, end - self.memory : end], sounds[:, end])
                for end in range(self.memory, frames)
            ],
            1,
        )
        steps = (poses.diff(dim=1)[:, self.memory - 1 :] - self.offset) * (-self.log_spread).exp()
        growth = -self.log_spread.sum().expand(steps.shape[:2])
        for coupling in self.couplings:
            steps, added = coupling(steps, told)
            growth = growth + added
        nats = 0.5 * (steps.square() + math.log(2 * math.pi)).sum(2) - growth
        return nats.mean() / poses.shape[2]

    def draw(
        self,
        start: Float[Tensor, " poses"],
        sounds: Iterable[Float[Tensor, " n"]],
        generator: torch.Generator,
        calm: float = 1.0,
    ) -> Iterator[Float[Tensor, " poses"]]:
        """A pose for every frame, going on from one that has been held.

        Steps add up, and their errors with them: far from the start a soft limit holds the head,
        so that it wanders off in no length of speech.

        Args:
            start: the pose before the first frame.
            sounds: of each frame, any number of them.
            generator: of the noise.
            calm: factor on the noise; at 0 the same sound always gives the same course.
        """
        held, reach = start[None].expand(self.memory, -1), None
        for sound in sounds:
            told = self._context(held[None], sound[None])
            if reach is None:
                own = torch.Generator().manual_seed(0)  # the noise of the course is not touched
                trials = torch.randn(TRIALS, len(start), generator=own).to(start)
                reach = REACH * self._steps(trials, told.expand(TRIALS, -1)).std(0)
            noise = calm * torch.randn(1, len(start), generator=generator)
            pose = start + _within(held[-1] + self._steps(noise.to(start), told)[0] - start, reach)
            held = torch.cat([held[1:], pose[None]])
            yield pose

    def _steps(
        self, noise: Float[Tensor, "batch poses"], told: Float[Tensor, "batch told"]
    ) -> Float[Tensor, "batch poses"]:
        """Steps of the head that noise becomes."""
        for coupling in reversed(self.couplings):
            noise = coupling.back(noise, told)
        return noise * self.log_spread.exp() + self.offset

    def _context(
        self, held: Float[Tensor, "batch memory poses"], sound: Float[Tensor, "batch n"]
    ) -> Float[Tensor, "batch told"]:
        """Where the head is, how it got there, and what is heard."""
        steps = held.diff(dim=1).flatten(1) * (-self.log_spread).exp().repeat(self.memory - 1)
        return torch.cat([held[:, -1], steps, precise(self.listen(sound))], 1)


def _within(
    moved: Float[Tensor, " poses"], reach: Float[Tensor, " poses"]
) -> Float[Tensor, " poses"]:
    """As it is up to the reach; beyond, ever less is added, to twice the reach at most."""
    excess = (moved.abs() - reach).clamp(min=0)
    return moved.sign() * (moved.abs() - excess + reach * (excess / reach).tanh())


class _Coupling(nn.Module):
    """Half of a step scaled and shifted as the other half and the context say."""

    def __init__(self, poses: int, told: int, hidden: int, *, flipped: bool) -> None:
        super().__init__()
        self.split, self.flipped = poses // 2, flipped
        kept = poses - self.split if flipped else self.split
        self.read = nn.Sequential(
            EqualLinear(kept + told, hidden, activate=True),
            EqualLinear(hidden, hidden, activate=True),
            EqualLinear(hidden, 2 * (poses - kept)),
        )
        nn.init.zeros_(self.read[-1].weight)  # the flow begins as the identity

    def forward(self, steps: Tensor, told: Tensor) -> tuple[Tensor, Tensor]:
        """Steps nearer to noise, and the log of by how much space grew there."""
        kept, moved = self._halves(steps)
        factor, shift = self._terms(kept, told)
        return self._joined(kept, moved * factor.exp() + shift), factor.sum(-1)

    def back(self, steps: Tensor, told: Tensor) -> Tensor:
        """The inverse."""
        kept, moved = self._halves(steps)
        factor, shift = self._terms(kept, told)
        return self._joined(kept, (moved - shift) * (-factor).exp())

    def _terms(self, kept: Tensor, told: Tensor) -> tuple[Tensor, Tensor]:
        factor, shift = precise(self.read(torch.cat([kept, told], -1))).chunk(2, -1)
        return STEEPEST * (factor / STEEPEST).tanh(), shift

    def _halves(self, steps: Tensor) -> tuple[Tensor, Tensor]:
        first, second = steps[..., : self.split], steps[..., self.split :]
        return (second, first) if self.flipped else (first, second)

    def _joined(self, kept: Tensor, moved: Tensor) -> Tensor:
        return torch.cat([moved, kept] if self.flipped else [kept, moved], -1)
