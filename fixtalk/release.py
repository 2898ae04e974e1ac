"""Weights of the official EDTalk release → our model, tensor by tensor; nothing left over."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from fixtalk.exact import round_as_released
from fixtalk.model import FixTalk, ModelConfig
from fixtalk.shapes import Float

SHOWN = 8  # names that an error lists


def load_edtalk(
    state_dict: Mapping[str, Any], resolution: int = 256, *, exact: bool = True
) -> FixTalk:
    """EDTalk as released, in evaluation mode: the same frames within 1e-4 of their range.

    Args:
        state_dict: of EDTalk's generator, or the file that holds it under "gen".
        resolution: side of its frames in pixels, 256 or 512.
        exact: round as the release does, operation by operation. False takes our own layers:
            equal but for rounding, 1.7 times as fast on a CPU, and the ones to train.

    Raises:
        ValueError: missing, unknown or misshapen tensors, or another blur; lists their names.

    Source: key layout of tanshuai0219/EDTalk.
    """
    model = FixTalk(edtalk_config(resolution))
    given = dict(state_dict.get("gen", state_dict))
    ours = model.state_dict()
    counts = [model.backbone.channels[side] for side in sorted(model.backbone.channels)]
    stages = len(counts) - 1
    names, unread, blurs = (
        dict(pairs) for pairs in (_counterparts(stages), _unread(counts), _blurs(stages))
    )
    _check_names(given, {*names.values(), *unread, *blurs}, resolution)
    shapes = {theirs: tuple(ours[name].shape) for name, theirs in names.items()} | unread
    wrong = [
        f"{name} {tuple(given[name].shape)} ≠ {shape}"
        for name, shape in shapes.items()
        if _squeezed(given[name].shape) != _squeezed(shape)
    ]
    wrong += [f"{name} is another blur" for name in blurs if not _is_blur(given[name], blurs[name])]
    if wrong:
        raise ValueError(f"weights of EDTalk at {resolution} px: {_listed(wrong)}")
    weights = {name: given[theirs].reshape(ours[name].shape) for name, theirs in names.items()}
    head = "backbone.encoder.head.weight"  # equalised at run time there, when initialised here
    weights[head] = weights[head] * (1 / math.sqrt(weights[head][0].numel()))
    model.load_state_dict(weights)
    if exact:
        biases = [given[f"dec.fineadainresblock.{stage}.conv2.bias"] for stage in range(stages)]
        round_as_released(model, biases)
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
            ("hidden", "mlp_shared.0"), ("gamma", "mlp_gamma"), ("beta", "mlp_beta"),
        ):  # fmt: skip
            for kind in ("weight", "bias"):
                yield f"{mine}.enhance.{layer}.{kind}", f"{block}.norm2.{other}.{kind}"


def _styled(mine: str, theirs: str, bias: str) -> Iterator[tuple[str, str]]:
    for name in ("conv.weight", "conv.modulation.weight", "conv.modulation.bias"):
        yield f"{mine}.{name}", f"{theirs}.{name}"
    yield f"{mine}.bias", f"{theirs}.{bias}"


def _unread(counts: list[int]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of what the release stores and its forward pass never reads.

    A first colour layer, noise that nobody passes in, half of each expression block, and a bias
    that the normalisation behind it takes away.
    """
    yield "dec.to_rgb1.conv.0.weight", (3, counts[0], 1, 1)
    yield "dec.to_rgb1.conv.1.bias", (3,)
    yield "dec.to_rgb1.bias", (3,)
    yield "dec.conv1.noise.weight", (1,)
    for stage, count in enumerate(counts[1:]):
        for layer in (2 * stage, 2 * stage + 1):
            yield f"dec.convs.{layer}.noise.weight", (1,)
        block = f"dec.fineadainresblock.{stage}"
        yield f"{block}.conv1.weight", (count, count, 3, 3)
        yield f"{block}.conv1.bias", (count,)
        yield f"{block}.conv2.bias", (count,)
        for layer, shape in (
            ("mlp_shared.0", (128, 512)), ("mlp_gamma", (count, 128)), ("mlp_beta", (count, 128)),
        ):  # fmt: skip
            yield f"{block}.norm1.{layer}.weight", shape
            yield f"{block}.norm1.{layer}.bias", shape[:1]


def _blurs(stages: int) -> Iterator[tuple[str, int]]:
    """Name and gain of the blur kernels that the release stores."""
    for stage in range(stages):
        for layer in ("conv2", "skip"):
            yield f"enc.net_app.convs.{stage + 1}.{layer}.0.kernel", 1
        for layer in (f"convs.{2 * stage}.conv.blur", f"to_rgbs.{stage}.upsample"):
            yield f"dec.{layer}.kernel", 4
        yield f"dec.to_flows.{stage}.upsample.kernel", 4


def _check_names(given: Mapping[str, Tensor], wanted: set[str], resolution: int) -> None:
    problems = [
        f"{kind} {_listed(sorted(names))}"
        for kind, names in (("missing", wanted - set(given)), ("unknown", set(given) - wanted))
        if names
    ]
    if not problems:
        return
    flows = sum(re.fullmatch(r"dec\.to_flows\.\d+\.bias", name) is not None for name in given)
    hint = ""
    if flows and flows != math.log2(resolution) - 2:
        hint = f"; they are of {2 ** (flows + 2)} px: pass that as the resolution"
    raise ValueError(f"weights of EDTalk at {resolution} px: {'; '.join(problems)}{hint}")


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _squeezed(shape: Iterable[int]) -> list[int]:
    """Lengths of its axes above 1: the release keeps biases as maps of one pixel."""
    return [length for length in shape if length > 1]


def _is_blur(kernel: Float[Tensor, "..."], gain: int) -> bool:
    """Whether a stored kernel is the binomial one that our layers have built in."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    blur = gain * torch.outer(taps, taps)
    return kernel.shape == blur.shape and torch.allclose(kernel.float(), blur, atol=1e-6)
