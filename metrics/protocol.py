"""How clips were cropped, compared and averaged → an id that numbers must share to be compared."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

Crop = Literal["none", "eat128"]
SyncCrop = Literal["whole", "s3fd", "pcavs"]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Everything but the metric itself that decides a number.

    Attributes:
        name: of the task or preset: self, cross, full, eat128, …
        resolution: pixels of the frames that are compared, as "64x64"; "mixed" where clips differ.
        codec: the generated frames were read from, "lossless" or a codec's name.
        detector: of faces, with the hash of its weights.
        inputs: hash of the compared pairs and of the true pixels.
        crop: "none" for the whole frame; "eat128" for EAT's aligned crop of 128 pixels.
        sync_crop: what SyncNet sees: the "whole" frame, its own crop around "s3fd" boxes, or the
            "pcavs" alignment of EAT.
        pooled: metrics averaged over all frames of all clips; the others over clip means.
        detect_resolution: pixels, shorter side of the picture the detector sees.
        min_probability: of a detection that counts.
        detect_every: frames between two looks at faces, identities and distribution features.
        max_shift: frames that sync is searched on each side.
        colour: channel order and range.
        fps: frame rate after reading by time stamps.
    """

    name: str
    resolution: str
    codec: str
    detector: str
    inputs: str
    crop: Crop = "none"
    sync_crop: SyncCrop = "whole"
    pooled: tuple[str, ...] = ()
    detect_resolution: int = 256
    min_probability: float = 0.9
    detect_every: int = 5
    max_shift: int = 15
    colour: str = "rgb 0-255"
    fps: int = 25

    @property
    def id(self) -> str:
        """12 hex digits: rows of different ids never share a table."""
        return identify(asdict(self))

    def id_of(self, metric: str, version: int, judge: str | None) -> str:
        """Id of one number, which also depends on the metric's version and its judge's weights.

        Args:
            metric: key of METRICS.
            version: of its implementation.
            judge: sha256 of the network it asks, None for none.
        """
        return identify([asdict(self), metric, version, judge])


@dataclass(frozen=True)
class Preset:
    """A published way to compare, by name on the command line."""

    crop: Crop
    sync_crop: SyncCrop
    pooled: tuple[str, ...]
    meaning: str


PRESETS = {
    "full": Preset(
        "none", "s3fd", (),
        "whole frames as they are; the table of HDTF",
    ),
    "eat128": Preset(
        "eat128", "pcavs", ("psnr", "ssim", "ssim_gaussian"),
        "faces aligned to 128 pixels as yuangan/evaluation_eat does; the table of MEAD",
    ),
}  # fmt: skip


def identify(facts: Any) -> str:
    """12 hex digits that change with the facts."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
