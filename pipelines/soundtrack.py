"""Sound file or video → speech at 16 kHz, and the sound track of a video of so many frames."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from fixtalk.media import (
    FPS,
    SAMPLE_RATE,
    SAMPLES_PER_FRAME,
    MediaError,
    VideoInfo,
    probe,
    read_audio,
)
from fixtalk.shapes import Int
from fixtalk.sound import read_sound


def read_speech(path: Path) -> Int[np.ndarray, " samples"]:
    """Int16 mono at 16 kHz; that of a video from its first picture to its last.

    Raises:
        MediaError: not readable, without sound, or a video that does not say how long it is.
    """
    info = _video(path)
    if info is None:
        speech = read_sound(path)
        if len(speech) < SAMPLES_PER_FRAME:
            raise MediaError(f"{path}: {len(speech)} samples, less than a frame of 0.04 s")
        return speech
    if not info.has_audio:
        raise MediaError(f"{path}: no sound track in it; give a file with sound", "no sound")
    frames = round(info.duration_seconds * FPS)
    if not frames:
        raise MediaError(f"{path}: does not say how long it is; convert it to mp4 or wav")
    return read_audio(path, frames)


def silent_seconds(speech: Int[np.ndarray, " samples"]) -> float:
    """Length of the whole video frames without sound: pauses, or what could not be decoded."""
    frames = speech[: len(speech) // SAMPLES_PER_FRAME * SAMPLES_PER_FRAME]
    frames = frames.reshape(-1, SAMPLES_PER_FRAME)
    return float(len(frames) - np.count_nonzero(frames.any(axis=1))) / FPS


def fit(
    speech: Int[np.ndarray, " samples"], frames: int, path: Path, say: Callable[[str], None]
) -> Int[np.ndarray, " samples"]:
    """The sound, cut or followed by silence to the length of a video; more than a frame is said.

    Args:
        speech: from the first frame on; grown in place, as hours of it are held once.
        frames: of the video.
        path: of the sound, for messages.
        say: takes a line.
    """
    wanted = frames * SAMPLES_PER_FRAME
    if abs(len(speech) - wanted) > SAMPLES_PER_FRAME:
        what = "the rest is left out" if len(speech) > wanted else "silence follows"
        say(f"warning: {path}: {len(speech) / SAMPLE_RATE:.2f} s for "
            f"{wanted / SAMPLE_RATE:.2f} s of video: {what}")  # fmt: skip
    if len(speech) < wanted:
        speech.resize(wanted, refcheck=False)
    return speech[:wanted]


def _video(path: Path) -> VideoInfo | None:
    """What a video's header says; None of a file without pictures."""
    try:
        return probe(path)
    except MediaError as error:
        if error.reason == "not found":
            raise
        return None
