"""Video files → uint8 frames at 25 fps by time stamps and int16 audio at 16 kHz, aligned."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeVar

import av
import numpy as np
import torch
from torch import Tensor

from fixtalk.container import (
    FPS,
    MAX_SECONDS,
    SAMPLE_RATE,
    SAMPLES_PER_FRAME,
    MediaError,
    Video,
    damage_of,
    frames_of,
    header_seconds,
    knows_decoding_only,
    name_of,
    open_video,
    packets_of,
    seconds_of,
    sound_stream,
)
from fixtalk.encoding import encode_video, write_video
from fixtalk.shapes import Float, Int, UInt8
from fixtalk.sound import place, sound_by_time

__all__ = [
    "FPS",
    "SAMPLES_PER_FRAME",
    "SAMPLE_RATE",
    "MediaError",
    "VideoInfo",
    "VideoReader",
    "decode_frames",
    "encode_video",
    "probe",
    "read_audio",
    "read_track",
    "read_video",
    "resample_25fps",
    "start_of",
    "to_float",
    "to_uint8",
    "write_video",
]

# Millisecond containers round time stamps; a frame this late still counts as on time.
TIME_TOLERANCE = Fraction(1, 1000)
# No talking head keeps still this long: the time stamps are damaged, or the recording froze.
MAX_STILL_SECONDS = 5
Payload = TypeVar("Payload")


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What the header of a video says; `frames` and `duration_seconds` are 0 if it does not."""

    width: int
    height: int
    fps: float
    frames: int
    duration_seconds: float
    has_audio: bool
    codec: str


def to_uint8(frames: Float[Tensor, "..."]) -> UInt8[Tensor, "..."]:
    """Pixels 0-255 of frames in [-1, 1]: round((x + 1) * 127.5), values outside clamped."""
    return ((frames.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def to_float(frames: UInt8[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Frames in [-1, 1] of pixels 0-255; `to_uint8` gives the same pixels back."""
    return frames.float() / 127.5 - 1


def probe(video: Video) -> VideoInfo:
    """Size, frame rate and length of a video from its header; size is after rotation.

    Raises:
        MediaError: not a video, or none of its frames can be decoded.
    """
    with open_video(video) as (container, stream):
        height, width = _pixels(_first_frame(container, stream, video)).shape[:2]
        seconds = header_seconds(stream) or (container.duration or 0) / av.time_base
        fps = float(stream.average_rate or stream.guessed_rate or 0)
        return VideoInfo(
            width=width,
            height=height,
            fps=fps,
            frames=stream.frames or round(seconds * fps),
            duration_seconds=float(seconds),
            has_audio=bool(container.streams.audio),
            codec=stream.codec_context.name,
        )


class VideoReader:
    """Frames of a video at 25 fps, one at a time: memory stays flat however long it is.

    What can be decoded of a damaged file is decoded; afterwards `damage` says what was wrong
    (None: nothing) and `frames` how many were given out.
    """

    def __init__(self, video: Video) -> None:
        self.video = video
        self.damage: str | None = None
        self.frames = 0

    def __iter__(self) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
        self.damage, self.frames = None, 0
        shown, pixels = None, None
        with open_video(self.video) as (container, stream):
            for frame in resample_25fps(self._timed_frames(container, stream)):
                if frame is not shown:
                    shown, pixels = frame, _pixels(frame)
                self.frames += 1
                yield pixels
        if not self.frames:
            cause = self.damage or "empty stream"
            raise MediaError(
                f"{name_of(self.video)}: no frame can be decoded ({cause}); fetch the file again"
            )

    def _timed_frames(
        self, container: Any, stream: Any
    ) -> Iterator[tuple[Fraction, Fraction, av.VideoFrame]]:
        """Start and duration in seconds since the first frame, and the frame itself."""
        step = 1 / (stream.average_rate or stream.guessed_rate or Fraction(FPS))
        start = last = shape = None
        packets, broken, end = 0, 0, Fraction(0)
        for packet in packets_of(container, stream):
            packets += packet.size > 0
            try:
                frames = packet.decode()
            except av.FFmpegError:
                broken += 1
                continue
            broken += bool(packet.is_corrupt)
            for frame in frames:
                shape = shape or (frame.width, frame.height)
                if (frame.width, frame.height) != shape:
                    self.damage = f"the picture changes its size from {shape} within the video"
                    return
                if knows_decoding_only(container):
                    frame.pts = frame.dts
                time = seconds_of(frame, default=step if last is None else last + step)
                start = time if start is None else start
                if last is not None and time <= last:
                    broken += 1
                    continue
                if time - start > MAX_SECONDS:
                    raise MediaError(
                        f"{name_of(self.video)}: longer than {MAX_SECONDS} s; cut it into parts"
                    )
                if last is not None and time - last > MAX_STILL_SECONDS:
                    self.damage = f"stands still for {float(time - last):.1f} s"
                    return
                last = time
                duration = Fraction(frame.duration or 0) * (frame.time_base or 0)
                duration = min(duration or step, Fraction(MAX_STILL_SECONDS))
                end = time + max(duration, step)
                yield time - start, duration, frame
        self.damage = damage_of(container, stream, packets, broken, end)


def resample_25fps(
    timed: Iterable[tuple[Fraction, Fraction, Payload]],
) -> Iterator[Payload]:
    """Items shown at k/25 s for k = 0, 1, …: the one whose presentation interval holds that time.

    Args:
        timed: (start, duration, item), starts in seconds, rising, the first at 0. An item is
            shown until the next starts, the last for its duration.
    """
    held, end, count = None, Fraction(0), 0
    for start, duration, item in timed:
        while held is not None and Fraction(count, FPS) + TIME_TOLERANCE < start:
            yield held
            count += 1
        held, end = item, start + duration
    while held is not None and (count == 0 or Fraction(count, FPS) + TIME_TOLERANCE < end):
        yield held
        count += 1


def read_video(video: Video) -> UInt8[np.ndarray, "frames height width 3"]:
    """All frames of a short video at 25 fps; for long ones iterate over `VideoReader`.

    Raises:
        MediaError: missing, empty, no video, or damaged: half a video is never taken for a whole.
    """
    reader = VideoReader(video)
    frames = np.stack(list(reader))
    if reader.damage:
        raise MediaError(f"{name_of(video)}: damaged: {reader.damage}; make or fetch it again")
    return frames


def read_audio(video: Video, frames: int) -> Int[np.ndarray, " samples"]:
    """Int16 mono sound at 16 kHz: `frames` * 640 samples from the time of frame 0 on.

    Where the sound track is shorter or has a gap there is silence. A file without a sound track
    gives zero samples.

    Raises:
        MediaError: not a video, or none of its frames can be decoded.
    """
    audio, _ = read_track(video, frames)
    return audio


def read_track(video: Video, frames: int) -> tuple[Int[np.ndarray, " samples"], int]:
    """What `read_audio` gives, and how many of its samples the sound track lasts.

    Raises:
        MediaError: as `read_audio`.
    """
    start, length = start_of(video), 0
    audio = np.zeros(frames * SAMPLES_PER_FRAME, np.int16)
    with open_video(video) as (container, _):
        stream = sound_stream(container, name_of(video))
        if stream is None:
            return audio[:0], 0
        for position, samples in sound_by_time(container, stream, start):
            length = max(length, min(position + len(samples), len(audio)))
            if position >= len(audio):
                break
            place(audio, position, samples)
    return audio, length


def start_of(video: Video) -> Fraction:
    """Time stamp of the first picture in seconds, which is time 0 of the frames and the sound.

    Raises:
        MediaError: not a video, or none of its frames can be decoded.
    """
    with open_video(video) as (container, stream):
        return seconds_of(_first_frame(container, stream, video), default=Fraction(0))


def decode_frames(video: bytes, indices: Sequence[int]) -> UInt8[np.ndarray, "len height width 3"]:
    """The frames at `indices`, in that order, of a clip of this module (25 fps, no B-frames).

    Decodes only from the key frame before each wanted frame, so a short GOP makes it fast.

    Raises:
        MediaError: an index outside the clip.
    """
    found: dict[int, np.ndarray] = {}
    wanted = sorted(set(indices))
    with open_video(video) as (container, stream):
        last = stream.frames - 1 if stream.frames else None
        if wanted and (wanted[0] < 0 or (last is not None and wanted[-1] > last)):
            raise MediaError(f"{name_of(video)}: frames {wanted} wanted, it has 0 to {last}")
        tick = 1 / (FPS * stream.time_base)
        for index in wanted:
            if index in found:
                continue
            container.seek(round(index * tick), stream=stream)
            for frame in container.decode(stream):
                position = round(frame.pts / tick)
                if position in wanted:
                    found[position] = _pixels(frame)
                if position >= index:
                    break
    missing = [index for index in wanted if index not in found]
    if missing:
        raise MediaError(f"{name_of(video)}: frames {missing} cannot be decoded; crop it again")
    return np.stack([found[index] for index in indices])


def _first_frame(container: Any, stream: Any, video: Video) -> av.VideoFrame:
    for frame in frames_of(container, stream):
        return frame
    raise MediaError(f"{name_of(video)}: no frame can be decoded; fetch the file again")


def _pixels(frame: av.VideoFrame) -> UInt8[np.ndarray, "height width 3"]:
    """RGB pixels, turned upright as the file's display matrix asks."""
    # One thread: starting a pool of threads for every frame costs up to 2 ms on busy cores.
    pixels = frame.reformat(format="rgb24", threads=1).to_ndarray()
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))
