"""Feature map → feature map: the StyleGAN2 blocks that LIA and EDTalk are built from."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fixtalk.shapes import Float

SLOPE = 0.2
GAIN = math.sqrt(2)


def precise(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The tensor in float32 at least: what autocast to bfloat16 must not round."""
    return x if x.dtype == torch.float64 else x.float()


def leaky_relu(x: Float[Tensor, "batch channels ..."]) -> Float[Tensor, "batch channels ..."]:
    """Leaky ReLU of slope 0.2 times √2, which keeps the variance of the input.

    Source: Karras et al. 2020 (StyleGAN2), released code.
    """
    return F.leaky_relu(x, SLOPE) * GAIN


class EqualLinear(nn.Module):
    """Linear layer whose N(0, 1) weights are scaled by 1/√inputs at run time.

    Source: Karras et al. 2018, section 4.1 (equalised learning rate).
    """

    def __init__(
        self, inputs: int, outputs: int, *, bias: float | None = 0.0, activate: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs))
        self.bias = None if bias is None else nn.Parameter(torch.full((outputs,), bias))
        self.scale = 1 / math.sqrt(inputs)
        self.activate = activate

    def forward(self, x: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        """The affine map, followed by the leaky ReLU where asked for."""
        x = F.linear(x, self.weight * self.scale, self.bias)
        return leaky_relu(x) if self.activate else x


class Blur(nn.Module):
    """Low-pass filter by the binomial [1, 3, 3, 1], as two one-dimensional passes.

    Args:
        before, after: zero padding in front of and behind each axis.
        gain: factor on the sum of the 2-D kernel (4 behind an up-sampling by 2).

    Source: equal to StyleGAN2's upfirdn2d with a 4-tap kernel.
    """

    def __init__(self, before: int, after: int, gain: float = 1.0) -> None:
        super().__init__()
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8 * math.sqrt(gain)
        self.register_buffer("taps", taps, persistent=False)
        self.padding = (before, after, before, after)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
        """The filtered map; each axis grows by before + after - 3."""
        channels = x.shape[1]
        taps = self.taps.to(x.dtype).expand(channels, 1, 1, 4)
        x = F.pad(x, self.padding)
        x = F.conv2d(x, taps, groups=channels)
        return F.conv2d(x, taps.transpose(2, 3), groups=channels)


class ConvLayer(nn.Module):
    """Equalised convolution, blurred where it halves the map.

    Args:
        inputs, outputs: channels.
        kernel: side.
        padding: None keeps the size of the map at a stride of 1; not for `downsample`.
        stride: of rows and columns; not for `downsample`.
        downsample: halve the map, blurred before.
        activate: bias and leaky ReLU.

    Source: StyleGAN2 discriminator blocks; LIA's encoder.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        padding: int | None = None,
        stride: int | tuple[int, int] = 1,
        downsample: bool = False,
        activate: bool = True,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if activate else None
        self.scale = 1 / math.sqrt(inputs * kernel**2)
        taken = (4 - 2) + (kernel - 1)  # by a 4-tap blur and a stride of 2
        self.blur = Blur((taken + 1) // 2, taken // 2) if downsample else None
        same = kernel // 2 if padding is None else padding
        self.stride, self.padding = (2, 0) if downsample else (stride, same)
        self.activate = activate

    def forward(self, x: Float[Tensor, "b inputs h w"]) -> Float[Tensor, "b outputs h2 w2"]:
        """The convolved map, smaller by the stride."""
        if self.blur is not None:
            x = self.blur(x)
        x = F.conv2d(x, self.weight * self.scale, self.bias, self.stride, self.padding)
        return leaky_relu(x) if self.activate else x


class ResBlock(nn.Module):
    """Two convolutions that halve the map, beside a linear skip.

    Source: StyleGAN2, figure 7c.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = ConvLayer(inputs, inputs, 3)
        self.conv2 = ConvLayer(inputs, outputs, 3, downsample=True)
        self.skip = ConvLayer(inputs, outputs, 1, downsample=True, activate=False)

    def forward(self, x: Float[Tensor, "b inputs h w"]) -> Float[Tensor, "b outputs h2 w2"]:
        """The map at half the resolution."""
        return (self.conv2(self.conv1(x)) + self.skip(x)) / GAIN


class ModulatedConv(nn.Module):
    """Convolution whose input channels are scaled by a style, demodulated to unit variance.

    The style scales the input and the demodulation the output, which equals scaling the
    weights per sample but keeps one plain convolution for the whole batch.

    Args:
        style: width of the latent.
        upsample: double the map by a transposed convolution and a blur.
        demodulate: divide each output channel by the norm of its scaled weights.

    Source: StyleGAN2, section 2.2, equations 1 and 3.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        style: int,
        *,
        upsample: bool = False,
        demodulate: bool = True,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.modulation = EqualLinear(style, inputs, bias=1.0)
        self.scale = 1 / math.sqrt(inputs * kernel**2)
        self.blur = Blur(1, 1, gain=4.0) if upsample else None
        self.demodulate = demodulate
        self.padding = kernel // 2

    def forward(
        self, x: Float[Tensor, "b inputs h w"], latent: Float[Tensor, "b style"]
    ) -> Float[Tensor, "b outputs h2 w2"]:
        """The styled map, twice as large where the layer up-samples."""
        style = self.modulation(latent)
        weight = self.weight * self.scale
        x = x * style[:, :, None, None].to(x.dtype)
        if self.blur is not None:
            x = self.blur(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2))
        else:
            x = F.conv2d(x, weight, padding=self.padding)
        if self.demodulate:
            energy = precise(style).square() @ precise(weight).square().sum((2, 3)).T
            x = x * torch.rsqrt(energy + 1e-8)[:, :, None, None].to(x.dtype)
        return x


class StyledConv(nn.Module):
    """Modulated convolution, bias and activation.

    Source: StyleGAN2, figure 2c, without its noise input (EDTalk passes none).
    """

    def __init__(self, inputs: int, outputs: int, style: int, *, upsample: bool = False) -> None:
        super().__init__()
        self.conv = ModulatedConv(inputs, outputs, 3, style, upsample=upsample)
        self.bias = nn.Parameter(torch.zeros(1, outputs, 1, 1))

    def forward(
        self, x: Float[Tensor, "b inputs h w"], latent: Float[Tensor, "b style"]
    ) -> Float[Tensor, "b outputs h2 w2"]:
        """The styled and activated map."""
        x = self.conv(x, latent)
        return leaky_relu(x + self.bias.to(x.dtype))


class Upsample(nn.Module):
    """Map of double size: zeros between the samples, then a blur of gain 4.

    Source: StyleGAN2's skip connection (figure 7b).
    """

    def __init__(self) -> None:
        super().__init__()
        self.blur = Blur(2, 1, gain=4.0)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
        """The smooth map at twice the resolution."""
        batch, channels, height, width = x.shape
        spread = x.new_zeros(batch, channels, height, 2, width, 2)
        spread[:, :, :, 0, :, 0] = x
        return self.blur(spread.reshape(batch, channels, 2 * height, 2 * width))


def equalised(network: nn.Module) -> set[nn.Parameter]:
    """Weights that are scaled at run time, most of them of variance 1: of all layers here."""
    kinds = (EqualLinear, ConvLayer, ModulatedConv)
    return {layer.weight for layer in network.modules() if isinstance(layer, kinds)}
