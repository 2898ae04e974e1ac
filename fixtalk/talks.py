"""Clip and frame → the few frames around it, what is said in them, emotion and blinks shown."""

from functools import lru_cache

import numpy as np

from fixtalk.dataset import Row
from fixtalk.face_shape import EYES
from fixtalk.media import SAMPLES_PER_FRAME, decode_frames
from fixtalk.mel import mel_pieces, mel_spectrogram
from fixtalk.shapes import Bool, Float, Int, UInt8
from fixtalk.speech import strength_of
from fixtalk.swap import mouth_box

TALK = 5  # frames in a row: what a sync expert looks at, 0.2 s
HEARD = TALK * SAMPLES_PER_FRAME + 400  # samples: of the frames, and 25 ms
CLIPS_HEARD = 64  # whose spectrograms are kept
TINY = 1e-6


def talk_at(
    row: Row, frame: int
) -> tuple[UInt8[np.ndarray, "talk side side 3"], Float[np.ndarray, "talk 1 80 16"], list[int]]:
    """Frames in a row around one of a clip, their pieces of sound, and which frames they are.

    A clip shorter than that shows its last frame again.
    """
    first = max(0, min(frame - TALK // 2, row["frames"] - TALK))
    places = [min(first + n, row["frames"] - 1) for n in range(TALK)]
    frames = decode_frames(row["video"], places)
    return frames, mel_pieces(_mels(row["audio"]), places), places


def mouths_at(row: Row, places: list[int], side: int) -> Bool[np.ndarray, "talk side side"]:
    """Boxes around the mouth in these frames of a clip with landmarks."""
    return np.stack([mouth_box(row["landmarks"][place], side) for place in places])


def sound_at(row: Row, places: list[int]) -> Int[np.ndarray, " samples"]:
    """Samples of these frames and of the last window that a spectrum of them looks into."""
    samples = np.frombuffer(row["audio"], "<i2")[places[0] * SAMPLES_PER_FRAME :][:HEARD]
    return np.pad(samples, (0, HEARD - len(samples)))


def strength_in(row: Row) -> Float[np.ndarray, " 8"]:
    """The clip's emotion as the network reads it; zeros where it or its level is not known."""
    if row["emotion"] is None or row["level"] is None:
        return np.zeros(8, np.float32)
    return strength_of(row["emotion"], float(row["level"])).numpy()


def eyes_closed(row: Row, places: list[int]) -> Float[np.ndarray, " talk"]:
    """How far both eyes are closed in these frames: 0 as open as mostly in the clip, 1 shut.

    Zeros for a clip without landmarks: nothing is learnt of blinks there.
    """
    if row["landmarks"] is None:
        return np.zeros(len(places), np.float32)
    opening = _eye_opening(row["landmarks"])
    usual = max(float(np.median(opening)), TINY)
    return (1 - opening[places] / usual).clip(0, 1).astype(np.float32)


def _eye_opening(points: Float[np.ndarray, "frames 68 2"]) -> Float[np.ndarray, " frames"]:
    """Height by width of the eyes, mean of both.

    Source: Soukupová and Čech 2016, equation 1 (eye aspect ratio).
    """
    ratios = []
    for eye in EYES:
        outer, upper, upper2, inner, lower2, lower = np.moveaxis(points[:, eye], 1, 0)
        height = np.linalg.norm(upper - lower, axis=1) + np.linalg.norm(upper2 - lower2, axis=1)
        ratios.append(height / (2 * np.linalg.norm(outer - inner, axis=1)).clip(min=TINY))
    return np.mean(ratios, axis=0)


@lru_cache(maxsize=CLIPS_HEARD)
def _mels(audio: bytes) -> Float[np.ndarray, "mels columns"]:
    return mel_spectrogram(np.frombuffer(audio, "<i2"))
