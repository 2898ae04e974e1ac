"""Text and voice → sound and the times of its phonemes, by espeak-ng."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fixtalk.shapes import Float

SAMPLE_RATE = 16000
INSTALL = "install it: `pip install espeakng-loader`"
LOUDNESS = 90  # of 100
SINC_ZEROS = 12  # zero crossings of the resampling filter on each side
# Only voices that sound the same in every run: f2, f3 and f5 do not (they read stale memory).
MALE_VOICES = tuple(f"en-us+{name}" for name in ("m1", "m2", "m3", "m4", "m7"))
FEMALE_VOICES = tuple(f"en-us+{name}" for name in ("f1", "f4", "Annie", "linda", "steph"))


class SpeechError(RuntimeError):
    """The speech engine is missing or refuses a voice; the message says what to do."""


@dataclass(frozen=True)
class Voice:
    """A speaker and a manner of speaking."""

    name: str
    words_per_minute: int
    pitch: int  # 0..100
    pitch_range: int  # 0 monotone .. 100


@dataclass(frozen=True)
class Speech:
    """A spoken sentence."""

    audio: Float[np.ndarray, " samples"]  # -1..1, 16 kHz
    phonemes: tuple[tuple[float, str], ...]  # start in seconds, IPA; "" is silence

    @property
    def seconds(self) -> float:
        """Length of the sound."""
        return len(self.audio) / SAMPLE_RATE


def find_engine() -> tuple[str, str]:
    """Paths of espeak-ng's library and data.

    Raises:
        SpeechError: it is not installed.
    """
    try:
        import espeakng_loader

        paths = str(espeakng_loader.get_library_path()), str(espeakng_loader.get_data_path())
    except (ImportError, OSError, AttributeError) as error:
        raise SpeechError(f"the speech engine espeak-ng is missing ({error}); {INSTALL}") from None
    for path in paths:
        if not Path(path).exists():
            raise SpeechError(f"the speech engine espeak-ng is incomplete: no {path}; {INSTALL}")
    return paths


def speak(text: str, voice: Voice) -> Speech:
    """The spoken text; the same text and voice give the same bits.

    Raises:
        SpeechError: the engine is missing, or has no such voice.
    """
    library, data = find_engine()
    request = {
        "library": library,
        "data": data,
        "text": text,
        "voice": voice.name,
        "rate": voice.words_per_minute,
        "volume": LOUDNESS,
        "pitch": voice.pitch,
        "range": voice.pitch_range,
    }
    program = str(Path(__file__).with_name("espeak.py"))
    command = [sys.executable, "-I", "-S", program, json.dumps(request)]
    answer = subprocess.run(command, capture_output=True, check=False)
    head, _, sound = answer.stdout.partition(b"\n")
    if answer.returncode != 0 or not head:
        problem = answer.stderr.decode(errors="replace").strip() or f"code {answer.returncode}"
        raise SpeechError(f"espeak-ng failed on {text!r}: {problem}; {INSTALL}")
    facts = json.loads(head)
    if "error" in facts:
        raise SpeechError(f"espeak-ng failed: {facts['error']}; {INSTALL}")
    audio = resample(np.frombuffer(sound, "<i2") / 32768, facts["rate"])
    phonemes = tuple((float(start), str(sound)) for start, sound in facts["phonemes"])
    return Speech(np.clip(audio, -1, 1).astype(np.float32), phonemes)


def resample(wave: Float[np.ndarray, " given"], rate: int) -> Float[np.ndarray, " samples"]:
    """The sound at 16 kHz: band-limited interpolation by a windowed sinc.

    Written out because importing scipy.signal takes longer than speaking a sentence.

    Args:
        wave: sound at `rate`, which is not below 16 kHz.
        rate: samples per second.
    """
    step = rate / SAMPLE_RATE
    places = np.arange(int(len(wave) / step)) * step
    reach = int(np.ceil(SINC_ZEROS * step))
    taps = np.arange(-reach + 1, reach + 1)
    nearest = places.astype(int)
    distance = (nearest - places)[:, None] + taps
    weights = np.sinc(distance / step) / step * np.cos(np.pi / 2 * distance / (reach + 1)) ** 2
    padded = np.pad(wave, reach + 1)
    return np.einsum("st,st->s", weights, padded[nearest[:, None] + taps + reach + 1])
