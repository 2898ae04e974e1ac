"""Table of phases and a variant's steps → what is trained at a step, how fast, by which losses."""

from dataclasses import dataclass
from typing import ClassVar

PARTS = ("encoder", "lip_pose", "expression", "enhancement", "generator", "emi", "edi")
PICTURE_TERMS = ("l_rec", "l_per", "l_adv", "l_fea", "warp_truth")
TERMS = (*PICTURE_TERMS, "l_dis", "l_d_mem", "l_align", "imitation")
TEACHER_ALONE, TEACHER_MIXED = 0.2, 0.6  # of EDI's steps, after which its teacher steps back


@dataclass(frozen=True, kw_only=True)
class Phase:
    """What one stretch of training changes, and what it minimises."""

    __pydantic_config__: ClassVar[dict] = {"extra": "forbid", "strict": True}

    trains: dict[str, float]  # part of the model → factor on the learning rate; others are frozen
    expression: bool  # False leaves the expression path out: lips and pose explain all they can
    learning_rate: float  # Adam's, at the first step of the phase
    final_learning_rate: float  # at its last step; linear in between
    discriminator_learning_rate: float  # 0 leaves the discriminator out
    penalty: float  # weight γ of R1, applied every 16 steps
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
        if self.weighs("l_adv") and not self.uses_discriminator:
            raise ValueError("l_adv needs discriminator_learning_rate above 0")
        if not self.expression and any(map(self.trained, ("expression", "enhancement"))):
            raise ValueError("expression and enhancement are trained where expression is true")

    def weighs(self, term: str) -> bool:
        """Whether a loss term counts."""
        return self.weights.get(term, 0) > 0

    def trained(self, part: str) -> bool:
        """Whether a part of the model changes."""
        return self.trains.get(part, 0) > 0

    @property
    def uses_discriminator(self) -> bool:
        """Whether there is a discriminator, to fool and to compare features by."""
        return self.discriminator_learning_rate > 0

    @property
    def renders(self) -> bool:
        """Whether a loss term looks at frames."""
        return any(map(self.weighs, PICTURE_TERMS))


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


def taught_share(schedule: list[Stretch], step: int) -> float:
    """Share of items whose detail EDI's teacher still reads: 1, then ½, then 0.

    Counted over all steps that train EDI: at the end only the path of inference is left.
    """
    total = passed = 0
    for stretch in schedule:
        if stretch.phase.trained("edi"):
            total += stretch.steps
            passed += min(max(step, 0), stretch.steps)
        step -= stretch.steps
    if passed < TEACHER_ALONE * total:
        return 1.0
    return 0.5 if passed < TEACHER_MIXED * total else 0.0
