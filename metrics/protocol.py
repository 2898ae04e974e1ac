"""How clips were cropped, compared and averaged → an id that numbers must share to be compared."""

import hashlib
import json
from collections.abc import Sequence
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
        inputs: hash of the compared pairs, their true videos and sounds, and their labels.
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

    def id_of(self, metric: str, version: int, judges: Sequence[str]) -> str:
        """Id of one number, which also depends on the metric's version and its judges' weights.

        Args:
            metric: key of METRICS.
            version: of its implementation.
            judges: sha256 of the network it asks, and of those that crop for it.
        """
        return identify([asdict(self), metric, version, list(judges)])


CROP_JUDGES = {"s3fd": "s3fd", "pcavs": "dlib68"}  # what finds the faces of a SyncCrop


@dataclass(frozen=True)
class Preset:
    """A published way to compare, by name on the command line."""

    crop: Crop
    sync_crop: SyncCrop
    pooled: tuple[str, ...]


PRESETS = {
    # whole frames as they are: the table of HDTF
    "full": Preset("none", "s3fd", ()),
    # faces aligned to 128 pixels as yuangan/evaluation_eat does: the table of MEAD
    "eat128": Preset("eat128", "pcavs", ("psnr", "ssim", "ssim_gaussian")),
}


def identify(facts: Any) -> str:
    """12 hex digits that change with the facts."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
