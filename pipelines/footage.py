"""Files of one clip → pairs of generated and true frames of one size, and what the lips said."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import zip_longest
from pathlib import Path

import cv2
import numpy as np
import torch

from fixtalk.media import (
    FPS,
    SAMPLE_RATE,
    SAMPLES_PER_FRAME,
    MediaError,
    VideoReader,
    read_track,
    start_of,
)
from fixtalk.sound import read_sound

PIECE, PIECE_BYTES = 32, 2**26  # frames scored at once and their size: bound memory only


def pieces(
    generated: Path, reference: Path, size: tuple[int, int], counts: list[int]
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Generated and true frames of one size (width, height), a few at a time.

    Adds the frames of each video to `counts`, also those that have no partner.

    Raises:
        MediaError: a video is damaged; half of one is never scored for a whole.
    """
    readers = VideoReader(generated), VideoReader(reference)
    held: list[tuple[np.ndarray, np.ndarray]] = []
    at_once = max(1, min(PIECE, PIECE_BYTES // (3 * size[0] * size[1])))
    for made, true in zip_longest(*readers):
        counts[0] += made is not None
        counts[1] += true is not None
        if made is None or true is None:
            continue
        if true.shape != made.shape:
            how = cv2.INTER_AREA if true.shape[0] > size[1] else cv2.INTER_CUBIC
            true = cv2.resize(true, size, interpolation=how)
        held.append((made, true))
        if len(held) == at_once:
            yield _as_tensors(held)
            held = []
    for reader in readers:
        if reader.damage:
            raise MediaError(f"{reader.video}: damaged: {reader.damage}; make it again", "damaged")
    if held:
        yield _as_tensors(held)


def _as_tensors(held: list[tuple[np.ndarray, np.ndarray]]) -> tuple[torch.Tensor, torch.Tensor]:
    made, true = (torch.from_numpy(np.stack(frames)) for frames in zip(*held, strict=True))
    return made.permute(0, 3, 1, 2), true.permute(0, 3, 1, 2)


def sounds(
    generated: Path, reference: Path, given: Path | None, frames: int, notes: list[str]
) -> tuple[torch.Tensor, torch.Tensor]:
    """What the generated and the true lips said, cut to their frames; empty where unknown.

    The given sound belongs to both. Else each has its own track, and the generated one's lips are
    judged by the reference's where it has none. Frames behind the end of a sound are not judged.
    """
    if given:
        samples = [_read_given(given, frames, notes)] * 2
    else:
        videos = {"generated ": generated, "reference ": reference}
        samples = [_read_own(video, frames, whose, notes) for whose, video in videos.items()]
        if not samples[0].any() and samples[1].any():
            notes.append("generated has no sound: scored with the reference's")
            samples[0] = samples[1]
    heard = (one if one.any() else one[:0] for one in samples)
    made, true = (torch.from_numpy(one.astype(np.int16)) for one in heard)
    return made, true


def _read_own(video: Path, frames: int, whose: str, notes: list[str]) -> np.ndarray:
    """Samples of a video's own track to its end; up to a frame short, silence makes it whole."""
    samples, length = read_track(video, frames)
    if not samples.any() or len(samples) - length <= SAMPLES_PER_FRAME:
        return samples
    notes.append(_note(whose, length, frames))
    return samples[: -(-length // SAMPLES_PER_FRAME) * SAMPLES_PER_FRAME]


def _read_given(sound: Path, frames: int, notes: list[str]) -> np.ndarray:
    """Samples of a sound file, no longer than the frames; none if it cannot be used.

    Those of a video start with its first picture.
    """
    try:
        samples = read_sound(sound, _start(sound))
    except MediaError as error:
        notes.append(f"sound left out: {error}")
        return np.zeros(0, np.int16)
    wanted = frames * SAMPLES_PER_FRAME
    if abs(len(samples) - wanted) > SAMPLES_PER_FRAME:
        notes.append(_note("", len(samples), frames))
    if not samples.any():
        notes.append("sound is silent")
    return samples[:wanted]


def _note(whose: str, length: int, frames: int) -> str:
    seconds = length / SAMPLE_RATE
    return f"{whose}sound has {seconds:.2f} s for {frames / FPS:.2f} s of frames: cut to both"


def _start(sound: Path) -> Fraction | None:
    """Time stamp of a video's first picture; None of a file without pictures."""
    try:
        return start_of(sound)
    except MediaError:
        return None
