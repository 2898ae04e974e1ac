"""Frames → features → frames: EDTalk's encoder, motion banks and warping generator as one."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fixtalk.decoupling import Decoupling, Motion
from fixtalk.encoder import Encoder
from fixtalk.generator import Generator
from fixtalk.shapes import Float


class EDTalk(nn.Module):
    """The backbone of FixTalk.

    Source: EDTalk (arXiv 2404.01647), section 3.
    """

    def __init__(
        self,
        channels: dict[int, int],
        latent: int,
        directions: tuple[int, int, int],
        *,
        align_corners: bool,
    ) -> None:
        super().__init__()
        self.channels, self.latent = channels, latent
        self.encoder = Encoder(channels, latent)
        self.decoupling = Decoupling(latent, *directions)
        self.generator = Generator(channels, latent, align_corners=align_corners)

    def features(
        self, frames: Float[Tensor, "batch 3 height width"]
    ) -> tuple[Float[Tensor, "batch latent"], list[Tensor]]:
        """The latent, and the maps from 8×8 up to the frame's size, coarse first."""
        return self.encoder(frames)

    def motion(self, vector: Float[Tensor, "batch latent"]) -> Motion:
        """Coefficients of lips, pose and expression."""
        return self.decoupling(vector)

    def motion_latent(self, motion: Motion) -> Float[Tensor, "batch latent"]:
        """The motion latent Σ αₖqₖ."""
        return self.decoupling.latents(motion)[0]

    def render(
        self, identity: Float[Tensor, "batch latent"], maps: Sequence[Tensor], motion: Motion
    ) -> tuple[Float[Tensor, "batch 3 height width"], list[Tensor]]:
        """Unclamped frames and the flow of each resolution (batch h w 2), coarse first."""
        latent, expression = self.decoupling.latents(motion)
        return self.generator(identity + latent, list(maps), expression)


def only(motion: Motion, component: str) -> Motion:
    """The motion with all but one component at zero.

    Raises:
        ValueError: no such component.
    """
    if component not in Motion._fields:
        raise ValueError(f"region {component!r}: choose one of {', '.join(Motion._fields)}")
    zeros = {n: torch.zeros_like(getattr(motion, n)) for n in Motion._fields if n != component}
    return motion._replace(**zeros)
