"""Losses and the training step: exactness of resume, learning, phases, NaN."""

import dataclasses
import math

import pytest
import torch

from fixtalk import losses
from fixtalk.checkpoint import load_state, save_state
from fixtalk.training import phase_at, start, train_step
from tests.conftest import TINY


def steps(state, batch, phases, count):
    return [train_step(state, batch, phases, decay=0.9, bfloat16=False) for _ in range(count)]


def test_resumed_run_equals_the_uninterrupted_one(tiny_state, batch, phases, tmp_path):
    straight = start(TINY, (0.5, 0.99), seed=1)
    steps(straight, batch, phases, 4)
    steps(tiny_state, batch, phases, 2)
    save_state(tiny_state, tmp_path / "state.pt")

    resumed = start(TINY, (0.5, 0.99), seed=7)
    load_state(resumed, tmp_path / "state.pt")
    steps(resumed, batch, phases, 2)

    assert resumed.step == 4
    for network in ("model", "average", "discriminator"):
        pairs = zip(
            getattr(straight, network).parameters(),
            getattr(resumed, network).parameters(),
            strict=True,
        )
        assert all(torch.equal(a, b) for a, b in pairs), network


def test_damaged_state_is_named(tiny_state, tmp_path):
    (tmp_path / "state.pt").write_bytes(b"half a file")

    with pytest.raises(ValueError, match=r"state.pt: not a training state"):
        load_state(tiny_state, tmp_path / "state.pt")


def test_a_few_steps_lower_the_loss(tiny_state, batch, phases):
    phase = dataclasses.replace(phases[0], steps=30)

    history = steps(tiny_state, batch, [phase], 30)

    assert history[-1]["reconstruction"] < 0.8 * history[0]["reconstruction"]
    assert history[-1]["warp_truth"] < history[0]["warp_truth"]


def test_discriminator_moves_in_its_phase_only(tiny_state, batch, phases):
    before = [p.clone() for p in tiny_state.discriminator.parameters()]

    first = steps(tiny_state, batch, phases, 2)
    still = [p.clone() for p in tiny_state.discriminator.parameters()]
    second = steps(tiny_state, batch, phases, 1)

    assert all(torch.equal(a, b) for a, b in zip(before, still, strict=True))
    assert "discrimination" not in first[0]
    assert "discrimination" in second[0]
    assert any(
        not torch.equal(a, b)
        for a, b in zip(still, tiny_state.discriminator.parameters(), strict=True)
    )


def test_every_parameter_of_the_model_is_trained(tiny_state, batch, phases):
    # two steps: layers behind a zero-initialised one get their first gradient in the second
    steps(tiny_state, batch, phases, 2)
    before = {name: p.clone() for name, p in tiny_state.model.named_parameters()}

    steps(tiny_state, batch, phases, 1)

    unmoved = [n for n, p in tiny_state.model.named_parameters() if torch.equal(p, before[n])]
    assert unmoved == []


def test_nan_ends_training_with_step_and_phase(tiny_state, batch, phases):
    broken = dataclasses.replace(batch, target=torch.full_like(batch.target, math.nan))

    with pytest.raises(FloatingPointError, match="step 0, phase warp"):
        steps(tiny_state, broken, phases, 1)


def test_schedule_picks_phase_and_share(phases):
    assert phase_at(phases, 0) == (phases[0], 0.0)
    assert phase_at(phases, 1) == (phases[0], 1.0)
    assert phase_at(phases, 2) == (phases[1], 0.0)
    with pytest.raises(IndexError, match="behind the last phase"):
        phase_at(phases, 4)


def test_true_flow_costs_nothing(batch):
    exact = losses.warp_truth([batch.flow], batch.flow, batch.valid)
    shifted = losses.warp_truth([batch.flow + 0.1], batch.flow, batch.valid)

    assert exact == pytest.approx(0, abs=1e-6)
    assert shifted == pytest.approx(0.2, abs=1e-5)


@pytest.mark.parametrize("side", [8, 16, 32, 64])
def test_identity_is_the_true_warp_of_a_still_pair_at_every_side(side):
    def identity(side):
        line = torch.linspace(-1, 1, side)
        return torch.stack(torch.meshgrid(line, line, indexing="xy"), -1)[None]

    valid = torch.ones(1, 64, 64, dtype=torch.bool)

    loss = losses.warp_truth([identity(side)], identity(64), valid)

    assert loss == pytest.approx(0, abs=1e-5)


def test_invalid_pixels_do_not_count(batch):
    flow = batch.flow.clone()
    flow[~batch.valid] = math.nan

    assert losses.warp_truth([batch.flow], flow, batch.valid) == pytest.approx(0, abs=1e-6)


def test_losses_of_equal_frames_are_zero(batch):
    frames = batch.source

    assert losses.reconstruction(frames, frames) == 0
    assert losses.pyramid(frames, frames) == 0
    assert losses.feature_matching([frames], [frames]) == 0


def test_discriminator_judges_a_frame_by_its_own_half_of_the_batch(tiny_state):
    # fakes beside reals and fakes alone: the generator must see what the discriminator saw
    real, fake = torch.rand(6, 3, 64, 64), torch.rand(6, 3, 64, 64) / 9

    together = tiny_state.discriminator(torch.cat([real, fake]), sets=2)[0]
    alone = tiny_state.discriminator(fake)[0]

    assert torch.allclose(together[6:], alone, atol=1e-5)


def test_adversarial_losses_by_hand():
    zero, high = torch.zeros(2), torch.full((2,), 20.0)

    assert losses.adversarial(zero) == pytest.approx(math.log(2))
    assert losses.adversarial(high) == pytest.approx(0, abs=1e-6)
    assert losses.discrimination(high, -high) == pytest.approx(0, abs=1e-6)
    real = torch.rand(2, 3, 4, 4, requires_grad=True)
    # logit = 3 · sum of pixels: its gradient is 3 everywhere, 48 values, squared norm 9 · 48
    assert losses.gradient_penalty(real, 3 * real.sum((1, 2, 3))) == pytest.approx(432)
