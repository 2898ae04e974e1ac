"""Batch of source and driver frames → everything the losses look at, in one forward pass."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import repeat
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from fixtalk.decoupling import Motion
from fixtalk.model import FixTalk, Source
from fixtalk.phases import Phase
from fixtalk.shapes import Bool, Float, Int


@dataclass(frozen=True)
class Batch:
    """Frames in [-1, 1]; the target is the driver before its augmentation, where it shows one.

    A driver of another person than the source is no target: only the warp can be learned. Where
    speech drives, driver, target and mouth have a dimension more: frames in a row.
    """

    source: Float[Tensor, "batch 3 h w"]
    driver: Float[Tensor, "batch *talk 3 h w"]
    target: Float[Tensor, "batch *talk 3 h w"]
    shows_target: Bool[Tensor, " batch"]  # the driver is the source's person
    moves: Bool[Tensor, " batch"] | None = None  # its motion differs; None: no landmarks to tell
    # box around the target's; None: no landmarks
    mouth: Bool[Tensor, "batch *talk h w"] | None = None
    # what the driver's coefficients are told (`fixtalk.face_shape`); None as above
    lips: Float[Tensor, "batch 3"] | None = None
    head: Float[Tensor, "batch 6"] | None = None
    brows: Float[Tensor, "batch 4"] | None = None
    speech: Float[Tensor, "batch *talk 1 80 16"] | None = None  # pieces of those frames' sound
    sound: Int[Tensor, "batch samples"] | None = None  # of those frames and a little more
    strength: Float[Tensor, "batch 8"] | None = None  # of the emotion; 0: not known
    mood: Float[Tensor, "batch 8"] | None = None  # the same, as lips are told it
    closed: Float[Tensor, "batch talk"] | None = None  # eyes of those frames: 0 open, 1 shut
    lip: Float[Tensor, "batch 3 h w"] | None = None  # another's frame with this driver's mouth
    pose: Float[Tensor, "batch 3 h w"] | None = None  # this driver with another's mouth
    flow: Float[Tensor, "batch h w 2"] | None = None  # exact warp of source onto driver
    valid: Bool[Tensor, "batch h w"] | None = None  # where that warp exists

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray], device: torch.device | None = None) -> "Batch":
        """What `PairSampler.arrays` gives, on a device: pixels travel there as bytes.

        Args:
            arrays: by field; frames uint8 (batch, …, h, w, 3), all else as the field is. Without
                "driver" it is the target.
            device: None for the CPU.
        """
        from fixtalk.media import to_float  # needs PyAV, which the training step does without

        moved = {
            name: torch.from_numpy(array).to(device, non_blocking=True)
            for name, array in arrays.items()
        }
        named = {
            name: to_float(tensor.movedim(-1, -3)) if tensor.dtype == torch.uint8 else tensor
            for name, tensor in moved.items()
        }
        return cls(**{"driver": named["target"]} | named)

    def to(self, device: torch.device) -> "Batch":
        """The batch on another device."""
        tensors = (getattr(self, field.name) for field in fields(self))
        return Batch(*(t if t is None else t.to(device, non_blocking=True) for t in tensors))

    def split(self, count: int) -> list["Batch"]:
        """Microbatches of `count` items in order; the last one holds what is left."""
        tensors = (getattr(self, field.name) for field in fields(self))
        parts = (repeat(None) if t is None else t.split(count) for t in tensors)
        return [Batch(*part) for part in zip(*parts, strict=False)]


class Pass(NamedTuple):
    """What a forward pass shows; None where the phase or the model has no such thing."""

    source_code: Tensor  # what the motion head reads: z with EMI, else the latent
    driver_code: Tensor
    coefficients: Tensor  # of source and driver, all components side by side
    imitated: Tensor | None = None  # the same, read from the latents without EMI
    frames: Tensor | None = None  # unclamped
    flows: list[Tensor] | None = None
    own: Motion | None = None  # the driver's
    cross: Motion | None = None  # put together from the two swapped frames
    token: Tensor | None = None  # the driver's leak map, compressed
    read: Tensor | None = None  # what the teacher's address reads
    teacher: Tensor | None = None  # address by the driver's own detail
    student: Tensor | None = None  # address by source and motion difference
    usage: dict[str, Tensor] | None = None  # of the memory's slots

    def facts(self) -> dict[str, float]:
        """What is worth a curve besides the losses."""
        cosine = torch.cosine_similarity(self.source_code.float(), self.driver_code.float())
        told = {"code_cosine": cosine.mean()} | (self.usage or {})
        return {name: float(value.detach()) for name, value in told.items()}


class Reenactment(nn.Module):
    """A model in training: what data parallelism wraps."""

    def __init__(self, model: FixTalk) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch, phase: Phase, taught: Bool[Tensor, " batch"]) -> Pass:
        """Only what the phase's losses need is computed.

        Args:
            batch: this worker's share.
            phase: of training.
            taught: items for which EDI's teacher reads the memory.
        """
        model, swaps = self.model, phase.swaps_mouths
        frames = [batch.source, batch.driver, *((batch.lip, batch.pose) if swaps else ())]
        latents, maps = model.backbone.features(torch.cat(frames))
        codes = model.motion_code(latents, maps)
        motion = model.backbone.motion(codes)
        count = len(frames)
        source_code, driver_code = codes.chunk(count)[:2]
        seen = Pass(source_code, driver_code, torch.cat(motion, 1))
        if phase.weighs("imitation") and model.emi is not None:
            with torch.no_grad():
                seen = seen._replace(imitated=torch.cat(model.backbone.motion(latents), 1))
        if not phase.renders:
            return seen
        own, driver, *others = _split(motion, count)
        seen = seen._replace(own=driver)
        chunks = [m.chunk(count) for m in maps]
        source = Source(latents.chunk(count)[0], tuple(c[0] for c in chunks), own, None)
        if swaps:
            cross = others[1]._replace(lip=others[0].lip)
            seen = seen._replace(cross=cross)
            driver = _crossed(driver, cross)
        if model.edi is not None:
            source, seen = self._remember(seen, source, driver, [c[1] for c in chunks], taught)
        rendered, flows = model.backbone.render(source.latent, source.maps, driver)
        return seen._replace(frames=rendered, flows=flows)

    def _remember(
        self, seen: Pass, source: Source, driver: Motion, maps: list[Tensor], taught: Tensor
    ) -> tuple[Source, Pass]:
        """The source with the detail that EDI recalls, and what its losses compare."""
        model, edi = self.model, self.model.edi
        leak = model.leak_map(source.maps)
        token, driver_token = edi.compress(torch.cat([leak, model.leak_map(maps)])).chunk(2)
        student = edi.address(model.motion_difference(source, driver), token)
        teacher = edi.teach(driver_token)
        through = edi.read_through(teacher, driver_token)
        used = torch.where(taught[:, None], through, edi.read(student, learns=False))
        maps = model.with_leak_map(source.maps, edi.enrich(leak, used))
        seen = seen._replace(
            token=driver_token, read=edi.read(teacher), teacher=teacher, student=student,
            usage=edi.usage(student),
        )  # fmt: skip
        return Source(source.latent, maps, source.motion, token), seen


def _crossed(own: Motion, cross: Motion) -> Motion:
    """Of three items one with its own lips, one with its own pose, one with neither.

    Each is to give the driver's frame. Lips read on another's head cannot tell how this one is
    held, nor a pose with another's mouth how that is opened. The expression is read where the pose
    is.
    """
    turns = torch.arange(len(own.lip), device=own.lip.device)[:, None] % 3
    return type(own)(
        *(
            torch.where(turns == (0 if name == "lip" else 1), part, other)
            for name, part, other in zip(own._fields, own, cross, strict=True)
        )
    )


def _split(motion: Motion, count: int) -> list[Motion]:
    """A motion of several sets of frames, set by set."""
    parts = (part.chunk(count) for part in motion)
    return [type(motion)(*set_) for set_ in zip(*parts, strict=True)]
