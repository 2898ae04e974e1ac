"""Frames of a pair → the same motion under other colours, another complexion, another head."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np

from fixtalk.shapes import Float, UInt8
from fixtalk.strict import STRICT

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


def mirror(frame: UInt8[np.ndarray, "side side 3"]) -> UInt8[np.ndarray, "side side 3"]:
    """The frame with left and right exchanged."""
    return cv2.flip(frame, 1)


def recolour(
    frame: UInt8[np.ndarray, "side side 3"], gains: Float[np.ndarray, " 3"]
) -> UInt8[np.ndarray, "side side 3"]:
    """The frame under these channel gains, rounded and clipped."""
    return cv2.transform(frame, np.diag(gains))


def disguise(
    rng: np.random.Generator,
    frames: Sequence[UInt8[np.ndarray, "side side 3"]],
    gains: Float[np.ndarray, " 3"],
    augmentation: Augmentation,
) -> list[UInt8[np.ndarray, "side side 3"]]:
    """Drivers with another complexion and head shape: what is left to read is motion.

    Args:
        rng: of the complexion and the shape, which all frames share.
        frames: drivers as they were filmed.
        gains: of the pair's colours, which the complexion comes on top of.
        augmentation: how far both may go.

    Source: Burkov et al. 2020 (latent pose reenactment), section 3.1, pose augmentation.
    """
    gains = gains * np.exp(rng.normal(0, augmentation.driver_colour, 3)).astype(np.float32)
    swapped = augmentation.driver_colour > 0 and rng.random() < COLOUR_SWAPS
    colours = np.diag(gains)[rng.permutation(3) if swapped else slice(None)]
    scales = np.exp(rng.normal(0, augmentation.driver_stretch, 2))
    side = len(frames[0])
    shift = (side - 1) / 2 * (1 - scales)
    shape = np.array([[scales[0], 0, shift[0]], [0, scales[1], shift[1]]])
    changed = []
    for frame in frames:
        values = cv2.transform(frame.astype(np.float32), colours)
        if augmentation.driver_stretch > 0:
            values = cv2.warpAffine(values, shape, (side, side), borderMode=cv2.BORDER_REPLICATE)
        changed.append(cv2.convertScaleAbs(values))
    return changed
