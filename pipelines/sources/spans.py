"""Seconds of a fetched video → the frames shown then, and what is heard, by their time stamps."""

import math
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from fixtalk.container import (
    SAMPLE_RATE,
    SOUND_FORMATS,
    MediaError,
    header_seconds,
    open_media,
    packets_of,
    sound_stream,
)
from fixtalk.sound import place, sound_by_time

LATE = 0.25  # seconds that a video may end early: containers round


def require_length(picture: Path, stream: Any, stop: float) -> None:
    """See that a video, by its header, lasts to `stop`, in seconds.

    Raises:
        MediaError: it does not; `reason` is "too early an end".
    """
    seconds = float(header_seconds(stream))
    if seconds and seconds + LATE < stop:
        raise MediaError(
            f"{picture}: ends after {seconds:.2f} s, the clip lasts to {stop:.2f} s; the uploader "
            "changed it, take it off the list",
            "too early an end",
        )


def frames_of_span(
    container: Any, stream: Any, origin: Fraction, start: float, stop: float
) -> Iterator[av.VideoFrame]:
    """Frames nearest to the times from `start` to before `stop`, in seconds since `origin`.

    A picture that stands still is one frame, however long: if it does where the clip begins or
    ends, it is given again there.
    """
    step = 1 / float(stream.average_rate or stream.guessed_rate or 25)
    first, end = start - step / 2, stop - step / 2

    def again(seconds: float) -> av.VideoFrame:
        seen.pts = int((seconds + float(origin)) / float(stream.time_base))
        return seen

    seen, last = None, None
    for time, frame in _timed(container, stream, origin, first, end):
        if time >= first:
            if seen and last is None and time > start + step:
                yield again(start)
            yield frame
            last = time
        seen = frame
    if seen and last is None:
        last = start
        yield again(start)
    if seen and last < end - 3 * step:
        yield again(stop - step)


def _timed(
    container: Any, stream: Any, origin: Fraction, first: float, end: float
) -> Iterator[tuple[float, av.VideoFrame]]:
    """Frames with their seconds since `origin`, from the key frame before `first` to before `end`.

    Raises:
        MediaError: the video ends before, or more than a tenth of these frames is damaged.
    """
    base, told, decoded, until = stream.time_base, 0, 0, 0.0
    _seek(container, stream, int((first + float(origin)) / float(base)))
    for packet in packets_of(container, stream):
        told += packet.pts is not None and first <= float(packet.pts * base - origin) < end
        frames = []
        with suppress(av.FFmpegError):
            frames = [frame for frame in packet.decode() if frame.pts is not None]
        for frame in frames:
            time = float(frame.pts * frame.time_base - origin)
            until = math.inf if time >= end else time + float((frame.duration or 0) * base)
            decoded += first <= time < end
            if time < end:
                yield time, frame
        if until == math.inf:
            break
    if decoded < 0.9 * told - 1 or until + LATE < end:
        raise MediaError(
            f"{container.name}: {decoded} of {told} frames from {first:.2f} to {end:.2f} s can be "
            f"decoded, the last lasts to {until:.2f} s; fetch it again"
        )


def _seek(container: Any, stream: Any, ticks: int) -> None:
    """To the last key frame shown before; the library finds one decoded before, shown maybe later.

    `ticks` are of the stream's time base.
    """
    begin, before = stream.start_time or 0, ticks
    while before > begin:
        container.seek(before, stream=stream)
        packet = next(packets_of(container, stream), None)
        if packet is None or packet.dts is None or packet.pts is None or packet.pts <= ticks:
            break
        before = min(before, packet.dts) - 1
    container.seek(max(before, begin), stream=stream)


def sound_of(media: Path, start: Fraction, seconds: float) -> np.ndarray:
    """Int16 samples (mono, 16 kHz) from `start` on, silence in gaps; none without a sound track."""
    samples = np.zeros(round(seconds * SAMPLE_RATE), np.int16)
    with open_media(media, SOUND_FORMATS) as container:
        stream = sound_stream(container, str(media))
        if stream is None:
            return samples[:0]
        stream.codec_context.thread_count = 1
        # a second before: the decoder and the resampler need a run-up
        container.seek(int(max(start - 1, 0) / stream.time_base), stream=stream)
        for position, heard in sound_by_time(container, stream, start):
            if position >= len(samples):
                break
            place(samples, position, heard)
    return samples
