"""Mel front end: against scipy and formulas written down anew, and windows counted by hand."""

import math
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from scipy.signal import lfilter, stft

from fixtalk.mel import (
    COLUMNS_PER_FRAME,
    _hertz,
    _mel,
    first_column,
    mel_pieces,
    mel_spectrogram,
    stream_pieces,
)


def speech_like(seconds=0.5):
    rng = np.random.default_rng(0)
    time = np.arange(round(16000 * seconds)) / 16000
    tones = sum(np.sin(2 * np.pi * f * time) / n for n, f in enumerate([120, 600, 2500, 6000], 1))
    wave = tones * (1 + np.sin(8 * np.pi * time)) + 0.05 * rng.normal(size=len(time))
    return np.round(6000 * wave).astype(np.int16)


def triangle(frequency, low, centre, high):
    """Height of a triangle of area 1 in hertz."""
    if frequency <= low or frequency >= high:
        return 0.0
    peak = 2 / (high - low)
    side = (frequency - low) / (centre - low) if frequency < centre else (high - frequency) / (
        high - centre
    )  # fmt: skip
    return peak * side


def slaney_edges():
    """Band edges: 15 mel a kilohertz below 1 kHz, 27 mel a factor of 6.4 above."""
    top = 15 + 27 * math.log(7.6) / math.log(6.4)
    points = [0.825 + k * (top - 0.825) / 81 for k in range(82)]
    return [p / 0.015 if p < 15 else 1000 * math.exp((p - 15) * math.log(6.4) / 27) for p in points]


def test_spectrogram_equals_scipys_with_a_matrix_written_down_from_the_formula():
    audio = speech_like()
    edges = slaney_edges()
    matrix = np.array(
        [[triangle(20 * b, *edges[m : m + 3]) for b in range(401)] for m in range(80)]
    )

    wave = lfilter([1, -0.97], [1], audio / 32768)
    _, _, spectrum = stft(
        np.pad(wave, 400, mode="reflect"), window="hann", nperseg=800, noverlap=600,
        boundary=None, padded=False,
    )  # fmt: skip
    mels = matrix @ np.abs(spectrum) * 400  # scipy divides by the sum of the window
    expected = np.clip(8 * (20 * np.log10(np.maximum(mels, 1e-5)) - 20 + 100) / 100 - 4, -4, 4)

    found = mel_spectrogram(audio)

    assert found.shape == (80, 1 + len(audio) // 200)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-4)
    assert found.max() - found.min() > 4  # neither clipped nor flat


@pytest.mark.parametrize(("hertz", "mel"), [(60.0, 0.9), (110.0, 1.65), (440.0, 6.6)])
def test_scale_is_the_one_that_librosa_documents(hertz, mel):
    assert _mel(hertz) == pytest.approx(mel)
    assert _hertz(np.array([mel]))[0] == pytest.approx(hertz)


def test_silence_is_the_floor_and_full_scale_noise_stays_within_the_limits():
    silence = mel_spectrogram(np.zeros(1600, np.int16))
    noise = np.random.default_rng(0).choice(np.array([-32768, 32767], np.int16), 16000)

    assert (silence == -4).all()
    assert 0 < mel_spectrogram(noise).max() <= 4


def test_blocks_do_not_show(monkeypatch):
    audio = speech_like(1.0)
    whole = mel_spectrogram(audio)

    monkeypatch.setattr("fixtalk.mel.BLOCK", 7)

    np.testing.assert_allclose(mel_spectrogram(audio), whole, atol=1e-5)


@pytest.mark.parametrize(
    ("frame", "column"),
    # 3.2 (i - 2): -6.4, -3.2, 0, 3.2, 6.4, 9.6, 12.8, 16; an hour is 90,000 frames
    [(0, -7), (1, -4), (2, 0), (3, 3), (4, 6), (5, 9), (6, 12), (7, 16), (90_002, 288_000),
     (90_003, 288_003)],
)  # fmt: skip
def test_pieces_begin_where_counted_by_hand(frame, column):
    assert first_column(frame) == column


def test_an_hour_does_not_drift():
    assert Fraction(16, 5) == COLUMNS_PER_FRAME
    assert [first_column(f + 5) - first_column(f) for f in range(90_000)] == [16] * 90_000


def test_pieces_repeat_the_end_columns_outside_the_sound():
    mels = np.tile(np.arange(40, dtype=np.float32), (80, 1))

    first, third, last = mel_pieces(mels, [0, 3, 12])[:, 0, 5]

    assert first.tolist() == [0] * 8 + [1, 2, 3, 4, 5, 6, 7, 8]
    assert third.tolist() == list(range(3, 19))
    assert last.tolist() == list(range(32, 40)) + [39] * 8


def test_click_lies_in_the_middle_of_its_frames_piece():
    audio = np.zeros(16000 * 2, np.int16)
    audio[25 * 640] = 30000  # at the time of frame 25

    piece = mel_pieces(mel_spectrogram(audio), [25])[0, 0]

    loud = np.flatnonzero(piece.max(axis=0) > -3.9)
    # column 80 of the sound is 73 + 7; its neighbours' windows, half over, hear it too
    assert loud.tolist() == [6, 7, 8]


@pytest.mark.parametrize("samples", [2, 199, 3200])
def test_short_sounds_have_a_spectrogram(samples):
    assert mel_spectrogram(np.ones(samples, np.int16)).shape == (80, 1 + samples // 200)


@pytest.mark.parametrize("samples", [0, 1])
def test_no_sound_is_refused(samples):
    with pytest.raises(ValueError, match="at least 2"):
        mel_spectrogram(np.zeros(samples, np.int16))


@pytest.mark.parametrize("samples", [2, 641, 3200, 640 * 1203 + 100])
def test_streamed_pieces_are_those_of_the_whole(samples):
    audio = np.resize(speech_like(), samples)

    streamed = np.stack(list(stream_pieces(audio)))

    whole = mel_pieces(mel_spectrogram(audio), range(math.ceil(samples / 640)))
    assert streamed.shape == whole.shape
    assert np.abs(streamed - whole).max() < 1e-4


def test_stream_holds_no_whole_spectrogram():
    audio = np.zeros(16000 * 600, np.int16)  # its spectrogram takes 15 MB, its samples 19 MB
    stream = stream_pieces(audio)
    next(stream)  # tables are made
    tracemalloc.start()

    count = sum(1 for _ in stream)

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 15000 - 1
    assert peak < 64 * 2**20
