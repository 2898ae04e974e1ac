"""Source frame and driver frames → the source person in the drivers' motion."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from fixtalk.backbone import AnyMotion, Backbone, EDTalk
from fixtalk.decoupling import only
from fixtalk.edi import EDI, EDIConfig
from fixtalk.emi import EMI, EMIConfig
from fixtalk.encoder import channels
from fixtalk.shapes import Float
from fixtalk.speech import Speech, SpeechConfig
from fixtalk.strict import STRICT

RESOLUTIONS = (64, 128, 256, 512)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Architecture of a model: stored in its checkpoint, enough to build it again."""

    __pydantic_config__: ClassVar[dict] = STRICT

    resolution: int  # pixels, side of a frame: 64, 128, 256 or 512
    width: float  # multiplier of LIA's channel table; 1.0 is the published model
    widest: int  # channels that no map exceeds; 512 published
    latent: int  # numbers that describe a frame; 512 published
    lips: int  # directions of the lip bank; 20 published
    poses: int  # 6 published
    expressions: int  # 10 published
    align_corners: bool  # of the warp: True from scratch, False for official EDTalk weights
    speech: SpeechConfig | None = None  # None: faces alone drive it
    emi: EMIConfig | None = None  # None: the motion head reads the frame's latent, as in EDTalk
    edi: EDIConfig | None = None  # None: the source's maps stay as they are

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

        widths = {"emi": self.latent, "edi": self.channels[leak_side(self.resolution)]}
        for name, width in widths.items():
            indicator = getattr(self, name)
            if indicator and width % indicator.heads:
                raise ValueError(f"{name}.heads {indicator.heads}: choose a divisor of {width}")

    @property
    def channels(self) -> dict[int, int]:
        """Number of channels of the maps of each side."""
        return channels(self.resolution, self.width, self.widest)


def leak_side(resolution: int) -> int:
    """Side of the map that carries most identity: 32 from 256 px on, below an eighth of the frame.

    Source: FixTalk, figure 3, names the 32×32 map; the rule for small frames is ours.
    """
    return min(32, resolution // 8)


@dataclass(frozen=True)
class Source:
    """What is computed once per person."""

    latent: Float[Tensor, "batch latent"]  # identity
    maps: tuple[Tensor, ...]  # 8×8 first
    motion: AnyMotion  # of the source frame itself
    token: Float[Tensor, "batch latent"] | None  # its leak map, compressed; None without EDI

    def expand(self, batch: int) -> "Source":
        """The source repeated for `batch` drivers, without a copy."""
        motion = type(self.motion)(*(p.expand(batch, *p.shape[1:]) for p in self.motion))
        token = None if self.token is None else self.token.expand(batch, -1)
        maps = tuple(m.expand(batch, -1, -1, -1) for m in self.maps)
        return Source(self.latent.expand(batch, -1), maps, motion, token)

    def each(self, count: int) -> "Source":
        """Every person `count` times in a row, for as many frames of each."""
        motion = type(self.motion)(*(p.repeat_interleave(count, 0) for p in self.motion))
        token = None if self.token is None else self.token.repeat_interleave(count, 0)
        maps = tuple(m.repeat_interleave(count, 0) for m in self.maps)
        return Source(self.latent.repeat_interleave(count, 0), maps, motion, token)


class FixTalk(nn.Module):
    """A backbone with the Enhanced Motion Indicator, the Enhanced Detail Indicator, or both.

    Without either it is its backbone, bit by bit.

    Args:
        config: architecture.
        backbone: another one than EDTalk; its channels and latent are taken as they are.
    """

    def __init__(self, config: ModelConfig, backbone: Backbone | None = None) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone or EDTalk(
            config.channels,
            config.latent,
            (config.lips, config.poses, config.expressions),
            align_corners=config.align_corners,
        )
        side, latent = leak_side(config.resolution), self.backbone.latent
        counts = self.backbone.channels
        self.emi = EMI(counts, side, latent, config.emi) if config.emi else None
        self.edi = EDI(counts[side], side, latent, config.edi) if config.edi else None
        components = (config.lips, config.poses, config.expressions)
        self.speech = Speech(config.speech, *components) if config.speech else None

    def encode_source(self, frames: Float[Tensor, "batch 3 height width"]) -> Source:
        """Identity of the source frames in [-1, 1]; reuse it for every driver."""
        self._check(frames, "source")
        latent, maps = self.backbone.features(frames)
        motion = self.backbone.motion(self.motion_code(latent, maps))
        token = self.edi.compress(self.leak_map(maps)) if self.edi else None
        return Source(latent, tuple(maps), motion, token)

    def motion(
        self, frames: Float[Tensor, "batch 3 height width"], region: str | None = None
    ) -> AnyMotion:
        """Coefficients of the driver frames in [-1, 1].

        Args:
            frames: drivers.
            region: "lip", "pose" or "expression" keeps that component and zeroes the others.

        Raises:
            ValueError: unknown region, or frames of another resolution than the model's.
        """
        self._check(frames, "driver")
        motion = self.backbone.motion(self.motion_code(*self.backbone.features(frames)))
        return motion if region is None else only(motion, region)

    def animate(self, source: Source, motion: AnyMotion) -> Float[Tensor, "batch 3 height width"]:
        """Frames of the source person in the given motion, in [-1, 1].

        A source of batch 1 serves any number of drivers.
        """
        return self.render(source, motion)[0].clamp(-1, 1)

    def drive(
        self,
        source: Float[Tensor, "batch 3 height width"],
        lip: Float[Tensor, "batch 3 height width"],
        pose: Float[Tensor, "batch 3 height width"],
        expression: Float[Tensor, "batch 3 height width"],
    ) -> Float[Tensor, "batch 3 height width"]:
        """The source person with lips, pose and expression of three drivers.

        Pictures come in [-1, 1]; unlike `animate`'s the result is not clamped, as that of EDTalk's
        video mode.
        """
        lips, poses, expressions = (self.motion(frames) for frames in (lip, pose, expression))
        motion = lips._replace(pose=poses.pose, expression=expressions.expression)
        return self.render(self.encode_source(source), motion)[0]

    def render(self, source: Source, motion: AnyMotion) -> tuple[Tensor, list[Tensor]]:
        """Unclamped frames and the flow of each resolution (b h w 2), coarse first."""
        if len(source.latent) == 1:
            source = source.expand(len(motion[0]))
        maps = source.maps
        if self.edi is not None:
            token = self.edi.recall(self.motion_difference(source, motion), source.token)
            maps = self.with_leak_map(maps, self.edi.enrich(self.leak_map(maps), token))
        return self.backbone.render(source.latent, maps, motion)

    def motion_code(
        self, latent: Float[Tensor, "batch latent"], maps: Sequence[Tensor]
    ) -> Float[Tensor, "batch latent"]:
        """What the motion head reads: EMI's z, or the frame's latent where there is no EMI."""
        return latent if self.emi is None else self.emi(maps)

    def motion_difference(self, source: Source, motion: AnyMotion) -> Float[Tensor, "batch latent"]:
        """Driver's minus source's motion latent, which exists whatever drives."""
        return self.backbone.motion_latent(motion) - self.backbone.motion_latent(source.motion)

    def leak_map(self, maps: Sequence[Tensor]) -> Float[Tensor, "batch channels side side"]:
        """The map whose side carries most identity."""
        return maps[self._leak_index(maps)]

    def with_leak_map(self, maps: Sequence[Tensor], new: Tensor) -> tuple[Tensor, ...]:
        """The maps with that one exchanged."""
        index = self._leak_index(maps)
        return (*maps[:index], new, *maps[index + 1 :])

    def _leak_index(self, maps: Sequence[Tensor]) -> int:
        side = leak_side(self.config.resolution)
        return next(index for index, m in enumerate(maps) if m.shape[-1] == side)

    def _check(self, frames: Tensor, role: str) -> None:
        side = self.config.resolution
        if tuple(frames.shape[2:]) != (side, side):
            raise ValueError(
                f"{role} frames are {frames.shape[3]}×{frames.shape[2]} px, the model works on "
                f"{side}×{side}: crop to that resolution first"
            )
