"""Face → how sharp it is; sound → how much of it is speech."""

import cv2
import numpy as np

from fixtalk.container import SAMPLES_PER_FRAME
from fixtalk.shapes import Float, Int, UInt8

FACE_SIDE = 256  # pixels, at which faces are compared
LOUD = 95  # percentile of the levels of a clip that stands for its speech
SOFT = 10  # percentile that stands for its pauses, of what is not padded by zeros
DEPTH = 25.0  # decibels below that at which a frame is a pause
FLOOR = -55.0  # decibels of full scale, below: nothing audible
SWING = 10.0  # decibels between speech and pauses at least: hum and music swing less


def sharpness(frame: UInt8[np.ndarray, "height width 3"], box: Float[np.ndarray, " 4"]) -> float:
    """Variance of the Laplacian of the face over the variance of its brightness.

    Division by the variance takes out light and contrast, and one side for all faces takes out
    their distance: a small face, enlarged, counts as blurred, as it will be in the clip.
    Noise counts as sharp.

    Args:
        frame: RGB.
        box: x0, y0, x1, y1 of the face in pixels; it may reach beyond the frame.
    """
    height, width = frame.shape[:2]
    x0, y0 = np.clip(np.round(box[:2]), 0, [width - 1, height - 1]).astype(int)
    x1, y1 = np.clip(np.round(box[2:]), [x0 + 1, y0 + 1], [width, height]).astype(int)
    face = cv2.cvtColor(np.ascontiguousarray(frame[y0:y1, x0:x1]), cv2.COLOR_RGB2GRAY)
    how = cv2.INTER_AREA if face.shape[1] > FACE_SIDE else cv2.INTER_CUBIC
    face = cv2.resize(face, (FACE_SIDE, FACE_SIDE), interpolation=how).astype(np.float32)
    return float(cv2.Laplacian(face, cv2.CV_32F).var() / max(float(face.var()), 1.0))


def speech_share(audio: Int[np.ndarray, " samples"]) -> float:
    """Share of the frames of a clip, 0 to 1, in which the sound is as loud as its speech.

    By level alone: whatever swings like speech passes for it. 0 for silence, steady hum and
    noise; the loudness of the recording does not matter.

    Args:
        audio: mono, 16 kHz, 640 samples a frame.
    """
    frames = audio[: len(audio) // SAMPLES_PER_FRAME * SAMPLES_PER_FRAME]
    if not len(frames):
        return 0.0
    power = np.square(frames.reshape(-1, SAMPLES_PER_FRAME) / 2**15).mean(axis=1)
    levels = 10 * np.log10(power + 1e-12)
    loud = np.percentile(levels, LOUD)
    if not power.any() or loud - np.percentile(levels[power > 0], SOFT) < SWING:
        return 0.0
    return float((levels > max(loud - DEPTH, FLOOR)).mean())
