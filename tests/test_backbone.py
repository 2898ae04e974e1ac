"""EMI and EDI on another reenactment model than EDTalk: key points and one dense warp."""

from itertools import pairwise
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fixtalk.backbone import Backbone, EDTalk
from fixtalk.model import FixTalk
from tests.conftest import TINY, TINY_FIXTALK


class KeyPoints(NamedTuple):
    """Where the key points lie, in [-1, 1]."""

    points: Tensor


class KeyPointModel(nn.Module):
    """A small relative of FOMM: key points move, and the 8×8 map of the source with them."""

    def __init__(self, points=5, latent=32):
        super().__init__()
        self.channels, self.latent, self.points = {64: 8, 32: 8, 16: 12, 8: 16}, latent, points
        counts = self.channels.values()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.down = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(counts)
        )
        self.bottleneck = nn.Linear(16 * 8 * 8, latent)
        self.head = nn.Linear(latent, 2 * points)
        self.up = nn.Sequential(
            nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Upsample(scale_factor=8),
            nn.Conv2d(16, 3, 3, padding=1),
        )  # fmt: skip

    def features(self, frames):
        """The bottleneck, and the maps."""
        maps = [F.leaky_relu(self.stem(frames), 0.2)]
        for conv in self.down:
            maps.append(F.leaky_relu(conv(maps[-1]), 0.2))
        return self.bottleneck(maps[-1].flatten(1)), maps[::-1]

    def motion(self, vector):
        """Key points."""
        return KeyPoints(self.head(vector).tanh().unflatten(1, (self.points, 2)))

    def motion_latent(self, motion):
        """Their coordinates, padded."""
        flat = motion.points.flatten(1)
        return F.pad(flat, (0, self.latent - flat.shape[1]))

    def render(self, identity, maps, motion):
        """The coarsest map, warped by the nearest key points' shifts, as a frame."""
        line = torch.linspace(-1, 1, 8)
        grid = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1)
        distance = (grid[:, :, None] - motion.points[:, None, None]).square().sum(-1)
        shift = self.motion(identity).points - motion.points
        flow = grid + torch.einsum("bhwk,bkc->bhwc", (-5 * distance).softmax(-1), shift)
        warped = F.grid_sample(maps[0], flow, align_corners=True)
        return self.up(warped), [flow]


@pytest.fixture
def model():
    torch.manual_seed(0)
    return FixTalk(TINY_FIXTALK, backbone=KeyPointModel())


def spots(centres):
    """Frames with one bright spot at each centre."""
    line = torch.linspace(-1, 1, 64)
    grid = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1)
    distance = (grid - torch.tensor(centres)[:, None, None]).square().sum(-1)
    return (2 * (-8 * distance).exp() - 1)[:, None].expand(-1, 3, -1, -1)


def test_both_models_are_backbones(model):
    assert isinstance(model.backbone, Backbone)
    assert isinstance(FixTalk(TINY).backbone, EDTalk)
    assert isinstance(FixTalk(TINY).backbone, Backbone)
    assert not isinstance(nn.Linear(1, 1), Backbone)


def test_one_source_serves_many_drivers(model):
    source = model.encode_source(spots([[0.0, 0.0]]))

    shown = model.animate(source, model.motion(spots([[0.3, 0.0], [0.0, 0.3], [-0.3, 0.0]])))

    assert shown.shape == (3, 3, 64, 64)
    assert isinstance(source.motion, KeyPoints)


def test_indicators_learn_on_it(model):
    source = spots([[0.0, 0.0], [0.4, 0.2], [-0.4, 0.0], [0.1, -0.4]])
    driver = spots([[0.4, 0.0], [0.0, 0.2], [-0.1, 0.4], [0.3, -0.4]])
    optimiser = torch.optim.Adam(model.parameters(), lr=0.005)
    losses, touched = [], set()

    for _ in range(40):
        shown, _ = model.render(model.encode_source(source), model.motion(driver))
        loss = (shown - driver).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        touched |= {n for n, w in model.emi.named_parameters() if w.grad.abs().sum() > 0}

    assert losses[-1] < 0.5 * losses[0]
    assert touched == {name for name, _ in model.emi.named_parameters()}
    assert model.edi.gate.abs() > 0.001
