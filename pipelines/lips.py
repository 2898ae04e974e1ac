"""Two videos → what SyncNet sees of each frame, as the protocol crops it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fixtalk.media import VideoReader
from metrics.crops import pcavs_crop, pcavs_track, syncnet_crop, syncnet_track
from metrics.protocol import Protocol
from pipelines.measure import Frames, LipCrop
from pipelines.panel import Panel

NEEDS = {"s3fd": "s3fd", "pcavs": "dlib68"}  # crop → the judge that finds faces for it
CROPS = {"s3fd": (syncnet_track, syncnet_crop), "pcavs": (pcavs_track, pcavs_crop)}
PIECE = 32  # frames looked at at once


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
    panel: Panel, protocol: Protocol, generated: Path, reference: Path
) -> LipCrop | None:
    """The crop of both videos; None where SyncNet is not asked or sees whole frames.

    Reads both videos once, as the tracks need all frames before the first crop. Where a frame
    shows no face, the one before stands in.

    Raises:
        NoLipsError: no face in a whole video, too few frames, or the judge that finds faces is
            not there.
    """
    if "syncnet" not in panel.judges or protocol.sync_crop == "whole":
        return None
    needed = NEEDS[protocol.sync_crop]
    if needed not in panel.judges:
        raise NoLipsError(f"its crop needs {needed}: {panel.reason(needed)}")
    judge = panel.judges[needed]
    find = _boxes if protocol.sync_crop == "s3fd" else lambda judge, frames: judge.points(frames)
    track, _ = CROPS[protocol.sync_crop]
    tracks = {}
    for role, video in (("generated", generated), ("truth", reference)):
        found = _filled(torch.cat([find(judge, frames) for frames in _pieces(video)]), video)
        try:
            tracks[role] = track(found)
        except ValueError as error:
            raise NoLipsError(f"{video.name}: no crop for SyncNet: {error}") from None
    return TrackedLips(protocol.sync_crop, tracks)


def _boxes(judge: object, frames: Frames) -> Tensor:
    """The surest face of each frame; NaN where none is."""
    boxes = torch.full((len(frames), 4), torch.nan, dtype=torch.float64)
    for row, faces in zip(boxes, judge.boxes(frames), strict=True):
        if len(faces):
            row[:] = faces[faces[:, 4].argmax(), :4]
    return boxes


def _pieces(video: Path) -> Iterator[Frames]:
    reader = iter(VideoReader(video))
    while held := list(islice(reader, PIECE)):
        yield torch.from_numpy(np.stack(held)).permute(0, 3, 1, 2)


def _filled(found: Tensor, video: Path) -> Tensor:
    """Every frame with a face: the one before, at the beginning the first."""
    is_found = torch.isfinite(found).flatten(1).all(dim=1)
    if not is_found.any():
        raise NoLipsError(f"{video.name}: no face in any frame for SyncNet's crop")
    places = torch.where(is_found, torch.arange(len(found)), -1).cummax(dim=0).values
    return found[places.clamp(min=int(is_found.nonzero()[0]))]
