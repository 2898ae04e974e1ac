"""Rows of training clips → batches of frame pairs, each a pure function of (seed, step, index)."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import cv2
import numpy as np
import torch

from fixtalk.media import decode_frames, to_float
from fixtalk.reenactment import Batch
from fixtalk.shapes import Bool, Float, UInt8
from fixtalk.strict import STRICT
from fixtalk.swap import swap_mouth

Row = dict[str, Any]
Truth = tuple[Float[np.ndarray, "side side 2"], Bool[np.ndarray, "side side"]]
Place = tuple[Row, int]  # clip and frame
WarpTruth = Callable[[Place, Place], Truth]  # source, driver
PARTNERS = 8  # tried for a swap of mouths before it counts as impossible
COLOUR_SWAPS = 0.3  # share of drivers whose colour channels are permuted


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Random changes of a pair that keep its motion."""

    __pydantic_config__: ClassVar[dict] = STRICT

    flip: float  # probability of mirroring the pair
    colour: float  # standard deviation of log channel gains, the same for the whole pair
    driver_colour: float  # the same for the driver's input only: its colours must not matter
    driver_stretch: float  # log scale of its width and height: nor must the shape of its head

    def __post_init__(self) -> None:
        deviations = (self.colour, self.driver_colour, self.driver_stretch)
        if not 0 <= self.flip <= 1 or min(deviations) < 0:
            raise ValueError(f"{self}: flip lies in [0, 1], the others are at least 0")


class _Item(NamedTuple):
    frames: UInt8[np.ndarray, "views side side 3"]  # source, target, driver; with swaps lip, pose
    is_stranger: bool
    moves: bool | None
    truth: Truth | None


class PairSampler:
    """Draws pairs: a person, a session, two frames of it that lie apart.

    Clips of one session share camera, light and background; a clip without one is its own.
    Where exact warps are known, the driver can be a stranger: no picture shows what should come
    out, but the warp that leads there is known from the labels of both.

    Args:
        rows: clips with "person", "session", "clip", "video", "frames", "landmarks" (or None),
            and what `truth` reads.
        seed: of all draws.
        distance: fewest frames between source and driver of one clip, as far as it allows.
        gate: a driver moves if its landmarks lie further from the source's than this share of
            the frame's side, on average.
        augmentation: random changes of each pair.
        strangers: share of a batch with warps whose driver is another person.
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
        gate: float,
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
        self.unmarked = next((row["clip"] for row in rows if row["landmarks"] is None), None)
        self.seed, self.distance, self.gate = seed, distance, gate
        self.augmentation, self.truth = augmentation, truth
        self.strangers = strangers if len(people) > 1 else 0.0

    def batch(
        self, step: int, indices: Sequence[int], *, warps: bool = False, swaps: bool = False
    ) -> Batch:
        """The items `indices` of the global batch of a step.

        Args:
            step: of training.
            indices: this worker's share.
            warps: add exact warps, and with them strangers, where the data has them.
            swaps: add the driver's mouth on another person and that person's mouth on the driver.

        Raises:
            ValueError: swaps without landmarks, or without another person.
        """
        if swaps:
            self.check_swaps()
        warps = warps and self.truth is not None
        items = [self._item(step, index, warps, swaps) for index in indices]
        frames, strange, moves, truths = zip(*items, strict=True)
        views = torch.from_numpy(np.stack(frames)).permute(1, 0, 4, 2, 3)
        source, target, driver, *swapped = to_float(views)
        lip, pose = swapped or (None, None)
        flow, valid = (
            (_stack(part) for part in zip(*truths, strict=True)) if warps else (None, None)
        )
        return Batch(
            source=source,
            driver=driver,
            target=target,
            shows_target=~torch.tensor(strange),
            moves=None if self.unmarked else torch.tensor(moves),
            lip=lip,
            pose=pose,
            flow=flow,
            valid=valid,
        )

    def check_swaps(self) -> None:
        """Raise ValueError where mouths cannot be swapped: no landmarks, or nobody to swap with."""
        remedy = "leave phases that weigh l_fea out of train.variants"
        if self.unmarked:
            raise ValueError(f"clip {self.unmarked} has no landmarks to swap mouths by: {remedy}")
        if len(self.people) == 1:
            raise ValueError(f"all clips are of one person, who cannot swap mouths: {remedy}")

    def _item(self, step: int, index: int, warps: bool, swaps: bool) -> _Item:
        rng = np.random.default_rng([self.seed, step, index])
        owner = person = int(rng.integers(len(self.people)))
        sessions = self.people[person]
        source, driver = self._places(rng, sessions[rng.integers(len(sessions))])
        if is_stranger := warps and self._is_stranger(index):
            owner, driver = self._another(rng, person)
        frames = [_frame(source), _frame(driver)]
        if swaps:  # draws of its own: the pair stays the same without
            partners = np.random.default_rng([self.seed, step, index, 1])
            frames += self._swapped(partners, owner, driver, frames[1])
        frames = np.stack(frames)
        truth = self.truth(source, driver) if warps else None
        if rng.random() < self.augmentation.flip:
            frames = frames[:, :, ::-1]
            truth = truth and _mirror(truth)
        frames = _recolour(rng, frames, self.augmentation.colour)
        drivers = _disguise(rng, frames[1:], self.augmentation)
        frames = np.concatenate([frames[:2], drivers]).round().clip(0, 255).astype(np.uint8)
        moves = None if self.unmarked else self._moves(source, driver, frames.shape[1])
        return _Item(frames, is_stranger, moves, truth)

    def _is_stranger(self, index: int) -> bool:
        """Whether an item of the batch has another person as driver: spread evenly."""
        return int((index + 1) * self.strangers) > int(index * self.strangers)

    def _places(self, rng: np.random.Generator, clips: list[Row]) -> tuple[Place, Place]:
        source, driver = (clips[i] for i in rng.integers(len(clips), size=2))
        if source is driver:
            first, second = _two_frames(rng, source["frames"], self.distance)
            return (source, first), (source, second)
        return tuple((row, int(rng.integers(row["frames"]))) for row in (source, driver))

    def _another(self, rng: np.random.Generator, person: int) -> tuple[int, Place]:
        """Another person, and a frame of theirs."""
        other = int(person + rng.integers(1, len(self.people))) % len(self.people)
        sessions = self.people[other]
        return other, self._places(rng, sessions[rng.integers(len(sessions))])[0]

    def _swapped(
        self, rng: np.random.Generator, owner: int, driver: Place, face: np.ndarray
    ) -> list[UInt8[np.ndarray, "side side 3"]]:
        """Mouths swapped with a person who can: a mouth may lie outside its frame."""
        for _ in range(PARTNERS):
            _, partner = self._another(rng, owner)
            try:
                return _swap_mouths(driver, face, partner, _frame(partner))
            except ValueError as error:
                refused = error
        raise refused

    def _moves(self, source: Place, driver: Place, side: int) -> bool:
        apart = np.linalg.norm(_landmarks(source) - _landmarks(driver), axis=1).mean()
        return bool(apart > self.gate * side)


def _frame(place: Place) -> UInt8[np.ndarray, "side side 3"]:
    row, index = place
    return decode_frames(row["video"], [index])[0]


def _landmarks(place: Place) -> Float[np.ndarray, "68 2"]:
    row, index = place
    return row["landmarks"][index]


def _swap_mouths(
    one: Place, face: np.ndarray, other: Place, other_face: np.ndarray
) -> list[UInt8[np.ndarray, "side side 3"]]:
    """The other face with the mouth of the one, and the one with that of the other."""
    first, second = (face, _landmarks(one)), (other_face, _landmarks(other))
    try:
        return [swap_mouth(*second, *first), swap_mouth(*first, *second)]
    except ValueError as error:
        places = " and ".join(f"frame {i} of {row['clip']}" for row, i in (one, other))
        raise ValueError(f"{places}: {error}") from error


def _stack(arrays: Sequence[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack(arrays))


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
    rng: np.random.Generator, frames: UInt8[np.ndarray, "views side side 3"], deviation: float
) -> Float[np.ndarray, "views side side 3"]:
    """All frames under the same random channel gains."""
    return frames * np.exp(rng.normal(0, deviation, 3)).astype(np.float32)


def _disguise(
    rng: np.random.Generator,
    frames: Float[np.ndarray, "views side side 3"],
    augmentation: Augmentation,
) -> Float[np.ndarray, "views side side 3"]:
    """Drivers with another complexion and head shape: what is left to read is motion.

    Source: Burkov et al. 2020 (latent pose reenactment), section 3.1, pose augmentation.
    """
    gains = np.exp(rng.normal(0, augmentation.driver_colour, 3)).astype(np.float32)
    swapped = augmentation.driver_colour > 0 and rng.random() < COLOUR_SWAPS
    frames = (frames * gains)[..., rng.permutation(3) if swapped else np.arange(3)]
    scales = np.exp(rng.normal(0, augmentation.driver_stretch, 2))
    if augmentation.driver_stretch == 0:
        return frames
    side = frames.shape[1]
    shift = (side - 1) / 2 * (1 - scales)
    matrix = np.array([[scales[0], 0, shift[0]], [0, scales[1], shift[1]]])
    return np.stack(
        [
            cv2.warpAffine(
                np.ascontiguousarray(frame), matrix, (side, side), borderMode=cv2.BORDER_REPLICATE
            )
            for frame in frames
        ]
    )
