"""Section `train` of params.yaml: variants of the model, and the phases that each goes through."""

from dataclasses import asdict, replace
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from fixtalk.augmentation import Augmentation
from fixtalk.edi import EDIConfig
from fixtalk.emi import EMIConfig
from fixtalk.losses import Direction
from fixtalk.model import ModelConfig
from fixtalk.phases import Phase, Stretch, parts_of, terms_of
from fixtalk.speech import SpeechConfig
from fixtalk.talks import TALK
from pipelines.config import StageConfig

BASE = "base"  # the variant that all others go on from
Share = Annotated[float, Field(ge=0, lt=1)]


class Variant(StageConfig):
    """One model of the ablation."""

    indicators: list[Literal["emi", "edi"]]
    steps: list[dict[str, int]] = Field(min_length=1)  # of one phase after the other


class TrainConfig(StageConfig):
    """Section `train` of params.yaml."""

    datasets: list[str] = Field(min_length=1, max_length=2)  # dvc.yaml names first and last
    seed: int = Field(ge=0)  # of weights and pairs
    model: ModelConfig  # of the base
    speech: SpeechConfig
    emi: EMIConfig  # of variants with that indicator
    edi: EDIConfig
    batch: int = Field(ge=2)  # pairs a step over all workers
    microbatch: int = Field(ge=2)  # pairs computed at once: a stranger is never alone
    pairs_per_visit: int = Field(ge=1)  # drawn of a clip in an epoch
    precision: Literal["bfloat16", "float32"]  # of convolutions
    betas: tuple[Share, Share]  # of Adam
    average_decay: Share  # of the moving average that is exported
    perceptual: Literal["discriminator", "vgg19"]  # whose features L_per compares
    margin: float = Field(ge=-1, le=1)  # ξ of L_dis
    alignment: Direction  # of the KL divergence of L_align
    distance: int = Field(ge=1)  # frames between source and driver
    motion_gate: float = Field(ge=0)  # sides that landmarks move in pairs that L_dis counts
    augmentation: Augmentation
    strangers: float = Field(ge=0, le=0.5)  # share of drivers of another person: warp_truth only
    validation_people: int = Field(ge=0)  # left out of training, watched by the curves
    checkpoint_every: int = Field(ge=1)  # steps
    sample_every: int = Field(ge=1)  # steps between two sample grids and validations
    phases: dict[str, Phase]
    variants: dict[str, Variant]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.batch % self.microbatch:
            raise ValueError(f"batch {self.batch} is no multiple of microbatch {self.microbatch}")
        if self.sample_every % self.checkpoint_every:
            raise ValueError("sample_every is a multiple of checkpoint_every: scores need a state")
        if self.model.speech or self.model.emi or self.model.edi:
            raise ValueError(
                "model holds none of speech, emi and edi: they have sections beside it"
            )
        if self.speech.memory >= TALK:
            raise ValueError(f"speech.memory {self.speech.memory}: at most {TALK - 1}")
        for name, variant in self.variants.items():
            if not all(len(stretch) == 1 for stretch in variant.steps):
                raise ValueError(f"variants.{name}: write steps as [phase: steps, phase: steps]")
            given = dict(item for stretch in variant.steps for item in stretch.items())
            if unknown := sorted(set(given) - set(self.phases)):
                raise ValueError(f"variants.{name}: unknown phase {', '.join(unknown)}")
            if min(given.values()) < 1:
                raise ValueError(f"variants.{name}: a phase lasts at least one step")
            self._check_phases(name)
        steps = {name: self.steps(name) for name in self.variants if name != BASE}
        if BASE in self.variants and self.variants[BASE].indicators:
            raise ValueError(f"variants.{BASE}: its indicators would not be gone on from; leave []")
        if BASE not in self.variants or len(set(steps.values())) > 1:
            raise ValueError(f"variants needs {BASE}, and equal steps of all others, got {steps}")
        used = [s.phase for name in self.variants for s in self.schedule(name)]
        if any(phase.weighs("warp_truth") for phase in used) and not self.model.align_corners:
            raise ValueError("warp_truth is given for model.align_corners: true only")
        return self

    def _check_phases(self, variant: str) -> None:
        """Each phase must have something to train in this variant, and a loss to train it by."""
        indicators = self.variants[variant].indicators
        self.architecture(variant)  # sizes that do not fit are refused here
        for stretch in self.schedule(variant):
            if not any(map(stretch.phase.trained, parts_of(indicators))):
                raise ValueError(f"variants.{variant}: {stretch.name} trains no part of that model")
            if not any(map(stretch.phase.weighs, terms_of(indicators))):
                raise ValueError(f"variants.{variant}: {stretch.name} has no loss of that model")

    def steps(self, variant: str) -> int:
        """Length of a variant's schedule."""
        return sum(stretch.steps for stretch in self.schedule(variant))

    def schedule(self, variant: str) -> list[Stretch]:
        """What a variant goes through."""
        return [
            Stretch(name, self.phases[name], steps)
            for stretch in self.variants[variant].steps
            for name, steps in stretch.items()
        ]

    def architecture(self, variant: str) -> ModelConfig:
        """The base with speech and the variant's indicators."""
        sizes = {
            name: getattr(self, name) for name in ("speech", *self.variants[variant].indicators)
        }
        return replace(self.model, **sizes)

    def recipe(self, variant: str) -> dict[str, Any]:
        """All that decides a variant, without what other variants need."""
        intervals = {"checkpoint_every", "sample_every"}  # change nothing of what is trained
        others = {"model", "speech", "emi", "edi", "phases", "variants", *intervals}
        return {
            **self.model_dump(exclude=others),
            "variant": variant,
            "model": asdict(self.architecture(variant)),
            "phases": [
                {s.name: asdict(s.phase) | {"steps": s.steps}} for s in self.schedule(variant)
            ],
        }
