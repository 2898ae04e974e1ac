"""Batch of frames in a row and their sound → what is heard beside what is shown, and its losses."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn

from fixtalk.decoupling import Motion
from fixtalk.model import FixTalk
from fixtalk.phases import Phase
from fixtalk.reenactment import Batch
from fixtalk.shapes import Bool, Float, Int

# frames in a row in [-1, 1], and their samples → logits of the sounds for each row of frames
Sync = Callable[
    [Float[Tensor, "batch talk 3 h w"], Int[Tensor, "batch samples"]],
    Float[Tensor, "batch batch"],
]


class Talk(NamedTuple):
    """What a forward pass of speech shows; components are (batch, talk, coefficients)."""

    shown: Motion  # read from the frames
    lip: Tensor  # heard
    tone: Tensor  # expression, heard
    felt: Tensor  # expression of the label, (batch, coefficients)
    blink: Tensor  # what closing the eyes adds to the expression
    surprise: Tensor | None  # of the frames' poses, in nats
    frames: Tensor | None  # rendered with the lips heard, (batch, talk, 3, h, w)

    def facts(self) -> dict[str, float]:
        """Nothing is worth a curve besides the losses."""
        return {}


class Talking(nn.Module):
    """A model whose lips learn to follow speech: what data parallelism wraps."""

    def __init__(self, model: FixTalk) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch, phase: Phase, taught: Bool[Tensor, " batch"]) -> Talk:
        """Only what the phase's losses need is computed.

        Args:
            batch: with `speech`.
            phase: of training.
            taught: not looked at: the memory is read by the student, as it will be.
        """
        model, speech = self.model, self.model.speech
        count = batch.target.shape[:2]
        read = model.motion(batch.target.flatten(0, 1))
        sounds = speech.hear(batch.speech.flatten(0, 1))
        source = model.encode_source(batch.source)
        many = source.each(count[1])
        mood = batch.mood.repeat_interleave(count[1], 0)
        lip = speech.lip(sounds, many.motion.lip.detach(), mood)
        tone = speech.tone(sounds, many.motion.expression.detach())
        felt = speech.show(batch.strength, source.motion.expression.detach())
        shown = Motion(*(part.unflatten(0, count) for part in read))
        frames = None
        if phase.renders:
            frames, _ = model.render(many, read._replace(lip=lip))
            frames = frames.unflatten(0, count)
        surprise = None
        if phase.weighs("l_pose"):
            surprise = speech.pose.surprise(shown.pose.detach(), sounds.unflatten(0, count))
        return Talk(
            shown, lip.unflatten(0, count), tone.unflatten(0, count), felt,
            speech.blink(batch.closed), surprise, frames,
        )  # fmt: skip
