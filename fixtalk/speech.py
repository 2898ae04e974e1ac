"""Mel pieces, emotions, the person's own face → coefficients of lips, expression and pose."""

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fixtalk.layers import GAIN, ConvLayer, EqualLinear
from fixtalk.pose_flow import PoseFlow
from fixtalk.shapes import Float
from fixtalk.strict import STRICT

EMOTIONS = ("happy", "angry", "disgusted", "fear", "sad", "neutral", "surprised", "contempt")
SCALE = 10.0  # times the output of layers that begin at zero: coefficients lie far from there
LEVELS = (1, 2, 3)  # of an emotion, as MEAD counts them
# Kernel, stride and padding of the 13 layers of Wav2Lip's audio encoder, and their channels.
LAYERS = (
    (3, 1, 1, 32), (3, 1, 1, 32), (3, 1, 1, 32),
    (3, (3, 1), 1, 64), (3, 1, 1, 64), (3, 1, 1, 64),
    (3, 3, 1, 128), (3, 1, 1, 128), (3, 1, 1, 128),
    (3, (3, 2), 1, 256), (3, 1, 1, 256),
    (3, 1, 0, 512), (1, 1, 0, 512),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SpeechConfig:
    """Size of what turns speech and emotions into motion."""

    __pydantic_config__: ClassVar[dict] = STRICT

    width: float  # multiplier of the audio encoder's channels; 1.0 is Wav2Lip's
    hidden: int  # width of the layers that read emotions and poses
    memory: int  # poses that the next one is drawn from

    def __post_init__(self) -> None:
        if not 0 < self.width <= 2:
            raise ValueError(f"speech.width {self.width}: choose above 0 and at most 2")
        for name in ("hidden", "memory"):
            if getattr(self, name) < 1:
                raise ValueError(f"speech.{name} {getattr(self, name)}: choose at least 1")


class Speech(nn.Module):
    """What a motion can be made from when no face shows it.

    Args:
        config: sizes.
        lips, poses, expressions: coefficients of each component.

    Source: EDTalk (arXiv 2404.01647), section 3.3: lips from speech by an encoder, poses by a
        normalising flow, expressions by small networks; none but the first is released in a form
        that runs, so that the other two are ours, as are the blink and the looks at the person's
        own face: sound tells when a mouth opens, not whose mouth it is.
    """

    def __init__(self, config: SpeechConfig, lips: int, poses: int, expressions: int) -> None:
        super().__init__()
        self.encoder = AudioEncoder(config.width)
        sounds, hidden = self.encoder.width, config.hidden
        self._lip = EqualLinear(sounds, lips)
        self._tone = EqualLinear(sounds, expressions)
        self._emotion = nn.Sequential(
            EqualLinear(len(EMOTIONS), hidden, activate=True), EqualLinear(hidden, expressions)
        )
        self._lip_mood = EqualLinear(len(EMOTIONS), lips, bias=None)
        self._lip_own = EqualLinear(lips, lips, bias=None)
        self._tone_own = EqualLinear(expressions, expressions, bias=None)
        self._emotion_own = EqualLinear(expressions, expressions, bias=None)
        self.pose = PoseFlow(poses, sounds, hidden, config.memory)
        self._lids = nn.Parameter(torch.zeros(expressions))
        own = self._lip_mood, self._lip_own, self._tone_own, self._emotion_own
        for layer in (self._lip, self._tone, self._emotion[-1], *own):
            nn.init.zeros_(layer.weight)  # nothing is said before something is learnt

    def hear(self, pieces: Float[Tensor, "frames 1 80 16"]) -> Float[Tensor, "frames sounds"]:
        """What the other parts read of the sound around each frame (`fixtalk.mel.mel_pieces`)."""
        return self.encoder(pieces)

    def lip(
        self,
        sounds: Float[Tensor, "frames sounds"],
        own: Float[Tensor, "frames lips"],
        strengths: Float[Tensor, "frames 8"],
    ) -> Float[Tensor, "frames lips"]:
        """Coefficients of the lips.

        Args:
            sounds: around each frame.
            own: the person's lips in the source frame.
            strengths: of the emotion (`strength_of`) in which it is said; 0: not known.
        """
        return SCALE * (self._lip(sounds) + self._lip_own(own) + self._lip_mood(strengths))

    def tone(
        self, sounds: Float[Tensor, "frames sounds"], own: Float[Tensor, "frames expressions"]
    ) -> Float[Tensor, "frames expressions"]:
        """Coefficients of the expression, as far as it can be heard; `own` is the source's."""
        return SCALE * (self._tone(sounds) + self._tone_own(own))

    def show(
        self, strengths: Float[Tensor, "frames 8"], own: Float[Tensor, "frames expressions"]
    ) -> Float[Tensor, "frames expressions"]:
        """Expression of an emotion (`strength_of`) on a person whose source frame shows `own`."""
        return SCALE * (self._emotion(strengths) + self._emotion_own(own))

    def blink(self, closed: Float[Tensor, "*frames"]) -> Float[Tensor, "*frames expressions"]:
        """What closing the eyes adds to an expression: 0 open, 1 shut."""
        return SCALE * closed[..., None] * self._lids


def strength_of(emotion: str, level: float) -> Float[Tensor, " 8"]:
    """An emotion as the network reads it: its level in thirds at its place, else 0.

    Args:
        emotion: one of EMOTIONS.
        level: 1 weak, 3 strong; values in between are allowed. `neutral` is 1 whatever is given.

    Raises:
        ValueError: another emotion or level.
    """
    if emotion not in EMOTIONS:
        raise ValueError(f"emotion {emotion!r}: choose one of {', '.join(EMOTIONS)}")
    if not LEVELS[0] <= level <= LEVELS[-1]:
        raise ValueError(f"level {level}: choose from {LEVELS[0]} to {LEVELS[-1]}")
    if emotion == "neutral":  # of one level alone, in MEAD and in the rendered corpus
        level = LEVELS[0]
    place = torch.tensor(EMOTIONS.index(emotion))
    return F.one_hot(place, len(EMOTIONS)).float() * (level / LEVELS[-1])


class AudioEncoder(nn.Module):
    """Wav2Lip's audio encoder: 13 convolutions, residual where shapes allow it.

    They are scaled and activated as all others here, instead of being normalised over the batch:
    a step must not depend on how many workers share it, nor a frame on its neighbours.

    Source: Wav2Lip (arXiv 2008.10010), released code, which EDTalk uses.
    """

    def __init__(self, width: float) -> None:
        super().__init__()
        counts = [1, *(max(1, round(channels * width)) for *_, channels in LAYERS)]
        self.width = counts[-1]
        self.layers = nn.ModuleList(
            ConvLayer(inputs, outputs, kernel, stride=stride, padding=padding)
            for (inputs, outputs), (kernel, stride, padding, _) in zip(
                pairwise(counts), LAYERS, strict=True
            )
        )

    def forward(self, pieces: Float[Tensor, "frames 1 80 16"]) -> Float[Tensor, "frames sounds"]:
        """Features of 0.2 s of sound."""
        x = pieces
        for layer in self.layers:
            made = layer(x)
            x = (x + made) / GAIN if made.shape == x.shape else made
        return x.flatten(1)
