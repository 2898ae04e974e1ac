"""Fake and real frames → scalar losses, one pure function a term."""

import torch
from torch import Tensor
from torch.nn import functional as F

from fixtalk.shapes import Bool, Float

PYRAMID = 4  # scales 1, 1/2, 1/4, 1/8


def reconstruction(
    fake: Float[Tensor, "batch 3 h w"], real: Float[Tensor, "batch 3 h w"]
) -> Float[Tensor, ""]:
    """L_rec: mean absolute difference; lower is better.

    Source: EDTalk, equation of L_rec.
    """
    return (fake - real).abs().mean()


def pyramid(
    fake: Float[Tensor, "batch 3 h w"], real: Float[Tensor, "batch 3 h w"]
) -> Float[Tensor, ""]:
    """Mean absolute difference of colours and of their gradients over four scales.

    The part of L_per that needs no network: coarse scales pull shapes into place, gradients
    keep edges. Lower is better.

    Source: EDTalk's anti-aliased pyramid (scales 1, 1/2, 1/4, 1/8) without VGG.
    """
    loss = fake.new_zeros(())
    for scale in range(PYRAMID):
        if scale:
            fake, real = F.avg_pool2d(fake, 2), F.avg_pool2d(real, 2)
            loss = loss + (fake - real).abs().mean()
        loss = loss + (fake.diff(dim=2) - real.diff(dim=2)).abs().mean()
        loss = loss + (fake.diff(dim=3) - real.diff(dim=3)).abs().mean()
    return loss / PYRAMID


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


def adversarial(fake_logits: Float[Tensor, " batch"]) -> Float[Tensor, ""]:
    """L_adv of the generator: softplus(-D(fake)), non-saturating.

    Source: Goodfellow et al. 2014, section 3; EDTalk, released code.
    """
    return F.softplus(-fake_logits).mean()


def discrimination(
    real_logits: Float[Tensor, " batch"], fake_logits: Float[Tensor, " batch"]
) -> Float[Tensor, ""]:
    """Loss of the discriminator: softplus(-D(real)) + softplus(D(fake)).

    Source: EDTalk, released code.
    """
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


def feature_matching(fake: list[Tensor], real: list[Tensor]) -> Float[Tensor, ""]:
    """Mean absolute difference of the discriminator's features; lower is better.

    Source: Wang et al. 2018 (pix2pixHD), equation 4.
    """
    terms = [(f.float() - r.float().detach()).abs().mean() for f, r in zip(fake, real, strict=True)]
    return torch.stack(terms).mean()


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
