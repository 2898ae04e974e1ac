"""Natural poses: exact inverse, the same for a seed, and never far away however long they go on."""

import pytest
import torch

from fixtalk.pose_flow import REACH, PoseFlow


def flow(strength):
    """A flow whose couplings do something, as after training."""
    torch.manual_seed(0)
    made = PoseFlow(poses=6, sounds=5, hidden=8, memory=3)
    with torch.no_grad():
        for coupling in made.couplings:
            coupling.read[-1].weight.normal_(std=strength)
        made.log_spread.fill_(-2.0)
        made.offset.fill_(0.05)  # pushes the head on and on
    return made


@torch.no_grad()
def poses(made, frames, seed=0, **options):
    sounds = torch.randn(frames, 5, generator=torch.Generator().manual_seed(9))
    noise = torch.Generator().manual_seed(seed)
    return torch.stack(list(made.draw(torch.ones(6), sounds, noise, **options)))


@pytest.mark.parametrize(("strength", "frames"), [(0.0, 2000), (1.0, 10000)])
def test_head_never_wanders_off(strength, frames):
    drawn = poses(flow(strength), frames)

    assert drawn.isfinite().all()
    steps = drawn.diff(dim=0)
    far = (drawn - 1).abs().amax(0) / steps[:20].std(0)
    assert far.max() < 5 * REACH  # the first frames tell the size of steps roughly
    assert steps[-1000:].std(0).min() > 0  # and it still moves


def test_near_the_start_steps_are_what_the_flow_says():
    made = flow(0.0)
    made.offset.data.zero_()

    steps = poses(made, 2000).diff(dim=0)

    free = steps[:100].std(0) / torch.tensor(-2.0).exp()
    assert free == pytest.approx(torch.ones(6), abs=0.3)


def test_seed_decides_and_calm_quietens():
    made = flow(0.3)

    assert torch.equal(poses(made, 20), poses(made, 20))
    assert not torch.equal(poses(made, 20), poses(made, 20, seed=1))
    quiet, loud = (poses(made, 200, calm=calm).diff(dim=0).std() for calm in (0.0, 1.0))
    assert quiet < loud
