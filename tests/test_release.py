"""EDTalk's released weights: the same outputs as its own code, and nothing lost on the way.

golden/edtalk.npz: outputs of tanshuai0219/EDTalk's generator (torch 2.13.0, CPU, one thread,
2026-11-24) for the weights and pictures of edtalk_weights.py; frames: every fourth (256 px) or
eighth (512 px) pixel.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

import fixtalk
from tests.edtalk_weights import GOLDEN, keys, pictures, seeded

TOLERANCE = 1e-4  # of the range of what is compared


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN / "edtalk.npz")


@pytest.fixture(scope="module")
def released():
    return seeded(keys(256))


def close(found, expected):
    return np.abs(found - expected).max() <= TOLERANCE * np.ptp(expected)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("resolution", [256, 512])
def test_outputs_are_those_of_edtalk(golden, resolution, exact):
    model = fixtalk.load_edtalk(seeded(keys(resolution)), resolution, exact=exact)
    source, lip, pose, expression = pictures(resolution)[:, None]

    with torch.inference_mode():
        frame = model.drive(source, lip, pose, expression)[0]
        appearance = model.encode_source(source).latent[0]
        lips = model.motion(lip).lip[0]

    step = resolution // 64
    assert close(frame[:, ::step, ::step].numpy(), golden[f"frame_{resolution}"])
    assert close(appearance.numpy(), golden[f"appearance_{resolution}"])
    assert close(lips.numpy(), golden[f"lip_{resolution}"])


def test_outputs_are_those_of_edtalk_where_rounding_errors_explode():
    # weights drawn without care amplify a rounding error a million times: only equal bits do
    shared = Path(os.environ.get("FIXTALK_SHARED", GOLDEN.parents[2].parent / "shared"))
    if not (shared / "parity").is_dir():
        pytest.skip(f"no outputs of EDTalk at {shared / 'parity'}: set FIXTALK_SHARED")
    recorded = np.load(shared / "parity" / "edtalk_256.npz")
    frames = {
        name: torch.from_numpy(recorded[name])[None]
        for name in ("source", "lip", "pose", "expression")
    }
    model = fixtalk.load_edtalk(seeded(keys(256), flow=1.0))

    with torch.inference_mode():
        frame = model.drive(**frames)[0]
        motions = {name: getattr(model.motion(frames[name]), name)[0] for name in list(frames)[1:]}
        appearance = model.encode_source(frames["source"]).latent

    assert close(frame.numpy(), recorded["frame"])
    assert close(appearance.numpy(), recorded["appearance"])
    for name, alpha in (("lip", "lip"), ("pose", "pose"), ("expression", "exp")):
        assert close(motions[name].numpy(), recorded[f"alpha_{alpha}"][0])


def test_file_that_wraps_the_generator_is_read_as_well(released):
    wrapped = fixtalk.load_edtalk({"gen": released})

    for name, tensor in fixtalk.load_edtalk(released).state_dict().items():
        assert torch.equal(tensor, wrapped.state_dict()[name])


def test_loaded_weights_survive_a_checkpoint(released, tmp_path):
    from fixtalk.checkpoint import save_checkpoint

    save_checkpoint(fixtalk.load_edtalk(released), tmp_path, {})

    loaded = fixtalk.load_checkpoint(tmp_path)

    quick = fixtalk.load_edtalk(released, exact=False)
    source, lip, pose, expression = pictures(256)[:, None]
    with torch.inference_mode():
        assert torch.equal(
            loaded.drive(source, lip, pose, expression), quick.drive(source, lip, pose, expression)
        )


def test_missing_and_unknown_tensors_are_named(released):
    changed = {name: t for name, t in released.items() if name != "lip_fc.2.bias"}
    changed["eye_fc.0.weight"] = torch.zeros(1)

    with pytest.raises(ValueError, match=r"missing lip_fc.2.bias; unknown eye_fc.0.weight"):
        fixtalk.load_edtalk(changed)


def test_misshapen_tensor_is_named_with_both_shapes(released):
    narrow = released | {"direction_exp.weight": torch.zeros(512, 9)}

    with pytest.raises(ValueError, match=r"direction_exp.weight \(512, 9\) ≠ \(512, 10\)"):
        fixtalk.load_edtalk(narrow)


def test_another_blur_is_refused(released):
    name = "dec.to_flows.1.upsample.kernel"

    with pytest.raises(ValueError, match=f"{name} is another blur"):
        fixtalk.load_edtalk(released | {name: torch.ones(4, 4)})


def test_weights_of_another_resolution_say_which():
    with pytest.raises(ValueError, match="they are of 512 px: pass that as the resolution"):
        fixtalk.load_edtalk(seeded(keys(512)))


def test_full_width_has_the_published_parameter_counts():
    # measured on the release at 256 px; the dead half of the expression blocks is not ours:
    # a convolution, its bias, its norm, and the bias that the norm behind takes away
    from fixtalk.model import FixTalk
    from fixtalk.release import edtalk_config

    with torch.device("meta"):
        model = FixTalk(edtalk_config(256))

    def count(module):
        return sum(p.numel() for p in module.parameters())

    backbone = model.backbone
    assert count(backbone.encoder) == 21_635_648
    heads = {"trunk": 1_050_624, "lip": 535_572, "pose": 528_390, "expression": 530_442}
    assert {name: count(getattr(backbone.decoupling, name)) for name in heads} == heads
    stages = backbone.generator.stages
    widths = [stage.to_rgb.weight.shape[1] for stage in stages]
    dead = sum(9 * c * c + 2 * c + 512 * 128 + 128 + 2 * (128 * c + c) for c in widths)
    assert sum(count(stage.enhance) for stage in stages) + dead == 17_519_744
    assert sum(count(stage.warp) for stage in stages) == 1_023_762
    assert sum(count(stage.to_rgb) + stage.rgb_bias.numel() for stage in stages) == 5_988
    styled = sum(count(stage.up) + count(stage.conv) for stage in stages)
    noise = 2 * len(stages)  # a weight each, which nothing reads
    assert styled + noise == 18_747_596
    assert backbone.decoupling.lip_pose_bank.numel() == 13_312
    assert backbone.decoupling.expression_bank.numel() == 5_120
