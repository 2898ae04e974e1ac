"""Path or bytes of a video → an open container and its video stream, within safe limits."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import av
from av.stream import Disposition

FPS = 25
SAMPLE_RATE = 16000
SAMPLES_PER_FRAME = SAMPLE_RATE // FPS

MAX_PIXELS = 8192 * 4608  # of one picture: more is a decompression bomb, not a face
MAX_SECONDS = 6 * 3600
# A video this much shorter than its header says is cut off; less is rounding.
CUT_OFF_SECONDS = Fraction(1, 4)
FORMATS = "mov,mp4,m4a,3gp,matroska,webm,avi,mpegts,mpeg,flv,ogg,asf,h264,hevc,yuv4mpegpipe"
SOUND_FORMATS = FORMATS + ",wav,mp3,flac,aac"

Video = Path | str | bytes


class MediaError(ValueError):
    """A file cannot be read or written as video; the message names it and the remedy.

    `reason` says it in two words, for counting.
    """

    def __init__(self, message: str, reason: str = "undecodable") -> None:
        super().__init__(message)
        self.reason = reason


@contextmanager
def open_video(video: Video) -> Iterator[tuple[Any, Any]]:
    """The container and its video stream, one thread, known formats and local bytes only.

    Raises:
        MediaError: it cannot be opened, or reading it fails inside the `with` block.
    """
    with open_media(video, FORMATS) as container:
        yield container, _single_thread(container, name_of(video))


@contextmanager
def open_media(media: Video, formats: str) -> Iterator[Any]:
    """The container of a video or sound file of one of the formats, local bytes only.

    Raises:
        MediaError: it cannot be opened, or reading it fails inside the `with` block.
        OSError: the disk is full, if the block writes another file.
    """
    name = name_of(media)
    if isinstance(media, bytes):
        length, source = len(media), BytesIO(media)
    else:
        if not Path(media).is_file():
            raise MediaError(
                f"{name}: not found; check the path or run the download stage", "not found"
            )
        length, source = Path(media).stat().st_size, str(Path(media).resolve())
    if not length:
        raise MediaError(f"{name}: empty file (0 bytes); fetch it again", "empty")
    # The white lists keep playlists from opening other files or addresses.
    options = {"protocol_whitelist": "file", "format_whitelist": formats}
    try:
        container = av.open(source, options=options, metadata_errors="ignore")
    except av.FFmpegError as error:
        raise MediaError(
            f"{name}: not a readable video or sound file of {length} bytes ({error.strerror}); "
            "fetch it again or convert it to mp4 or wav"
        ) from None
    try:
        with container:
            yield container
    except av.FFmpegError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):  # of what is written inside the block
            raise OSError(error.errno, "disk full; make room, the same command goes on") from None
        raise MediaError(f"{name}: damaged ({error.strerror}); fetch it again") from None


def _single_thread(container: Any, name: str) -> Any:
    streams = [
        stream
        for stream in container.streams.video
        if not stream.disposition & Disposition.attached_pic
    ]
    if not streams:
        raise MediaError(
            f"{name}: no video stream among {len(container.streams)}; take it off the list",
            "no video stream",
        )
    stream = streams[0]
    if stream.codec_context is None:
        raise MediaError(f"{name}: video of an unknown codec; convert it to H.264", "unknown codec")
    pixels = stream.codec_context.width * stream.codec_context.height
    if pixels > MAX_PIXELS:
        raise MediaError(
            f"{name}: {stream.codec_context.width}x{stream.codec_context.height} pixels, "
            f"at most {MAX_PIXELS} a picture; scale it down"
        )
    seconds = header_seconds(stream)
    if seconds > MAX_SECONDS:
        raise MediaError(f"{name}: {float(seconds):.0f} s, at most {MAX_SECONDS}; cut it")
    for each in [stream, *container.streams.audio]:
        if each.codec_context:
            each.codec_context.thread_count = 1
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    return stream


def packets_of(container: Any, stream: Any) -> Iterator[Any]:
    """Packets up to the end of the file or to where it cannot be read on."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except (StopIteration, av.FFmpegError):
            return
        if knows_decoding_only(container):
            packet.pts = packet.dts  # else the first picture seems to come late
        yield packet


def knows_decoding_only(container: Any) -> bool:
    """Whether the file stores when packets are decoded, and FFmpeg guesses when they are shown.

    Where there are B-frames, or H.264 that could have some, it guesses wrong.
    """
    return container.format.name == "avi"


def frames_of(container: Any, stream: Any) -> Iterator[Any]:
    """Decoded frames of a stream; packets that cannot be decoded are skipped."""
    for packet in packets_of(container, stream):
        with suppress(av.FFmpegError):
            yield from packet.decode()


def sound_stream(container: Any, name: str) -> Any | None:
    """The first sound track, None if there is none.

    Raises:
        MediaError: it cannot be decoded: silence in its place would pass for a silent video.
    """
    if not container.streams.audio:
        return None
    stream = container.streams.audio[0]
    if stream.codec_context is None:
        raise MediaError(f"{name}: sound of an unknown codec; convert it to AAC", "unknown codec")
    return stream


def seconds_of(frame: Any, default: Fraction) -> Fraction:
    """Time stamp of a decoded frame."""
    return default if frame.pts is None else frame.pts * Fraction(frame.time_base)


def header_seconds(stream: Any) -> Fraction:
    """Length of a stream by its header, 0 if it does not say."""
    with suppress(ValueError):  # Matroska's tag; anybody can write anything there
        hours, minutes, seconds = stream.metadata.get("DURATION", "").split(":")
        return int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)
    return (stream.duration or 0) * (stream.time_base or Fraction(0))


def damage_of(container: Any, stream: Any, packets: int, broken: int, end: Fraction) -> str | None:
    """What is wrong with a video stream read to its end, by time stamp, None if nothing."""
    promised = header_seconds(stream)
    wanted = _packets_wanted(container, stream, promised)
    if packets < wanted:
        return f"cut off after {packets} of {wanted} frames"
    if broken:
        return f"{broken} of {packets} packets are corrupt"
    if len(container.streams) == 1:  # Matroska knows the length of the whole only
        promised = promised or Fraction(container.duration or 0, av.time_base)
    if promised > end + CUT_OFF_SECONDS:
        return f"cut off after {float(end):.2f} of {float(promised):.2f} s"
    return None


def _packets_wanted(container: Any, stream: Any, promised: Fraction) -> int:
    """Packets that a whole file gives, 0 if it does not say.

    An mp4 cut without encoding anew still holds what its edit list, and so its index, leaves out.
    """
    is_trimmed = 0 < promised * (stream.average_rate or 0) < stream.frames
    if is_trimmed and "mp4" in container.format.name:
        return len(stream.index_entries)
    return stream.frames


def name_of(video: Video) -> str:
    """How messages call a video."""
    return f"<{len(video)} bytes in memory>" if isinstance(video, bytes) else str(video)
