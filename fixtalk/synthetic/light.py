"""Light seed → lamps and background, independent of who is in front of them."""

import math
from dataclasses import dataclass

import numpy as np

from fixtalk.shapes import Float
from fixtalk.synthetic.shading import Lamps

BACKGROUND_RESOLUTION = 256


@dataclass(frozen=True)
class Light:
    """Lamps and what is behind the person, linear RGB."""

    lamps: Lamps
    wall: Float[np.ndarray, "height width 3"]

    def background(self, resolution: int) -> Float[np.ndarray, "height width 3"]:
        """The wall sampled at `resolution` × `resolution`."""
        places = (np.arange(resolution) * len(self.wall)) // resolution
        return np.ascontiguousarray(self.wall[places][:, places])


def build_light(light_seed: int) -> Light:
    """The light of a seed: a key lamp left or right above, a fill, a rim, a blurred room."""
    return Light(lamps=_lamps(light_seed), wall=_wall(light_seed))


def _lamps(light_seed: int) -> Lamps:
    rng = np.random.default_rng([light_seed, 0])
    turn, height = rng.uniform(-1.0, 1.0), rng.uniform(0.25, 0.8)
    key = np.array(
        [math.sin(turn) * math.cos(height), math.sin(height), math.cos(turn) * math.cos(height)]
    )
    fill = np.array([-1.2 * key[0], 0.2, 0.8])
    rim = np.array([-0.8 * np.sign(key[0]), 0.4, -0.6])
    warmth = np.array([1.06, 1.0, 0.93]) ** rng.uniform(-1, 1.5)
    power = rng.uniform(0.9, 1.25)
    colours = [warmth * power, 0.32 * warmth[::-1] * power, np.full(3, 0.35 * rng.random())]
    directions = [lamp / np.linalg.norm(lamp) for lamp in (key, fill, rim)]
    return Lamps(
        directions=np.array(directions, np.float32),
        colours=np.array(colours, np.float32),
        ground=(np.array([0.13, 0.11, 0.10]) * rng.uniform(0.7, 1.3)).astype(np.float32),
        sky=(np.array([0.25, 0.265, 0.29]) * rng.uniform(0.7, 1.3)).astype(np.float32),
    )


def _wall(light_seed: int) -> Float[np.ndarray, "height width 3"]:
    """A colour gradient with a few soft rectangles: windows, pictures, shelves."""
    rng = np.random.default_rng([light_seed, 1])
    down, across = (
        np.mgrid[0:BACKGROUND_RESOLUTION, 0:BACKGROUND_RESOLUTION] / BACKGROUND_RESOLUTION
    )
    first, second = rng.uniform(0.03, 0.55, (2, 3))
    slope = across * rng.uniform(-1, 1) + down * rng.uniform(-1, 1)
    slope = (slope - slope.min()) / (np.ptp(slope) + 1e-6)
    wall = first + (second - first) * slope[..., None]
    for _ in range(int(rng.integers(2, 9))):
        x, y = rng.uniform(0, 1, 2)
        width, height = rng.uniform(0.05, 0.5, 2)
        colour, blur = rng.uniform(0.02, 0.7, 3), rng.uniform(0.004, 0.05)
        inside = _soft_box(across - x, width, blur) * _soft_box(down - y, height, blur)
        wall = wall * (1 - 0.7 * inside[..., None]) + colour * 0.7 * inside[..., None]
    return wall.astype(np.float32)


def _soft_box(
    offset: Float[np.ndarray, "height width"], width: float, blur: float
) -> Float[np.ndarray, "height width"]:
    return 1 / (1 + np.exp(np.clip((np.abs(offset) - width / 2) / blur, -60, 60)))
