"""Points in space → smooth random values (lattice noise with octaves)."""

import math
from functools import cache
from typing import no_type_check

import numpy as np
from numba import njit

from fixtalk.shapes import Float

LATTICE = 32


@cache
def _lattice() -> Float[np.ndarray, "32 32 32"]:
    """One fixed table of normal deviates; seeds move the point of view, not the table."""
    return np.random.default_rng(20250701).standard_normal((LATTICE,) * 3).astype(np.float32)


def noise(
    points: Float[np.ndarray, "*shape 3"], seed: int, frequency: float, octaves: int = 3
) -> Float[np.ndarray, "*shape"]:
    """Zero-mean values of about unit spread, smooth in space.

    Args:
        points: positions.
        seed: other seeds give other, independent-looking values.
        frequency: lattice cells per unit of length in the first octave.
        octaves: each doubles the frequency and halves the strength.
    """
    shifts = np.random.default_rng([seed, octaves]).uniform(0, LATTICE, (octaves, 3))
    flat = np.ascontiguousarray(points, np.float32).reshape(-1, 3)
    values = np.empty(len(flat), np.float32)
    _fill(flat, _lattice(), shifts.astype(np.float32), np.float32(frequency), values)
    return values.reshape(points.shape[:-1])


@no_type_check
@njit(cache=True, fastmath=True)
def _fill(
    points: Float[np.ndarray, "points 3"],
    lattice: Float[np.ndarray, "32 32 32"],
    shifts: Float[np.ndarray, "octaves 3"],
    frequency: float,
    values: Float[np.ndarray, " points"],
) -> None:
    total = 0.0
    for octave in range(shifts.shape[0]):
        total += 0.5**octave
    for i in range(points.shape[0]):
        value = 0.0
        strength = 1.0 / total
        scale = frequency
        for octave in range(shifts.shape[0]):
            x = points[i, 0] * scale + shifts[octave, 0]
            y = points[i, 1] * scale + shifts[octave, 1]
            z = points[i, 2] * scale + shifts[octave, 2]
            ix, iy, iz = math.floor(x), math.floor(y), math.floor(z)
            fx, fy, fz = x - ix, y - iy, z - iz
            x0, y0, z0 = int(ix) & 31, int(iy) & 31, int(iz) & 31
            x1, y1, z1 = (x0 + 1) & 31, (y0 + 1) & 31, (z0 + 1) & 31
            low = (lattice[x0, y0, z0] * (1 - fx) + lattice[x1, y0, z0] * fx) * (1 - fy)
            low += (lattice[x0, y1, z0] * (1 - fx) + lattice[x1, y1, z0] * fx) * fy
            high = (lattice[x0, y0, z1] * (1 - fx) + lattice[x1, y0, z1] * fx) * (1 - fy)
            high += (lattice[x0, y1, z1] * (1 - fx) + lattice[x1, y1, z1] * fx) * fy
            value += strength * (low * (1 - fz) + high * fz)
            strength *= 0.5
            scale *= 2.0
        values[i] = value


def smoothstep(
    low: float, high: float, value: Float[np.ndarray, "*shape"]
) -> Float[np.ndarray, "*shape"]:
    """0 below `low`, 1 above `high`, smooth between; falls where `low` > `high`."""
    share = np.clip((value - low) / (high - low), 0, 1)
    return share * share * (3 - 2 * share)
