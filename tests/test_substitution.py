"""Substitution: an exchange that changes nothing changes nothing, and a whole one all."""

from dataclasses import replace

import pytest
import torch

from fixtalk.model import FixTalk
from pipelines.substitution import (
    animate_with_driver_maps,
    encoder_maps,
    motion_with_statistics,
    motion_without_channels,
)
from tests.conftest import TINY, TINY_FIXTALK

MAP_SIDES = (8, 16, 32, 64)


def model_of(config, moving=True):
    torch.manual_seed(5)
    model = FixTalk(config).eval()
    if moving:  # a fresh model's warps are the identity
        for stage in model.backbone.generator.stages:
            torch.nn.init.normal_(stage.warp.conv.weight, std=0.5)
    return model


@pytest.fixture
def people():
    torch.manual_seed(1)
    return torch.rand(2, 3, 64, 64) * 2 - 1, torch.rand(2, 3, 64, 64) * 2 - 1


@torch.no_grad()
def test_encoder_maps_are_those_of_the_forward_pass(people):
    model = model_of(TINY)

    maps = encoder_maps(model, people[0])

    latent, expected = model.backbone.features(people[0])
    assert list(maps) == [64, 32, 16, 8, 4]
    assert all(torch.equal(maps[m.shape[-1]], m) for m in expected)
    assert torch.equal(model.backbone.encoder.head(maps[4]).flatten(1), latent)


@torch.no_grad()
@pytest.mark.parametrize("config", [TINY, TINY_FIXTALK], ids=["base", "fixtalk"])
def test_exchanging_no_map_is_the_plain_animation(config, people):
    model = model_of(config)
    source, motion = model.encode_source(people[0]), model.motion(people[1])

    frames = animate_with_driver_maps(model, source, motion, encoder_maps(model, people[1]), ())

    assert torch.equal(frames, model.animate(source, motion))


@torch.no_grad()
@pytest.mark.parametrize("side", MAP_SIDES)
def test_one_exchanged_map_changes_the_frames_and_leaves_the_model_as_it_was(side, people):
    model = model_of(TINY)
    source, motion = model.encode_source(people[0]), model.motion(people[1])
    before = model.animate(source, motion)

    frames = animate_with_driver_maps(
        model, source, motion, encoder_maps(model, people[1]), (side,)
    )

    assert (frames - before).abs().max() > 1e-3
    assert torch.equal(model.animate(source, motion), before)


@torch.no_grad()
def test_without_a_warp_all_maps_of_the_driver_show_the_driver(people):
    model = model_of(TINY, moving=False)
    source, motion = model.encode_source(people[0]), model.motion(people[1])
    driver = replace(source, maps=model.encode_source(people[1]).maps)

    frames = animate_with_driver_maps(
        model, source, motion, encoder_maps(model, people[1]), MAP_SIDES
    )

    torch.testing.assert_close(frames, model.animate(driver, motion), atol=1e-4, rtol=0)


@torch.no_grad()
def test_the_warp_is_off_where_a_map_is_exchanged(people):
    model = model_of(TINY)
    still = model_of(TINY, moving=False)
    still.load_state_dict(model.state_dict())
    for stage in still.backbone.generator.stages:
        stage.warp.conv.weight[:2] = 0  # no flow, the same mask
    source, motion = model.encode_source(people[0]), model.motion(people[1])

    frames = animate_with_driver_maps(
        model, source, motion, encoder_maps(model, people[0]), MAP_SIDES
    )

    torch.testing.assert_close(frames, still.animate(source, motion), atol=1e-4, rtol=0)
    assert (frames - model.animate(source, motion)).abs().max() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("side", [4, *MAP_SIDES])
def test_statistics_of_the_driver_itself_change_no_motion(side, people):
    model = model_of(TINY)
    own = encoder_maps(model, people[1])[side]

    motion = motion_with_statistics(model, people[1], side, own)

    for changed, plain in zip(motion, model.motion(people[1]), strict=True):
        torch.testing.assert_close(changed, plain, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_the_next_layer_sees_the_statistics_of_the_other_map(people):
    model = model_of(TINY)
    like = encoder_maps(model, people[0])[16]
    seen = []
    hook = model.backbone.encoder.blocks[2].register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0])
    )

    motion_with_statistics(model, people[1], 16, like)
    hook.remove()

    torch.testing.assert_close(seen[0].mean((2, 3)), like.mean((2, 3)), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(seen[0].std((2, 3)), like.std((2, 3)), atol=1e-4, rtol=1e-3)
    assert (seen[0] - like).abs().max() > 0.1


@torch.no_grad()
@pytest.mark.parametrize("side", [4, *MAP_SIDES])
def test_without_any_channel_all_drivers_move_alike(side, people):
    model = model_of(TINY)

    nothing = motion_without_channels(model, people[1], side, slice(0, 0))
    everything = motion_without_channels(model, people[1], side, slice(None))

    assert all(map(torch.equal, nothing, model.motion(people[1])))
    assert torch.equal(everything.pose[0], everything.pose[1])
    assert not torch.equal(everything.pose, nothing.pose)
