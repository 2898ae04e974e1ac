"""Fingerprints: the same recording is found however it was cut or coded, another one is not."""

import numpy as np
import pytest

from fixtalk.container import SAMPLES_PER_FRAME
from fixtalk.encoding import encode_video
from fixtalk.fingerprint import fingerprint, shared_recordings
from fixtalk.sound import read_sound
from tests.voices import BOAT, FOX, spoken

BOUND = 0.2  # what docs/clips.md recommends


def coded(audio):
    """Through AAC, as every site does it."""
    frames = len(audio) // SAMPLES_PER_FRAME
    pictures = np.zeros((frames, 16, 16, 3), np.uint8)
    audio = audio[: frames * SAMPLES_PER_FRAME]
    return read_sound(encode_video(pictures, crf=30, gop=5, audio=audio))


def noisy(audio):
    noise = np.random.default_rng(0).normal(0, audio.std() / 10, len(audio))
    return (audio + noise).clip(-32768, 32767).astype(np.int16)


CHANGES = {
    "cut between hops": lambda audio: audio[777:],
    "begun later": lambda audio: audio[20800:],
    "quieter": lambda audio: (audio * 0.3).astype(np.int16),
    "AAC": coded,
    "AAC, cut and quieter": lambda audio: coded((audio[9280:] * 0.5).astype(np.int16)),
    "noise at 20 dB": noisy,
    "within a longer sound": lambda audio: np.concatenate([spoken(BOAT), audio, spoken(BOAT)]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_recording_is_found(change):
    recording = spoken(FOX)
    others = [fingerprint(spoken(BOAT, "en-us+f2")), fingerprint(recording)]

    matches = shared_recordings([fingerprint(CHANGES[change](recording))], others, BOUND)

    assert [(match.one, match.other) for match in matches] == [(0, 1)]


def test_other_words_and_other_voices_are_no_duplicates():
    voices = ("en-us+m3", "en-us+f2", "en-us+m7")
    prints = [fingerprint(spoken(text, name)) for text in (FOX, BOAT) for name in voices]

    assert {(m.one, m.other) for m in shared_recordings(prints, prints, BOUND)} == {
        (number, number) for number in range(len(prints))
    }


@pytest.mark.parametrize("samples", [0, 500, 16000])
def test_silent_and_short_sounds_match_nothing(samples):
    silent = fingerprint(np.zeros(samples, np.int16))

    assert len(silent.hashes) == 0
    assert shared_recordings([silent], [silent, fingerprint(spoken(FOX))], BOUND) == []
    assert shared_recordings([], [silent], BOUND) == []


@pytest.mark.parametrize("level", [100, 5000 * np.sin(np.arange(160000) * np.pi / 8)])
def test_what_stands_still_is_no_recording(level):
    """A test tone, or a microphone's offset: thousands of equal hashes matched all others."""
    assert len(fingerprint(np.full(160000, level).astype(np.int16)).hashes) == 0


def test_the_share_counts_the_shorter_sound():
    half = spoken(FOX)[: len(spoken(FOX)) // 2]

    match = shared_recordings([fingerprint(half)], [fingerprint(spoken(FOX))], BOUND)[0]

    assert match.share > 0.8
