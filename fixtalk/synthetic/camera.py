"""Points in space → places on the picture, and crops of it."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from fixtalk.shapes import Float


@dataclass(frozen=True)
class Camera:
    """A pinhole camera that looks along -z; lengths in decimetres."""

    resolution: int  # pixels, side of the square raw frame
    fov_degrees: float = 17.6
    x: float = 0.0
    y: float = 7.12
    z: float = 12.6

    @property
    def position(self) -> Float[np.ndarray, "3"]:
        """Where the camera is."""
        return np.array([self.x, self.y, self.z], np.float32)

    def project(
        self,
        points: Float[np.ndarray, "points 3"],
        resolution: int | None = None,
        box: Sequence[float | int] | None = None,
    ) -> Float[np.ndarray, "points 3"]:
        """Pixel x, y (centres at +0.5) and 1 / depth of points.

        Args:
            points: positions in space.
            resolution: of the picture or crop; None for that of the raw frame.
            box: crop of the raw frame as (x0, y0, side) in raw pixels; None for all of it.
        """
        x0, y0, side = (0, 0, self.resolution) if box is None else box
        scale = (resolution or self.resolution) / side
        focal = scale * self.resolution / 2 / math.tan(math.radians(self.fov_degrees / 2))
        middle = self.resolution / 2
        nearness = 1 / (self.z - points[:, 2])
        across = scale * (middle - x0) + (points[:, 0] - self.x) * focal * nearness
        down = scale * (middle - y0) + (self.y - points[:, 1]) * focal * nearness
        return np.stack([across, down, nearness], axis=1).astype(np.float32)

    def to_json(self) -> str:
        """All of the camera as text, for the label file."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Camera":
        """The camera that `to_json` wrote."""
        return cls(**json.loads(text))
