"""Frames of a pair → the same motion under other colours, another complexion, another head."""

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


def recolour(
    frames: UInt8[np.ndarray, "views side side 3"], gains: Float[np.ndarray, " 3"]
) -> UInt8[np.ndarray, "views side side 3"]:
    """All frames under the same channel gains, by a table: pixels have 256 values."""
    table = pixels(np.arange(256, dtype=np.float32)[None, :, None] * gains)
    return np.stack([cv2.LUT(np.ascontiguousarray(frame), table) for frame in frames])


def pixels(values: Float[np.ndarray, "..."]) -> UInt8[np.ndarray, "..."]:
    """Colours as bytes."""
    return values.round().clip(0, 255).astype(np.uint8)


def disguise(
    rng: np.random.Generator,
    frames: Float[np.ndarray, "views side side 3"],
    augmentation: Augmentation,
) -> Float[np.ndarray, "views side side 3"]:
    """Drivers with another complexion and head shape: what is left to read is motion.

    Source: Burkov et al. 2020 (latent pose reenactment), section 3.1, pose augmentation.
    """
    gains = np.exp(rng.normal(0, augmentation.driver_colour, 3)).astype(np.float32)
    swapped = augmentation.driver_colour > 0 and rng.random() < COLOUR_SWAPS
    frames = frames * gains
    if swapped:
        frames = frames[..., rng.permutation(3)]
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
