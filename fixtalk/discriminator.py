"""Frame → realness, and the feature maps it is judged by."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from fixtalk.layers import ConvLayer, EqualLinear, ResBlock, precise
from fixtalk.shapes import Float

GROUP = 4  # frames at most whose spread is compared
COARSEST = 4  # pixels, side of the last map


class Discriminator(nn.Module):
    """StyleGAN2's residual discriminator with a minibatch standard deviation map.

    Source: StyleGAN2, figure 7c; EDTalk, released code.
    """

    def __init__(self, channels: dict[int, int]) -> None:
        super().__init__()
        counts = [channels[side] for side in sorted(channels, reverse=True)]
        self.stem = ConvLayer(3, counts[0], 1)
        self.blocks = nn.ModuleList(ResBlock(a, b) for a, b in pairwise(counts))
        self.conv = ConvLayer(counts[-1] + 1, counts[-1], 3)
        self.hidden = EqualLinear(counts[-1] * 16, counts[-1], activate=True)
        self.output = EqualLinear(counts[-1], 1)

    def forward(
        self, frames: Float[Tensor, "batch 3 height width"], sets: int = 1
    ) -> Float[Tensor, " batch"]:
        """The logit of being real.

        Args:
            frames: to judge.
            sets: how many sets of equal length lie one behind the other, such as real and fake;
                their statistics are kept apart.
        """
        features = self.features(frames)[-1]
        x = torch.cat([features, _batch_deviation(features, sets)], 1)
        x = self.hidden(self.conv(x).flatten(1))
        return precise(self.output(x)[:, 0])

    def features(self, frames: Float[Tensor, "batch 3 height width"]) -> list[Tensor]:
        """The map behind each block, fine first, down to 4 px; smaller frames pass fewer blocks."""
        maps = [self.stem(frames)]
        for block in self.blocks:
            if maps[-1].shape[-1] <= COARSEST:
                break
            maps.append(block(maps[-1]))
        return maps[1:]


def _batch_deviation(x: Float[Tensor, "b c h w"], sets: int) -> Float[Tensor, "b 1 h w"]:
    """Mean standard deviation over groups of neighbours of a set, as a constant map."""
    batch, _, height, width = x.shape
    group = math.gcd(GROUP, batch // sets)
    grouped = precise(x).reshape(batch // group, group, *x.shape[1:])
    deviation = (grouped.var(1, correction=0) + 1e-8).sqrt().mean((1, 2, 3))
    deviation = deviation.repeat_interleave(group)[:, None, None, None]
    return deviation.expand(batch, 1, height, width).to(x.dtype)
