"""Driver latent → lip, pose and expression coefficients → motion latent on orthogonal banks."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from fixtalk.layers import EqualLinear
from fixtalk.shapes import Float

TINY = 1e-8


@dataclass(frozen=True)
class Motion:
    """Coefficients of each component; mix components of several drivers with `replace`."""

    lip: Float[Tensor, "batch lips"]
    pose: Float[Tensor, "batch poses"]
    expression: Float[Tensor, "batch expressions"]


class Decoupling(nn.Module):
    """EDTalk's component-aware navigation: heads that write coefficients, banks that read them.

    The banks are orthonormalised together by one QR, whose columns depend only on the
    columns before them: a later bank can be trained while the earlier ones are frozen.

    Source: EDTalk (arXiv 2404.01647), section 3.2 and released code.
    """

    def __init__(self, latent: int, lips: int, poses: int, expressions: int) -> None:
        super().__init__()
        self.trunk = _linears([latent] * 5)
        self.lip = _linears([latent] * 3 + [lips])
        self.pose = _linears([latent] * 3 + [poses])
        self.expression = _linears([latent] * 3 + [expressions])
        self.lip_pose_bank = nn.Parameter(torch.randn(latent, lips + poses))
        self.expression_bank = nn.Parameter(torch.randn(latent, expressions))

    def forward(self, latent: Float[Tensor, "batch latent"]) -> Motion:
        """Coefficients of the driver: an affine function of its latent."""
        shared = self.trunk(latent)
        return Motion(self.lip(shared), self.pose(shared), self.expression(shared))

    def bank(self) -> Float[Tensor, "latent components"]:
        """Orthonormal directions, ordered lip, pose, expression, with LAPACK's signs."""
        weights = torch.cat([self.lip_pose_bank, self.expression_bank], 1).float() + TINY
        with torch.autocast(weights.device.type, enabled=False):
            return torch.linalg.qr(weights, mode="reduced").Q

    def latents(
        self, motion: Motion
    ) -> tuple[Float[Tensor, "batch latent"], Float[Tensor, "batch latent"]]:
        """The motion latent Σ αₖqₖ and its expression part alone."""
        bank = self.bank()
        count = motion.expression.shape[1]
        lip_pose = torch.cat([motion.lip, motion.pose], 1).float() @ bank[:, :-count].T
        expression = motion.expression.float() @ bank[:, -count:].T
        return lip_pose + expression, expression


def _linears(widths: list[int]) -> nn.Sequential:
    """Affine layers without activation, as in LIA's and EDTalk's motion heads.

    They start orthogonal: a product of eight random matrices passes few directions on, and
    training from scratch then spends most of its steps to open the others.
    """
    layers = [EqualLinear(a, b) for a, b in pairwise(widths)]
    with torch.no_grad():
        for layer in layers:
            nn.init.orthogonal_(layer.weight).div_(layer.scale)
    return nn.Sequential(*layers)
