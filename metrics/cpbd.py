"""Frames → the share of their edges that look sharp."""

from typing import no_type_check

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from numba import njit
from torch import Tensor

from metrics.inputs import check_clip
from metrics.luma import luma
from metrics.smoothing import gaussian_weights, smooth

BLOCK = 64
EDGE_PIXELS = 0.002 * BLOCK**2  # a block with no more of them is left out
LOW_CONTRAST = 50  # grey levels
NOTICEABLE_WIDTH = 5, 3  # pixels, in blocks of low and of higher contrast
RADIUS = 4  # of a Gaussian of sigma 1
WEAK, STRONG = float(np.float32(0.1)), 0.2  # Canny thresholds; scikit-image rounds the first


def cpbd(frames: UInt8[Tensor, "frames 3 height width"]) -> Float[Tensor, " frames"]:
    """Cumulative probability of blur detection of each frame, 0 to 1; higher is sharper.

    It falls with resolution for the same picture and rises with noise: compare equal sizes
    only. A frame without an edge scores 0.0, as if it were blurred.

    Args:
        frames: generated frames, 0-255; only whole blocks of 64 x 64 pixels count.

    Raises:
        TypeError: frames are not uint8.
        ValueError: no frame, or smaller than one block.

    Source: Narvekar & Karam 2011 as in 0x64746b/python-cpbd 1.0.7, on Pillow's luma; equal to
        1e-9 (tests/golden/sharpness.json).
    """
    check_clip(frames)
    height, width = frames.shape[2:]
    if min(height, width) < BLOCK:
        raise ValueError(
            f"frames of {height} x {width} pixels hold no block of {BLOCK} x {BLOCK}: "
            f"CPBD needs at least {BLOCK} pixels a side"
        )
    weights = gaussian_weights(RADIUS, sigma=1.0)
    inside = smooth(np.pad(np.ones((height, width)), RADIUS), weights) + np.finfo(np.float64).eps
    pictures = (luma(frame).astype(np.float64) for frame in frames)
    values = [
        _sharp_share(picture, smooth(np.pad(picture, RADIUS), weights) / inside)
        for picture in pictures
    ]
    return torch.tensor(values, dtype=torch.float64)


def _sharp_share(
    picture: Float[np.ndarray, "height width"], smoothed: Float[np.ndarray, "height width"]
) -> float:
    """Share of sharp edges among the edges of all blocks that have enough of them.

    The reference counts edges whose probability of visible blur, 1 - exp(-(w / jnb)**3.6),
    rounds to at most 0.63. Widths w are whole pixels, so that is w <= jnb.
    """
    contours, widths = _blocks(_canny(smoothed)), _blocks(_edge_widths(picture))
    contrast = np.ptp(_blocks(picture), axis=(1, 3), keepdims=True)
    noticeable = np.where(contrast <= LOW_CONTRAST, *NOTICEABLE_WIDTH)
    counted = (widths > 0) & (contours.sum(axis=(1, 3), keepdims=True) > EDGE_PIXELS)
    total = np.count_nonzero(counted)
    return np.count_nonzero(counted & (widths <= noticeable)) / total if total else 0.0


def _blocks(values: np.ndarray) -> np.ndarray:
    """The whole blocks of a picture, as (down, rows, across, columns)."""
    down, across = (length // BLOCK for length in values.shape)
    return values[: down * BLOCK, : across * BLOCK].reshape(down, BLOCK, across, BLOCK)


def _canny(smoothed: Float[np.ndarray, "height width"]) -> Bool[np.ndarray, "height width"]:
    """Contours: ridges of the slope above WEAK that are connected to one above STRONG."""
    slope_y, slope_x = _sobel(np.pad(smoothed, 1, mode="edge"))
    strength = np.sqrt(slope_y * slope_y + slope_x * slope_x)
    return _connected_ridges(strength, slope_y, slope_x)


def _edge_widths(picture: Float[np.ndarray, "height width"]) -> Int[np.ndarray, "height width"]:
    """Pixels over which the upright edge through each pixel rises or falls; 0 for no such edge."""
    _, slope_x = _sobel(np.pad(picture, 1, mode="edge"))
    response = (slope_x / 8) ** 2
    widths = np.zeros(picture.shape, dtype=np.int64)
    if not _only_brightens_rightwards(picture):
        # the reference compares the squared response with an unsquared threshold
        _measure_edges(picture, response, 2 * np.sqrt(response.mean()), widths)
    return widths


@no_type_check
@njit(cache=True)
def _sobel(padded: Float[np.ndarray, "height+2 width+2"]) -> tuple[np.ndarray, np.ndarray]:
    """Slopes down and across the picture inside the padding, eight times too large."""
    height, width = padded.shape[0] - 2, padded.shape[1] - 2
    slope_y, slope_x = np.empty((height, width)), np.empty((height, width))
    for y in range(height):
        above, here, below = padded[y], padded[y + 1], padded[y + 2]
        for x in range(width):
            fall = below[x] - above[x], below[x + 1] - above[x + 1], below[x + 2] - above[x + 2]
            slope_y[y, x] = 2 * fall[1] + (fall[0] + fall[2])
            slope_x[y, x] = 2 * (here[x + 2] - here[x]) + (
                (above[x + 2] - above[x]) + (below[x + 2] - below[x])
            )
    return slope_y, slope_x


@no_type_check
@njit(cache=True)
def _connected_ridges(
    strength: Float[np.ndarray, "height width"],
    slope_y: Float[np.ndarray, "height width"],
    slope_x: Float[np.ndarray, "height width"],
) -> Bool[np.ndarray, "height width"]:
    """Ridges above STRONG, and those above WEAK that are connected to them."""
    height, width = strength.shape
    ridge = np.zeros((height, width), dtype=np.bool_)
    contours, todo = np.zeros((height, width), dtype=np.bool_), []
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            if strength[y, x] >= WEAK:
                ridge[y, x] = _is_ridge(strength, slope_y[y, x], slope_x[y, x], y, x)
                if ridge[y, x] and strength[y, x] >= STRONG:
                    contours[y, x] = True
                    todo.append((y, x))
    while todo:
        at_y, at_x = todo.pop()
        for y in range(at_y - 1, at_y + 2):
            for x in range(at_x - 1, at_x + 2):
                if ridge[y, x] and not contours[y, x]:
                    contours[y, x] = True
                    todo.append((y, x))
    return contours


@no_type_check
@njit(cache=True)
def _is_ridge(
    strength: Float[np.ndarray, "height width"], slope_y: float, slope_x: float, y: int, x: int
) -> bool:
    """Whether the strength is no lower than before and after the pixel, along its slope."""
    down = 1 if (slope_y > 0) == (slope_x > 0) else -1
    steep, flat = abs(slope_y), abs(slope_x)
    step_y, step_x = (down, 0) if steep > flat else (0, 1)
    share = min(steep, flat) / max(steep, flat)
    after = strength[y + down, x + 1] * share + strength[y + step_y, x + step_x] * (1.0 - share)
    before = strength[y - down, x - 1] * share + strength[y - step_y, x - step_x] * (1.0 - share)
    return max(after, before) <= strength[y, x]


@no_type_check
@njit(cache=True)
def _only_brightens_rightwards(picture: Float[np.ndarray, "height width"]) -> bool:
    """Whether every slope is flat, upright or points right: the reference then finds no edge."""
    height, width = picture.shape
    for y in range(height):
        for x in range(width):
            slope_y = picture[min(y + 1, height - 1), x] - picture[max(y - 1, 0), x]
            slope_x = picture[y, min(x + 1, width - 1)] - picture[y, max(x - 1, 0)]
            if slope_x < 0 or (slope_x > 0 and slope_y != 0):
                return False
    return True


@no_type_check
@njit(cache=True)
def _measure_edges(
    picture: Float[np.ndarray, "height width"],
    response: Float[np.ndarray, "height width"],
    floor: float,
    widths: Int[np.ndarray, "height width"],
) -> None:
    """Fills `widths` where the response is above the floor and peaks along its row or column."""
    for y in range(1, picture.shape[0] - 1):
        for x in range(1, picture.shape[1] - 1):
            here = response[y, x]
            along_row = here > response[y, x - 1] and here > response[y, x + 1]
            along_column = here > response[y - 1, x] and here > response[y + 1, x]
            if here > floor and (along_row or along_column):
                widths[y, x] = _edge_width(picture, y, x)


@no_type_check
@njit(cache=True)
def _edge_width(picture: Float[np.ndarray, "height width"], y: int, x: int) -> int:
    """Pixels over which an upright edge rises or falls; 0 for an edge of another direction."""
    slope_y = picture[y + 1, x] - picture[y - 1, x]
    slope_x = picture[y, x + 1] - picture[y, x - 1]
    # |angle| < 22.5 degrees; a slope of exactly 90 degrees counts as 0, like in the reference
    if slope_x != 0 and (abs(slope_y) + abs(slope_x)) ** 2 >= 2 * slope_x**2:
        return 0
    rise = -1 if slope_x < 0 else 1
    left = x - 1
    while left > 0 and rise * (picture[y, left] - picture[y, left - 1]) > 0:
        left -= 1
    right = x + 1
    while right < picture.shape[1] - 1 and rise * (picture[y, right + 1] - picture[y, right]) > 0:
        right += 1
    return right - left
