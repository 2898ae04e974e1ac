"""Weights of the official EDTalk release → our model, tensor by tensor; nothing left over.

With weights drawn at random EDTalk's warps amplify a rounding error about a million times: six
scales of noise are sampled where flows point that the scale before has bent. Two programs of equal
mathematics then differ by several hundredths of the output's range, and so does EDTalk's own code
from itself when it runs on two threads. Equal bits need equal operations, on one thread; a frame
costs 1.7 times the CPU time of ours.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fixtalk.decoupling import Decoupling, Motion
from fixtalk.layers import GAIN, SLOPE, Blur, ConvLayer, ModulatedConv
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
            equal but for rounding, 1.7 times as fast on a CPU, and the ones to train. A saved
            model comes back in those.

    Raises:
        ValueError: missing, unknown or misshapen tensors, or another blur; lists their names.

    Source: key layout of tanshuai0219/EDTalk.
    """
    model = FixTalk(edtalk_config(resolution))
    given = {name: tensor.cpu() for name, tensor in state_dict.get("gen", state_dict).items()}
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
    model.load_state_dict(weights)
    if exact:
        biases = [given[f"dec.fineadainresblock.{stage}.conv2.bias"] for stage in range(stages)]
        _round_as_released(model, biases)
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


class _Blur(Blur):
    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
        """One pass with the two-dimensional kernel."""
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0], device=x.device)
        kernel = taps[None, :] * taps[:, None]
        kernel = kernel / kernel.sum() * round(float(self.taps.sum()) ** 2)
        batch, channels, height, width = x.shape
        x = F.pad(x.reshape(-1, 1, height, width), self.padding)
        x = F.conv2d(x, kernel[None, None])
        return x.view(batch, channels, *x.shape[2:])


class _ConvLayer(ConvLayer):
    def forward(self, x: Float[Tensor, "b inputs h w"]) -> Float[Tensor, "b outputs h2 w2"]:
        """The bias comes after the convolution."""
        x = x if self.blur is None else self.blur(x)
        x = F.conv2d(x, self.weight * self.scale, None, self.stride, self.padding)
        if not self.activate:
            return x
        return F.leaky_relu(x + self.bias[None, :, None, None], SLOPE) * GAIN


class _ModulatedConv(ModulatedConv):
    def forward(
        self, x: Float[Tensor, "b inputs h w"], latent: Float[Tensor, "b style"]
    ) -> Float[Tensor, "b outputs h2 w2"]:
        """The style scales the weights of each sample, not its input."""
        batch, inputs, height, width = x.shape
        style = self.modulation(latent).view(batch, 1, inputs, 1, 1)
        weight = self.scale * self.weight[None] * style
        if self.demodulate:
            weight = weight * (weight.pow(2).sum([2, 3, 4], keepdim=True) + 1e-8).rsqrt()
        x = x.reshape(1, batch * inputs, height, width)
        if self.blur is None:
            x = F.conv2d(x, weight.flatten(0, 1), padding=self.padding, groups=batch)
            return x.view(batch, -1, *x.shape[2:])
        weight = weight.transpose(1, 2).flatten(0, 1)
        x = F.conv_transpose2d(x, weight, stride=2, groups=batch)
        return self.blur(x.view(batch, -1, *x.shape[2:]))


class _Decoupling(Decoupling):
    def forward(self, latent: Float[Tensor, "batch latent"]) -> Motion:
        """Layer by layer, at inference too."""
        return self.layer_by_layer(latent)

    def latents(
        self, motion: Motion
    ) -> tuple[Float[Tensor, "batch latent"], Float[Tensor, "batch latent"]]:
        """Each direction times its coefficient, then their sum."""
        steps = torch.diag_embed(torch.cat(motion, 1)) @ self.bank().T
        return steps.sum(1), steps[:, -motion.expression.shape[1] :].sum(1)


_AS_RELEASED = {
    Blur: _Blur,
    ConvLayer: _ConvLayer,
    ModulatedConv: _ModulatedConv,
    Decoupling: _Decoupling,
}


def _round_as_released(model: FixTalk, biases: list[Tensor]) -> None:
    """Exchange the arithmetic of the layers, in place; weights stay where they are.

    The biases belong to the convolutions of the expression blocks, coarse first. The normalisation
    behind them takes them away, all but their rounding.
    """
    for stage, bias in zip(model.backbone.generator.stages, biases, strict=True):
        del stage.enhance.conv.bias  # a buffer in its place stays out of checkpoints
        stage.enhance.conv.register_buffer("bias", bias.float(), persistent=False)
    for module in model.modules():
        module.__class__ = _AS_RELEASED.get(type(module), type(module))
