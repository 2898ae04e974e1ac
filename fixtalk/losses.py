"""Fake and real frames, codes and addresses → scalar losses, one pure function a term."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from fixtalk.face_shape import BROWS, MOUTH
from fixtalk.layers import precise
from fixtalk.shapes import Bool, Float

PYRAMID = 4  # scales 1, 1/2, 1/4, 1/8
SMALLEST = 8  # pixels: a scale with a shorter side is left out
BOTH_EYES = slice(36, 48)  # of the 68 landmarks of iBUG 300-W

Direction = Literal["student||teacher", "teacher||student"]


def l_rec(
    fake: Float[Tensor, "batch 3 h w"], real: Float[Tensor, "batch 3 h w"]
) -> Float[Tensor, ""]:
    """L_rec: mean absolute difference of colours; lower is better.

    Source: EDTalk, equation of L_rec.
    """
    return (precise(fake) - precise(real)).abs().mean()


def l_per(
    fake: Float[Tensor, "batch 3 h w"],
    real: Float[Tensor, "batch 3 h w"],
    look: Callable[[Tensor], list[Tensor]],
) -> Float[Tensor, ""]:
    """L_per: difference of what a look at the frames sees, mean over four scales; lower is better.

    A scale adds the mean absolute difference of each map. Coarse scales pull shapes into place,
    fine ones keep edges.

    Args:
        fake: generated frames.
        real: what they should be; no gradient passes.
        look: frames → maps, at any resolution: `edges`, or a frozen network's features.

    Source: EDTalk, released code: a pyramid of scales 1, 1/2, 1/4, 1/8, summed there. Average
        pooling against aliasing is ours.
    """
    fake, real = precise(fake), precise(real.detach())
    scales = []
    for _ in range(PYRAMID):
        if scales and min(fake.shape[2:]) < SMALLEST:
            break
        with torch.no_grad():
            wanted = look(real)
        terms = [
            (precise(f) - precise(r)).abs().mean() for f, r in zip(look(fake), wanted, strict=True)
        ]
        scales.append(torch.stack(terms).sum())
        fake, real = F.avg_pool2d(fake, 2), F.avg_pool2d(real, 2)
    return torch.stack(scales).mean()


def edges(frames: Float[Tensor, "batch 3 h w"]) -> list[Tensor]:
    """The look of L_per that needs no network: colours, and their steps down and to the right.

    Source: ours.
    """
    return [frames, frames.diff(dim=2), frames.diff(dim=3)]


def l_mouth(
    fake: Float[Tensor, "batch 3 h w"],
    real: Float[Tensor, "batch 3 h w"],
    mouth: Bool[Tensor, "batch h w"],
) -> Float[Tensor, ""]:
    """L_mouth: mean absolute difference of colours within the mouths' boxes; lower is better.

    A mouth is a fiftieth of the picture: L_rec hardly sees whether it opens.

    Args:
        fake: generated frames.
        real: what they should be.
        mouth: boxes around the real mouths; one outside its frame is empty and counts nothing.

    Source: EDTalk, released code of the audio stage, a box of 96 of 256 pixels there.
    """
    error = (precise(fake) - precise(real)).abs().mean(1) * mouth
    size = mouth.sum((1, 2)).clamp(min=1)
    return (error.sum((1, 2)) / size).mean()  # over all, so that shares of a batch add up


def l_points(
    fake: Float[Tensor, "batch 68 2"], real: Float[Tensor, "batch 68 2"]
) -> Float[Tensor, ""]:
    """L_points: how far landmarks lie from where they should, the mouth's and brows' once more.

    A mouth that opens is a few dark pixels: colours forgive one that opens half as far, and brows
    that stay. Mean absolute differences of all points, of the mouth's about their centre, and of
    the brows' about that of the eyes; lower is better.

    Args:
        fake: iBUG points that a frozen network finds in generated frames, in shares of the side.
        real: in what they should be.

    Source: ours.
    """
    error = precise(fake) - precise(real)
    mouth, brows, eyes = (error[:, part] for part in (MOUTH, BROWS, BOTH_EYES))
    shapes = mouth - mouth.mean(1, keepdim=True), brows - eyes.mean(1, keepdim=True)
    return error.abs().mean() + sum(shape.abs().mean() for shape in shapes)


def l_adv(fake_logits: Float[Tensor, " batch"]) -> Float[Tensor, ""]:
    """L_adv of the generator: softplus(-D(fake)), non-saturating.

    Source: Goodfellow et al. 2014, section 3; EDTalk, released code.
    """
    return F.softplus(-precise(fake_logits)).mean()


def l_dis(
    source_code: Float[Tensor, "batch latent"],
    driver_code: Float[Tensor, "batch latent"],
    margin: float,
    among: Bool[Tensor, " batch"],
) -> Float[Tensor, ""]:
    """L_dis: mean of max(0, cos(zˢ, zᵈ) - ξ); lower is better, 0 below the margin.

    Two frames of one person that move differently share identity: that is what it pushes out.

    Args:
        source_code: zˢ.
        driver_code: zᵈ of the same person.
        margin: ξ.
        among: items that count; the others are 0.

    Source: FixTalk, L_dis; which pairs count is ours.
    """
    excess = F.relu(F.cosine_similarity(precise(source_code), precise(driver_code)) - margin)
    return (excess * among).mean()  # over all, so that shares of a batch add up to the whole


def l_d_mem(
    read: Float[Tensor, "batch latent"], token: Float[Tensor, "batch latent"]
) -> Float[Tensor, ""]:
    """L_d-mem: mean squared difference of what the memory gives back to the token itself.

    No gradient reaches the token. Lower is better.

    Source: FixTalk names it; the form is that of Visual-Audio-Memory's value memory.
    """
    return F.mse_loss(precise(read), precise(token.detach()))


def l_align(
    student: Float[Tensor, "batch slots"],
    teacher: Float[Tensor, "batch slots"],
    direction: Direction,
) -> Float[Tensor, ""]:
    """L_align: Kullback-Leibler divergence of two addresses in nats, mean over the batch.

    No gradient reaches the teacher. Lower is better, 0 for equal addresses.

    Args:
        student: Ω_ms, by source and motion difference.
        teacher: Ω_d, by the driver's own detail.
        direction: "student||teacher" is KL(Ω_ms || Ω_d), as FixTalk writes it; the other way
            round is what Visual-Audio-Memory computes.

    Source: FixTalk, L_align; Visual-Audio-Memory, released code.
    """
    student, teacher = precise(student), precise(teacher.detach())
    order = {"student||teacher": (student, teacher), "teacher||student": (teacher, student)}
    one, other = order[direction]
    smallest = torch.finfo(torch.float32).tiny  # an address of exactly 0 has no logarithm
    ratio = one.clamp(min=smallest).log() - other.clamp(min=smallest).log()
    return (one * ratio).sum(1).mean()


def l_fea(
    own: Float[Tensor, "batch coefficients"], cross: Float[Tensor, "batch coefficients"]
) -> Float[Tensor, ""]:
    """L_fea: mean of exp(-cos) of one component read from two frames; from 1/e, reached if equal.

    The cosine of coefficients is that of their latents, as the bank is orthonormal. It is taken
    about the batch's mean: a constant that all frames share would make any two look alike.

    Args:
        own: of the driver itself.
        cross: of the swapped frame that shows the same mouth, or the same pose.

    Source: EDTalk, released code, summed over the batch and not centred there.
    """
    own, cross = precise(own), precise(cross)
    middle = torch.cat([own, cross]).mean(0)
    return (-F.cosine_similarity(own - middle, cross - middle)).exp().mean()


def shape_truth(
    coefficients: Float[Tensor, "batch coefficients"], shape: Float[Tensor, "batch numbers"]
) -> Float[Tensor, ""]:
    """Mean squared difference of the first coefficients to what landmarks say of a face.

    The generator then learns from the first step on what they do: lips that say nothing and a
    generator that does not listen to them would wait for each other. And each component is told
    its own part of the face, so that none speaks for another. Lower is better.

    Args:
        coefficients: of lips, pose or expression, read from a frame.
        shape: its numbers, as of `fixtalk.face_shape`; what goes beyond the coefficients is left.

    Source: ours.
    """
    count = min(coefficients.shape[1], shape.shape[1])
    return F.mse_loss(precise(coefficients)[:, :count], shape[:, :count])


def imitation(
    coefficients: Float[Tensor, "batch coefficients"],
    teacher: Float[Tensor, "batch coefficients"],
) -> Float[Tensor, ""]:
    """Mean squared difference of coefficients to those the frozen motion head reads without EMI.

    No gradient reaches the latter. Lower is better.

    Source: ours; the motion head has never seen EMI's codes.
    """
    return F.mse_loss(precise(coefficients), precise(teacher.detach()))


def warp_truth(
    flows: list[Tensor],
    truth: Float[Tensor, "batch h w 2"],
    valid: Bool[Tensor, "batch h w"],
) -> Float[Tensor, ""]:
    """Mean distance of each resolution's flow to the exact one, where that is defined.

    In the flow's units: 2 is the side of the frame. Lower is better.

    Args:
        flows: predictions (b, r, r, 2), any resolutions that divide the truth's.
        truth: where in the source each driver pixel comes from, [-1, 1].
        valid: pixels with a truth; a coarse pixel counts by its share of valid ones.

    Source: ours.
    """
    weight = valid.to(truth.dtype)[:, None]
    target = truth.nan_to_num().permute(0, 3, 1, 2) * weight
    loss = truth.new_zeros(())
    for flow in flows:
        factor = truth.shape[1] // flow.shape[1]
        share = F.avg_pool2d(weight, factor)
        mean = F.avg_pool2d(target, factor) / share.clamp(min=1e-6)
        mean = _corner_aligned(mean, truth.shape[1], flow.shape[1])
        error = (flow.permute(0, 3, 1, 2) - mean).abs().sum(1, keepdim=True)
        loss = loss + (error * share).sum() / share.sum().clamp(min=1)
    return loss / len(flows)


def _corner_aligned(points: Tensor, fine: int, coarse: int) -> Tensor:
    """Corner-aligned coordinates of the same places on a map of another side.

    [-1, 1] spans the centres of the outer pixels, which a coarse map has further inside.
    """
    share = ((points + 1) / 2 * (fine - 1) + 0.5) / fine
    return 2 * (share * coarse - 0.5) / (coarse - 1) - 1


def discrimination(
    real_logits: Float[Tensor, " batch"], fake_logits: Float[Tensor, " batch"]
) -> Float[Tensor, ""]:
    """Loss of the discriminator: softplus(-D(real)) + softplus(D(fake)).

    Source: EDTalk, released code.
    """
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


def gradient_penalty(
    real: Float[Tensor, "batch 3 h w"], logits: Float[Tensor, " batch"]
) -> Float[Tensor, ""]:
    """R1: squared norm of the discriminator's gradient at real frames.

    Args:
        real: frames with `requires_grad`.
        logits: what the discriminator said of them.

    Source: Mescheder et al. 2018, equation 9, without its factor γ/2.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
    return gradient.square().sum((1, 2, 3)).mean()
