"""Seconds and a box of a fetched video → a clip of its own, pictures and sound, checked."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np

from fixtalk.container import (
    SAMPLE_RATE,
    SOUND_FORMATS,
    MediaError,
    frames_of,
    header_seconds,
    open_media,
    open_video,
    sound_stream,
)
from pipelines.files import replacing
from pipelines.sources.spans import frames_of_span, require_length, sound_of

CRF = 14  # near lossless: the crop stage encodes again
AROUND = 0.25  # of the box's side kept on each side of it, for the detector of the crop stage
Box = tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels


class Region(NamedTuple):
    """Pixels of a picture, all even: what chroma at half resolution allows."""

    x: int
    y: int
    width: int
    height: int


class Made(NamedTuple):
    """What a clip turned out to be."""

    frames: int
    fps: float
    seconds: float
    has_audio: bool


def region_around(box: Box, width: int, height: int) -> Region:
    """The box and a rim around it, as far as it lies in the picture.

    Raises:
        MediaError: none of it does.
    """
    x0, y0, x1, y1 = box
    rim = AROUND * max(x1 - x0, y1 - y0)
    left, top = (max(0, int(low - rim) // 2 * 2) for low in (x0, y0))
    right, bottom = min(width, int(x1 + rim)), min(height, int(y1 + rim))
    wide, high = (right - left) // 2 * 2, (bottom - top) // 2 * 2
    if min(wide, high) < 2:
        raise MediaError(
            f"box {box} lies outside of {width}x{height} pixels; check the list", "box outside"
        )
    return Region(left, top, wide, high)


def square_in(box: Box, region: Region | None) -> list[float]:
    """The box as [x0, y0, side] in pixels of the cut picture, grown to a square on its centre."""
    x0, y0, x1, y1 = box
    side = max(x1 - x0, y1 - y0)
    left, top = (region.x, region.y) if region else (0, 0)
    corner = ((x0 + x1 - side) / 2 - left, (y0 + y1 - side) / 2 - top)
    return [round(value, 2) for value in (*corner, side)]


def picture_size(video: Path) -> tuple[int, int]:
    """Width and height in pixels of the first frame.

    Raises:
        MediaError: not a video, or none of its frames can be decoded.
    """
    with open_video(video) as (container, stream):
        for frame in frames_of(container, stream):
            return frame.width, frame.height
    raise MediaError(f"{video}: no frame can be decoded; fetch it again")


def cut(
    picture: Path, sound: Path | None, start: float, stop: float, region: Region | None, clip: Path
) -> Made:
    """Write the frames shown from `start` to before `stop`, at their own times, with their sound.

    Args:
        picture: the video; its sound is taken if `sound` is None.
        sound: file of the same time line.
        start: seconds; the frame nearest to it is the first.
        stop: seconds; the frame nearest to it is left out.
        region: pixels to keep; None: all.
        clip: mp4 (H.264, AAC 16 kHz mono), there only when complete.

    Raises:
        MediaError: `reason` "too early an end" if the video is shorter; else it is damaged.
    """
    clip.parent.mkdir(parents=True, exist_ok=True)
    with replacing(clip) as part:
        with open_video(picture) as (container, stream):
            require_length(picture, stream, stop)
            origin = Fraction(stream.start_time or 0) * stream.time_base
            samples = sound_of(sound or picture, origin + Fraction(start), stop - start)
            frames = frames_of_span(container, stream, origin, start, stop)
            _encode(part, frames, stream, region, samples)
        return inspect(part)


def join(picture: Path, sound: Path, clip: Path) -> Made:
    """Write the pictures of one file and the sound of another as they are, as one mp4.

    Raises:
        MediaError: one of the two is damaged.
    """
    clip.parent.mkdir(parents=True, exist_ok=True)
    with replacing(clip) as part:
        with (
            open_video(picture) as (seen, video),
            open_media(sound, SOUND_FORMATS) as heard,
            av.open(str(part), "w", format="mp4", options={"fflags": "+bitexact"}) as joined,
        ):
            spoken = sound_stream(heard, str(sound))
            if spoken is None:
                raise MediaError(f"{sound}: no sound in it; take it off the list")
            streams = [(seen, video), (heard, spoken)]
            copies = [joined.add_stream_from_template(stream) for _, stream in streams]
            for (container, stream), copy in zip(streams, copies, strict=True):
                for packet in container.demux(stream):
                    if packet.dts is not None:
                        packet.stream = copy
                        joined.mux(packet)
        return inspect(part)


def inspect(clip: Path) -> Made:
    """Decode all of a clip.

    Raises:
        MediaError: some of it cannot be decoded.
    """
    with open_video(clip) as (container, stream):
        fps = float(stream.average_rate or stream.guessed_rate or 0)
        frames = sum(1 for _ in container.decode(stream))
        seconds = float(header_seconds(stream)) or frames / fps
    if not frames:
        raise MediaError(f"{clip}: no frame can be decoded; make it again")
    with open_media(clip, SOUND_FORMATS) as container:
        stream = sound_stream(container, str(clip))
        samples = sum(frame.samples for frame in container.decode(stream)) if stream else 0
    return Made(frames, fps, seconds, samples > 0)


def _encode(
    part: Path,
    frames: Iterator[av.VideoFrame],
    source: Any,
    region: Region | None,
    samples: np.ndarray,
) -> None:
    first = None
    with av.open(str(part), "w", format="mp4", options={"fflags": "+bitexact"}) as clip:
        video = clip.add_stream("libx264", rate=source.average_rate or source.guessed_rate)
        _set_up(video, source, region)
        sound = clip.add_stream("aac", rate=SAMPLE_RATE) if samples.size else None
        if sound:
            sound.layout = "mono"
        for frame in _cropped(frames, source, region):
            first = frame.pts if first is None else first
            picture = frame.reformat(format="yuv420p", threads=1)
            picture.pts, picture.time_base = frame.pts - first, frame.time_base
            clip.mux(video.encode(picture))
        if first is None:
            raise MediaError(f"{part.name}: no frame of it can be decoded; fetch the video again")
        clip.mux(video.encode(None))
        if sound:
            pieces = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
            pieces.sample_rate, pieces.pts = SAMPLE_RATE, 0
            clip.mux(sound.encode(pieces))
            clip.mux(sound.encode(None))


def _set_up(video: Any, source: Any, region: Region | None) -> None:
    """Size, quality and colours of the stream that is written."""
    old, new = source.codec_context, video.codec_context
    video.width, video.height = (
        (region.width, region.height) if region else (old.width // 2 * 2, old.height // 2 * 2)
    )
    video.pix_fmt = "yuv420p"
    video.options = {"crf": str(CRF), "preset": "veryfast", "bf": "0", "g": "25", "threads": "1"}
    new.thread_count, new.time_base = 1, source.time_base
    for name in ("colorspace", "color_range", "color_primaries", "color_trc"):
        setattr(new, name, getattr(old, name))


def _cropped(
    frames: Iterator[av.VideoFrame], source: Any, region: Region | None
) -> Iterator[av.VideoFrame]:
    """The region of each frame, cut out without touching a pixel's value."""
    graph = None
    for frame in frames:
        box = region or Region(0, 0, frame.width // 2 * 2, frame.height // 2 * 2)
        if (box.width, box.height) == (frame.width, frame.height):
            yield frame
            continue
        if graph is None:
            graph = av.filter.Graph()
            entrance = graph.add_buffer(
                width=frame.width,
                height=frame.height,
                format=frame.format,
                time_base=source.time_base,
            )
            crop = graph.add("crop", f"{box.width}:{box.height}:{box.x}:{box.y}")
            graph.link_nodes(entrance, crop, graph.add("buffersink")).configure()
        graph.push(frame)
        yield graph.pull()
