"""The base model: shapes, banks, caching, warps, and the layers it is made of."""

import dataclasses

import pytest
import torch
from torch.nn import functional as F

from fixtalk.checkpoint import load_checkpoint, save_checkpoint
from fixtalk.layers import Blur, ModulatedConv, Upsample
from fixtalk.model import FixTalk, ModelConfig
from tests.conftest import TINY


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


def test_full_width_has_the_published_parameter_counts():
    # spec: LIA's encoder 21,635,648 parameters at 256 px, the banks 13,312 + 5,120
    with torch.device("meta"):
        model = FixTalk(
            ModelConfig(
                resolution=256, width=1.0, widest=512, latent=512, lips=20, poses=6, expressions=10,
                align_corners=False,
            )
        )  # fmt: skip

    assert sum(p.numel() for p in model.encoder.parameters()) == 21_635_648
    banks = (model.decoupling.lip_pose_bank, model.decoupling.expression_bank)
    assert [bank.numel() for bank in banks] == [13_312, 5_120]
    heads = {"trunk": 1_050_624, "lip": 535_572, "pose": 528_390, "expression": 530_442}
    for name, count in heads.items():
        assert sum(p.numel() for p in getattr(model.decoupling, name).parameters()) == count


def test_banks_are_orthonormal_and_sequential(model):
    bank = model.decoupling.bank()

    identity = bank.T @ bank
    alone = torch.linalg.qr(model.decoupling.lip_pose_bank + 1e-8, mode="reduced").Q

    assert torch.allclose(identity, torch.eye(13), atol=1e-5)
    assert torch.allclose(bank[:, :10], alone, atol=1e-5)


def test_source_encoded_once_gives_the_same_frames(model):
    source, drivers = frames(1), frames(3, seed=1)

    with torch.inference_mode():
        cached = model.encode_source(source)
        together = model.animate(cached, model.motion(drivers))
        single = [
            model.animate(model.encode_source(source), model.motion(d[None])) for d in drivers
        ]

    assert torch.allclose(together, torch.cat(single), atol=1e-5)


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


def test_checkpoint_returns_the_same_model(model, tmp_path):
    save_checkpoint(model, tmp_path, {"variant": "tiny"})

    loaded = load_checkpoint(tmp_path)

    assert loaded.config == TINY
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
