"""Layers → the same layers in the release's order of operations, hence with its very roundings.

With weights drawn at random EDTalk's warps amplify a rounding error about a million times: six
scales of noise are sampled where flows point that the scale before has bent. Two programs of equal
mathematics then differ by several hundredths of the output's range, and so does EDTalk's own code
from itself when it runs on two threads. Equal bits need equal operations, on one thread; a frame
costs 1.7 times the CPU time of ours.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from fixtalk.decoupling import Decoupling, Motion
from fixtalk.layers import GAIN, SLOPE, Blur, ConvLayer, ModulatedConv
from fixtalk.model import FixTalk
from fixtalk.shapes import Float


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
    ) -> tuple[Float[Tensor, "batch latent"], Float[Tensor, "batch latent"] | None]:
        """Each direction times its coefficient, then their sum."""
        used = [part for part in motion if part is not None]
        bank = self.bank()[:, : sum(part.shape[1] for part in used)]
        steps = torch.diag_embed(torch.cat(used, 1)) @ bank.T
        if motion.expression is None:
            return steps.sum(1), None
        return steps.sum(1), steps[:, -motion.expression.shape[1] :].sum(1)


_AS_RELEASED = {
    Blur: _Blur,
    ConvLayer: _ConvLayer,
    ModulatedConv: _ModulatedConv,
    Decoupling: _Decoupling,
}


def round_as_released(model: FixTalk, biases: list[Tensor]) -> None:
    """Exchange the arithmetic of a model's layers, in place; weights stay where they are.

    Args:
        model: of EDTalk's weights.
        biases: of the convolution in each expression block, coarse first. The normalisation behind
            it takes them away, all but their rounding.
    """
    for stage, bias in zip(model.backbone.generator.stages, biases, strict=True):
        del stage.enhance.conv.bias  # a buffer in its place stays out of checkpoints
        stage.enhance.conv.register_buffer("bias", bias.float(), persistent=False)
    for module in model.modules():
        module.__class__ = _AS_RELEASED.get(type(module), type(module))
