"""Gradients of a step → weights of layers, moved in all their directions alike."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, distributed

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
        """Move every weight that has a gradient; workers of a process group share the work."""
        weights, rates, ahead = [], [], []
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                if not (state := self.state[weight]):
                    state["momentum"] = torch.zeros_like(weight)
                momentum = state["momentum"].lerp_(weight.grad, 1 - MOMENTUM)
                weights.append(weight)
                rates.append(RATE * group["lr"])
                ahead.append(weight.grad.lerp(momentum, MOMENTUM).flatten(1))
        for weight, rate, move in zip(weights, rates, _shared_out(ahead), strict=True):
            unit = max(move.shape) ** 0.5  # root mean square 1
            weight.add_(move.view_as(weight), alpha=-rate * unit)


def _shared_out(matrices: Sequence[Tensor]) -> list[Tensor]:
    """`orthogonal` of each: every worker turns some, which all hear of.

    All have the same gradients: else each would do all of it, whatever its share of the batch.
    """
    if not (distributed.is_available() and distributed.is_initialized() and matrices):
        return [orthogonal(matrix) for matrix in matrices]
    rank, workers = distributed.get_rank(), distributed.get_world_size()
    shares: list[list[int]] = [[] for _ in range(workers)]
    loads = [0] * workers
    for number in sorted(range(len(matrices)), key=lambda number: -_cost(matrices[number])):
        least = loads.index(min(loads))
        loads[least] += _cost(matrices[number])
        shares[least].append(number)
    moves, told = list(matrices), []
    for worker, share in enumerate(shares):
        told.append(matrices[0].new_empty(sum(matrices[number].numel() for number in share)))
        parts = told[-1].split([matrices[number].numel() for number in share])
        for number, part in zip(share, parts, strict=True):
            moves[number] = part.view_as(matrices[number])
            if worker == rank:
                moves[number].copy_(orthogonal(matrices[number]))
    sent = [
        distributed.broadcast(flat, worker, async_op=True)
        for worker, flat in enumerate(told)
        if len(flat)
    ]
    for each in sent:
        each.wait()
    return moves


def _cost(matrix: Tensor) -> int:
    """Multiplications of `orthogonal`: two products with the matrix, the others of squares."""
    short, long = sorted(matrix.shape)
    return short**2 * (2 * long + 4 * ITERATIONS * short)


def orthogonal(matrix: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
    """Roughly the nearest matrix with all singular values 1.

    Values from a hundredth of the matrix' norm on end between 0.6 and 1.3, smaller ones below. The
    iteration runs on the Gram matrix, which it is made of and whose sides are the shorter ones; in
    the matrix' own precision: squares of small values are lost in bfloat16.
    """
    is_tall = len(matrix) > len(matrix.T)
    x = matrix.T if is_tall else matrix
    x = x / (x.norm() + TINY)
    a, b, c = QUINTIC
    gram = x @ x.T
    factor = one = torch.eye(len(x), dtype=x.dtype, device=x.device)
    for _ in range(ITERATIONS):
        step = a * one + b * gram + c * (gram @ gram)
        factor = step @ factor
        gram = step @ gram @ step
    x = factor @ x
    return x.T if is_tall else x
