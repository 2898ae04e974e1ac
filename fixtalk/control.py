"""Coefficients of several drivers → the motion to render: gains, smoothing, blinks."""

import math
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import repeat
from typing import TypeVar

import torch
from torch import Tensor

from fixtalk.container import FPS
from fixtalk.shapes import Float

Item = TypeVar("Item")
BLINK = (0.5, 1.0, 0.8, 0.4, 0.1)  # how far the eyes are closed, frame by frame: 0.2 s
PAUSE = (1.0, 3.5)  # seconds between two blinks: 24 a minute, as of somebody who talks


@dataclass(frozen=True, kw_only=True)
class Smoothing:
    """Strength of a one-euro filter over coefficients at 25 values a second."""

    # Measured on two real clips: 0.55 to 0.75 of the jitter (second differences) at 0.5 to 0.7
    # frames of lag, 0.24 of it where only the camera's noise moves.
    cutoff: float = 2.0  # hertz, for what hardly moves: lower is calmer
    beta: float = 2.0  # hertz of cutoff for each unit a second: higher lags less
    derivative_cutoff: float = 2.0  # hertz, for the speed

    def __post_init__(self) -> None:
        for name in ("cutoff", "derivative_cutoff"):
            if getattr(self, name) <= 0:
                raise ValueError(f"smoothing.{name} {getattr(self, name)}: choose above 0 Hz")
        if self.beta < 0:
            raise ValueError(f"smoothing.beta {self.beta}: choose at least 0")


class OneEuroFilter:
    """A low-pass filter whose cutoff rises with speed: rest is calm, quick motion hardly lags.

    Frames come one after the other and in batches of any size: the state is carried on, so that
    the same frames give the same bits however they are cut into batches.

    Source: Casiez et al., 1€ Filter (CHI 2012), algorithm 1.
    """

    def __init__(self, smoothing: Smoothing) -> None:
        self.smoothing = smoothing
        self.value: Tensor | None = None
        self.speed: Tensor | None = None

    def __call__(self, values: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        """The next frames' coefficients, filtered."""
        return torch.stack([self._next(value) for value in values])

    def _next(self, value: Tensor) -> Tensor:
        if self.value is None:
            self.value, self.speed = value, torch.zeros_like(value)
            return value
        speed = (value - self.value) * FPS
        self.speed = torch.lerp(self.speed, speed, _share(self.smoothing.derivative_cutoff))
        cutoff = self.smoothing.cutoff + self.smoothing.beta * self.speed.abs()
        self.value = torch.lerp(self.value, value, _share(cutoff))
        return self.value


def _share(cutoff: Tensor | float) -> Tensor | float:
    """Of the new value in the filtered one."""
    return 1 / (1 + FPS / (2 * math.pi * cutoff))


def blinks(seed: int) -> Iterator[float]:
    """How far the eyes are closed, frame by frame without end: 0 open, 1 shut.

    A blink comes after a random pause of 1 to 3.5 seconds.

    Args:
        seed: another one, other pauses.

    Source: Bentivoglio et al. 1997 (17 blinks a minute at rest, 26 in conversation).
    """
    draw = random.Random(seed)
    while True:
        yield from repeat(0.0, round(FPS * draw.uniform(*PAUSE)))
        yield from BLINK


class Jitter:
    """How much coefficients tremble: the mean norm of their second differences, frame by frame."""

    def __init__(self) -> None:
        self.total, self.count = 0.0, 0
        self._last: Tensor | None = None

    def add(self, values: Float[Tensor, "batch ..."]) -> None:
        """Count the next frames'."""
        values = values.detach().flatten(1).double().cpu()
        row = values if self._last is None else torch.cat([self._last, values])
        if len(row) > 2:
            seconds = row.diff(n=2, dim=0).norm(dim=1)
            self.total, self.count = self.total + float(seconds.sum()), self.count + len(seconds)
        self._last = row[-2:].clone()

    @property
    def mean(self) -> float:
        """0 of fewer than three frames."""
        return self.total / max(1, self.count)


class Calming:
    """A one-euro filter for each component, and how much the component trembles without and with.

    Args:
        smoothing: None: nothing is filtered.
    """

    def __init__(self, smoothing: Smoothing | None) -> None:
        self.smoothing = smoothing
        self.before, self.after = defaultdict(Jitter), defaultdict(Jitter)
        self._filters = defaultdict(lambda: OneEuroFilter(smoothing))

    def __call__(
        self, component: str, values: Float[Tensor, "batch ..."]
    ) -> Float[Tensor, "batch ..."]:
        """The next frames' coefficients of a component, filtered."""
        calm = self._filters[component](values) if self.smoothing else values
        self.before[component].add(values)
        self.after[component].add(calm)
        return calm


def mix(
    own: Float[Tensor, "1 ..."],
    driven: Float[Tensor, "batch ..."],
    gain: float = 1.0,
    neutral: Float[Tensor, "1 ..."] | None = None,
) -> Float[Tensor, "batch ..."]:
    """One component's coefficients: the source's own, plus the driver's motion times the gain.

    A gain of 0 leaves the source as it is. Absolute motion is the driver's difference from the
    source, so that a gain of 1 gives the driver's coefficients; relative motion is its difference
    from its own neutral frame, so that what both people's faces differ by is left out.

    Args:
        own: of the source frame.
        driven: of the driver's frames.
        gain: at least 0; above 1 exaggerates.
        neutral: of the driver's frame that counts as no motion; None: absolute motion.
    """
    if neutral is None:
        return torch.lerp(own, driven, gain)
    return own + gain * (driven - neutral)


def to_and_fro(items: Iterable[Item]) -> Iterator[Item]:
    """The items, then backwards and forwards without end: a short clip drives a long one.

    Neither end is repeated, so that motion turns round as a pendulum does. A single item stays.
    """
    seen = []
    for item in items:
        seen.append(item)
        yield item
    if not seen:
        return
    turns = [*seen[-2:0:-1], seen[0]] if len(seen) > 1 else []
    while True:
        yield from turns or seen
        yield from seen[1:]
