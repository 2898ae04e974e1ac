"""Two clips of uint8 frames → pixel similarity of each frame."""

from typing import Literal, no_type_check

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numba import njit
from torch import Tensor

from metrics.inputs import check_frames
from metrics.smoothing import gaussian_weights

PEAK = 255.0
LUMINANCE_FLOOR = (0.01 * PEAK) ** 2
CONTRAST_FLOOR = (0.03 * PEAK) ** 2
# weights from the centre outwards, and the factor from population to sample covariance
WINDOWS = {
    "uniform": ((1 / 7,) * 4, 49 / 48),
    "gaussian": (gaussian_weights(radius=5, sigma=1.5), 1.0),
}


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
    # whole numbers below 2**24 are exact in float32
    errors = [
        (a.float() - b).square().mean(dtype=torch.float64) for a, b in zip(fake, real, strict=True)
    ]
    return 10 * torch.log10(PEAK**2 / torch.stack(errors))


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
    if window not in WINDOWS:
        raise ValueError(f"window={window!r}: expected one of {', '.join(WINDOWS)}")
    weights, unbias = WINDOWS[window]
    taps = 2 * len(weights) - 1
    if min(fake.shape[2:]) < taps:
        raise ValueError(
            f"frames of {tuple(fake.shape[2:])} pixels are smaller than the {taps}x{taps} window"
        )
    values = [
        [_similarity(_moments(*pair), weights, unbias) for pair in zip(*frames, strict=True)]
        for frames in zip(fake.cpu(), real.cpu(), strict=True)
    ]
    return torch.tensor(values, dtype=torch.float64, device=fake.device).mean(dim=1)


def _moments(
    fake: UInt8[Tensor, "height width"], real: UInt8[Tensor, "height width"]
) -> Float[np.ndarray, "height 4*width"]:
    """x, y, x² + y² and xy side by side: whole numbers below 2**24, so exact in float32."""
    x, y = fake.float(), real.float()
    return torch.cat((x, y, x * x + y * y, x * y), dim=1).numpy()


@no_type_check
@njit(cache=True)
def _similarity(
    moments: Float[np.ndarray, "height 4*width"], weights: tuple[float, ...], unbias: float
) -> float:
    """Mean over all full windows; the sum of the two variances is enough, which saves a filter."""
    radius = len(weights) - 1  # a tuple's length is known when compiled, so the taps unroll
    height, quadruple = moments.shape
    width = quadruple // 4
    down, across = np.empty(quadruple), np.empty(quadruple)
    total = np.zeros(width - 2 * radius)
    # the moments share each loop, and each loop writes one array: only then is it vectorised
    for y in range(radius, height - radius):
        for x in range(quadruple):
            moment = moments[y, x] * weights[0]
            for tap in range(1, radius + 1):
                moment += (moments[y - tap, x] + moments[y + tap, x]) * weights[tap]
            down[x] = moment
        for x in range(radius, quadruple - radius):
            moment = down[x] * weights[0]
            for tap in range(1, radius + 1):
                moment += (down[x - tap] + down[x + tap]) * weights[tap]
            across[x - radius] = moment
        for x in range(width - 2 * radius):  # windows across two moments are left out
            mean_x, mean_y = across[x], across[width + x]
            means, mean_square = mean_x * mean_y, mean_x * mean_x + mean_y * mean_y
            variances = (across[2 * width + x] - mean_square) * unbias
            covariance = (across[3 * width + x] - means) * unbias
            likeness = (2 * means + LUMINANCE_FLOOR) * (2 * covariance + CONTRAST_FLOOR)
            total[x] += likeness / ((mean_square + LUMINANCE_FLOOR) * (variances + CONTRAST_FLOOR))
    return total.sum() / ((height - 2 * radius) * (width - 2 * radius))
