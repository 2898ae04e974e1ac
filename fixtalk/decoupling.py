"""Driver latent → lip, pose and expression coefficients → motion latent on orthogonal banks."""

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fixtalk.layers import EqualLinear, precise
from fixtalk.shapes import Float

TINY = 1e-8


class Motion(NamedTuple):
    """Coefficients of each component; mix components of several drivers with `_replace`."""

    lip: Float[Tensor, "batch lips"]
    pose: Float[Tensor, "batch poses"]
    expression: Float[Tensor, "batch expressions"]


class Decoupling(nn.Module):
    """EDTalk's component-aware navigation: heads that write coefficients, banks that read them.

    The banks are orthonormalised together by one QR, whose columns depend only on the
    columns before them: a later bank can be trained while the earlier ones are frozen.

    At inference the heads are one matrix and the banks one Q, kept until a weight changes. Writes
    through `.data` go unnoticed, as they do in autograd.

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
        self._collapsed: tuple[tuple, Tensor, Tensor, Tensor] | None = None

    def forward(self, latent: Float[Tensor, "batch latent"]) -> Motion:
        """Coefficients of the driver, affine in its latent: one product at inference."""
        if not self._may_collapse():
            return self.layer_by_layer(latent)
        matrix, offset, _ = self._collapse()
        parts = F.linear(precise(latent), matrix, offset).split(self._counts(), 1)
        return Motion(*parts)

    def layer_by_layer(self, latent: Float[Tensor, "batch latent"]) -> Motion:
        """The same through all eight layers, as they are trained."""
        shared = self.trunk(latent)
        return Motion(self.lip(shared), self.pose(shared), self.expression(shared))

    def bank(self) -> Float[Tensor, "latent components"]:
        """Orthonormal directions, ordered lip, pose, expression, with LAPACK's signs."""
        return self._collapse()[2] if self._may_collapse() else self._orthonormal()

    def _may_collapse(self) -> bool:
        """Tensors made in inference mode do not count their changes: nothing is kept of them."""
        return not torch.is_grad_enabled() and not any(p.is_inference() for p in self.parameters())

    def _orthonormal(self) -> Tensor:
        weights = precise(torch.cat([self.lip_pose_bank, self.expression_bank], 1)) + TINY
        with torch.autocast(weights.device.type, enabled=False):
            return torch.linalg.qr(weights, mode="reduced").Q

    def _collapse(self) -> tuple[Tensor, Tensor, Tensor]:
        """Matrix and offset of the coefficients, and the bank; made anew when a weight changed."""
        now = tuple((p.data_ptr(), p._version, p.device, p.dtype) for p in self.parameters())
        if self._collapsed is None or self._collapsed[0] != now:
            with torch.autocast(now[0][2].type, enabled=False):
                identity = torch.eye(len(self.lip_pose_bank), device=now[0][2], dtype=now[0][3])
                offset = torch.cat(self.layer_by_layer(torch.zeros_like(identity[:1])), 1)
                matrix = torch.cat(self.layer_by_layer(identity), 1) - offset
                self._collapsed = now, matrix.T.contiguous(), offset[0], self._orthonormal()
        return self._collapsed[1:]

    def _counts(self) -> list[int]:
        expressions = self.expression_bank.shape[1]
        lips = len(self.lip[-1].bias)
        return [lips, self.lip_pose_bank.shape[1] - lips, expressions]

    def latents(
        self, motion: Motion
    ) -> tuple[Float[Tensor, "batch latent"], Float[Tensor, "batch latent"]]:
        """The motion latent Σ αₖqₖ, and its expression part alone."""
        bank = self.bank()
        count = self.expression_bank.shape[1]
        lip_pose = precise(torch.cat([motion.lip, motion.pose], 1)) @ bank[:, :-count].T
        expression = precise(motion.expression) @ bank[:, -count:].T
        return lip_pose + expression, expression


def only(motion: Motion, component: str) -> Motion:
    """The motion with all but one component at zero.

    Raises:
        ValueError: no such component.
    """
    if component not in Motion._fields:
        raise ValueError(f"region {component!r}: choose one of {', '.join(Motion._fields)}")
    zeros = {n: torch.zeros_like(getattr(motion, n)) for n in Motion._fields if n != component}
    return motion._replace(**zeros)


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
