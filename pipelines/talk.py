"""Source frame, speech, a reference of the head → frames of the audio protocol and its controls."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from fixtalk.media import to_float, to_uint8
from fixtalk.mel import mel_pieces, mel_spectrogram
from fixtalk.model import FixTalk
from fixtalk.speech import calmed, strength_of
from pipelines.speed import Stopwatch

Voice = Literal["own", "silent", "shuffled"]
CONTROLS: tuple[Voice, ...] = ("silent", "shuffled")  # rows that show what the speech is worth


@dataclass(frozen=True)
class Script:
    """What is said and felt in a video of the audio protocol."""

    voice: Voice
    audio: bytes  # int16 samples at 16 kHz: the clip's own, or another's
    emotion: str | None  # None: the expression is taken from the sound
    level: float | None


def perform(
    network: FixTalk,
    source: np.ndarray,
    driver: np.ndarray,
    script: Script,
    batch: int,
    watch: Stopwatch,
) -> Iterator[np.ndarray]:
    """Frames with the lips of the speech, the head of the driver, the expression of the label.

    A silent voice leaves the lips as the source has them.

    Args:
        network: with an audio encoder.
        source: one frame (1, h, w, 3).
        driver: frames whose pose is taken.
        script: what is said and felt.
        batch: frames at once.
        watch: laps of the model alone.
    """
    device = next(network.parameters()).device
    with torch.inference_mode():
        person = network.encode_source(_as_input(source, device))
        lips, expression = _spoken(network, script, len(driver), device)
        if script.voice == "silent":
            lips = person.motion.lip.expand(len(driver), -1)
        for start in range(0, len(driver), batch):
            frames = slice(start, start + batch)
            shown = _as_input(driver[frames], device)
            with watch.lap(len(shown)):
                motion = network.motion(shown)
                motion = motion._replace(lip=lips[frames], expression=expression[frames])
                made = network.animate(person, motion)
            if not torch.isfinite(made).all():
                raise ValueError(f"NaN in frames {start} to {start + len(made) - 1}: its training "
                                 "diverged; train it again")  # fmt: skip
            yield from to_uint8(made).permute(0, 2, 3, 1).cpu().numpy()


def another_voice(audio: bytes, length: int) -> bytes:
    """Another clip's samples, repeated or cut to the length in bytes."""
    return (audio * (length // len(audio) + 1))[:length]


def _spoken(
    network: FixTalk, script: Script, count: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Coefficients of lips and expression of each frame."""
    mels = mel_spectrogram(np.frombuffer(script.audio, "<i2"))
    pieces = torch.from_numpy(mel_pieces(mels, range(count))).to(device)
    sounds = network.speech.hear(pieces)
    expression = network.speech.tone(sounds)
    if script.emotion is not None and script.level is not None:
        strength = strength_of(script.emotion, float(script.level)).to(device)
        expression = network.speech.show(strength[None]).expand(count, -1)
    return calmed(network.speech.lip(sounds)), expression


def _as_input(frames: np.ndarray, device: torch.device) -> Tensor:
    return to_float(torch.from_numpy(frames).permute(0, 3, 1, 2)).to(device)
