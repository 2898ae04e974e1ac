"""Sentences → sound as clips hold it."""

from functools import cache

import numpy as np

from fixtalk.media import SAMPLES_PER_FRAME
from fixtalk.synthetic.speech import Voice, speak

FOX = "The quick brown fox jumps over the lazy dog near the river bank."
BOAT = "Nobody had expected the old boat to carry nine people across."


@cache
def spoken(text, name="en-us+m3"):
    """Int16 mono at 16 kHz, whole frames."""
    audio = speak(text, Voice(name, 165, 50, 50)).audio
    audio = (audio * 20000).astype(np.int16)
    return audio[: len(audio) // SAMPLES_PER_FRAME * SAMPLES_PER_FRAME]
