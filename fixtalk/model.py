"""Source frame and driver frames → the source person in the drivers' motion."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from fixtalk.decoupling import Decoupling, Motion
from fixtalk.encoder import Encoder, channels
from fixtalk.generator import Generator
from fixtalk.shapes import Float

RESOLUTIONS = (64, 128, 256, 512)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Architecture of a model: stored in its checkpoint, enough to build it again."""

    __pydantic_config__: ClassVar[dict] = {"extra": "forbid", "strict": True}

    resolution: int  # pixels, side of a frame: 64, 128, 256 or 512
    width: float  # multiplier of LIA's channel table; 1.0 is the published model
    widest: int  # channels that no map exceeds; 512 published
    latent: int  # numbers that describe a frame; 512 published
    lips: int  # directions of the lip bank; 20 published
    poses: int  # 6 published
    expressions: int  # 10 published
    align_corners: bool  # of the warp: True from scratch, False for official EDTalk weights

    def __post_init__(self) -> None:
        if self.resolution not in RESOLUTIONS:
            raise ValueError(f"resolution {self.resolution}: choose 64, 128, 256 or 512")
        if not 0 < self.width <= 2:
            raise ValueError(f"width {self.width}: choose above 0 and at most 2")
        if self.widest < 4:
            raise ValueError(f"widest {self.widest}: choose at least 4")
        if min(self.lips, self.poses, self.expressions) < 1:
            raise ValueError("lips, poses and expressions must each be at least 1")
        if self.lips + self.poses + self.expressions > self.latent:
            raise ValueError(
                f"latent {self.latent} holds fewer directions than lips + poses + expressions "
                f"= {self.lips + self.poses + self.expressions}"
            )

    @property
    def channels(self) -> dict[int, int]:
        """Number of channels of the maps of each side."""
        return channels(self.resolution, self.width, self.widest)


@dataclass(frozen=True)
class Source:
    """What is computed once per person: identity latent and feature maps, 8×8 first."""

    latent: Float[Tensor, "batch latent"]
    maps: tuple[Tensor, ...]

    def expand(self, batch: int) -> "Source":
        """The source repeated for `batch` drivers, without a copy."""
        latent = self.latent.expand(batch, -1)
        return Source(latent, tuple(m.expand(batch, -1, -1, -1) for m in self.maps))


class FixTalk(nn.Module):
    """The base of FixTalk: EDTalk's encoder, orthogonal motion banks and warping generator."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config.channels, config.latent)
        self.decoupling = Decoupling(config.latent, config.lips, config.poses, config.expressions)
        self.generator = Generator(
            config.channels, config.latent, align_corners=config.align_corners
        )

    def encode_source(self, frames: Float[Tensor, "batch 3 height width"]) -> Source:
        """Identity of the source frames in [-1, 1]; reuse it for every driver."""
        self._check(frames, "source")
        latent, maps = self.encoder(frames)
        return Source(latent, tuple(maps))

    def motion(
        self, frames: Float[Tensor, "batch 3 height width"], region: str | None = None
    ) -> Motion:
        """Coefficients of the driver frames in [-1, 1].

        Args:
            frames: drivers.
            region: "lip", "pose" or "expression" keeps that component and zeroes the others.

        Raises:
            ValueError: unknown region, or frames of another resolution than the model's.
        """
        self._check(frames, "driver")
        motion = self.decoupling(self.encoder(frames)[0])
        if region is None:
            return motion
        names = ("lip", "pose", "expression")
        if region not in names:
            raise ValueError(f"region {region!r}: choose one of {', '.join(names)}")
        zeros = {n: torch.zeros_like(getattr(motion, n)) for n in names if n != region}
        return replace(motion, **zeros)

    def animate(self, source: Source, motion: Motion) -> Float[Tensor, "batch 3 height width"]:
        """Frames of the source person in the given motion, in [-1, 1].

        A source of batch 1 serves any number of drivers.
        """
        return self.render(source, motion)[0].clamp(-1, 1)

    def render(self, source: Source, motion: Motion) -> tuple[Tensor, list[Tensor]]:
        """Unclamped frames and the flow of each resolution (b h w 2): what training looks at."""
        if len(source.latent) == 1:
            source = source.expand(len(motion.lip))
        latent, expression = self.decoupling.latents(motion)
        return self.generator(source.latent + latent, list(source.maps), expression)

    def _check(self, frames: Tensor, role: str) -> None:
        side = self.config.resolution
        if tuple(frames.shape[2:]) != (side, side):
            raise ValueError(
                f"{role} frames are {frames.shape[3]}×{frames.shape[2]} px, the model works on "
                f"{side}×{side}: crop to that resolution first"
            )
