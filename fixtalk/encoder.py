"""Frame → identity latent and multi-scale feature maps."""

from itertools import pairwise

from torch import Tensor, nn

from fixtalk.layers import ConvLayer, ResBlock
from fixtalk.shapes import Float

CHANNELS_TIMES_SIDE = 16384  # of the published model, wherever that is below its widest


def channels(resolution: int, width: float, widest: int) -> dict[int, int]:
    """Number of channels of each square map, from 4 px up: halved with every doubling.

    Args:
        resolution: side of the largest map, in pixels.
        width: multiplier of the published table.
        widest: number that no map exceeds.

    Source: LIA and EDTalk, released code: width 1 and widest 512 give 512 up to 32 px, 256 at
    64 px, ..., 32 at 512 px.
    """
    sides = [4]
    while sides[-1] < resolution:
        sides.append(2 * sides[-1])
    return {side: max(4, min(widest, round(CHANNELS_TIMES_SIDE * width / side))) for side in sides}


class Encoder(nn.Module):
    """LIA's appearance network: residual blocks down to 4 px, then one 4×4 convolution."""

    def __init__(self, channels: dict[int, int], latent: int) -> None:
        super().__init__()
        counts = [channels[side] for side in sorted(channels, reverse=True)]
        self.stem = ConvLayer(3, counts[0], 1)
        self.blocks = nn.ModuleList(ResBlock(a, b) for a, b in pairwise(counts))
        self.head = ConvLayer(counts[-1], latent, 4, padding=0, activate=False)

    def forward(
        self, frames: Float[Tensor, "batch 3 height width"]
    ) -> tuple[Float[Tensor, "batch latent"], list[Tensor]]:
        """The latent, and the maps from 8×8 up to the frame's size, coarse first."""
        maps = [self.stem(frames)]
        for block in self.blocks:
            maps.append(block(maps[-1]))
        latent = self.head(maps[-1]).flatten(1)
        return latent, maps[-2::-1]
