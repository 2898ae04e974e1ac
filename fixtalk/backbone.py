"""What EMI and EDI ask of a reenactment model, whichever it is."""

from collections.abc import Sequence
from typing import Protocol, TypeVar, runtime_checkable

from torch import Tensor

from fixtalk.shapes import Float

Motion = TypeVar("Motion", bound=tuple)


@runtime_checkable
class Backbone(Protocol[Motion]):
    """A model that moves one person's features by another person's motion.

    A motion is a NamedTuple of tensors, batch first.

    EMI replaces the vector that `motion` reads by one of its own, made from the same frame's
    maps. EDI replaces one of the source's maps before `render` sees them.

    Attributes:
        latent: width of that vector, and of the motion latent.
        channels: of the square maps, by their side in pixels.
    """

    latent: int
    channels: dict[int, int]

    def features(
        self, frames: Float[Tensor, "batch 3 height width"]
    ) -> tuple[Float[Tensor, "batch latent"], list[Tensor]]:
        """The vector that tells identity and motion, and the feature maps, coarse first."""
        ...

    def motion(self, vector: Float[Tensor, "batch latent"]) -> Motion:
        """The motion head."""
        ...

    def motion_latent(self, motion: Motion) -> Float[Tensor, "batch latent"]:
        """The motion as one vector: differences of it are what EDI's memory is asked by."""
        ...

    def render(
        self, identity: Float[Tensor, "batch latent"], maps: Sequence[Tensor], motion: Motion
    ) -> tuple[Float[Tensor, "batch 3 height width"], list[Tensor]]:
        """Unclamped frames, and the flow of each resolution (batch h w 2), coarse first."""
        ...
