"""What EMI and EDI ask of a reenactment model, and EDTalk, which is FixTalk's."""

from collections.abc import Sequence
from typing import Protocol, TypeVar, runtime_checkable

from torch import Tensor, nn

from fixtalk.decoupling import Decoupling, Motion
from fixtalk.encoder import Encoder
from fixtalk.generator import Generator
from fixtalk.shapes import Float

AnyMotion = TypeVar("AnyMotion", bound=tuple)


@runtime_checkable
class Backbone(Protocol[AnyMotion]):
    """A model that moves one person's features by another person's motion.

    A motion is a NamedTuple of tensors, batch first.

    EMI replaces the code that `motion` reads, else the frame's latent, by one of its own, made from
    the same frame's maps. EDI replaces one of the source's maps before `render` sees them.

    Attributes:
        latent: width of that code, and of the motion latent.
        channels: of the square maps, by their side in pixels.
    """

    latent: int
    channels: dict[int, int]

    def features(
        self, frames: Float[Tensor, "batch 3 height width"]
    ) -> tuple[Float[Tensor, "batch latent"], list[Tensor]]:
        """The latent that tells identity and motion, and the feature maps, coarse first."""
        ...

    def motion(self, code: Float[Tensor, "batch latent"]) -> AnyMotion:
        """The motion head."""
        ...

    def motion_latent(self, motion: AnyMotion) -> Float[Tensor, "batch latent"]:
        """The motion as one vector: differences of it are what EDI's memory is asked by."""
        ...

    def render(
        self, identity: Float[Tensor, "batch latent"], maps: Sequence[Tensor], motion: AnyMotion
    ) -> tuple[Float[Tensor, "batch 3 height width"], list[Tensor]]:
        """Unclamped frames, and the flow of each resolution (batch h w 2), coarse first."""
        ...


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

    def motion(self, code: Float[Tensor, "batch latent"]) -> Motion:
        """Coefficients of lips, pose and expression."""
        return self.decoupling(code)

    def motion_latent(self, motion: Motion) -> Float[Tensor, "batch latent"]:
        """The motion latent Σ αₖqₖ."""
        return self.decoupling.latents(motion)[0]

    def render(
        self, identity: Float[Tensor, "batch latent"], maps: Sequence[Tensor], motion: Motion
    ) -> tuple[Float[Tensor, "batch 3 height width"], list[Tensor]]:
        """Unclamped frames and the flow of each resolution (batch h w 2), coarse first."""
        latent, expression = self.decoupling.latents(motion)
        return self.generator(identity + latent, list(maps), expression)
