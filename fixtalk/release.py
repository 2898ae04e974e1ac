"""Weights of the official EDTalk release → our model, tensor by tensor; nothing left over."""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from fixtalk.exact import round_as_released
from fixtalk.model import FixTalk, ModelConfig
from fixtalk.shapes import Float

SHOWN = 8  # names that an error lists
# What the release stores and its forward pass never reads, or what is no weight: the first colour
# layer, noise that nobody passes in, fixed blur kernels, the first half of each expression block,
# and a bias that the normalisation behind it takes away.
UNUSED = re.compile(
    r"dec\.to_rgb1\..+|dec\..+\.noise\.weight|.+\.kernel|"
    r"dec\.fineadainresblock\.\d+\.(conv1\..+|norm1\..+|conv2\.bias)"
)


def load_edtalk(
    state_dict: Mapping[str, Any], resolution: int = 256, *, exact: bool = True
) -> FixTalk:
    """EDTalk as released, in evaluation mode: the same frames within 1e-4 of their range.

    Args:
        state_dict: of EDTalk's generator, or the file that holds it under "gen".
        resolution: side of its frames in pixels, 256 or 512.
        exact: round as the release does, operation by operation. False takes our own layers:
            equal but for rounding, and about three times as fast on a CPU.

    Raises:
        ValueError: missing, unknown or misshapen tensors, or another blur; lists their names.

    Source: key layout of tanshuai0219/EDTalk.
    """
    model = FixTalk(edtalk_config(resolution))
    given = dict(state_dict.get("gen", state_dict))
    ours = model.state_dict()
    names = dict(_counterparts(len(model.backbone.encoder.blocks)))
    _check_names(given, set(names.values()), resolution)
    wrong = [
        f"{theirs} {tuple(given[theirs].shape)} ≠ {tuple(ours[name].shape)}"
        for name, theirs in names.items()
        if _squeezed(given[theirs]) != _squeezed(ours[name])
    ]
    kernels = (name for name in given if name.endswith(".kernel"))
    wrong += [f"{name} is another blur" for name in kernels if not _is_known(name, given[name])]
    if wrong:
        raise ValueError(f"weights of EDTalk at {resolution} px: {_listed(wrong)}")
    weights = {name: given[theirs].reshape(ours[name].shape) for name, theirs in names.items()}
    head = "backbone.encoder.head.weight"  # equalised at run time there, when initialised here
    weights[head] = weights[head] * (1 / math.sqrt(weights[head][0].numel()))
    model.load_state_dict(weights)
    if exact:
        stages = range(len(model.backbone.generator.stages))
        bias = "dec.fineadainresblock.{}.conv2.bias"
        round_as_released(model, [given[bias.format(stage)].float() for stage in stages])
    return model.eval()


def edtalk_config(resolution: int) -> ModelConfig:
    """Architecture of the release."""
    return ModelConfig(
        resolution=resolution,
        width=1.0,
        widest=512,
        latent=512,
        lips=20,
        poses=6,
        expressions=10,
        align_corners=False,
    )


def _counterparts(blocks: int) -> Iterator[tuple[str, str]]:
    """Our name of each tensor, and the release's."""
    encoder, theirs = "backbone.encoder", "enc.net_app.convs"
    yield f"{encoder}.stem.weight", f"{theirs}.0.0.weight"
    yield f"{encoder}.stem.bias", f"{theirs}.0.1.bias"
    for block in range(blocks):
        for mine, other in (
            ("conv1.weight", "conv1.0.weight"), ("conv1.bias", "conv1.1.bias"),
            ("conv2.weight", "conv2.1.weight"), ("conv2.bias", "conv2.2.bias"),
            ("skip.weight", "skip.1.weight"),
        ):  # fmt: skip
            yield f"{encoder}.blocks.{block}.{mine}", f"{theirs}.{block + 1}.{other}"
    yield f"{encoder}.head.weight", f"{theirs}.{blocks + 1}.weight"
    for mine, other, layers in (
        ("trunk", "fc", 4), ("lip", "lip_fc", 3),
        ("pose", "pose_fc", 3), ("expression", "exp_fc", 3),
    ):  # fmt: skip
        for layer in range(layers):
            for kind in ("weight", "bias"):
                yield f"backbone.decoupling.{mine}.{layer}.{kind}", f"{other}.{layer}.{kind}"
    yield "backbone.decoupling.lip_pose_bank", "direction_lipnonlip.weight"
    yield "backbone.decoupling.expression_bank", "direction_exp.weight"
    yield "backbone.generator.constant", "dec.input.input"
    yield from _styled("backbone.generator.first", "dec.conv1", "activate.bias")
    for stage in range(blocks):
        mine = f"backbone.generator.stages.{stage}"
        yield from _styled(f"{mine}.up", f"dec.convs.{2 * stage}", "activate.bias")
        yield from _styled(f"{mine}.conv", f"dec.convs.{2 * stage + 1}", "activate.bias")
        yield from _styled(f"{mine}.warp", f"dec.to_flows.{stage}", "bias")
        yield f"{mine}.to_rgb.weight", f"dec.to_rgbs.{stage}.conv.0.weight"
        yield f"{mine}.to_rgb.bias", f"dec.to_rgbs.{stage}.conv.1.bias"
        yield f"{mine}.rgb_bias", f"dec.to_rgbs.{stage}.bias"
        block = f"dec.fineadainresblock.{stage}"
        yield f"{mine}.enhance.conv.weight", f"{block}.conv2.weight"
        for layer, other in (
            ("hidden", "mlp_shared.0"),
            ("gamma", "mlp_gamma"),
            ("beta", "mlp_beta"),
        ):
            for kind in ("weight", "bias"):
                yield f"{mine}.enhance.{layer}.{kind}", f"{block}.norm2.{other}.{kind}"


def _styled(mine: str, theirs: str, bias: str) -> Iterator[tuple[str, str]]:
    for name in ("conv.weight", "conv.modulation.weight", "conv.modulation.bias"):
        yield f"{mine}.{name}", f"{theirs}.{name}"
    yield f"{mine}.bias", f"{theirs}.{bias}"


def _check_names(given: Mapping[str, Tensor], wanted: set[str], resolution: int) -> None:
    missing = sorted(wanted - set(given))
    unknown = sorted(name for name in set(given) - wanted if not UNUSED.fullmatch(name))
    problems = [f"missing {_listed(missing)}"] * bool(missing)
    problems += [f"unknown {_listed(unknown)}"] * bool(unknown)
    if problems:
        scales = sum(re.fullmatch(r"dec\.to_flows\.\d+\.bias", name) is not None for name in given)
        hint = ""
        if scales and scales != math.log2(resolution) - 2:
            hint = f"; they are of {2 ** (scales + 2)} px: pass that as the resolution"
        raise ValueError(f"weights of EDTalk at {resolution} px: {'; '.join(problems)}{hint}")


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _squeezed(tensor: Tensor) -> list[int]:
    """Its shape without axes of length 1."""
    return [length for length in tensor.shape if length > 1]


def _is_known(name: str, kernel: Float[Tensor, "..."]) -> bool:
    """Whether a stored kernel is the binomial blur that our layers have built in."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    gain = 4 if re.search(r"upsample|dec\.convs", name) else 1
    blur = gain * torch.outer(taps, taps)
    return kernel.shape == blur.shape and torch.allclose(kernel.float(), blur, atol=1e-6)
