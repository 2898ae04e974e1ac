"""Clip and frame → the few frames around it, what is said in them, and the emotion shown."""

from functools import lru_cache

import numpy as np

from fixtalk.dataset import Row
from fixtalk.media import decode_frames
from fixtalk.mel import mel_pieces, mel_spectrogram
from fixtalk.shapes import Bool, Float, UInt8
from fixtalk.speech import strength_of
from fixtalk.swap import mouth_box

TALK = 5  # frames in a row: what a sync expert looks at, 0.2 s
CLIPS_HEARD = 64  # whose spectrograms are kept


def talk_at(
    row: Row, frame: int
) -> tuple[UInt8[np.ndarray, "talk side side 3"], Float[np.ndarray, "talk 1 80 16"], list[int]]:
    """Frames in a row around one of a clip, their pieces of sound, and which frames they are.

    A clip shorter than that shows its last frame again.

    Raises:
        ValueError: a clip without sound.
    """
    if not row["audio"]:
        raise ValueError(f"clip {row['clip']} has no sound to learn speech from")
    first = max(0, min(frame - TALK // 2, row["frames"] - TALK))
    places = [min(first + n, row["frames"] - 1) for n in range(TALK)]
    frames = decode_frames(row["video"], places)
    return frames, mel_pieces(_mels(row["audio"]), places), places


def mouths_at(row: Row, places: list[int], side: int) -> Bool[np.ndarray, "talk side side"]:
    """Boxes around the mouth in these frames of a clip with landmarks."""
    return np.stack([mouth_box(row["landmarks"][place], side) for place in places])


def strength_in(row: Row) -> Float[np.ndarray, " 8"]:
    """The clip's emotion as the network reads it; zeros where it or its level is not known."""
    if row["emotion"] is None or row["level"] is None:
        return np.zeros(8, np.float32)
    return strength_of(row["emotion"], float(row["level"])).numpy()


@lru_cache(maxsize=CLIPS_HEARD)
def _mels(audio: bytes) -> Float[np.ndarray, "mels columns"]:
    return mel_spectrogram(np.frombuffer(audio, "<i2"))
