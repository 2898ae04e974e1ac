"""Frames of a face, speech, or the label of an emotion → coefficients of a motion."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, tee
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from fixtalk.media import to_float
from fixtalk.mel import COLUMNS, LIMIT, MELS
from fixtalk.model import FixTalk, Source
from fixtalk.shapes import Float, UInt8
from fixtalk.speech import EMOTIONS, LEVELS, Speech, strength_of

COMPONENTS = ("lip", "pose", "expression")
Coefficients = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Driver:
    """Frames of a face, cropped to the model's resolution, and what of their motion is taken."""

    frames: Iterable[UInt8[np.ndarray, "side side 3"]]
    components: tuple[str, ...] = COMPONENTS
    # its frame that counts as no motion: the source moves by the difference; None: absolute motion
    neutral: UInt8[np.ndarray, "side side 3"] | None = None

    def at_rest(self, model: FixTalk, person: Source) -> Coefficients:
        """Coefficients that count as no motion; empty for absolute motion."""
        return {} if self.neutral is None else _read(model, [self.neutral], "neutral")

    def moving(self, model: FixTalk, person: Source, batch: int) -> Iterator[Coefficients]:
        """Coefficients of `batch` frames at a time."""
        frames = iter(self.frames)
        while part := list(islice(frames, batch)):
            yield _read(model, part, "driver")


@dataclass(frozen=True, kw_only=True)
class SpeechDriver:
    """Speech: lips that say it, a head that moves to it, the expression that is heard in it."""

    pieces: Iterable[Float[np.ndarray, "1 mels 16"]]  # of every frame: fixtalk.mel.stream_pieces
    components: tuple[str, ...] = ("lip",)
    seed: int = 0  # of the head's motion, which is drawn: another seed, another motion
    relative: bool = False  # lips and expression move by the difference from calm silence
    emotion: str | None = None  # in which it is said, of fixtalk.speech.EMOTIONS; None: not known
    level: float = float(LEVELS[1])  # of that: 1 weak to 3 strong

    def __post_init__(self) -> None:
        if self.emotion is not None:
            strength_of(self.emotion, self.level)

    def at_rest(self, model: FixTalk, person: Source) -> Coefficients:
        """What silence gives. A head that is drawn starts from the person's own pose anyway."""
        if not self.relative:
            return {}
        silence = np.full((1, MELS, COLUMNS), -LIMIT, np.float32)
        with torch.inference_mode():
            sounds = _hear(model, [silence])
            own, speech = person.motion, speech_of(model)
            calm = _strength(model, self.emotion and "neutral", self.level)
            rest = {}
            if "lip" in self.components:
                rest["lip"] = speech.lip(sounds, own.lip, calm)
            if "expression" in self.components:
                rest["expression"] = speech.tone(sounds, own.expression)
        return rest

    def moving(self, model: FixTalk, person: Source, batch: int) -> Iterator[Coefficients]:
        """Coefficients of `batch` frames at a time."""
        heard = tee(_sounds(model, self.pieces, batch), len(self.components))
        streams = [
            self._stream(name, model, person, sounds)
            for name, sounds in zip(self.components, heard, strict=True)
        ]
        frames = zip(*streams, strict=True)
        while moved := self._stacked(frames, batch):
            yield moved

    @torch.inference_mode()
    def _stacked(self, frames: Iterator[tuple[Tensor, ...]], batch: int) -> Coefficients:
        """The next frames' coefficients; empty behind the last."""
        columns = zip(*islice(frames, batch), strict=True)
        named = zip(self.components, columns, strict=False)  # no column behind the last
        return {name: torch.stack(column) for name, column in named}

    def _stream(
        self, component: str, model: FixTalk, person: Source, sounds: Iterator[Tensor]
    ) -> Iterator[Tensor]:
        """One component's coefficients, frame by frame."""
        speech, own = speech_of(model), person.motion
        if component == "lip":
            mood = _strength(model, self.emotion, self.level)
            return (speech.lip(sound[None], own.lip, mood)[0] for sound in sounds)
        if component == "expression":
            return (speech.tone(sound[None], own.expression)[0] for sound in sounds)
        noise = torch.Generator().manual_seed(self.seed)
        return speech.pose.draw(own.pose[0], sounds, noise)


@dataclass(frozen=True, kw_only=True)
class EmotionDriver:
    """An expression named by its label and held: one frame, shown as long as others move."""

    emotion: str  # of fixtalk.speech.EMOTIONS
    level: float = float(LEVELS[1])  # 1 weak to 3 strong
    relative: bool = False  # moved by the difference from a neutral expression
    components: ClassVar[tuple[str, ...]] = ("expression",)

    def __post_init__(self) -> None:
        strength_of(self.emotion, self.level)

    def at_rest(self, model: FixTalk, person: Source) -> Coefficients:
        """The neutral expression; empty for absolute motion."""
        return {"expression": self._shown(model, person, "neutral")} if self.relative else {}

    def moving(self, model: FixTalk, person: Source, batch: int) -> Iterator[Coefficients]:
        """One frame."""
        yield {"expression": self._shown(model, person, self.emotion)}

    @torch.inference_mode()
    def _shown(self, model: FixTalk, person: Source, emotion: str) -> Tensor:
        strength = _strength(model, emotion, self.level)
        return speech_of(model).show(strength, person.motion.expression)


AnyDriver = Driver | SpeechDriver | EmotionDriver


def speech_of(model: FixTalk) -> Speech:
    """The part of the model that hears.

    Raises:
        ValueError: it has none; tells what to do.
    """
    if model.speech is None:
        raise ValueError(
            "this model has no audio encoder: speech, natural pose and emotions by name move "
            "nothing; train one that has (params.yaml, train.speech) or drive it by clips"
        )
    return model.speech


def as_input(model: FixTalk, frames: Sequence[np.ndarray], role: str) -> Tensor:
    """Frames in [-1, 1] on the model's device.

    Raises:
        ValueError: frames of another resolution than the model's.
    """
    side = model.config.resolution
    for frame in frames:
        if frame.shape != (side, side, 3):
            raise ValueError(f"{role} frame of shape {frame.shape}: crop it to {side}x{side} px")
    return to_float(torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).to(_device(model)))


@torch.inference_mode()
def _read(model: FixTalk, frames: Sequence[np.ndarray], role: str) -> Coefficients:
    return model.motion(as_input(model, frames, role))._asdict()


def _strength(model: FixTalk, emotion: str | None, level: float) -> Float[Tensor, "1 8"]:
    """An emotion as the network reads it; zeros for none."""
    strength = torch.zeros(len(EMOTIONS)) if emotion is None else strength_of(emotion, level)
    return strength[None].to(_device(model))


def _sounds(
    model: FixTalk, pieces: Iterable[np.ndarray], batch: int
) -> Iterator[Float[Tensor, " sounds"]]:
    """What is heard at each frame, `batch` of them encoded at once."""
    pieces = iter(pieces)
    while part := list(islice(pieces, batch)):
        yield from _hear(model, part)


def _hear(model: FixTalk, pieces: Sequence[np.ndarray]) -> Float[Tensor, "frames sounds"]:
    for piece in pieces:
        if piece.shape != (1, MELS, COLUMNS):
            raise ValueError(
                f"piece of sound of shape {piece.shape}: (1, {MELS}, {COLUMNS}) is what "
                "fixtalk.mel.stream_pieces gives"
            )
    return speech_of(model).hear(torch.from_numpy(np.stack(pieces)).to(_device(model)))


def _device(model: FixTalk) -> torch.device:
    return next(model.parameters()).device
