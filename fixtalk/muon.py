"""Gradients of a step → weights of layers, moved in all their directions alike."""

from collections.abc import Iterable

import torch
from torch import Tensor

from fixtalk.shapes import Float

MOMENTUM = 0.9
RATE = 5.0  # learning rates that a step measures (root mean square)
# Quintic whose iteration brings every singular value near 1, steepest at 0.
QUINTIC = 3.4445, -4.775, 2.0315
ITERATIONS = 4
TINY = 1e-7


class Muon(torch.optim.Optimizer):
    """Orthogonalised momentum: every direction of a matrix moves equally far.

    A direction in which few pixels pull, as those of a mouth, moves as far as one in which the
    whole head pulls. The root mean square of a step is `RATE` times the learning rate, which is
    the share by which an equalised layer changes, whose weights have variance 1.

    Args:
        groups: parameter groups of weights with two dimensions or more; the first is the outputs'.

    Source: Jordan et al. 2024 (Muon); kernels as rows of one matrix, as there.
    """

    def __init__(self, groups: Iterable[dict]) -> None:
        super().__init__(groups, {"lr": 1e-3})

    @torch.no_grad()
    def step(self) -> None:
        """Move every weight that has a gradient."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                if not (state := self.state[weight]):
                    state["momentum"] = torch.zeros_like(weight)
                momentum = state["momentum"].lerp_(weight.grad, 1 - MOMENTUM)
                ahead = weight.grad.lerp(momentum, MOMENTUM).flatten(1)
                move = orthogonal(ahead) * max(ahead.shape) ** 0.5  # root mean square 1
                weight.add_(move.view_as(weight), alpha=-RATE * group["lr"])


def orthogonal(matrix: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
    """Roughly the nearest matrix with all singular values 1.

    Values from a hundredth of the matrix' norm on end between 0.6 and 1.3, smaller ones below. In
    bfloat16 on a GPU, as it is rough anyway; processors without it are twenty times slower in it.
    """
    x = matrix.bfloat16() if matrix.is_cuda and matrix.dtype == torch.float32 else matrix
    is_tall = len(x) > len(x.T)
    x = x.T if is_tall else x
    x = x / (x.norm() + TINY)
    a, b, c = QUINTIC
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return (x.T if is_tall else x).to(matrix.dtype)
