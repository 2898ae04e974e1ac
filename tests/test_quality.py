"""How sharp a face is and how much speech there is: what changes them, and what must not."""

import cv2
import numpy as np
import pytest
from skimage.data import astronaut

from fixtalk.container import SAMPLE_RATE
from fixtalk.quality import sharpness, speech_share
from tests.voices import FOX, spoken

BOX = np.array([170.0, 60.0, 280.0, 200.0])
TIME = np.arange(3 * SAMPLE_RATE) / SAMPLE_RATE
RNG = np.random.default_rng(0)


def test_blur_lowers_sharpness_step_by_step():
    sigmas = (0.5, 1.0, 2.0, 4.0)
    values = [sharpness(cv2.GaussianBlur(astronaut(), (0, 0), s), BOX) for s in sigmas]

    assert values == sorted(values, reverse=True)
    assert values[0] > 3 * values[-1]


def test_light_and_contrast_do_not_change_sharpness():
    dim = (astronaut() * 0.5 + 20).round().astype(np.uint8)

    assert sharpness(dim, BOX) == pytest.approx(sharpness(astronaut(), BOX), rel=0.1)


def test_a_small_face_counts_as_blurred():
    half = cv2.resize(astronaut(), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)

    assert sharpness(half, BOX / 2) < 0.7 * sharpness(astronaut(), BOX)


@pytest.mark.parametrize("box", [[-50, -40, 60, 90], [480, 470, 600, 700], [600, 600, 700, 700]])
def test_a_face_beyond_the_frame_has_a_sharpness(box):
    assert sharpness(astronaut(), np.array(box, float)) >= 0


@pytest.mark.parametrize(
    "audio",
    [
        np.zeros(16000),
        np.zeros(0),
        RNG.normal(0, 2000, 48000),
        RNG.normal(0, 3, 48000),
        5000 * np.sin(2 * np.pi * 50 * TIME),
        np.pad(5000 * np.sin(2 * np.pi * 50 * TIME), (300, 1000)),
        np.pad(RNG.normal(0, 2000, 48000), (5000, 0)),
    ],
    ids=["silence", "nothing", "noise", "hiss", "hum", "padded hum", "padded noise"],
)
def test_what_is_no_speech(audio):
    assert speech_share(audio.astype(np.int16)) == 0


def test_speech_counts_and_pauses_do_not_however_loud():
    voice = spoken(FOX)
    half = np.concatenate([voice, np.zeros_like(voice)])

    assert speech_share(voice) > 0.7
    assert speech_share(half) == pytest.approx(speech_share(voice) / 2, abs=0.1)
    assert speech_share((half * 0.2).astype(np.int16)) == pytest.approx(
        speech_share(half), abs=0.05
    )
