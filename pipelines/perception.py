"""Weights on disk → the frozen networks that losses look through: VGG19, the experts."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pipelines import weights

if TYPE_CHECKING:
    from torch import Tensor, device

    Points = Callable[[Tensor], Tensor]
    Sync = Callable[[Tensor, Tensor], Tensor]

SLICES = (2, 7, 12, 21, 30)  # layers up to relu1_1, relu2_1, relu3_1, relu4_1, relu5_1
WEIGHT = 10.0  # of each slice
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pixels in [0, 1]
EXPERT = "expert.json"  # what the expert stage says of itself


def vgg19(folder: Path, device: "device") -> Callable[["Tensor"], list["Tensor"]]:
    """Frames in [-1, 1] → ten times the maps relu1_1 to relu5_1.

    4 · l_per over four scales is the published loss, which sums the scales instead of averaging.
    Frames too small to be halved four times end with the last map they have: 8 px with relu4_1.

    Args:
        folder: of all published weights.
        device: to look on.

    Raises:
        WeightsMissingError: VGG19's were never fetched; the message names the command.

    Source: EDTalk, released code.
    """
    import torch

    from metrics import registry

    state, _ = weights.read("vgg19", folder)
    with torch.device("meta"):  # no random start for 140 million weights
        network = registry.OFFICIAL["vgg19"].build()
    network.load_state_dict(state, assign=True)
    layers = network.features[: SLICES[-1]].requires_grad_(False).to(device)
    mean, deviation = (
        torch.tensor(values, device=device)[:, None, None] for values in (MEAN, DEVIATION)
    )

    def look(frames: "Tensor") -> list["Tensor"]:
        x = ((frames + 1) / 2 - mean) / deviation
        maps = []
        for count, layer in enumerate(layers, 1):
            if isinstance(layer, torch.nn.MaxPool2d) and min(x.shape[2:]) < 2:
                break
            x = layer(x)
            if count in SLICES:
                maps.append(WEIGHT * x)
        return maps

    return look


class Experts(NamedTuple):
    """Frozen networks that losses look through."""

    points: "Points"  # frames → 68 landmarks, in shares of the side
    sync: "Sync"  # frames in a row and sounds → how well each of the first fits each of the second


def load_experts(folder: Path, device: "device") -> Experts | str:
    """The networks that the expert stage taught, or why it has not.

    Raises:
        FileNotFoundError: the expert stage has not run.
    """
    if not (folder / EXPERT).is_file():
        raise FileNotFoundError(f"{folder / EXPERT}: not found; run the expert stage (dvc repro)")
    facts = json.loads((folder / EXPERT).read_text(encoding="utf-8"))
    if "reason" in facts:
        return facts["reason"]
    return Experts(_points(folder, device), _sync(folder, device))


def _points(folder: Path, device: "device") -> "Points":
    import torch

    from metrics.local import face_pictures
    from metrics.networks import LandmarkNetwork

    network = _frozen(LandmarkNetwork(), folder / "landmarks.safetensors", device)

    def points(frames: "Tensor") -> "Tensor":
        with torch.autocast(frames.device.type, enabled=False):
            return network(face_pictures((frames.float() + 1) * 127.5))

    return points


def _sync(folder: Path, device: "device") -> "Sync":
    import torch

    from metrics.local import lip_pictures
    from metrics.networks import SYNC_SHARPNESS, SyncNetwork
    from metrics.sync import mfcc_windows

    network = _frozen(SyncNetwork(), folder / "sync.safetensors", device)

    def sync(frames: "Tensor", sounds: "Tensor") -> "Tensor":
        windows = torch.cat([mfcc_windows(sound)[:1] for sound in sounds.cpu()]).to(frames.device)
        with torch.autocast(frames.device.type, enabled=False):
            pictures = lip_pictures((frames.float().flatten(0, 1) + 1) * 127.5)
            lips = network.embed_looks(network.look(pictures).unflatten(0, frames.shape[:2]))
            return -SYNC_SHARPNESS * torch.cdist(lips, network.forward_aud(windows))

    return sync


def _frozen(network: Any, weights: Path, device: "device") -> Any:
    from safetensors.torch import load_file

    network.load_state_dict(load_file(weights))
    return network.requires_grad_(False).eval().to(device)
