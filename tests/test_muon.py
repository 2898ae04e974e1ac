"""Orthogonalised momentum: all directions move alike, in steps of a known size."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import distributed, nn

from fixtalk import muon
from fixtalk.layers import EqualLinear, equalised
from fixtalk.muon import RATE, Muon, orthogonal


@pytest.mark.parametrize("shape", [(16, 40), (40, 16), (24, 64)])
def test_singular_values_become_alike(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))

    values = torch.linalg.svdvals(orthogonal(matrix))

    assert values.min() > 0.5
    assert values.max() < 1.3


def test_directions_of_the_matrix_stay_and_so_does_its_precision():
    left, right = (torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64))[0] for _ in range(2))
    matrix = left @ torch.diag(torch.linspace(0.2, 1, 8, dtype=torch.float64)) @ right

    turned = left.T @ orthogonal(matrix) @ right.T

    assert turned.dtype == torch.float64
    assert torch.allclose(turned, torch.diag(turned.diagonal()), atol=1e-9)
    assert (turned.diagonal() > 0.5).all()


def test_weak_direction_moves_as_far_as_a_strong_one():
    weight = nn.Parameter(torch.zeros(4, 4))
    optimiser = Muon([{"params": [weight], "lr": 0.01}])
    weight.grad = torch.diag(torch.tensor([1.0, 0.5, 0.2, 0.1]))

    optimiser.step()

    moved = -weight.detach().diagonal()
    assert (moved > 0).all()
    assert moved.max() < 2.5 * moved.min()


@pytest.mark.parametrize("shape", [(64, 64), (32, 16, 3, 3), (16, 128, 1, 1)])
def test_root_mean_square_of_a_step_is_the_rate_whatever_the_shape(shape):
    weight = nn.Parameter(torch.zeros(shape))
    optimiser = Muon([{"params": [weight], "lr": 0.001}])
    weight.grad = 1e-4 * torch.randn(shape, generator=torch.Generator().manual_seed(2))

    optimiser.step()

    assert weight.detach().square().mean().sqrt() == pytest.approx(RATE * 0.001, rel=0.25)


def test_weight_without_a_gradient_stays():
    moved, frozen = nn.Parameter(torch.ones(3, 3)), nn.Parameter(torch.ones(3, 3))
    optimiser = Muon([{"params": [moved, frozen], "lr": 0.1}])
    moved.grad = torch.eye(3)

    optimiser.step()

    assert not torch.equal(moved.detach(), torch.ones(3, 3))
    assert torch.equal(frozen.detach(), torch.ones(3, 3))


def test_each_worker_turns_its_part_of_the_matrices(monkeypatch):
    draw = torch.Generator().manual_seed(0)
    weights = [torch.randn(side, 9, generator=draw) for side in (3, 40, 4, 5, 6)]
    turned, told = [], {}

    def broadcast(flat, source, async_op):
        if source == distributed.get_rank():
            told[source] = flat.clone()
        elif source in told:
            flat.copy_(told[source])
        return SimpleNamespace(wait=lambda: None)

    def moved():
        parameters = [nn.Parameter(torch.zeros_like(weight)) for weight in weights]
        for parameter, weight in zip(parameters, weights, strict=True):
            parameter.grad = weight
        Muon([{"params": parameters, "lr": 0.1}]).step()
        return torch.cat([parameter.detach().flatten() for parameter in parameters])

    alone = moved()
    monkeypatch.setattr(muon, "orthogonal", lambda matrix: turned.append(1) or orthogonal(matrix))
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(distributed, "broadcast", broadcast)
    for rank, count in ((0, 1), (1, 4), (0, 1)):  # the large one alone
        monkeypatch.setattr(distributed, "get_rank", lambda rank=rank: rank)
        turned.clear()
        together = moved()
        assert len(turned) == count
    assert torch.equal(together, alone)


def test_saved_state_goes_on_bit_by_bit():
    def three_steps(weight, optimiser):
        for number in range(3):
            weight.grad = torch.randn(6, 5, generator=torch.Generator().manual_seed(number))
            optimiser.step()
        return weight.detach().clone()

    weight = nn.Parameter(torch.ones(6, 5))
    optimiser = Muon([{"params": [weight], "lr": 0.01}])
    three_steps(weight, optimiser)
    other = nn.Parameter(weight.detach().clone())
    resumed = Muon([{"params": [other], "lr": 0.5}])
    resumed.load_state_dict(copy.deepcopy(optimiser.state_dict()))

    assert torch.equal(three_steps(weight, optimiser), three_steps(other, resumed))


def test_equalised_weights_are_those_of_equalised_layers():
    layers = nn.Sequential(EqualLinear(3, 4), nn.Linear(4, 2), EqualLinear(2, 2))

    assert equalised(layers) == {layers[0].weight, layers[2].weight}
