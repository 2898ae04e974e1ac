"""Int16 speech at 16 kHz → mel spectrogram in [-4, 4] → the 0.2 s around each video frame."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import cache

import numpy as np

from fixtalk.container import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from fixtalk.shapes import Float, Int

MELS = 80
HOP = 200  # samples from column to column
WINDOW = 800  # samples that a column sees
COLUMNS = 16  # of the piece that belongs to a video frame
LOWEST, HIGHEST = 55.0, 7600.0  # Hz
PRE_EMPHASIS = 0.97
REFERENCE, FLOOR = 20.0, -100.0  # decibels
LIMIT = 4.0  # of the values that networks see
FRAMES_EARLIER = 2  # a frame's piece begins so many frames before it
COLUMNS_PER_FRAME = Fraction(SAMPLE_RATE, HOP * FPS)
BLOCK = 4096  # columns at once: bounds memory only
STRETCH = 100  # frames whose spectrogram is held at once
GUARD = 3  # columns at either end of a stretch that see where it was cut


def mel_spectrogram(audio: Int[np.ndarray, " samples"]) -> Float[np.ndarray, "mels columns"]:
    """Float32 mel spectrogram of int16 samples: 80 bands, 80 columns a second.

    Column c is centred on sample 200 c; beyond its ends the sound is mirrored. Silence is -4.

    Raises:
        ValueError: fewer than two samples.

    Source: the front end of Wav2Lip (arXiv 2008.10010), which EDTalk's audio encoder reads.
    """
    if len(audio) < 2:
        raise ValueError(f"{len(audio)} samples of sound: at least 2 are needed")
    wave = audio.astype(np.float32) / 32768
    wave[1:] -= PRE_EMPHASIS * wave[:-1]
    count = 1 + len(wave) // HOP
    padded = np.pad(wave, WINDOW // 2, mode="reflect")
    views = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    hann = np.hanning(WINDOW + 1)[:-1]
    mels = np.empty((MELS, count), np.float32)
    for start in range(0, count, BLOCK):
        spectrum = np.abs(np.fft.rfft(views[start : start + BLOCK] * hann, axis=1))
        mels[:, start : start + BLOCK] = _filters() @ spectrum.T
    decibels = 20 * np.log10(np.maximum(mels, 10 ** (FLOOR / 20))) - REFERENCE
    return ((decibels - FLOOR) * (2 * LIMIT / -FLOOR) - LIMIT).clip(-LIMIT, LIMIT)


def first_column(frame: int) -> int:
    """Where the piece of a video frame begins: floor(3.2 (frame - 2)), exact at any length."""
    return COLUMNS_PER_FRAME.numerator * (frame - FRAMES_EARLIER) // COLUMNS_PER_FRAME.denominator


def mel_pieces(
    mels: Float[np.ndarray, "mels columns"], frames: Sequence[int], skipped: int = 0
) -> Float[np.ndarray, "frames 1 mels 16"]:
    """What the audio encoder hears at each video frame; outside, the end columns are repeated.

    Args:
        mels: of the whole sound, or of a stretch of it.
        frames: numbers from the start of the sound.
        skipped: columns before the stretch.
    """
    starts = np.array([first_column(frame) for frame in frames], np.int64) - skipped
    columns = (starts[:, None] + np.arange(COLUMNS)).clip(0, mels.shape[1] - 1)
    return mels[:, columns].transpose(1, 0, 2)[:, None]


def num_frames(audio: Int[np.ndarray, " samples"]) -> int:
    """Video frames that a sound lasts; a begun one counts."""
    return -(-len(audio) // SAMPLES_PER_FRAME)


def stream_pieces(
    audio: Int[np.ndarray, " samples"],
) -> Iterator[Float[np.ndarray, "1 mels 16"]]:
    """The pieces of all frames of a sound (`num_frames`), one after the other.

    The same as `mel_pieces` of the whole, in memory that does not grow with the sound.

    Raises:
        ValueError: fewer than two samples.
    """
    count = num_frames(audio)
    for start in range(0, max(1, count), STRETCH):
        frames = range(start, min(start + STRETCH, count))
        low = max(0, first_column(start) - GUARD)
        high = first_column(start + STRETCH) + COLUMNS + GUARD
        mels = mel_spectrogram(audio[HOP * low : HOP * high])
        yield from mel_pieces(mels, frames, low)


@cache
def _filters() -> Float[np.ndarray, "mels bins"]:
    """Triangles over the bins of a spectrum, each of area 2 Hz⁻¹ · Hz.

    Source: Slaney's Auditory Toolbox (1998), as librosa's default filters.
    """
    edges = _hertz(np.linspace(_mel(LOWEST), _mel(HIGHEST), MELS + 2))
    bins = np.linspace(0, SAMPLE_RATE / 2, WINDOW // 2 + 1)
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (bins - low) / (centre - low), (high - bins) / (high - centre)
    return np.minimum(rising, falling).clip(0) * 2 / (high - low)


def _mel(hertz: float) -> float:
    """Slaney's scale: linear below 1 kHz, where 15 mel lie, logarithmic above."""
    return hertz * 3 / 200 if hertz < 1000 else 15 + 27 * np.log(hertz / 1000) / np.log(6.4)


def _hertz(mels: Float[np.ndarray, " points"]) -> Float[np.ndarray, " points"]:
    return np.where(mels < 15, mels * 200 / 3, 1000 * 6.4 ** ((mels - 15) / 27))
