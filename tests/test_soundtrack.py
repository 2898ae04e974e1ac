"""Speech as animate reads it: as it is, silence told, and fitted to the video."""

import wave
from itertools import count

import numpy as np
import pytest

from fixtalk.media import MediaError
from fixtalk.sound import GROWTH
from pipelines.soundtrack import fit, read_speech, silent_seconds

FRAME = 640  # samples


@pytest.fixture
def spoken(tmp_path):
    """Samples → a wav file of its own."""
    numbers = count()

    def write(samples):
        path = tmp_path / f"{next(numbers)}.wav"
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, 16000, 0, "NONE", ""))
            file.writeframes(np.asarray(samples, "<i2").tobytes())
        return path

    return write


def noise(length):
    return np.random.default_rng(0).integers(1, 9000, length).astype(np.int16)


def test_silence_fills_the_last_frame_and_is_not_told(spoken, tmp_path):
    samples, said = noise(12 * FRAME + 1), []

    speech = fit(read_speech(spoken(samples)), 13, tmp_path / "a.wav", said.append)

    assert len(speech) == 13 * FRAME
    assert np.array_equal(speech[: len(samples)], samples)
    assert not speech[len(samples) :].any()
    assert said == []


def test_speech_longer_than_the_reader_grows_at_once_is_read_as_it_is(spoken):
    samples = noise(2 * GROWTH + 5 * FRAME + 1)

    assert np.array_equal(read_speech(spoken(samples)), samples)


def test_less_than_a_frame_is_refused(spoken):
    with pytest.raises(MediaError, match="639 samples, less than a frame"):
        read_speech(spoken(noise(FRAME - 1)))


def test_frames_without_any_sound_are_told_in_seconds():
    speech = noise(50 * FRAME + 7)
    speech[10 * FRAME : 20 * FRAME] = 0
    speech[30 * FRAME : 31 * FRAME - 1] = 0  # one sample of this frame is heard

    assert silent_seconds(speech) == pytest.approx(0.4)


@pytest.mark.parametrize(("frames", "told"), [(3, "the rest is left out"), (7, "silence follows")])
def test_sound_gets_the_length_of_the_video(frames, told, tmp_path):
    said = []

    fitted = fit(noise(5 * FRAME), frames, tmp_path / "a.wav", said.append)

    assert len(fitted) == frames * FRAME
    assert np.array_equal(fitted[: 3 * FRAME], noise(5 * FRAME)[: 3 * FRAME])
    assert [told in line for line in said] == [True]
