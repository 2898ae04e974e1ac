"""Source frame, speech, a reference of the head → frames of the audio protocol and its controls."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from fixtalk.animation import animate_in_batches
from fixtalk.control import Calming
from fixtalk.drivers import AnyDriver, Driver, EmotionDriver, SpeechDriver
from fixtalk.mel import mel_pieces, mel_spectrogram
from fixtalk.model import FixTalk
from pipelines.protocols import Pair
from pipelines.speed import Stopwatch

Voice = Literal["own", "silent", "shuffled"]
# rows that show what the speech is worth; lips of a silent voice are told no emotion either
CONTROLS: tuple[Voice, ...] = ("silent", "shuffled")


@dataclass(frozen=True)
class Script:
    """What is said and felt in a video of the audio protocol, and how far the face goes with it."""

    voice: Voice
    audio: bytes  # int16 samples at 16 kHz: the clip's own, or another's
    emotion: str | None
    level: float | None
    gains: Mapping[str, float]  # of components: times their motion about the source's own

    def drivers(self, head: np.ndarray) -> list[AnyDriver]:
        """Poses of the head's frames, lips of the speech, the expression of the label.

        A silent voice leaves the lips as the source has them. A label says in which emotion lips
        speak as well; without one the expression is what can be heard.
        """
        is_labelled = self.emotion is not None and self.level is not None
        felt = {"emotion": self.emotion, "level": float(self.level)} if is_labelled else {}
        heard = [] if self.voice == "silent" else ["lip"]
        heard += [] if is_labelled else ["expression"]
        mels = mel_spectrogram(np.frombuffer(self.audio, "<i2"))
        pieces = mel_pieces(mels, range(len(head)))
        drivers: list[AnyDriver] = [Driver(frames=head, components=("pose",))]
        if heard:
            drivers.append(SpeechDriver(pieces=pieces, components=tuple(heard), **felt))
        if is_labelled:
            drivers.append(EmotionDriver(**felt))
        return drivers


def scripts(
    pairs: Sequence[Pair],
    rows: Mapping[str, Mapping[str, Any]],
    system: str,
    gains: Mapping[str, float],
) -> Iterator[Script | None]:
    """What is said in each pair; shuffled voices say what the pair half a list on should say.

    None stands for pairs of other protocols.
    """
    spoken = [pair.truth_clip for pair in pairs if pair.protocol == "audio"]
    voice = system if system in CONTROLS else "own"
    for pair in pairs:
        if pair.protocol != "audio":
            yield None
            continue
        row = rows[pair.truth_clip]
        audio = row["audio"]
        if voice == "shuffled":
            other = spoken[(spoken.index(pair.truth_clip) + len(spoken) // 2) % len(spoken)]
            audio = _another_voice(rows[other]["audio"], len(audio))
        yield Script(voice, audio, row["emotion"], row["level"], gains)


def perform(
    network: FixTalk, source: np.ndarray, head: np.ndarray, script: Script, batch: int,
    watch: Stopwatch,
) -> Iterator[np.ndarray]:  # fmt: skip
    """Frames of the audio protocol, one by one.

    Args:
        network: with an audio encoder.
        source: one frame (1, h, w, 3).
        head: frames whose pose is taken.
        script: what is said and felt.
        batch: frames at once.
        watch: laps of the model, the spectrogram left out.
    """
    batches = animate_in_batches(
        network,
        source[0],
        script.drivers(head),
        calming=Calming(None),
        batch=batch,
        gains=script.gains,
    )
    return watch.each(batches)


def _another_voice(audio: bytes, length: int) -> bytes:
    """Another clip's samples, repeated or cut to the length in bytes."""
    return (audio * (length // len(audio) + 1))[:length]
