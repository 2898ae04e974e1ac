"""Rows of training clips → batches of frame pairs, each a pure function of (seed, step, index)."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np
import torch

from fixtalk.media import decode_frames, to_float
from fixtalk.shapes import Bool, Float, UInt8
from fixtalk.training import Batch

Row = dict[str, Any]
Truth = tuple[Float[np.ndarray, "side side 2"], Bool[np.ndarray, "side side"]]
Place = tuple[Row, int]  # clip and frame
WarpTruth = Callable[[Place, Place], Truth]  # source, driver
COLOUR_SWAPS = 0.3  # share of drivers whose colour channels are permuted


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Random changes of a pair that keep its motion."""

    __pydantic_config__: ClassVar[dict] = {"extra": "forbid", "strict": True}

    flip: float  # probability of mirroring the pair
    colour: float  # standard deviation of log channel gains, the same for the whole pair
    driver_colour: float  # the same for the driver's input only: its colours must not matter
    driver_stretch: float  # log scale of its width and height: nor must the shape of its head

    def __post_init__(self) -> None:
        deviations = (self.colour, self.driver_colour, self.driver_stretch)
        if not 0 <= self.flip <= 1 or min(deviations) < 0:
            raise ValueError(f"{self}: flip lies in [0, 1], the others are at least 0")


class PairSampler:
    """Draws pairs: a person, a session, two frames of it that lie apart.

    Clips of one session share camera, light and background; a clip without one is its own.
    Where exact warps are known, the driver can be a stranger: no picture shows what should come
    out, but the warp that leads there is known from the labels of both.

    Args:
        rows: clips with "person", "session", "clip", "video", "frames" (and what `truth` reads).
        seed: of all draws.
        distance: fewest frames between source and driver of one clip, as far as it allows.
        strangers: share of a batch whose driver is another person; 0 without exact warps.
        truth: exact warps, or None where the data has none.

    Raises:
        ValueError: no clip holds two frames.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        *,
        seed: int,
        distance: int,
        augmentation: Augmentation,
        strangers: float = 0.0,
        truth: WarpTruth | None = None,
    ) -> None:
        people = defaultdict(lambda: defaultdict(list))
        for row in rows:
            if row["frames"] >= 2:
                people[row["person"]][row["session"] or row["clip"]].append(row)
        if not people:
            raise ValueError(f"none of {len(rows)} clips holds two frames: nothing to train on")
        self.people = [list(people[name].values()) for name in sorted(people)]
        self.seed, self.distance = seed, distance
        self.augmentation, self.truth = augmentation, truth
        self.strangers = strangers if truth and len(people) > 1 else 0.0

    def batch(self, step: int, indices: Sequence[int]) -> Batch:
        """The items `indices` of the global batch of a step."""
        items = [self._item(step, index) for index in indices]
        frames = torch.from_numpy(np.stack([pair for pair, _ in items]))
        source, driver, target = to_float(frames.permute(1, 0, 4, 2, 3))
        shows_target = torch.tensor([not self._is_stranger(index) for index in indices])
        if self.truth is None:
            return Batch(source, driver, target, shows_target)
        flow = torch.from_numpy(np.stack([truth[0] for _, truth in items]))
        valid = torch.from_numpy(np.stack([truth[1] for _, truth in items]))
        return Batch(source, driver, target, shows_target, flow, valid)

    def _item(
        self, step: int, index: int
    ) -> tuple[UInt8[np.ndarray, "3 side side 3"], Truth | None]:
        rng = np.random.default_rng([self.seed, step, index])
        person = int(rng.integers(len(self.people)))
        sessions = self.people[person]
        source, driver = self._places(rng, sessions[rng.integers(len(sessions))])
        if self._is_stranger(index):
            others = self.people[(person + rng.integers(1, len(self.people))) % len(self.people)]
            driver, _ = self._places(rng, others[rng.integers(len(others))])
        frames = np.concatenate([decode_frames(row["video"], [i]) for row, i in (source, driver)])
        truth = None if self.truth is None else self.truth(source, driver)
        if rng.random() < self.augmentation.flip:
            frames = frames[:, :, ::-1]
            truth = None if truth is None else _mirror(truth)
        source, target = _recolour(rng, frames, self.augmentation.colour)
        driver = _disguise(rng, target, self.augmentation)
        return np.stack([source, driver, target]).round().clip(0, 255).astype(np.uint8), truth

    def _is_stranger(self, index: int) -> bool:
        """Whether an item of the batch has another person as driver: spread evenly."""
        return int((index + 1) * self.strangers) > int(index * self.strangers)

    def _places(self, rng: np.random.Generator, clips: list[Row]) -> tuple[Place, Place]:
        source, driver = (clips[i] for i in rng.integers(len(clips), size=2))
        if source is driver:
            first, second = _two_frames(rng, source["frames"], self.distance)
            return (source, first), (source, second)
        return tuple((row, int(rng.integers(row["frames"]))) for row in (source, driver))


def _two_frames(rng: np.random.Generator, frames: int, distance: int) -> tuple[int, int]:
    """A random ordered pair at least `distance` apart, or as far as the clip allows."""
    distance = min(distance, frames - 1)
    first = int(rng.integers(frames - distance))
    second = int(rng.integers(first + distance, frames))
    return (first, second) if rng.random() < 0.5 else (second, first)


def _mirror(truth: Truth) -> Truth:
    """The exact warp of the mirrored pair."""
    flow, valid = truth
    sign = np.array([-1, 1], flow.dtype)
    return np.ascontiguousarray(flow[:, ::-1] * sign), np.ascontiguousarray(valid[:, ::-1])


def _recolour(
    rng: np.random.Generator, frames: UInt8[np.ndarray, "2 side side 3"], deviation: float
) -> Float[np.ndarray, "2 side side 3"]:
    """Both frames under the same random channel gains."""
    return frames * np.exp(rng.normal(0, deviation, 3)).astype(np.float32)


def _disguise(
    rng: np.random.Generator,
    frame: Float[np.ndarray, "side side 3"],
    augmentation: Augmentation,
) -> Float[np.ndarray, "side side 3"]:
    """The driver with another complexion and head shape: what is left to read is motion.

    Source: Burkov et al. 2020 (latent pose reenactment), section 3.1, pose augmentation.
    """
    gains = np.exp(rng.normal(0, augmentation.driver_colour, 3)).astype(np.float32)
    swapped = augmentation.driver_colour > 0 and rng.random() < COLOUR_SWAPS
    frame = (frame * gains)[..., rng.permutation(3) if swapped else np.arange(3)]
    scales = np.exp(rng.normal(0, augmentation.driver_stretch, 2))
    if augmentation.driver_stretch == 0:
        return frame
    centre = (frame.shape[0] - 1) / 2
    shift = centre * (1 - scales)
    matrix = np.array([[scales[0], 0, shift[0]], [0, scales[1], shift[1]]])
    return cv2.warpAffine(
        np.ascontiguousarray(frame), matrix, frame.shape[:2], borderMode=cv2.BORDER_REPLICATE
    )
