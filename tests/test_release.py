"""EDTalk's released weights: the same outputs as its own code, and nothing lost on the way.

golden/edtalk.npz: outputs of tanshuai0219/EDTalk's generator (torch 2.13.0, CPU, one thread,
2026-11-24) for the weights and pictures of edtalk_weights.py; frames: every fourth (256 px) or
eighth (512 px) pixel.
"""

import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

import fixtalk
from fixtalk.checkpoint import save_checkpoint
from fixtalk.model import FixTalk
from fixtalk.release import edtalk_config
from tests.conftest import shared
from tests.edtalk_weights import GOLDEN, keys, pictures, seeded

TOLERANCE = 1e-4  # of the range of what is compared


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN / "edtalk.npz")


@pytest.fixture(scope="module")
def drawn():
    """Resolution → weights in the release's layout, drawn once."""
    return cache(lambda resolution: seeded(keys(resolution)))


@pytest.fixture(scope="module")
def released(drawn):
    return drawn(256)


def close(found, expected):
    return np.abs(found - expected).max() <= TOLERANCE * np.ptp(expected)


@pytest.mark.parametrize(("resolution", "exact"), [(256, True), (256, False), (512, False)])
def test_outputs_are_those_of_edtalk(golden, drawn, resolution, exact):
    model = fixtalk.load_edtalk(drawn(resolution), resolution, exact=exact)
    source, lip, pose, expression = pictures(resolution)[:, None]

    with torch.inference_mode():
        frame = model.drive(source, lip, pose, expression)[0]
        appearance = model.encode_source(source).latent[0]
        lips = model.motion(lip).lip[0]

    step = resolution // 64
    assert close(frame[:, ::step, ::step].numpy(), golden[f"frame_{resolution}"])
    assert close(appearance.numpy(), golden[f"appearance_{resolution}"])
    assert close(lips.numpy(), golden[f"lip_{resolution}"])


@pytest.fixture(scope="module")
def exploding():
    """The shared outputs of weights drawn without care, and the model with those weights.

    Its warps amplify a rounding error of some pixels a million times: only equal bits give equal
    frames. What it reads from frames is not amplified.
    """
    recorded = np.load(shared("parity") / "edtalk_256.npz")
    return recorded, fixtalk.load_edtalk(seeded(keys(256), flow=1.0))


def recorded_frames(recorded):
    names = ("source", "lip", "pose", "expression")
    return {name: torch.from_numpy(recorded[name])[None] for name in names}


@pytest.fixture(scope="module")
def exploded(exploding):
    """The frame that this model makes of the recorded ones."""
    recorded, model = exploding
    with torch.inference_mode():
        return model.drive(**recorded_frames(recorded))[0].numpy()


def test_what_is_read_from_frames_is_as_shared_on_every_cpu(exploding):
    recorded, model = exploding
    frames = recorded_frames(recorded)

    with torch.inference_mode():
        motions = {name: getattr(model.motion(frames[name]), name)[0] for name in list(frames)[1:]}
        appearance = model.encode_source(frames["source"]).latent

    assert close(appearance.numpy(), recorded["appearance"])
    for name, alpha in (("lip", "lip"), ("pose", "pose"), ("expression", "exp")):
        assert close(motions[name].numpy(), recorded[f"alpha_{alpha}"][0])


def test_most_pixels_are_as_shared_on_every_cpu(exploding, exploded):
    wanted = exploding[0]["frame"]

    assert np.median(np.abs(exploded - wanted)) <= TOLERANCE * np.ptp(wanted)


def rounds_as_recorded():
    """Whether this is the kind of CPU that the shared outputs were made on."""
    cpu = Path("/proc/cpuinfo")
    is_amd = cpu.is_file() and "AuthenticAMD" in cpu.read_text()
    return is_amd and torch.backends.cpu.get_cpu_capability() == "AVX512"


@pytest.mark.skipif(
    not rounds_as_recorded(), reason="bits of an AMD EPYC with AVX-512: this CPU rounds otherwise"
)
def test_frames_are_those_of_edtalk_where_rounding_errors_explode(exploding, exploded):
    assert close(exploded, exploding[0]["frame"])


def test_file_that_wraps_the_generator_is_read_as_well(released):
    wrapped = fixtalk.load_edtalk({"gen": released})

    for name, tensor in fixtalk.load_edtalk(released).state_dict().items():
        assert torch.equal(tensor, wrapped.state_dict()[name])


def test_loaded_weights_survive_a_checkpoint(released, tmp_path):
    model = fixtalk.load_edtalk(released)
    save_checkpoint(model, tmp_path, {})

    loaded = fixtalk.load_checkpoint(tmp_path)

    ours = fixtalk.load_edtalk(released, exact=False)
    assert loaded.config == model.config
    assert [type(m) for m in loaded.modules()] == [type(m) for m in ours.modules()]
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name])


def test_missing_and_unknown_tensors_are_named(released):
    changed = {name: t for name, t in released.items() if name != "lip_fc.2.bias"}
    changed["eye_fc.0.weight"] = torch.zeros(1)

    with pytest.raises(ValueError, match=r"missing lip_fc.2.bias; unknown eye_fc.0.weight"):
        fixtalk.load_edtalk(changed)


def test_long_lists_of_names_are_shortened(released):
    encoder = {name: t for name, t in released.items() if name.startswith("enc.")}

    with pytest.raises(ValueError, match=r"missing dec\..+ and \d+ more$"):
        fixtalk.load_edtalk(encoder)


@pytest.mark.parametrize(
    ("name", "wrong", "right"),
    [
        ("direction_exp.weight", (512, 9), r"\(512, 10\)"),
        ("dec.fineadainresblock.5.conv1.bias", (65,), r"\(64,\)"),  # stored, though never read
    ],
)
def test_misshapen_tensor_is_named_with_both_shapes(released, name, wrong, right):
    with pytest.raises(ValueError, match=rf"{name} {re.escape(str(wrong))} ≠ {right}"):
        fixtalk.load_edtalk(released | {name: torch.zeros(wrong)})


def test_another_blur_is_refused(released):
    name = "dec.to_flows.1.upsample.kernel"

    with pytest.raises(ValueError, match=f"{name} is another blur"):
        fixtalk.load_edtalk(released | {name: torch.ones(4, 4)})


def test_weights_of_another_resolution_say_which(drawn):
    with pytest.raises(ValueError, match="they are of 512 px: pass that as the resolution"):
        fixtalk.load_edtalk(drawn(512))


@pytest.mark.parametrize(
    ("resolution", "total", "encoder", "styled", "warps", "colours", "enhancements"),
    [
        (256, 64_228_397, 21_635_648, 18_747_596, 1_023_762, 5_988, 17_519_744),
        (512, 64_517_976, 21_665_312, 18_824_558, 1_040_277, 6_090, 17_686_080),
    ],
)
def test_full_width_has_the_published_parameter_counts(
    resolution, total, encoder, styled, warps, colours, enhancements
):
    # counted on the release; what it never reads is not ours: half of each expression block and a
    # bias in the other half, one weight of noise a styled convolution, a first colour layer
    with torch.device("meta"):
        backbone = FixTalk(edtalk_config(resolution)).backbone
    heads = {"trunk": 1_050_624, "lip": 535_572, "pose": 528_390, "expression": 530_442}
    stages = backbone.generator.stages
    widths = [stage.to_rgb.weight.shape[1] for stage in stages]
    dead = sum(9 * c * c + 2 * c + 512 * 128 + 128 + 2 * (128 * c + c) for c in widths)
    noise = 2 * len(stages)

    def count(module):
        return sum(p.numel() for p in module.parameters())

    assert count(backbone.encoder) == encoder
    assert {name: count(getattr(backbone.decoupling, name)) for name in heads} == heads
    assert backbone.decoupling.lip_pose_bank.numel() == 13_312
    assert backbone.decoupling.expression_bank.numel() == 5_120
    assert sum(count(stage.up) + count(stage.conv) for stage in stages) + noise == styled
    assert sum(count(stage.warp) for stage in stages) == warps
    assert sum(count(stage.to_rgb) + stage.rgb_bias.numel() for stage in stages) == colours
    assert sum(count(stage.enhance) for stage in stages) + dead == enhancements
    assert count(backbone) + dead + noise + 1 + 1_542 == total
