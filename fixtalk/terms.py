"""What a forward pass shows → the loss terms that its phase weighs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from fixtalk import losses
from fixtalk.decoupling import Motion
from fixtalk.discriminator import Discriminator
from fixtalk.layers import precise
from fixtalk.model import FixTalk
from fixtalk.phases import Phase
from fixtalk.reenactment import Batch, Pass
from fixtalk.shapes import Float
from fixtalk.talking import Sync, Talk

FEATURES = 0.1  # weight of the discriminator's features in L_per, where no VGG is at hand

Look = Callable[[Tensor], list[Tensor]]
Points = Callable[[Tensor], Tensor]  # frames → 68 landmarks in shares of the side


@dataclass(frozen=True, kw_only=True)
class Method:
    """What stays the same over all phases."""

    decay: float  # of the moving average of weights
    bfloat16: bool  # run convolutions in bfloat16
    margin: float  # ξ of L_dis
    alignment: losses.Direction  # of the KL divergence of L_align
    look: Look | None = None  # frozen features of L_per; None: edges and the discriminator's
    points: Points | None = None  # frozen reader of L_points; None: that term is left out
    sync: Sync | None = None  # frozen expert of L_sync; None: that term is left out


def loss_terms(
    model: FixTalk,
    discriminator: Discriminator,
    phase: Phase,
    batch: Batch,
    seen: Pass | Talk,
    method: Method,
) -> Iterator[tuple[str, Tensor]]:
    """Loss terms that this phase weighs and this model can have."""
    if phase.speaks:
        yield from _speech_terms(phase, batch, seen, method.sync)
        if phase.renders:
            yield from _picture_terms(discriminator, phase, batch, seen, method)
        return
    if phase.weighs("imitation") and seen.imitated is not None:
        yield "imitation", losses.imitation(seen.coefficients, seen.imitated)
    if phase.renders:
        yield from _picture_terms(discriminator, phase, batch, seen, method)
    if phase.swaps_mouths:
        read_twice = zip(seen.own, seen.cross, strict=True)
        yield "l_fea", sum(losses.l_fea(*parts) for parts in read_twice)
    yield from _shape_terms(phase, batch, seen)
    if phase.weighs("l_dis") and model.emi is not None:
        among = batch.shows_target if batch.moves is None else batch.shows_target & batch.moves
        yield "l_dis", losses.l_dis(seen.source_code, seen.driver_code, method.margin, among)
    if seen.student is not None:
        if phase.weighs("l_d_mem"):
            yield "l_d_mem", losses.l_d_mem(seen.read, seen.token)
        if phase.weighs("l_align"):
            yield "l_align", losses.l_align(seen.student, seen.teacher, method.alignment)


def _shape_terms(phase: Phase, batch: Batch, seen: Pass) -> Iterator[tuple[str, Tensor]]:
    """Loss terms that tell each component its part of the face."""
    shapes = {"lip": batch.lips, "pose": batch.head, "expression": batch.brows}
    for part, shape in shapes.items():
        if phase.weighs(f"{part}_truth") and shape is not None:
            read = [getattr(motion, part) for motion in (seen.own, seen.cross) if motion]
            told = [losses.shape_truth(coefficients, shape) for coefficients in read]
            yield f"{part}_truth", sum(told) / len(told)


def _picture_terms(
    discriminator: Discriminator, phase: Phase, batch: Batch, seen: Pass | Talk, method: Method
) -> Iterator[tuple[str, Tensor]]:
    """Loss terms that look at frames."""
    shown = batch.shows_target
    made, target = one_by_one(seen.frames[shown]), one_by_one(batch.target[shown])
    if phase.weighs("warp_truth") and batch.flow is not None:
        yield "warp_truth", losses.warp_truth(seen.flows, batch.flow, batch.valid)
    if phase.weighs("l_adv"):
        yield "l_adv", losses.l_adv(discriminator(made))
    if phase.weighs("l_mouth") and batch.mouth is not None:
        mouths = batch.mouth[shown]
        yield "l_mouth", losses.l_mouth(made, target, mouths.flatten(0, mouths.ndim - 3))
    if phase.weighs("l_points") and method.points is not None:
        with torch.no_grad():
            wanted = method.points(target)
        yield "l_points", losses.l_points(method.points(made), wanted)
    if phase.weighs("l_rec"):
        yield "l_rec", losses.l_rec(made, target)
    if phase.weighs("l_per"):
        yield "l_per", losses.l_per(made, target, _look(discriminator, phase, method))


def one_by_one(frames: Float[Tensor, "*batch 3 h w"]) -> Float[Tensor, "frames 3 h w"]:
    """Frames in a row as single ones."""
    return frames.flatten(0, frames.ndim - 4)


def _look(discriminator: Discriminator, phase: Phase, method: Method) -> Look:
    """Features of L_per: those handed in, else edges and what a trained discriminator sees."""
    if method.look is not None:
        return method.look
    if not phase.discriminator:
        return losses.edges
    return lambda frames: [
        *losses.edges(frames),
        *(FEATURES * seen for seen in discriminator.features(frames)),
    ]


def _speech_terms(
    phase: Phase, batch: Batch, seen: Talk, sync: Sync | None
) -> Iterator[tuple[str, Tensor]]:
    """Loss terms of speech that the phase weighs. No gradient passes to what is read from frames.

    l_lip: mean squared difference of the lips' coefficients, heard and shown.
    l_lip_motion: the same of their differences from frame to frame.
    l_tone: the same of the expression as heard.
    l_emotion: the same of the expression of the label, over items that have one.
    l_lids: the same of what a blink changes in the expression, about the mean of the few frames.
    l_pose: the flow's surprise at the frames' poses, in nats a coefficient.
    l_sync: how surely a frozen network picks each row's sound among those of the microbatch, in
        nats.

    Source: EDTalk, released code of its audio stage, for l_lip, l_lip_motion and l_sync.
    """
    shown = Motion(*(precise(part.detach()) for part in seen.shown))
    lip, tone, felt = (precise(part) for part in (seen.lip, seen.tone, seen.felt))
    if phase.weighs("l_lip"):
        yield "l_lip", F.mse_loss(lip, shown.lip)
    if phase.weighs("l_lip_motion"):
        yield "l_lip_motion", F.mse_loss(lip.diff(dim=1), shown.lip.diff(dim=1))
    if phase.weighs("l_tone"):
        yield "l_tone", F.mse_loss(tone, shown.expression)
    if phase.weighs("l_emotion"):
        is_known = batch.strength.sum(1) > 0
        error = (felt - shown.expression.mean(1)).square().mean(1)
        yield "l_emotion", (error * is_known).mean()
    if phase.weighs("l_lids"):
        moved, blink = (
            part - part.mean(1, keepdim=True) for part in (shown.expression, precise(seen.blink))
        )
        yield "l_lids", F.mse_loss(blink, moved)
    if seen.surprise is not None:
        yield "l_pose", seen.surprise
    if phase.weighs("l_sync") and sync is not None:
        own = torch.arange(len(seen.frames), device=seen.frames.device)
        yield "l_sync", F.cross_entropy(precise(sync(seen.frames, batch.sound)), own)
