"""The pose flow: inverse, density by autograd and by integration, draws, a known process."""

import math
from itertools import islice, repeat

import pytest
import torch

from fixtalk.pose_flow import REACH, PoseFlow

POSES, SOUNDS, MEMORY = 4, 5, 3


def bent(poses=POSES, memory=MEMORY, seed=0):
    """A flow that is far from the identity."""
    torch.manual_seed(seed)
    flow = PoseFlow(poses, SOUNDS, hidden=16, memory=memory)
    with torch.no_grad():
        flow.offset.normal_(0, 0.3)
        flow.log_spread.normal_(0, 0.4)
        for coupling in flow.couplings:
            coupling.read[-1].weight.normal_()
            coupling.read[-1].bias.normal_(0, 0.3)
    return flow


def test_back_inverts_forward():
    flow = bent()
    steps, told = torch.randn(7, POSES), torch.randn(7, MEMORY * POSES + 16)

    there = steps
    for coupling in flow.couplings:
        there, _ = coupling(there, told)
    back = there
    for coupling in reversed(flow.couplings):
        back = coupling.back(back, told)

    assert (back - steps).abs().max() < 1e-5
    assert (there - steps).abs().min() > 1e-4  # every coefficient is moved by one coupling or more


def noise_of(flow, pose, before, sound):
    """What `draw` would have drawn to arrive at this pose: by the definition of a flow."""
    told = flow._context(before[None], sound[None])
    steps = (pose - before[-1] - flow.offset) * (-flow.log_spread).exp()
    for coupling in flow.couplings:
        steps, _ = coupling(steps[None], told)
        steps = steps[0]
    return steps


def test_surprise_is_the_change_of_variables():
    flow = bent().double()
    poses = torch.randn(2, MEMORY + 2, POSES, dtype=torch.float64)
    sounds = torch.randn(2, MEMORY + 2, SOUNDS, dtype=torch.float64)

    nats = []
    for clip, heard in zip(poses, sounds, strict=True):
        for end in (MEMORY, MEMORY + 1):
            given = (clip[end - MEMORY : end], heard[end])
            noise = noise_of(flow, clip[end], *given)
            matrix = torch.autograd.functional.jacobian(
                lambda pose, given=given: noise_of(flow, pose, *given), clip[end]
            )
            normal = -0.5 * (noise.square() + math.log(2 * math.pi)).sum()
            nats.append(-(normal + torch.linalg.slogdet(matrix).logabsdet))

    assert flow.surprise(poses, sounds).item() == pytest.approx(
        torch.stack(nats).mean().item() / POSES, rel=1e-9
    )


@torch.no_grad()
def test_density_of_one_coefficient_integrates_to_one():
    flow = bent(poses=1, memory=2, seed=3).double()
    grid = torch.linspace(-8, 8, 161, dtype=torch.float64)
    past, heard = torch.tensor([0.2, -0.1]), torch.randn(1, 3, SOUNDS).double()

    densities = torch.stack(
        [
            (-flow.surprise(torch.cat([past, place[None]])[None, :, None].double(), heard)).exp()
            for place in grid
        ]
    )

    assert torch.trapezoid(densities, grid).item() == pytest.approx(1, abs=1e-3)
    assert densities.max() > 0.01


@torch.no_grad()
def test_draws_follow_the_generator_and_the_sound():
    flow, start = bent(), torch.randn(POSES)
    quiet, loud = torch.zeros(6, SOUNDS), torch.full((6, SOUNDS), 3.0)

    def drawn(sounds, seed, calm=1.0):
        generator = torch.Generator().manual_seed(seed)
        return torch.stack(list(flow.draw(start, sounds, generator, calm)))

    one = drawn(quiet, 0)
    assert one.shape == (6, POSES)
    assert torch.equal(one, drawn(quiet, 0))
    assert not torch.allclose(one, drawn(quiet, 1), atol=1e-2)
    assert not torch.allclose(one, drawn(loud, 0), atol=1e-2)
    assert torch.equal(drawn(quiet, 0, calm=0.0), drawn(quiet, 1, calm=0.0))
    endless = flow.draw(start, repeat(quiet[0]), torch.Generator().manual_seed(0))
    assert torch.equal(torch.stack(list(islice(endless, 6))), one)


@torch.no_grad()
def test_a_drawn_course_leads_back_to_its_noise():
    flow, start, sounds = bent(), torch.randn(POSES), torch.randn(3, SOUNDS)
    generator = torch.Generator().manual_seed(5)
    for coupling in flow.couplings:  # steps of one size, so that the limit lies far away
        coupling.read[-1].weight *= 0.1

    course = list(flow.draw(start, sounds, generator, calm=0.5))

    generator.manual_seed(5)
    held = [start] * MEMORY
    for pose, sound in zip(course, sounds, strict=True):
        noise = noise_of(flow, pose, torch.stack(held[-MEMORY:]), sound)
        wanted = 0.5 * torch.randn(1, POSES, generator=generator)[0]
        assert torch.allclose(noise, wanted, atol=1e-4)
        held.append(pose)


def test_too_few_frames_are_refused():
    with pytest.raises(ValueError, match="3 poses: memory 3 needs one more than that"):
        bent().surprise(torch.zeros(1, 3, POSES), torch.zeros(1, 3, SOUNDS))


def test_a_known_process_is_learnt():
    # x' = 0.8 x + noise of 0.1: a step is -0.2 x + noise, whose entropy is known
    torch.manual_seed(0)
    spread, frames = 0.1, 4
    x = [torch.randn(256, 2) * spread / 0.6]
    for _ in range(frames - 1):
        x.append(0.8 * x[-1] + spread * torch.randn(256, 2))
    poses, sounds = torch.stack(x, 1), torch.zeros(256, frames, SOUNDS)
    flow = PoseFlow(2, SOUNDS, hidden=16, memory=2)
    least = 0.5 * math.log(2 * math.pi * math.e * spread**2)
    optimiser = torch.optim.Adam(flow.parameters(), 0.03)
    before = flow.surprise(poses, sounds).item()

    for _ in range(50):
        optimiser.zero_grad()
        loss = flow.surprise(poses, sounds)
        loss.backward()
        optimiser.step()

    assert before > least + 1
    assert loss.item() == pytest.approx(least, abs=0.08)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(1)
        course = flow.draw(torch.tensor([1.0, -1.0]), torch.zeros(12, SOUNDS), generator, calm=0.0)
        held = torch.stack(list(course))
    assert (held[-1].abs() < 0.5).all(), "without noise the head comes back to its place"


def restless(strength):
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
def drawn_poses(made, frames, seed=0, **options):
    sounds = torch.randn(frames, 5, generator=torch.Generator().manual_seed(9))
    noise = torch.Generator().manual_seed(seed)
    return torch.stack(list(made.draw(torch.ones(6), sounds, noise, **options)))


@pytest.mark.parametrize(("strength", "frames"), [(0.0, 2000), (1.0, 10000)])
def test_head_never_wanders_off(strength, frames, unchecked):
    drawn = drawn_poses(restless(strength), frames)

    assert drawn.isfinite().all()
    steps = drawn.diff(dim=0)
    far = (drawn - 1).abs().amax(0) / steps[:20].std(0)
    assert far.max() < 5 * REACH  # the first frames tell the size of steps roughly
    assert steps[-1000:].std(0).min() > 0  # and it still moves


def test_near_the_start_steps_are_what_the_flow_says(unchecked):
    made = restless(0.0)
    made.offset.data.zero_()

    steps = drawn_poses(made, 2000).diff(dim=0)

    free = steps[:100].std(0) / torch.tensor(-2.0).exp()
    assert free == pytest.approx(torch.ones(6), abs=0.3)


def test_seed_decides_and_calm_quietens():
    made = restless(0.3)

    assert torch.equal(drawn_poses(made, 20), drawn_poses(made, 20))
    assert not torch.equal(drawn_poses(made, 20), drawn_poses(made, 20, seed=1))
    quiet, loud = (drawn_poses(made, 200, calm=calm).diff(dim=0).std() for calm in (0.0, 1.0))
    assert quiet < loud
