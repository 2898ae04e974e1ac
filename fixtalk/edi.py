"""Source map and motion difference → source map with what the new view shows: EDI."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fixtalk.layers import ConvLayer, EqualLinear, precise
from fixtalk.shapes import Float
from fixtalk.strict import STRICT

COARSEST = 4  # side to which a map is compressed before it becomes one token


@dataclass(frozen=True, kw_only=True)
class EDIConfig:
    """Size of the two memories."""

    __pydantic_config__: ClassVar[dict] = STRICT

    slots: int  # S of each memory, 256 proposed
    sharpness: float  # τ of the addresses, 16 proposed
    heads: int  # of the attention that writes into the map, 8 proposed

    def __post_init__(self) -> None:
        if self.slots < 2:
            raise ValueError(f"edi.slots {self.slots}: choose at least 2, or nothing is addressed")
        if self.sharpness <= 0:
            raise ValueError(f"edi.sharpness {self.sharpness}: choose above 0")
        if self.heads < 1:
            raise ValueError(f"edi.heads {self.heads}: choose at least 1")


class MapAttention(nn.Module):
    """Multi-head attention from the places of one map to those of another.

    Both are normalised before it.

    Raises:
        ValueError: the heads do not divide the channels.

    Source: Vaswani et al. 2017, section 3.2.2.
    """

    def __init__(self, count: int, heads: int) -> None:
        super().__init__()
        if count % heads:
            raise ValueError(f"edi.heads {heads}: choose a divisor of the map's {count} channels")
        self.heads = heads
        self.asking_norm, self.asked_norm = nn.LayerNorm(count), nn.LayerNorm(count)
        self.out = EqualLinear(count, count)
        # of queries, keys and values; the biases of the norms serve for all three
        self.weights = nn.Parameter(torch.randn(3, count, count))

    def forward(
        self, asking: Float[Tensor, "b c h w"], asked: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b c h w"]:
        """What each place of the first map finds in the second."""
        places = self.asking_norm(asking.flatten(2).mT)
        answers = self.asked_norm(asked.flatten(2).mT)
        query, key, value = self.weights * places.shape[-1] ** -0.5  # as in EqualLinear
        projected = F.linear(places, query), F.linear(answers, key), F.linear(answers, value)
        heads = (x.unflatten(2, (self.heads, -1)).transpose(1, 2) for x in projected)
        # its softmax stays in float32 whatever the precision around it
        found = F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
        return self.out(found).mT.unflatten(2, asking.shape[2:])


class EDI(nn.Module):
    """A memory of details that frames of a person show and the source frame may hide.

    In training the driver's own detail addresses the memory (teacher), and source and motion
    learn to address it alike (student). Later only the student does: nothing of a driver but
    its motion gets in.

    Args:
        count: channels of the leak map.
        side: of the leak map, a power of two and at least 8.
        latent: width of tokens, slots and motion.
        config: size.

    Raises:
        ValueError: another side, or heads that do not divide the channels.

    Source: FixTalk, section on EDI; the memories' recipe is that of Visual-Audio-Memory (Kim et
        al. 2021). Layers of Π and Λ, and the gate γ, are ours.
    """

    def __init__(self, count: int, side: int, latent: int, config: EDIConfig) -> None:
        super().__init__()
        if side < 2 * COARSEST or side & (side - 1):
            raise ValueError(f"leak map of side {side}: EDI needs 8, 16, 32 or another power of 2")
        halvings = int(math.log2(side // COARSEST))
        self.sharpness = config.sharpness
        self.compressor = _compressor(count, halvings, latent)  # Π
        self.driver_query = EqualLinear(latent, latent)
        self.source_query = EqualLinear(2 * latent, latent)
        self.details = nn.Parameter(0.5 * torch.randn(config.slots, latent))  # M_d
        self.keys = nn.Parameter(0.5 * torch.randn(config.slots, latent))  # M_ms
        self.decompressor = _decompressor(count, halvings, latent)  # Λ
        self.attention = MapAttention(count, config.heads)
        self.gate = nn.Parameter(torch.zeros(()))  # γ: what is new starts without a say

    def compress(self, features: Float[Tensor, "b c side side"]) -> Float[Tensor, "b latent"]:
        """The token f_π = Π(f) of a leak map."""
        return self.compressor(features)

    def address(
        self, difference: Float[Tensor, "b latent"], token: Float[Tensor, "b latent"]
    ) -> Float[Tensor, "b slots"]:
        """The student's address Ω_ms; rows sum to 1. No gradient reaches the token.

        If Π learned to be easy to find, all tokens would soon be one, and one slot enough.

        Args:
            difference: the driver's minus the source's motion latent.
            token: of the source.
        """
        query = self.source_query(torch.cat([difference, token.detach()], 1))
        return _address(query, self.keys, self.sharpness)

    def teach(self, driver_token: Float[Tensor, "b latent"]) -> Float[Tensor, "b slots"]:
        """The teacher's address Ω_d; rows sum to 1. No gradient reaches the token."""
        query = self.driver_query(driver_token.detach())
        return _address(query, self.details, self.sharpness)

    def read(
        self, address: Float[Tensor, "b slots"], *, learns: bool = True
    ) -> Float[Tensor, "b latent"]:
        """The detail that lies at an address of M_d.

        Args:
            address: teacher's or student's.
            learns: False keeps gradients from M_d. The teacher alone writes it; the student
                learns where to look.

        Source: Visual-Audio-Memory, released code.
        """
        return address @ (self.details if learns else self.details.detach())

    def read_through(
        self, address: Float[Tensor, "b slots"], token: Float[Tensor, "b latent"]
    ) -> Float[Tensor, "b latent"]:
        """What lies at the teacher's address; its gradient reaches the token as well.

        So what helps the frame tells Π what a token should hold.

        Source: van den Oord et al. 2017, section 3.2 (straight-through).
        """
        return self.read(address) + token - token.detach()

    def recall(
        self, difference: Float[Tensor, "b latent"], token: Float[Tensor, "b latent"]
    ) -> Float[Tensor, "b latent"]:
        """The detail that source and motion ask for: all that inference reads."""
        return self.read(self.address(difference, token), learns=False)

    def enrich(
        self, features: Float[Tensor, "b c side side"], token: Float[Tensor, "b latent"]
    ) -> Float[Tensor, "b c side side"]:
        """The leak map with a token's detail: f + γ·MHCA(f, Λ(token)).

        Bit by bit the same map while γ is 0.
        """
        return features + self.gate * self.attention(features, self.decompressor(token))

    def usage(self, address: Float[Tensor, "b slots"]) -> dict[str, Tensor]:
        """How a batch uses the memory.

        Returns:
            slot_entropy: of the mean address in nats, at most log S.
            dead_slots: share of slots whose mean weight is below a tenth of 1/S.
        """
        mean = address.detach().float().mean(0)
        return {
            "slot_entropy": torch.special.entr(mean).sum(),
            "dead_slots": (mean < 0.1 / len(mean)).float().mean(),
        }


def _address(query: Tensor, slots: Tensor, sharpness: float) -> Tensor:
    """Softmax of the cosines to all slots, in float32."""
    with torch.autocast(query.device.type, enabled=False):
        cosine = F.normalize(precise(query), dim=1) @ F.normalize(precise(slots), dim=1).T
        return (sharpness * cosine).softmax(1)


def _compressor(count: int, halvings: int, latent: int) -> nn.Sequential:
    """Π: leak map → token."""
    hidden = count // 2
    return nn.Sequential(
        ConvLayer(count, hidden, 1, activate=False),
        *(
            layer
            for _ in range(halvings)
            for layer in (ConvLayer(hidden, hidden, 3, downsample=True, activate=False),
                          *_normalise(hidden))
        ),
        nn.Flatten(),
        EqualLinear(hidden * COARSEST**2, latent),
    )  # fmt: skip


def _decompressor(count: int, halvings: int, latent: int) -> nn.Sequential:
    """Λ: token → map of the leak map's shape."""
    hidden = count // 2
    return nn.Sequential(
        EqualLinear(latent, hidden * COARSEST**2),
        nn.Unflatten(1, (hidden, COARSEST, COARSEST)),
        *(
            layer
            for _ in range(halvings)
            for layer in (nn.Upsample(scale_factor=2),
                          ConvLayer(hidden, hidden, 3, activate=False), *_normalise(hidden))
        ),
        ConvLayer(hidden, count, 1, activate=False),
    )  # fmt: skip


def _normalise(count: int) -> tuple[nn.Module, nn.Module]:
    """One group: a map keeps which of its channels are strong, and any width will do."""
    return nn.GroupNorm(1, count), nn.LeakyReLU(0.2)
