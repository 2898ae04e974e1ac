"""Generated square faces → the whole source picture with the face in its place."""

import cv2
import numpy as np

from fixtalk.face import SquareBox
from fixtalk.shapes import Float, UInt8

FEATHER = 0.12  # of the square's side, over which the face fades into the picture


class PasteBack:
    """Puts generated squares where the source's face was cut out; outside nothing changes.

    Args:
        picture: the source. An odd last row or column is left out: video has even sides.
        box: the square that was cut out of it; it may lie partly outside.
    """

    def __init__(self, picture: UInt8[np.ndarray, "height width 3"], box: SquareBox) -> None:
        height, width = (side // 2 * 2 for side in picture.shape[:2])
        self.picture = np.ascontiguousarray(picture[:height, :width])
        self.side = box.side
        rows = slice(max(0, box.y0), min(height, box.y0 + box.side))
        columns = slice(max(0, box.x0), min(width, box.x0 + box.side))
        self.place = rows, columns
        self.inside = (
            slice(rows.start - box.y0, rows.stop - box.y0),
            slice(columns.start - box.x0, columns.stop - box.x0),
        )
        self.weight = np.ascontiguousarray(feathered(box.side)[self.inside])
        self.covered = np.ascontiguousarray(self.picture[self.place])

    def __call__(
        self, face: UInt8[np.ndarray, "side side 3"]
    ) -> UInt8[np.ndarray, "height width 3"]:
        """The picture with the face, resized, in its place."""
        smaller = self.side < len(face)
        how = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
        face = cv2.resize(face, (self.side, self.side), interpolation=how)
        pasted = self.picture.copy()
        face = np.ascontiguousarray(face[self.inside])
        pasted[self.place] = cv2.blendLinear(face, self.covered, self.weight, 1 - self.weight)
        return pasted


def feathered(side: int) -> Float[np.ndarray, "side side"]:
    """Weights of a square: 0 at its edge, 1 inside, smooth between."""
    depth = (np.minimum(np.arange(side), np.arange(side)[::-1]) / (FEATHER * side)).clip(0, 1)
    ramp = (depth * depth * (3 - 2 * depth)).astype(np.float32)
    return ramp[:, None] * ramp
