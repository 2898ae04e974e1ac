"""uint8 frames and int16 audio → mp4 or lossless mkv, the same bytes for the same input."""

import tempfile
from collections.abc import Iterable, Iterator
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.codec.context import Flags
from av.video.reformatter import ColorRange

from fixtalk.container import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME, MediaError
from fixtalk.shapes import Int, UInt8

SMPTE170M = 6  # AVCOL_SPC_SMPTE170M: what the conversion from RGB uses


def encode_video(
    frames: Iterable[UInt8[np.ndarray, "height width 3"]],
    *,
    crf: int,
    gop: int,
    audio: Int[np.ndarray, " samples"] | None = None,
    lossless: bool = False,
) -> bytes:
    """Bytes of an mp4 (H.264 yuv420p, no B-frames, AAC) or of a lossless mkv (FFV1, PCM).

    The same frames give the same bytes.

    Args:
        frames: at 25 fps; H.264 needs even sides.
        crf: x264 quality, lower is better; unused if lossless.
        gop: frames between key frames; unused if lossless, where every frame is one.
        audio: int16 mono at 16 kHz, 640 samples a frame; None or no samples: no sound track.
        lossless: frames read back bit for bit.
    """
    buffer = BytesIO()
    with av.open(
        buffer,
        "w",
        format="matroska" if lossless else "mp4",
        options={"fflags": "+bitexact"},
    ) as container:
        _encode(container, frames, crf=crf, gop=gop, audio=audio, lossless=lossless)
    return buffer.getvalue()


def write_video(
    path: Path,
    frames: Iterable[UInt8[np.ndarray, "height width 3"]],
    *,
    crf: int = 14,
    gop: int = FPS,
    audio: Int[np.ndarray, " samples"] | None = None,
    lossless: bool = False,
    comment: str | None = None,
) -> None:
    """Write frames as `encode_video` does, under a temporary name until complete.

    The mp4 can be played while it loads (its index comes first). The comment goes into the file's
    metadata, under that name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"fflags": "+bitexact"} | ({} if lossless else {"movflags": "+faststart"})
    # A folder, not a file of mkstemp: the video gets the rights the user's mask gives new files.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        temporary = Path(folder) / path.name
        with av.open(
            str(temporary), "w", format="matroska" if lossless else "mp4", options=options
        ) as container:
            if comment:
                container.metadata["comment"] = comment
            _encode(container, frames, crf=crf, gop=gop, audio=audio, lossless=lossless)
        temporary.replace(path)


def _encode(
    container: Any,
    frames: Iterable[np.ndarray],
    *,
    crf: int,
    gop: int,
    audio: np.ndarray | None,
    lossless: bool,
) -> None:
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise MediaError(f"{container.name}: no frames to write")
    height, width = first.shape[:2]
    video = _video_stream(container, width, height, crf=crf, gop=gop, lossless=lossless)
    has_sound = audio is not None and len(audio) > 0
    if has_sound:
        sound = container.add_stream("pcm_s16le" if lossless else "aac", rate=SAMPLE_RATE)
        sound.layout = "mono"
        sound.codec_context.flags |= Flags.bitexact
    count = 0
    for count, pixels in enumerate(_chain(first, frames), start=1):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        frame = frame.reformat(format=video.pix_fmt, threads=1)
        frame.pts = count - 1
        container.mux(video.encode(frame))
        end = count * SAMPLES_PER_FRAME
        if has_sound and end <= len(audio):
            container.mux(sound.encode(_audio_frame(audio[end - SAMPLES_PER_FRAME : end], end)))
    container.mux(video.encode(None))
    if has_sound:
        container.mux(sound.encode(None))
        if len(audio) != count * SAMPLES_PER_FRAME:
            raise MediaError(
                f"{container.name}: {len(audio)} samples of sound for {count} frames; "
                f"expected {count * SAMPLES_PER_FRAME}"
            )


def _video_stream(
    container: Any, width: int, height: int, *, crf: int, gop: int, lossless: bool
) -> Any:
    if lossless:
        # One key frame a picture and a checksum a slice: damage is noticed, not shown.
        options = {"level": "3", "g": "1", "slices": "4", "slicecrc": "1"}
        stream = container.add_stream("ffv1", rate=FPS, options=options)
        stream.pix_fmt = "bgr0"
    else:
        if width % 2 or height % 2:
            raise MediaError(
                f"{container.name}: {width}x{height}, H.264 needs even sides; pad or resize"
            )
        options = {
            "crf": str(crf), "preset": "veryfast", "bf": "0", "g": str(gop),
            "keyint_min": str(gop), "sc_threshold": "0", "threads": "1", "tune": "fastdecode",
        }  # fmt: skip
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.pix_fmt = "yuv420p"
        stream.codec_context.colorspace = SMPTE170M
        stream.codec_context.color_range = int(ColorRange.MPEG)
    stream.width, stream.height = width, height
    stream.codec_context.thread_count = 1
    stream.codec_context.flags |= Flags.bitexact
    return stream


def _chain(first: np.ndarray, rest: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    yield first
    for pixels in rest:
        if pixels.shape != first.shape:
            raise MediaError(f"frame of shape {pixels.shape} among frames of {first.shape}")
        yield pixels


def _audio_frame(samples: np.ndarray, end: int) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(
        np.ascontiguousarray(samples)[None], format="s16", layout="mono"
    )
    frame.sample_rate, frame.time_base = SAMPLE_RATE, Fraction(1, SAMPLE_RATE)
    frame.pts = end - SAMPLES_PER_FRAME
    return frame


def retime(path: Path, retimed: Path, factor: Fraction) -> None:
    """Copy the frames of a video as they are, their times multiplied."""
    with av.open(str(path)) as old, av.open(str(retimed), "w") as new:
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(stream)
        for packet in old.demux(stream):
            if packet.dts is None:
                continue
            packet.dts, packet.pts = round(packet.dts * factor), round(packet.pts * factor)
            packet.duration = round(packet.duration * factor)
            packet.stream = copy
            new.mux(packet)
