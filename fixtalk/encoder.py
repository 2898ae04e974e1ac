"""Frame → identity latent and multi-scale feature maps."""

from itertools import pairwise

from torch import Tensor, nn

from fixtalk.layers import ConvLayer, ResBlock
from fixtalk.shapes import Float

WIDEST = 512
CHANNELS = {4: 512, 8: 512, 16: 512, 32: 512, 64: 256, 128: 128, 256: 64, 512: 32}


def channels(resolution: int, width: float) -> int:
    """Number of channels of a square map, from LIA's table times the width multiplier.

    Source: LIA and EDTalk, released code (spec: 4-32 px 512, then halved per doubling).
    """
    return max(4, round(CHANNELS[resolution] * width))


class Encoder(nn.Module):
    """LIA's appearance network: residual blocks down to 4 px, then one 4×4 convolution."""

    def __init__(self, resolution: int, width: float, latent: int) -> None:
        super().__init__()
        sides = [resolution]
        while sides[-1] > 4:
            sides.append(sides[-1] // 2)
        counts = [channels(side, width) for side in sides]
        self.stem = ConvLayer(3, counts[0], 1)
        self.blocks = nn.ModuleList(ResBlock(a, b) for a, b in pairwise(counts))
        self.head = nn.Conv2d(counts[-1], latent, 4, bias=False)
        nn.init.normal_(self.head.weight, std=(counts[-1] * 16) ** -0.5)

    def forward(
        self, frames: Float[Tensor, "batch 3 height width"]
    ) -> tuple[Float[Tensor, "batch latent"], list[Tensor]]:
        """The latent, and the maps from 8×8 up to the frame's size, coarse first."""
        maps = [self.stem(frames)]
        for block in self.blocks:
            maps.append(block(maps[-1]))
        latent = self.head(maps[-1]).flatten(1)
        return latent, maps[-2::-1]
