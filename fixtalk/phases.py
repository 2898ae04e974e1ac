"""Table of phases and a variant's steps → what is trained at a step, how fast, by which losses."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from fixtalk.strict import STRICT

BACKBONE = ("encoder", "lip_pose", "expression", "enhancement", "generator")
PARTS = (*BACKBONE, "speech", "emi", "edi")
SHAPE_TERMS = ("lip_truth", "pose_truth", "expression_truth")
PICTURE_TERMS = (
    "l_rec", "l_per", "l_mouth", "l_points", "l_adv", "l_fea", "warp_truth", *SHAPE_TERMS
)  # fmt: skip
INDICATOR_TERMS = {"emi": ("l_dis", "imitation"), "edi": ("l_d_mem", "l_align")}
# one for each part of speech
_EACH_SPEECH_TERM = ("l_lip", "l_tone", "l_emotion", "l_lids", "l_pose")
SPEECH_TERMS = (*_EACH_SPEECH_TERM, "l_lip_motion", "l_sync")
TERMS = (*PICTURE_TERMS, *SPEECH_TERMS, *INDICATOR_TERMS["emi"], *INDICATOR_TERMS["edi"])
_FACE_TERMS = (
    "l_fea", "warp_truth", *SHAPE_TERMS, *INDICATOR_TERMS["emi"], *INDICATOR_TERMS["edi"]
)  # fmt: skip
TEACHER_ALONE, TEACHER_MIXED = 0.2, 0.6  # of a phase, after which EDI's teacher steps back


@dataclass(frozen=True, kw_only=True)
class DiscriminatorTraining:
    """How fast the discriminator learns in a phase, and how it is held back."""

    __pydantic_config__: ClassVar[dict] = STRICT

    learning_rate: float
    r1: float  # weight γ of the gradient penalty, applied every 16 steps; 0 for none

    def __post_init__(self) -> None:
        if self.learning_rate <= 0 or self.r1 < 0:
            raise ValueError(f"{self}: a learning rate above 0, r1 at least 0")


@dataclass(frozen=True, kw_only=True)
class Phase:
    """What one stretch of training changes, and what it minimises."""

    __pydantic_config__: ClassVar[dict] = STRICT

    trains: dict[str, float]  # part of the model → factor on the learning rate; others are frozen
    learning_rate: tuple[float, float]  # at the first and last step; linear in between
    discriminator: DiscriminatorTraining | None  # None leaves it out
    weights: dict[str, float]  # of the loss terms; those of an indicator count where there is one

    def __post_init__(self) -> None:
        for what, found, known in (
            ("part", self.trains, PARTS), ("loss", self.weights, TERMS)
        ):  # fmt: skip
            if unknown := sorted(set(found) - set(known)):
                raise ValueError(f"unknown {what} {unknown}: choose from {', '.join(known)}")
        if not any(rate > 0 for rate in self.trains.values()):
            raise ValueError("a phase trains at least one part at a rate above 0")
        if not any(weight > 0 for weight in self.weights.values()):
            raise ValueError("a phase weighs at least one loss above 0")
        if min([*self.trains.values(), *self.weights.values()]) < 0:
            raise ValueError("rates and weights are at least 0")
        if min(self.learning_rate) <= 0:
            raise ValueError(f"learning_rate {self.learning_rate}: choose both above 0")
        if self.weighs("l_adv") and not self.discriminator:
            raise ValueError("l_adv needs a discriminator")
        self._check_speech()

    def _check_speech(self) -> None:
        """Speech drives the lips of a whole phase, or of none; all of it learns, or nothing.

        A part without a loss would be left behind by the encoder that it reads.
        """
        if self.speaks != self.trained("speech"):
            raise ValueError(
                f"speech is trained by {', '.join(SPEECH_TERMS)}, and they by nothing else"
            )
        if not self.speaks:
            return
        if without := [term for term in _EACH_SPEECH_TERM if not self.weighs(term)]:
            raise ValueError(f"speech learns as a whole: weigh {', '.join(without)} as well")
        if unfit := [term for term in _FACE_TERMS if self.weighs(term)]:
            raise ValueError(f"{', '.join(unfit)} cannot be weighed where speech drives")
        if self.weighs("l_sync") and not self.renders:
            raise ValueError("l_sync looks at frames: weigh l_rec as well")

    @property
    def speaks(self) -> bool:
        """Whether speech drives the lips: the batch then holds a few frames in a row."""
        return any(map(self.weighs, SPEECH_TERMS))

    def weighs(self, term: str) -> bool:
        """Whether a loss term counts."""
        return self.weights.get(term, 0) > 0

    def trained(self, part: str) -> bool:
        """Whether a part of the model changes."""
        return self.trains.get(part, 0) > 0

    @property
    def swaps_mouths(self) -> bool:
        """Whether mouths are swapped: lips of one frame and all else of another give a third."""
        return self.weighs("l_fea")

    @property
    def renders(self) -> bool:
        """Whether a loss term looks at frames, or at the memory that is asked on the way."""
        return any(map(self.weighs, (*PICTURE_TERMS, *INDICATOR_TERMS["edi"])))


@dataclass(frozen=True)
class Stretch:
    """A phase, for so many steps."""

    name: str
    phase: Phase
    steps: int


def stretch_at(schedule: list[Stretch], step: int) -> tuple[Stretch, float]:
    """The stretch that a global step belongs to, and how far on it is: 0 first, 1 last."""
    for stretch in schedule:
        if step < stretch.steps:
            return stretch, step / max(1, stretch.steps - 1)
        step -= stretch.steps
    raise IndexError(f"step {step} lies behind the last phase {schedule[-1].name}")


def taught_share(done: float) -> float:
    """Share of items whose detail EDI's teacher still reads: 1, then ½, then 0.

    A phase ends as inference goes, by the student alone. It begins with the teacher, since only
    what the teacher reads can tell the compressor what a token should hold.

    Args:
        done: how far on the phase is, from 0 to 1.
    """
    if done < TEACHER_ALONE:
        return 1.0
    return 0.5 if done < TEACHER_MIXED else 0.0


def parts_of(indicators: Iterable[str]) -> tuple[str, ...]:
    """Parts of a model with these indicators."""
    return (*BACKBONE, "speech", *indicators)


def terms_of(indicators: Iterable[str]) -> tuple[str, ...]:
    """Loss terms that exist in a model with these indicators."""
    return (
        *PICTURE_TERMS,
        *SPEECH_TERMS,
        *(term for name in indicators for term in INDICATOR_TERMS[name]),
    )


def parts(model: nn.Module) -> dict[str, list[nn.Parameter]]:
    """What a phase can train or freeze by name.

    encoder, lip_pose (trunk, heads and bank), expression (head and bank), enhancement (the
    generator's expression blocks), generator, speech, emi, edi.
    """
    found: dict[str, list[nn.Parameter]] = {}
    for name, weight in model.named_parameters():
        found.setdefault(_part_of(name), []).append(weight)
    return found


def _part_of(name: str) -> str:
    part, *inner = name.removeprefix("backbone.").split(".")
    if part == "decoupling":
        return "expression" if inner[0].startswith("expression") else "lip_pose"
    return "enhancement" if "enhance" in inner else part
