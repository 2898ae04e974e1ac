"""Sound file, or the sound track of a video → int16 mono samples at 16 kHz, in their time."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np

from fixtalk.container import (
    FPS,
    MAX_SECONDS,
    SAMPLE_RATE,
    SOUND_FORMATS,
    MediaError,
    Video,
    frames_of,
    name_of,
    open_media,
    seconds_of,
    sound_stream,
)
from fixtalk.shapes import Int

GROWTH = 60 * SAMPLE_RATE  # samples added at once to a sound of unknown length


def read_sound(sound: Video, start: Fraction | None = None) -> Int[np.ndarray, " samples"]:
    """All samples of the first sound track, int16 mono at 16 kHz, silence where it has a gap.

    Args:
        sound: file or bytes.
        start: time of the first sample, as `media.start_of` a video, whose track may start later
            or earlier than its pictures; None: of the track.

    Raises:
        MediaError: missing, not readable, without a sound track or longer than six hours.
    """
    with open_media(sound, SOUND_FORMATS) as container:
        stream = sound_stream(container, name_of(sound))
        if stream is None:
            raise MediaError(f"{name_of(sound)}: no sound track in it", "no sound")
        audio, length = np.zeros(0, np.int16), 0
        for position, samples in sound_by_time(container, stream, start):
            length = max(length, position + len(samples))
            if length > MAX_SECONDS * SAMPLE_RATE:
                raise MediaError(f"{name_of(sound)}: longer than {MAX_SECONDS} s; cut it")
            if length > len(audio):  # grows in place: hours of sound are held once
                audio.resize(length + GROWTH, refcheck=False)
            place(audio, position, samples)
    if not length:
        raise MediaError(f"{name_of(sound)}: no sound can be decoded; fetch it again", "no sound")
    audio.resize(length, refcheck=False)
    return audio


def sound_by_time(
    container: Any, stream: Any, start: Fraction | None
) -> Iterator[tuple[int, Int[np.ndarray, " samples"]]]:
    """Pieces of a track at 16 kHz, each behind the place that its time stamp gives it.

    A track that jumps, or changes its rate or channels on the way, is resampled anew from there:
    the resampler would stretch, or refuse. What cannot be decoded stays a gap.

    Args:
        container: open, at or before what is wanted.
        stream: the sound track.
        start: time of place 0; None: of the first piece.
    """
    resampler = kind = expected = None
    position = 0
    for frame in frames_of(container, stream):
        time = seconds_of(frame, default=expected if kind else start or Fraction(0))
        start = time if start is None else start
        found = frame.sample_rate, frame.layout.name, frame.format.name
        if found != kind or abs(time - expected) > Fraction(1, FPS):
            for samples in _resampled(resampler, None):
                yield position, samples
                position += len(samples)
            resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
            kind, position = found, round((time - start) * SAMPLE_RATE)
        expected = time + Fraction(frame.samples, frame.sample_rate)
        for samples in _resampled(resampler, frame):
            yield position, samples
            position += len(samples)
    for samples in _resampled(resampler, None):
        yield position, samples
        position += len(samples)


def place(
    audio: Int[np.ndarray, " length"], position: int, samples: Int[np.ndarray, " samples"]
) -> None:
    """Copy samples to their place, as far as they fit."""
    end = min(len(audio), position + len(samples))
    begin = max(0, position)
    if end > begin:
        audio[begin:end] = samples[begin - position : end - position]


def _resampled(resampler: Any, frame: Any) -> Iterator[Int[np.ndarray, " samples"]]:
    """What a resampler gives for a frame; for None what is left in it."""
    if resampler is None:
        return
    if frame is not None:
        frame.pts = None  # the place is kept elsewhere: a jump would make the resampler stretch
    for piece in resampler.resample(frame):
        yield piece.to_ndarray()[0]
