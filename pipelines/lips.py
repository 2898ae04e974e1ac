"""Frames of two videos → what SyncNet sees of each, as the protocol crops it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from metrics.crops import pcavs_crop, pcavs_track, syncnet_crop, syncnet_track
from metrics.protocol import CROP_JUDGES, Protocol
from pipelines.measure import Frames, LipCrop
from pipelines.panel import Panel

CROPS = {"s3fd": (syncnet_track, syncnet_crop), "pcavs": (pcavs_track, pcavs_crop)}


@dataclass(frozen=True)
class TrackedLips:
    """Crops frames along tracks that were found before."""

    sync_crop: str
    tracks: Mapping[str, Tensor]

    def __call__(self, role: str, start: int, frames: Frames) -> Frames:
        """What SyncNet sees of the frames of a role from `start` on."""
        _, crop = CROPS[self.sync_crop]
        return crop(frames, self.tracks[role][start : start + len(frames)])


class NoLipsError(ValueError):
    """SyncNet cannot be shown a clip; all other judges can."""


def track_lips(
    panel: Panel, protocol: Protocol, pieces: Iterable[tuple[Frames, Frames]]
) -> LipCrop | None:
    """The crop of both videos; None where SyncNet is not asked or sees whole frames.

    Reads all pieces, as the tracks need every frame before the first crop. Where a frame shows no
    face, the one before stands in.

    Args:
        panel: with SyncNet and the judge that finds faces for its crop.
        protocol: which crop.
        pieces: generated and true frames, as they will be scored.

    Raises:
        NoLipsError: no face in a whole video, too few frames, or the judge that finds faces is
            not there.
    """
    if "syncnet" not in panel.judges or protocol.sync_crop == "whole":
        return None
    needed = CROP_JUDGES[protocol.sync_crop]
    if needed not in panel.judges:
        raise NoLipsError(f"its crop needs {needed}: {panel.reason(needed)}")
    judge = panel.judges[needed]
    find = _boxes if protocol.sync_crop == "s3fd" else lambda judge, frames: judge.points(frames)
    track, _ = CROPS[protocol.sync_crop]
    found: dict[str, list[Tensor]] = {"generated": [], "truth": []}
    for pair in pieces:
        for role, frames in zip(found, pair, strict=True):
            found[role].append(find(judge, frames))
    tracks = {}
    for role, parts in found.items():
        try:
            tracks[role] = track(_filled(torch.cat(parts)))
        except ValueError as error:
            raise NoLipsError(f"no crop of the {role} video: {error}") from None
    return TrackedLips(protocol.sync_crop, tracks)


def _boxes(judge: object, frames: Frames) -> Tensor:
    """The surest face of each frame; NaN where none is."""
    boxes = torch.full((len(frames), 4), torch.nan, dtype=torch.float64)
    for row, faces in zip(boxes, judge.boxes(frames), strict=True):
        if len(faces):
            row[:] = faces[faces[:, 4].argmax(), :4]
    return boxes


def _filled(found: Tensor) -> Tensor:
    """Every frame with a face: the one before, at the beginning the first."""
    is_found = torch.isfinite(found).flatten(1).all(dim=1)
    if not is_found.any():
        raise ValueError("no face in any frame")
    places = torch.where(is_found, torch.arange(len(found)), -1).cummax(dim=0).values
    return found[places.clamp(min=int(is_found.nonzero()[0]))]
