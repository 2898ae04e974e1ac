"""The base model: shapes, banks, caching, warps, and the layers it is made of."""

import copy
import dataclasses

import pytest
import torch
from torch.nn import functional as F

from fixtalk.checkpoint import load_checkpoint, save_checkpoint
from fixtalk.decoupling import Decoupling, Motion
from fixtalk.discriminator import Discriminator
from fixtalk.encoder import channels
from fixtalk.generator import ExpressionEnhancement, Warp
from fixtalk.layers import Blur, ModulatedConv, Upsample
from fixtalk.model import FixTalk
from tests.conftest import TINY, TINY_FIXTALK


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return FixTalk(TINY).eval()


def frames(count, side=64, seed=0):
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize("resolution", [64, 128, 256, 512])
def test_frames_keep_their_resolution(resolution):
    model = FixTalk(dataclasses.replace(TINY, resolution=resolution, width=0.0078125))

    with torch.inference_mode():
        fake = model.animate(
            model.encode_source(frames(1, resolution)), model.motion(frames(2, resolution))
        )

    assert fake.shape == (2, 3, resolution, resolution)
    assert fake.abs().max() <= 1


@pytest.mark.parametrize(("resolution", "count"), [(256, 24_001_089), (512, 24_030_753)])
def test_discriminator_has_the_published_parameter_count(resolution, count):
    with torch.device("meta"):
        discriminator = Discriminator(channels(resolution, 1.0, 512))

    assert sum(p.numel() for p in discriminator.parameters()) == count


def test_discriminator_sees_small_frames_with_fewer_blocks():
    discriminator = Discriminator(TINY.channels)

    assert [m.shape[-1] for m in discriminator.features(frames(1))] == [32, 16, 8, 4]
    assert [m.shape[-1] for m in discriminator.features(frames(1, 16))] == [8, 4]


def test_banks_are_orthonormal_and_sequential(model):
    bank = model.backbone.decoupling.bank()

    identity = bank.T @ bank
    alone = torch.linalg.qr(model.backbone.decoupling.lip_pose_bank + 1e-8, mode="reduced").Q

    assert torch.allclose(identity, torch.eye(13), atol=1e-5)
    assert torch.allclose(bank[:, :10], alone, atol=1e-5)


def test_motion_heads_collapse_to_one_product_at_inference():
    decoupling = Decoupling(64, 6, 4, 3)
    latent = torch.randn(5, 64)

    layered, bank = torch.cat(decoupling(latent), 1), decoupling.bank()
    with torch.no_grad():
        collapsed, kept = torch.cat(decoupling(latent), 1), decoupling.bank()
        again = decoupling.bank()

    assert torch.allclose(layered, collapsed, atol=1e-5)
    assert torch.equal(bank, kept)
    assert again is kept


@pytest.mark.parametrize("change", ["in place", "loaded", "copied"])
def test_collapsed_heads_follow_their_weights(change):
    decoupling, other = Decoupling(64, 6, 4, 3), Decoupling(64, 6, 4, 3)
    latent = torch.randn(5, 64)
    with torch.no_grad():
        before = torch.cat(decoupling(latent), 1)
        if change == "in place":
            torch._foreach_lerp_(list(decoupling.parameters()), list(other.parameters()), 0.5)
        elif change == "loaded":
            decoupling.load_state_dict(other.state_dict())
        else:
            decoupling = copy.deepcopy(decoupling)
            decoupling.lip[0].weight.mul_(2)

        after = torch.cat(decoupling(latent), 1)

    layered = torch.cat(decoupling.layer_by_layer(latent), 1)
    assert torch.allclose(after, layered, atol=1e-5)
    assert not torch.allclose(after, before, atol=1e-3)


def test_heads_made_in_inference_mode_follow_their_weights_too():
    with torch.inference_mode():
        decoupling = Decoupling(64, 6, 4, 3)
        before = decoupling(torch.ones(1, 64)).lip
        decoupling.lip[-1].bias.add_(1)

        after = decoupling(torch.ones(1, 64)).lip

    assert torch.allclose(after, before + 1, atol=1e-5)


def test_still_flow_without_a_mask_gives_the_map_as_it_is():
    warp = Warp(4, 8, align_corners=True)
    features = torch.randn(2, 4, 16, 16)
    with torch.no_grad():
        warp.bias[:, 2] = 40  # sigmoid of it is 1

    warped, mask, _, _ = warp(torch.randn(2, 4, 16, 16), torch.randn(2, 8), features, None)

    assert torch.equal(mask, torch.ones_like(mask))
    assert torch.allclose(warped, features, atol=1e-5)


def test_expression_block_starts_as_identity_and_learns():
    block = ExpressionEnhancement(4, 8)
    features, expression = torch.randn(2, 4, 8, 8), torch.randn(2, 8)
    optimiser = torch.optim.Adam(block.parameters(), lr=1e-2)

    untrained = block(features, expression)
    for _ in range(3):
        optimiser.zero_grad()
        (block(features, expression) - features.flip(2)).square().mean().backward()
        optimiser.step()

    assert torch.equal(untrained, features)
    assert all(weight.grad.abs().sum() > 0 for weight in block.parameters())


def test_source_encoded_once_gives_the_same_frames(model):
    source, drivers = frames(1), frames(3, seed=1)

    with torch.inference_mode():
        cached = model.encode_source(source)
        together = model.animate(cached, model.motion(drivers))
        single = [
            model.animate(model.encode_source(source), model.motion(d[None])) for d in drivers
        ]

    assert torch.allclose(together, torch.cat(single), atol=1e-5)


def test_each_driver_gives_its_own_component(model):
    source, lip, pose, expression = (frames(1, seed=seed) for seed in range(4))

    with torch.inference_mode():
        driven = model.drive(source, lip, pose, expression)
        mixed = Motion(
            model.motion(lip).lip, model.motion(pose).pose, model.motion(expression).expression
        )
        expected = model.render(model.encode_source(source), mixed)[0]

    assert torch.equal(driven, expected)


def test_region_keeps_one_component(model):
    motion = model.motion(frames(2), region="pose")

    assert motion.pose.abs().sum() > 0
    assert motion.lip.abs().sum() == motion.expression.abs().sum() == 0
    with pytest.raises(ValueError, match="region 'nose'"):
        model.motion(frames(1), region="nose")


def test_wrong_resolution_is_named(model):
    with pytest.raises(ValueError, match=r"source frames are 32×32 px.*64×64"):
        model.encode_source(frames(1, 32))


def test_untrained_flow_is_the_identity(model):
    # a new generator starts from the undistorted source, so the warp has to be learned, not undone
    _, flows = model.render(model.encode_source(frames(1)), model.motion(frames(1)))

    line = torch.linspace(-1, 1, 64)
    grid = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1)
    assert torch.allclose(flows[-1][0], grid, atol=1e-6)


@pytest.mark.parametrize("config", [TINY, TINY_FIXTALK])
def test_checkpoint_returns_the_same_model(config, tmp_path):
    model = FixTalk(config)
    save_checkpoint(model, tmp_path, {"variant": "tiny"})

    loaded = load_checkpoint(tmp_path)

    assert loaded.config == model.config
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name])


def test_damaged_checkpoint_is_named(model, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config.json is missing.*make repro"):
        load_checkpoint(tmp_path)
    save_checkpoint(model, tmp_path, {})
    (tmp_path / "model.safetensors").write_bytes(b"rubbish")
    with pytest.raises(ValueError, match=r"model.safetensors does not fit"):
        load_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text('{"architecture": "copy_source"}')
    with pytest.raises(ValueError, match="copy_source"):
        load_checkpoint(tmp_path)


def test_separable_blur_equals_the_two_dimensional_one():
    x = torch.randn(2, 3, 9, 9)
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    kernel = torch.outer(taps, taps) / 64 * 4

    expected = F.conv2d(F.pad(x, (2, 1, 2, 1)), kernel.expand(3, 1, 4, 4), groups=3)

    assert torch.allclose(Blur(2, 1, gain=4.0)(x), expected, atol=1e-6)


def test_upsampling_keeps_a_constant():
    x = torch.ones(1, 2, 8, 8)

    assert torch.allclose(Upsample()(x)[:, :, 2:-2, 2:-2], torch.ones(1, 2, 12, 12), atol=1e-6)


@pytest.mark.parametrize("upsample", [False, True])
def test_modulated_conv_equals_weights_scaled_per_sample(upsample):
    conv = ModulatedConv(4, 5, 3, 8, upsample=upsample)
    x, latent = torch.randn(2, 4, 6, 6), torch.randn(2, 8)
    style = conv.modulation(latent)
    weight = conv.scale * conv.weight[None] * style[:, None, :, None, None]
    weight = weight * (weight.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()

    if upsample:
        rows = [
            F.conv_transpose2d(a[None], w.transpose(0, 1), stride=2)
            for a, w in zip(x, weight, strict=True)
        ]
        expected = conv.blur(torch.cat(rows))
    else:
        rows = [F.conv2d(a[None], w, padding=1) for a, w in zip(x, weight, strict=True)]
        expected = torch.cat(rows)

    assert torch.allclose(conv(x, latent), expected, atol=1e-5)
