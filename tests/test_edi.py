"""EDI: its memories, who may write them, and what reaches the frame."""

import math
from dataclasses import replace

import pytest
import torch

from fixtalk.edi import EDI, EDIConfig
from fixtalk.losses import l_align, l_d_mem
from fixtalk.model import FixTalk
from tests.conftest import TINY, TINY_EDI, TINY_FIXTALK

FULL = EDIConfig(slots=256, sharpness=16.0, heads=8)


@pytest.fixture
def edi():
    torch.manual_seed(0)
    return EDI(16, 8, 64, TINY_EDI)


@pytest.fixture
def model():
    """Both indicators, with a gate that is open."""
    torch.manual_seed(0)
    model = FixTalk(TINY_FIXTALK)
    torch.nn.init.constant_(model.edi.gate, 0.5)
    return model


def frames(count, seed=0):
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_full_size_has_the_proposed_parameter_count():
    # 10,107,649 proposed; without the biases that a norm behind or before them makes idle
    with torch.device("meta"):
        edi = EDI(512, 32, 512, FULL)

    assert sum(weight.numel() for weight in edi.parameters()) == 10_103_809


@pytest.mark.parametrize("side", [8, 16, 32])
def test_maps_of_any_side_become_a_token_and_come_back(side):
    edi = EDI(6, side, 10, TINY_EDI)
    features = torch.randn(2, 6, side, side)

    token = edi.compress(features)

    assert token.shape == (2, 10)
    assert edi.enrich(features, token).shape == features.shape


def test_addresses_sum_to_one_in_float32(edi):
    difference, token = torch.randn(3, 64), torch.randn(3, 64)

    with torch.autocast("cpu", torch.bfloat16):
        addresses = torch.stack([edi.address(difference, token), edi.teach(token)])

    assert addresses.dtype == torch.float32
    assert torch.allclose(addresses.sum(2), torch.ones(2, 3), atol=1e-6)
    assert addresses.min() >= 0


def test_bfloat16_gives_nearly_the_same_map(edi):
    torch.nn.init.ones_(edi.gate)
    features = torch.randn(2, 16, 8, 8)
    wanted = edi.enrich(features, edi.recall(torch.ones(2, 64), edi.compress(features)))

    with torch.autocast("cpu", torch.bfloat16):
        coarse = features.bfloat16()
        coarse = edi.enrich(coarse, edi.recall(torch.ones(2, 64), edi.compress(coarse)))

    assert coarse.dtype == torch.bfloat16
    assert torch.allclose(coarse.float(), wanted, atol=0.1)


def test_a_closed_gate_leaves_the_frames_of_the_base():
    torch.manual_seed(0)
    base, model = FixTalk(TINY), FixTalk(replace(TINY, edi=TINY_EDI))
    model.backbone.load_state_dict(base.backbone.state_dict())
    source, drivers = frames(1), frames(3, seed=1)

    with torch.inference_mode():
        same = model.animate(model.encode_source(source), model.motion(drivers))
        wanted = base.animate(base.encode_source(source), base.motion(drivers))
        torch.nn.init.ones_(model.edi.gate)
        other = model.animate(model.encode_source(source), model.motion(drivers))

        assert torch.equal(same, wanted)
        assert not torch.allclose(other, wanted, atol=1e-3)


def test_source_encoded_once_gives_the_same_frames(model):
    source, drivers = frames(1), frames(3, seed=1)

    with torch.inference_mode():
        cached = model.encode_source(source)
        together = model.animate(cached, model.motion(drivers))
        single = [
            model.animate(model.encode_source(source), model.motion(d[None])) for d in drivers
        ]

    assert torch.allclose(together, torch.cat(single), atol=1e-5)


def test_the_driver_enters_by_its_coefficients_alone(model):
    source, driver = model.encode_source(frames(1)), frames(1, seed=1).requires_grad_()

    def gradient(value):
        return torch.autograd.grad(value, driver, retain_graph=True)[0].flatten()

    motion = model.motion(driver)
    rows = torch.stack([gradient(number) for number in torch.cat(motion, 1)[0]])
    token = model.edi.recall(model.motion_difference(source, motion), source.token)
    shown = model.animate(source, motion)
    for value in (token.sum(), shown.sum()):
        moves = gradient(value)
        explained = rows.T @ torch.linalg.lstsq(rows.T, moves[:, None]).solution[:, 0]

        assert moves.norm() > 0
        assert (moves - explained).norm() < 1e-3 * moves.norm()


def test_another_motion_recalls_another_detail(edi):
    token = edi.compress(torch.randn(1, 16, 8, 8))

    still, moved = edi.recall(torch.zeros(1, 64), token), edi.recall(torch.ones(1, 64), token)

    assert (still - moved).abs().max() > 0.01


def test_the_teacher_writes_and_the_student_only_reads(edi):
    token = edi.compress(torch.randn(2, 16, 8, 8))

    edi.recall(torch.randn(2, 64), token).sum().backward()
    read_only = edi.details.grad is None
    edi.zero_grad()
    edi.read(edi.teach(token)).sum().backward()

    assert read_only
    assert edi.details.grad.abs().sum() > 0
    assert all(weight.grad is None for weight in edi.compressor.parameters())


def test_an_address_of_one_slot_reads_that_slot(edi):
    address = torch.eye(8)[[3, 5]]

    assert torch.equal(edi.read(address), edi.details[[3, 5]])


def test_usage_tells_even_from_narrow_use(edi):
    even = edi.usage(torch.full((4, 8), 1 / 8))
    narrow = edi.usage(torch.eye(8)[[2, 2, 2]])

    assert even["slot_entropy"].item() == pytest.approx(math.log(8))
    assert even["dead_slots"] == 0
    assert narrow["slot_entropy"] == 0
    assert narrow["dead_slots"].item() == pytest.approx(7 / 8)


def test_gradients_reach_every_parameter_within_two_steps(edi):
    optimiser = torch.optim.Adam(edi.parameters(), lr=0.01)
    reached, source, driver = set(), torch.randn(4, 16, 8, 8), torch.randn(4, 16, 8, 8)

    for _ in range(2):
        token, driver_token = edi.compress(torch.cat([source, driver])).chunk(2)
        student, teacher = edi.address(torch.ones(4, 64), token), edi.teach(driver_token)
        enriched = edi.enrich(source, edi.read_through(teacher, driver_token))
        loss = (enriched - driver).abs().mean() + l_d_mem(edi.read(teacher), driver_token)
        loss = loss + l_align(student, teacher, "student||teacher")
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        reached |= {n for n, w in edi.named_parameters() if w.grad.abs().sum() > 0}

    assert {name for name, _ in edi.named_parameters()} - reached == set()


def test_impossible_sizes_are_named():
    with pytest.raises(ValueError, match=r"edi.slots 1: choose at least 2"):
        replace(TINY_EDI, slots=1)
    with pytest.raises(ValueError, match=r"edi.sharpness 0.0: choose above 0"):
        replace(TINY_EDI, sharpness=0.0)
    with pytest.raises(ValueError, match=r"edi.heads 0: choose at least 1"):
        replace(TINY_EDI, heads=0)
    with pytest.raises(ValueError, match=r"edi.heads 3: choose a divisor of the map's 16 channels"):
        EDI(16, 8, 64, replace(TINY_EDI, heads=3))
    with pytest.raises(ValueError, match="leak map of side 12"):
        EDI(16, 12, 64, TINY_EDI)
