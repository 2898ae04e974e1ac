"""EMI: what it reads, what it leaves out, and that the base stays the base without it."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from fixtalk.emi import EMI, EMIConfig, QueryAttention
from fixtalk.encoder import channels
from fixtalk.model import FixTalk
from tests.conftest import TINY, TINY_EMI

FULL = EMIConfig(layers=4, queries=8, heads=8, hidden=1024)


@pytest.fixture
def emi():
    torch.manual_seed(0)
    return EMI(TINY.channels, 8, TINY.latent, TINY_EMI)


def maps_of(batch=2, resolution=64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    counts = TINY.channels
    sides = [side for side in sorted(counts) if 8 <= side <= resolution]
    return [torch.randn(batch, counts[s], s, s, generator=generator) for s in sides]


def test_full_size_has_the_proposed_parameter_count():
    # 9,437,189 proposed; 4,096 of them were biases of keys and values, which change nothing
    with torch.device("meta"):
        emi = EMI(channels(512, 1.0, 512), 32, 512, FULL)

    assert sum(weight.numel() for weight in emi.parameters()) == 9_433_093


@pytest.mark.parametrize(
    ("resolution", "side", "read"),
    [
        (64, 8, [8, 16, 32]),
        (128, 16, [8, 16, 32, 64]),
        (256, 32, [8, 16, 32, 64, 128]),
        (512, 32, [16, 32, 64, 128, 256]),
    ],
)
def test_the_five_maps_below_the_frame_are_read(resolution, side, read):
    emi = EMI(channels(resolution, 0.0078125, 16), side, 64, TINY_EMI)

    assert emi.sides == read
    assert set(emi.projections) == {str(s) for s in read if s != side}  # p replaces the leak map


def test_maps_and_positions_permuted_together_give_the_same_code(emi):
    maps, order = maps_of(), torch.randperm(64)
    before = emi(maps)
    maps[0] = maps[0].flatten(2)[:, :, order].unflatten(2, (8, 8))

    moved = emi(maps)
    emi.positions.data = emi.positions.data[order]
    together = emi(maps)

    assert torch.allclose(together, before, atol=1e-5)
    assert not torch.allclose(moved, before, atol=1e-3)  # or it could not know the pose


def test_the_frame_sized_map_is_not_read(emi):
    maps = maps_of()
    before = emi(maps)

    after = emi([*maps[:-1], torch.zeros_like(maps[-1])])

    assert torch.equal(after, before)


def test_attention_equals_the_usual_order_of_products():
    torch.manual_seed(0)
    attention = QueryAttention(16, 12, heads=4)
    queries, tokens = torch.randn(2, 3, 16), torch.randn(2, 50, 12)
    normed = attention.token_norm(tokens)
    key, value = (w.flatten(0, 1) * attention.scale for w in (attention.key, attention.value))
    asked = attention.query(attention.query_norm(queries))

    heads = [
        x.unflatten(2, (4, 4)).transpose(1, 2) for x in (asked, normed @ key.T, normed @ value.T)
    ]
    expected = attention.out(F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2))

    assert torch.allclose(attention(queries, tokens), expected, atol=1e-5)


def test_bfloat16_gives_nearly_the_same_code(emi):
    maps = maps_of()

    with torch.autocast("cpu", torch.bfloat16):
        coarse = emi([m.bfloat16() for m in maps])

    assert torch.allclose(coarse.float(), emi(maps), atol=0.05)


def test_gradients_reach_every_parameter(emi):
    emi(maps_of()).square().sum().backward()

    still = [name for name, weight in emi.named_parameters() if not weight.grad.abs().sum()]
    assert still == []


def test_only_the_motion_depends_on_it():
    torch.manual_seed(0)
    base, model = FixTalk(TINY), FixTalk(replace(TINY, emi=TINY_EMI))
    model.backbone.load_state_dict(base.backbone.state_dict())
    frames = torch.rand(2, 3, 64, 64) * 2 - 1

    with torch.inference_mode():
        motion = base.motion(frames)
        moved = model.motion(frames)
        same = model.animate(model.encode_source(frames[:1]), motion)

        assert torch.equal(same, base.animate(base.encode_source(frames[:1]), motion))
    assert not torch.allclose(moved.lip, motion.lip, atol=1e-3)


@pytest.mark.parametrize("name", ["layers", "queries", "heads", "hidden"])
def test_impossible_sizes_are_named(name):
    with pytest.raises(ValueError, match=f"emi.{name} 0: choose at least 1"):
        replace(TINY_EMI, **{name: 0})


def test_heads_that_do_not_share_the_latent_are_named():
    with pytest.raises(ValueError, match=r"emi.heads 3: choose a divisor of the latent's width 64"):
        EMI(TINY.channels, 8, 64, replace(TINY_EMI, heads=3))
