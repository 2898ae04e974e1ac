"""What drives a video of the audio protocol."""

import numpy as np
import pytest

from fixtalk.drivers import EmotionDriver, SpeechDriver
from pipelines.talk import Script

HEAD = np.zeros((4, 64, 64, 3), np.uint8)
SOUND = np.zeros(4 * 640, "<i2").tobytes()


def drivers(voice, emotion, level):
    found = Script(voice, SOUND, emotion, level, gains={}).drivers(HEAD)
    return {driver.components: driver for driver in found}


def test_label_is_told_the_lips_and_the_expression():
    found = drivers("own", "angry", 3)

    assert set(found) == {("pose",), ("lip",), ("expression",)}
    for driver in (found["lip",], found["expression",]):
        assert (driver.emotion, driver.level) == ("angry", 3.0)


@pytest.mark.parametrize(("emotion", "level"), [(None, None), ("angry", None)])
def test_without_a_label_lips_and_expression_are_as_heard(emotion, level):
    found = drivers("own", emotion, level)

    assert set(found) == {("pose",), ("lip", "expression")}
    assert found["lip", "expression"].emotion is None


def test_silent_voice_leaves_the_lips_as_they_are():
    assert set(drivers("silent", "angry", 3)) == {("pose",), ("expression",)}
    (heard,) = (d for d in drivers("silent", None, None).values() if isinstance(d, SpeechDriver))
    assert heard.components == ("expression",)
    assert not any(isinstance(d, EmotionDriver) for d in drivers("own", None, None).values())
