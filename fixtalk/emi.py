"""Feature maps of a frame → its motion without its identity: the Enhanced Motion Indicator."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from fixtalk.layers import EqualLinear, precise
from fixtalk.shapes import Float
from fixtalk.strict import STRICT


@dataclass(frozen=True, kw_only=True)
class EMIConfig:
    """Size of the motion extractor P."""

    __pydantic_config__: ClassVar[dict] = STRICT

    layers: int  # N: cross-attention and feed-forward, 4 proposed
    queries: int  # K, 8 proposed
    heads: int  # of the attention, 8 proposed
    hidden: int  # of the feed-forward networks, 1024 proposed

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise ValueError(f"emi.{name} {value}: choose at least 1")


class QueryAttention(nn.Module):
    """Multi-head attention of a few queries to many tokens, both normalised before it.

    Keys and values are never made: q·(Wx) = (Wᵀq)·x and Σa(Wx) = W(Σax), so the queries' side
    is projected instead. The numbers are the same; for 8 queries to 1024 tokens it is a
    sixth of the work.

    Raises:
        ValueError: the heads do not divide the width.

    Source: Vaswani et al. 2017, section 3.2.2; the order of products is ours.
    """

    def __init__(self, width: int, token_width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"emi.heads {heads}: choose a divisor of the latent's width {width}")
        self.query_norm, self.token_norm = nn.LayerNorm(width), nn.LayerNorm(token_width)
        self.query, self.out = EqualLinear(width, width), EqualLinear(width, width)
        # without biases: one of the keys cancels in the softmax, one of the values is in `out`
        self.key = nn.Parameter(torch.randn(heads, width // heads, token_width))
        self.value = nn.Parameter(torch.randn(heads, width // heads, token_width))
        self.scale = token_width**-0.5  # as in EqualLinear
        self.sharpness = (width // heads) ** -0.5

    def forward(
        self, queries: Float[Tensor, "b n width"], tokens: Float[Tensor, "b m token_width"]
    ) -> Float[Tensor, "b n width"]:
        """What to add to each query."""
        tokens = self.token_norm(tokens)
        asked = self.query(self.query_norm(queries)).unflatten(2, (len(self.key), -1))
        asked = torch.einsum("bnhd,hdt->bhnt", asked, self.key * self.scale)
        scores = precise(torch.einsum("bhnt,bmt->bhnm", asked, tokens)) * self.sharpness
        seen = torch.einsum("bhnm,bmt->bhnt", scores.softmax(3), tokens)
        return self.out(torch.einsum("bhnt,hdt->bnhd", seen, self.value * self.scale).flatten(2))


class ExtractorLayer(nn.Module):
    """Cross-attention and a feed-forward network, each added to the queries.

    Source: FixTalk, P's layer; GELU and the order of normalisation are ours.
    """

    def __init__(self, width: int, token_width: int, config: EMIConfig) -> None:
        super().__init__()
        self.attention = QueryAttention(width, token_width, config.heads)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width),
            EqualLinear(width, config.hidden),
            nn.GELU(),
            EqualLinear(config.hidden, width),
        )

    def forward(
        self, queries: Float[Tensor, "b n width"], tokens: Float[Tensor, "b m token_width"]
    ) -> Float[Tensor, "b n width"]:
        """The queries, with what they found."""
        queries = queries + self.attention(queries, tokens)
        return queries + self.feed_forward(queries)


class EMI(nn.Module):
    """Learned queries read the leak map; with the averages of the other maps they make z.

    The leak map's own average has no part in z: the queries choose what they take from it.

    Args:
        channels: of the maps, by their side; the largest is the frame's.
        side: of the leak map.
        latent: width of z.
        config: size of the extractor.

    Source: FixTalk, section on EMI: P's layers, averages, weighted sum. The positions, the
        projections and p in place of the leak map's average are ours.
    """

    def __init__(self, channels: dict[int, int], side: int, latent: int, config: EMIConfig) -> None:
        super().__init__()
        frame = max(channels)
        self.side = side
        self.sides = [s for s in sorted(channels) if max(8, frame // 32) <= s <= frame // 2]
        self.positions = nn.Parameter(0.02 * torch.randn(side**2, channels[side]))
        self.queries = nn.Parameter(torch.randn(config.queries, latent))
        self.layers = nn.ModuleList(
            ExtractorLayer(latent, channels[side], config) for _ in range(config.layers)
        )
        self.projections = nn.ModuleDict(
            {str(s): EqualLinear(channels[s], latent) for s in self.sides if s != side}
        )
        self.weights = nn.Parameter(torch.zeros(len(self.sides)))

    def forward(self, maps: Sequence[Tensor]) -> Float[Tensor, "batch latent"]:
        """z: what the motion head reads instead of the frame's latent.

        Args:
            maps: of the frame, any order; those of its own size and below a 32nd are not read.
        """
        by_side = {m.shape[-1]: m for m in maps}
        parts = [
            self.extract(by_side[side])
            if side == self.side
            else self.projections[str(side)](by_side[side].mean((2, 3)))
            for side in self.sides
        ]
        return (torch.stack(parts, 2) * self.weights.softmax(0)).sum(2)

    def extract(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b latent"]:
        """p: the mean of P's queries, once they have read the leak map."""
        tokens = features.flatten(2).mT + self.positions
        queries = self.queries.expand(len(tokens), -1, -1)
        for layer in self.layers:
            queries = layer(queries, tokens)
        return queries.mean(1)
