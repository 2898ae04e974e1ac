"""Latent and source maps → frame: warp every source map, paint with what was warped."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fixtalk.layers import ConvLayer, ModulatedConv, StyledConv, Upsample, precise
from fixtalk.shapes import Float


class ExpressionEnhancement(nn.Module):
    """EDTalk's AdaIN block: a source map, restyled by the expression latent, is added to it.

    One convolution: the release computes a second one whose result it never reads.

    Source: EDTalk, section 3.3 and released code.
    """

    def __init__(self, count: int, latent: int) -> None:
        super().__init__()
        hidden = latent // 4  # 128 of the published 512
        self.conv = nn.Conv2d(count, count, 3, padding=1, bias=False)
        self.hidden = nn.Linear(latent, hidden)
        self.gamma, self.beta = nn.Linear(hidden, count), nn.Linear(hidden, count)
        for layer, bias in ((self.gamma, -1.0), (self.beta, 0.0)):
            nn.init.zeros_(layer.weight)  # a block adds nothing until it has learned to
            nn.init.constant_(layer.bias, bias)

    def forward(
        self, features: Float[Tensor, "b c h w"], expression: Float[Tensor, "b latent"]
    ) -> Float[Tensor, "b c h w"]:
        """The enhanced map."""
        hidden = F.relu(self.hidden(expression))
        gamma, beta = (layer(hidden)[:, :, None, None] for layer in (self.gamma, self.beta))
        return F.instance_norm(self.conv(features)) * (1 + gamma) + beta + features


class Warp(nn.Module):
    """One resolution's flow and mask, accumulated over the coarser ones; the warped map.

    Source: LIA (arXiv 2203.09043), section 3.2: ToFlow.
    """

    def __init__(self, count: int, latent: int, *, align_corners: bool) -> None:
        super().__init__()
        self.conv = ModulatedConv(count, 3, 1, latent, demodulate=False)
        nn.init.zeros_(self.conv.weight)  # training starts from the undistorted source
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))
        self.upsample = Upsample()
        self.align_corners = align_corners

    def forward(
        self,
        h: Float[Tensor, "b c h w"],
        latent: Float[Tensor, "b latent"],
        features: Float[Tensor, "b c h w"],
        coarser: Float[Tensor, "b 3 h2 w2"] | None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The masked warped map, the mask, the flow (b h w 2 in [-1, 1]) and the raw logits."""
        logits = precise(self.conv(h, latent)) + self.bias
        if coarser is not None:
            logits = logits + self.upsample(coarser)
        height, width = logits.shape[2:]
        lines = (torch.linspace(-1, 1, n, dtype=torch.float64).float() for n in (height, width))
        grid = torch.stack(torch.meshgrid(*lines, indexing="ij")[::-1], -1).to(h.device)
        flow = torch.tanh(logits[:, :2]).permute(0, 2, 3, 1) + grid
        mask = torch.sigmoid(logits[:, 2:]).to(features.dtype)
        warped = F.grid_sample(precise(features), flow, align_corners=self.align_corners)
        return warped * mask, mask, flow, logits


class Stage(nn.Module):
    """One doubling of the generator: two styled convolutions, a warp and a share of RGB."""

    def __init__(self, inputs: int, count: int, latent: int, *, align_corners: bool) -> None:
        super().__init__()
        self.up = StyledConv(inputs, count, latent, upsample=True)
        self.conv = StyledConv(count, count, latent)
        self.enhance = ExpressionEnhancement(count, latent)
        self.warp = Warp(count, latent, align_corners=align_corners)
        self.to_rgb = ConvLayer(count, 3, 1)
        self.rgb_bias = nn.Parameter(torch.zeros(1, 3, 1, 1))


class Generator(nn.Module):
    """LIA's and EDTalk's decoder: flow from the style path, colour from the warped source only."""

    def __init__(self, channels: dict[int, int], latent: int, *, align_corners: bool) -> None:
        super().__init__()
        counts = [channels[side] for side in sorted(channels)]
        self.constant = nn.Parameter(torch.randn(1, counts[0], 4, 4))
        self.first = StyledConv(counts[0], counts[0], latent)
        self.stages = nn.ModuleList(
            Stage(a, b, latent, align_corners=align_corners) for a, b in pairwise(counts)
        )
        self.upsample = Upsample()

    def forward(
        self,
        latent: Float[Tensor, "batch latent"],
        maps: list[Tensor],
        expression: Float[Tensor, "batch latent"],
    ) -> tuple[Float[Tensor, "batch 3 height width"], list[Tensor]]:
        """The frame, unclamped, and the flow of every resolution (b h w 2), coarse first.

        Args:
            latent: identity plus motion.
            maps: the source's feature maps, 8×8 first.
            expression: expression part of the motion latent.
        """
        h = self.first(self.constant.expand(len(latent), -1, -1, -1), latent)
        logits = rgb = None
        flows = []
        for stage, features in zip(self.stages, maps, strict=True):
            h = stage.conv(stage.up(h, latent), latent)
            enhanced = stage.enhance(features, expression)
            warped, mask, flow, logits = stage.warp(h, latent, enhanced, logits)
            h = warped + h * (1 - mask)
            colour = precise(stage.to_rgb(warped)) + stage.rgb_bias
            rgb = colour if rgb is None else colour + self.upsample(rgb)
            flows.append(flow)
        return rgb, flows
