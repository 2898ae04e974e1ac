"""Frames → face detections; face boxes → one square around the head → cropped frames."""

import math
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch

import torchvision_cpu
from fixtalk.shapes import Float, UInt8

# Smaller faces are not searched for: a third of the detector's time goes into halving this.
SMALLEST_FACE = 1 / 6  # of the shorter side of the picture
# The detector's box ends at brow and chin; forehead and hair take this much of its height above.
# With a margin of 0.1, cropped talking heads (EDTalk, AniTalker, HDTF) come back nearly whole.
FOREHEAD = 0.1


@dataclass(frozen=True, kw_only=True)
class Detection:
    """One face: box as x0, y0, x1, y1 and eyes, nose, mouth corners, all in picture pixels."""

    box: Float[np.ndarray, " 4"]
    points: Float[np.ndarray, "5 2"]
    probability: float
    sharpness: float = math.nan  # see fixtalk.quality; nan: not measured


@dataclass(frozen=True, kw_only=True)
class SquareBox:
    """A square of whole pixels; it may lie partly outside the picture."""

    x0: int
    y0: int
    side: int


class FaceDetector:
    """MTCNN with the weights of its wheel: frames → faces, on one thread.

    Args:
        resolution: shorter side of the picture the network sees, in pixels.
        min_probability: less sure detections are left out.
    """

    def __init__(self, resolution: int, min_probability: float) -> None:
        torchvision_cpu.install()
        from facenet_pytorch import MTCNN

        self.resolution = resolution
        self.min_probability = min_probability
        network = MTCNN(keep_all=True, min_face_size=round(resolution * SMALLEST_FACE))
        # Channels last: pooling on a CPU takes a fraction of the time.
        self.network = network.to(memory_format=torch.channels_last)

    def __call__(self, frames: UInt8[np.ndarray, "frames height width 3"]) -> list[list[Detection]]:
        """Faces of each frame, the largest first."""
        scale = self.resolution / min(frames.shape[1:3])
        small = np.stack([_scaled(frame, scale) for frame in frames])
        with _one_thread():
            found = self.network.detect(small, landmarks=True)
        return [self._detections(*one, scale) for one in zip(*found, strict=True)]

    def _detections(self, boxes: Any, probabilities: Any, points: Any, scale: float) -> list:
        if boxes is None:
            return []
        # The package gives arrays of dtype object whenever all frames hold equally many faces.
        return [
            Detection(
                box=np.asarray(box, np.float64) / scale,
                points=np.asarray(five, np.float64) / scale,
                probability=float(probability),
            )
            for box, probability, five in zip(boxes, probabilities, points, strict=True)
            if probability >= self.min_probability
        ]


def overlap(a: Float[np.ndarray, " 4"], b: Float[np.ndarray, " 4"]) -> float:
    """Intersection over union of two boxes, 0 to 1."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = float(sides.clip(min=0).prod())
    return shared / float((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - shared)


def head_square(boxes: Sequence[Float[np.ndarray, " 4"]], margin: float) -> SquareBox:
    """One square around the heads in all boxes: their union, enlarged, centre kept.

    Each box is first raised by FOREHEAD; then the longer side of the union grows by `margin` at
    each end. The square is never clamped to the picture: that would squash the face.
    """
    corners = np.stack(boxes)
    corners[:, 1] -= FOREHEAD * (corners[:, 3] - corners[:, 1])
    low, high = corners[:, :2].min(axis=0), corners[:, 2:].max(axis=0)
    side = max(2, round(float((high - low).max()) * (1 + 2 * margin)))
    x0, y0 = np.round((low + high - side) / 2)
    return SquareBox(x0=int(x0), y0=int(y0), side=side)


def outside_share(box: SquareBox, width: int, height: int) -> float:
    """Share of the square that lies outside the picture and gets padded, 0 to 1."""
    inside_x = min(box.x0 + box.side, width) - max(box.x0, 0)
    inside_y = min(box.y0 + box.side, height) - max(box.y0, 0)
    return 1 - max(0, inside_x) * max(0, inside_y) / box.side**2


def crop_frame(
    frame: UInt8[np.ndarray, "height width 3"], box: SquareBox, resolution: int
) -> UInt8[np.ndarray, "resolution resolution 3"]:
    """The square as a picture of `resolution` pixels; outside the frame its edge is repeated.

    Repeated edges, as black bars would be a shape that the network learns to draw.
    """
    height, width = frame.shape[:2]
    x0, y0, x1, y1 = box.x0, box.y0, box.x0 + box.side, box.y0 + box.side
    # A square wholly outside still touches one line of pixels, which is then repeated.
    left, right = np.clip([x0, x1], [0, 1], [width - 1, width])
    top, bottom = np.clip([y0, y1], [0, 1], [height - 1, height])
    inside = frame[top:bottom, left:right]
    if inside.shape[:2] != (box.side, box.side):
        before_y, before_x = min(max(0, -y0), box.side - 1), min(max(0, -x0), box.side - 1)
        inside = cv2.copyMakeBorder(
            inside,
            before_y,
            box.side - before_y - inside.shape[0],
            before_x,
            box.side - before_x - inside.shape[1],
            cv2.BORDER_REPLICATE,
        )
    return _resized(inside, resolution, resolution)


def to_crop_pixels(
    points: Float[np.ndarray, "... 2"], box: SquareBox, resolution: int
) -> Float[np.ndarray, "... 2"]:
    """Picture coordinates → crop coordinates; pixel centres lie at +0.5 in both."""
    return (points - np.array([box.x0, box.y0])) * (resolution / box.side)


def _scaled(frame: np.ndarray, scale: float) -> np.ndarray:
    height, width = frame.shape[:2]
    return _resized(frame, round(width * scale), round(height * scale))


def _resized(frame: np.ndarray, width: int, height: int) -> np.ndarray:
    """Antialiased when smaller, cubic when larger."""
    if frame.shape[:2] == (height, width):
        return np.ascontiguousarray(frame)
    smaller = width < frame.shape[1]
    how = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    return cv2.resize(frame, (width, height), interpolation=how)


@contextmanager
def _one_thread() -> Any:
    """Torch on one thread: two stall each other on busy cores (4.6 s against 0.12 s measured)."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
