"""Two clips of uint8 frames → pixel similarity of each frame."""

from typing import Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from metrics.inputs import check_frames

PEAK = 255.0
LUMINANCE_FLOOR = (0.01 * PEAK) ** 2
CONTRAST_FLOOR = (0.03 * PEAK) ** 2
GAUSSIAN_SIGMA = 1.5
TAPS = {"uniform": 7, "gaussian": 11}
VALUES_PER_CHUNK = (
    2**21
)  # bounds memory; frames are independent, so the result does not depend on it


def psnr(
    fake: UInt8[Tensor, "frames 3 height width"],
    real: UInt8[Tensor, "frames 3 height width"],
) -> Float[Tensor, " frames"]:
    """Peak signal-to-noise ratio of each frame, in decibels; higher is better.

    The squared error is pooled over channels and pixels before the logarithm. Identical frames
    score `inf`; averaging over frames is the caller's choice.

    Args:
        fake: generated frames, 0-255.
        real: ground truth, aligned one to one with `fake`.

    Raises:
        TypeError: frames are not uint8.
        ValueError: the clips differ in shape or are empty; the message shows both shapes.

    Source: skimage.metrics.peak_signal_noise_ratio; equal to 1e-9 (tests/golden/image.json).
    """
    check_frames(fake, real)
    chunks = zip(_chunks(fake), _chunks(real), strict=True)
    error = torch.cat([(a.int() - b.int()).square().double().mean((1, 2, 3)) for a, b in chunks])
    return 10 * torch.log10(PEAK**2 / error)


def ssim(
    fake: UInt8[Tensor, "frames 3 height width"],
    real: UInt8[Tensor, "frames 3 height width"],
    window: Literal["uniform", "gaussian"] = "uniform",
) -> Float[Tensor, " frames"]:
    """Structural similarity of each frame, unitless, at most 1; higher is better.

    The two windows are two published metrics whose values differ by several hundredths: never
    compare one with the other. Mean over the three RGB channels and all full windows.

    Args:
        fake: generated frames, 0-255.
        real: ground truth, aligned one to one with `fake`.
        window: "uniform" is 7x7 with sample covariance; "gaussian" is Wang et al. 2004, 11x11
            with sigma 1.5 and population covariance.

    Raises:
        TypeError: frames are not uint8.
        ValueError: the clips differ in shape, are empty, or are smaller than the window.

    Source: skimage.metrics.structural_similarity, its defaults for "uniform" and
        gaussian_weights=True, use_sample_covariance=False for "gaussian"; equal to 1e-9
        (tests/golden/image.json).
    """
    check_frames(fake, real)
    if window not in TAPS:
        raise ValueError(f"window={window!r}: expected one of {', '.join(TAPS)}")
    taps = TAPS[window]
    if min(fake.shape[2:]) < taps:
        raise ValueError(
            f"frames of {tuple(fake.shape[2:])} pixels are smaller than the {taps}x{taps} window"
        )
    weights = _weights(window, fake.device)
    unbias = taps**2 / (taps**2 - 1) if window == "uniform" else 1.0
    chunks = zip(_chunks(fake), _chunks(real), strict=True)
    return torch.cat([_ssim_map(a, b, weights, unbias).mean((1, 2, 3)) for a, b in chunks])


def _ssim_map(fake: Tensor, real: Tensor, weights: Tensor, unbias: float) -> Tensor:
    """Local similarity; only the sum of the two variances is needed, which saves one filter."""
    x, y = fake.to(weights.dtype), real.to(weights.dtype)
    mean_x, mean_y, square, product = (
        _blur(moment, weights).double() for moment in (x, y, x * x + y * y, x * y)
    )
    scale = weights.sum().double() ** 2
    mean_x, mean_y, square, product = (m / scale for m in (mean_x, mean_y, square, product))
    means, mean_square = mean_x * mean_y, mean_x**2 + mean_y**2
    covariance, variances = (product - means) * unbias, (square - mean_square) * unbias
    likeness = (2 * means + LUMINANCE_FLOOR) * (2 * covariance + CONTRAST_FLOOR)
    return likeness / ((mean_square + LUMINANCE_FLOOR) * (variances + CONTRAST_FLOOR))


def _blur(frames: Tensor, weights: Tensor) -> Tensor:
    """Sum of the shifted frames along both axes, full windows only."""
    for axis in (2, 3):
        length = frames.shape[axis] - len(weights) + 1
        total = frames.narrow(axis, 0, length) * weights[0]
        for shift, weight in enumerate(weights[1:], start=1):
            total.addcmul_(frames.narrow(axis, shift, length), weight)
        frames = total
    return frames


def _weights(window: str, device: torch.device) -> Tensor:
    if window == "uniform":
        # whole-number sums of at most 49 * 2 * 255**2 < 2**24: exact in float32, twice as fast
        return torch.ones(TAPS[window], dtype=torch.float32, device=device)
    offsets = torch.arange(TAPS[window], dtype=torch.float64, device=device) - TAPS[window] // 2
    weights = torch.exp(-0.5 * (offsets / GAUSSIAN_SIGMA) ** 2)
    return weights / weights.sum()


def _chunks(frames: Tensor) -> tuple[Tensor, ...]:
    return frames.split(max(1, VALUES_PER_CHUNK // frames[0].numel()))
