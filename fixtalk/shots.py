"""Frames of a video → the same frames, and where another shot begins."""

from collections.abc import Iterable, Iterator

import cv2
import numpy as np

from fixtalk.shapes import UInt8

LOOKED_AT = 128  # pixels, shorter side of the picture that is compared
WINDOW = 2  # frames on each side whose changes a cut must stand out from
RATIO = 3.0  # times their mean


class CutFinder:
    """Passes frames on and notes the cuts among them: PySceneDetect's adaptive rule.

    A cut changes hue, saturation and brightness of the mean pixel by `least_change` of 255, and
    by RATIO times as much as the frames around it change: a moving camera is no cut.

    Args:
        frames: of one video, in order.
        least_change: mean change of a pixel, 0 to 255.

    Attributes:
        cuts: first frames of all shots but the first, complete once the frames are read.
    """

    def __init__(
        self, frames: Iterable[UInt8[np.ndarray, "height width 3"]], least_change: float
    ) -> None:
        self.frames, self.least_change = frames, least_change
        self.cuts: list[int] = []

    def __iter__(self) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
        from scenedetect.detectors import AdaptiveDetector

        detector = AdaptiveDetector(
            RATIO, min_scene_len=1, window_width=WINDOW, min_content_val=self.least_change
        )
        number, small = -1, None
        for number, frame in enumerate(self.frames):
            small = _small(frame)
            if not number:  # it looks at frames with WINDOW others on each side
                for before in range(-WINDOW, 0):
                    detector.process_frame(before, small)
            self.cuts += detector.process_frame(number, small)
            yield frame
        if small is not None:
            for after in range(number + 1, number + 1 + WINDOW):
                self.cuts += detector.process_frame(after, small)


def _small(frame: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "tall wide 3"]:
    """The frame in blue, green, red, not larger than needed."""
    skip = max(1, min(frame.shape[:2]) // (2 * LOOKED_AT))  # averaging all pixels costs 3 ms
    frame = np.ascontiguousarray(frame[::skip, ::skip])
    scale = LOOKED_AT / min(frame.shape[:2])
    if scale < 1:
        frame = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
