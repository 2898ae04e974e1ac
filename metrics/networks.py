"""Pictures of faces and windows of sound → identity, landmarks, emotion and lip-sync embeddings.

The networks of the small judges that the `judge` stage trains. They know nothing but the faces
they were trained on. A network that shapes a loss never judges what that loss made: whoever needs
one for training trains another, on other people.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample, interpolate, normalize

from metrics.emotion import EMOTIONS
from metrics.sync import FRAMES_PER_WINDOW

FACE_SIDE = 64  # pixels of the pictures that identity, landmarks and emotion are read from
LIP_SIDE = 224  # pixels of SyncNet's input
LIP_POOL = 4  # averaged away before the first layer
ANCHORS = (slice(36, 42), slice(42, 48), slice(48, 68))  # iBUG points of both eyes and the mouth
COEFFICIENTS = 52  # ARKit's
WIDTH = 16  # channels of the first layer
SYNC_SHARPNESS = 10.0  # logits per unit of distance between lips and sound


class Look(NamedTuple):
    """An upright crop around eyes and mouth.

    Attributes:
        centre: 0 between the eyes, 1 on the mouth.
        zoom: half side, in distances from eyes to mouth.
        side: pixels.
    """

    centre: float
    zoom: float
    side: int


FACE = Look(centre=0.5, zoom=1.5, side=40)
LIPS = Look(centre=1.0, zoom=1.0, side=32)


class IdentityNetwork(nn.Module):
    """Embeds whose face a picture shows in 128 numbers of unit length."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = _trunk(FACE_SIDE, 128, channels=3)

    def forward(self, faces: Float[Tensor, "faces 3 64 64"]) -> Float[Tensor, "faces 128"]:
        """Embeddings of length 1; the dot product of two is larger for the same person.

        Args:
            faces: RGB, 0-255.
        """
        return normalize(self.trunk(_centred(faces)).float())


class Locator(nn.Module):
    """Finds eyes and mouth, so that another network can look at them closely."""

    def __init__(self) -> None:
        super().__init__()
        self.near = nn.Sequential(*_convolution(3, 8, 2), *_convolution(8, 32, 2))
        self.far = nn.Sequential(
            *_convolution(32, 32, 2), *_convolution(32, 32),
            *_convolution(32, 32, 2), *_convolution(32, 32),
        )  # fmt: skip
        self.heat = nn.Sequential(*_convolution(32, 32), nn.Conv2d(32, len(ANCHORS), 1))

    def forward(self, faces: Float[Tensor, "faces 3 side side"]) -> Float[Tensor, "faces 3 2"]:
        """Centres (x, y) of right eye, left eye and mouth in shares of the side.

        Args:
            faces: 0-255.
        """
        near = self.near(_centred(faces))
        heat = self.heat(near + interpolate(self.far(near), near.shape[2:])).float()
        shares = heat.flatten(2).softmax(dim=2).unflatten(2, heat.shape[2:])
        line = (torch.arange(heat.shape[3], device=heat.device) + 0.5) / heat.shape[3]
        return torch.stack([shares.sum(dim=2) @ line, shares.sum(dim=3) @ line], dim=2)


class LandmarkNetwork(nn.Module):
    """Finds the 68 iBUG points: first eyes and mouth, then all in an upright crop of the face."""

    def __init__(self) -> None:
        super().__init__()
        self.locator = Locator()
        self.read = nn.Sequential(
            _trunk(FACE.side, 256, channels=1), nn.ReLU(), nn.Linear(256, 68 * 2)
        )

    def forward(self, faces: Float[Tensor, "faces 3 64 64"]) -> Float[Tensor, "faces 68 2"]:
        """Points (x, y) in shares of the side: (0, 0) is the outer corner of the first pixel.

        Args:
            faces: RGB, 0-255.
        """
        matrices = upright(self.locator(faces), FACE)
        points = self.points_in(crop(faces, matrices, FACE.side))
        return (points @ matrices[:, :, :2].mT + matrices[:, None, :, 2] + 1) / 2

    def points_in(self, crops: Float[Tensor, "faces 3 40 40"]) -> Float[Tensor, "faces 68 2"]:
        """Points of upright crops, from -1 to 1 within the crop."""
        return self.read(_standard(crops)).float().unflatten(1, (68, 2))


class EmotionNetwork(nn.Module):
    """Reads the muscles of a face as ARKit coefficients, and the emotion from these alone."""

    def __init__(self) -> None:
        super().__init__()
        self.locator = Locator()
        self.read = nn.Sequential(
            _trunk(FACE.side, 256, channels=1), nn.ReLU(), nn.Linear(256, COEFFICIENTS)
        )
        self.emotion = nn.Sequential(
            nn.Linear(COEFFICIENTS, 64), nn.ReLU(), nn.Linear(64, len(EMOTIONS))
        )

    def forward(self, faces: Float[Tensor, "faces 3 64 64"]) -> Float[Tensor, "faces 8"]:
        """Logits in the order of `metrics.emotion.EMOTIONS`.

        Args:
            faces: RGB, 0-255.
        """
        return self.emotion(self.coefficients(faces))

    def coefficients(self, faces: Float[Tensor, "faces 3 64 64"]) -> Float[Tensor, "faces 52"]:
        """ARKit coefficients, about 0 to 1."""
        matrices = upright(self.locator(faces), FACE)
        return self.coefficients_in(crop(faces, matrices, FACE.side))

    def coefficients_in(self, crops: Float[Tensor, "faces 3 40 40"]) -> Float[Tensor, "faces 52"]:
        """ARKit coefficients of upright crops."""
        return self.read(_standard(crops)).float()


class SyncNetwork(nn.Module):
    """Embeds lips and sound so that what belongs together lies close; SyncNet's input layout.

    All embeddings share one constant feature. It cancels in the distance of two embeddings, and
    keeps each away from the zeros that `metrics.sync.sync_scores` puts beyond the ends of the
    sound: without it these would look like a tolerable match.
    """

    def __init__(self) -> None:
        super().__init__()
        self.locator = Locator()
        self.read = _trunk(LIPS.side, 128, channels=1)
        self.lips = nn.Sequential(
            nn.Flatten(), nn.ReLU(), nn.Linear(128 * FRAMES_PER_WINDOW, 256),
            nn.ReLU(), nn.Linear(256, 255),
        )  # fmt: skip
        self.sound = nn.Sequential(
            nn.BatchNorm1d(13),
            nn.Conv1d(13, 64, 3, padding=1), nn.BatchNorm1d(64), nn.ReLU(),
            nn.Conv1d(64, 64, 3, stride=2, padding=1), nn.BatchNorm1d(64), nn.ReLU(),
            nn.Conv1d(64, 128, 3, stride=2, padding=1), nn.BatchNorm1d(128), nn.ReLU(),
            nn.Flatten(), nn.Linear(128 * 5, 256), nn.ReLU(), nn.Linear(256, 255),
        )  # fmt: skip

    def forward_lip(
        self, windows: Float[Tensor, "windows 3 5 224 224"]
    ) -> Float[Tensor, "windows 256"]:
        """Embeddings of five frames each.

        Args:
            windows: BGR, 0-255.
        """
        frames = avg_pool2d(windows.transpose(1, 2).flatten(0, 1), LIP_POOL)
        return self.embed_looks(self.look(frames).unflatten(0, (-1, FRAMES_PER_WINDOW)))

    def forward_aud(
        self, windows: Float[Tensor, "windows 1 13 20"]
    ) -> Float[Tensor, "windows 256"]:
        """Embeddings of 0.2 s of sound each.

        Args:
            windows: mel-frequency cepstral coefficients, 100 columns a second.
        """
        return _with_constant(self.sound(windows.squeeze(1)))

    def look(self, frames: Float[Tensor, "frames 3 56 56"]) -> Float[Tensor, "frames 128"]:
        """Features of the lips in each pooled frame: windows that overlap share them."""
        matrices = upright(self.locator(frames), LIPS)
        return self.look_at(crop(frames, matrices, LIPS.side))

    def look_at(self, crops: Float[Tensor, "frames 3 32 32"]) -> Float[Tensor, "frames 128"]:
        """Features of upright crops of lips."""
        return self.read(_standard(crops)).float()

    def embed_looks(self, looks: Float[Tensor, "windows 5 128"]) -> Float[Tensor, "windows 256"]:
        """Embeddings of the features of five frames each."""
        return _with_constant(self.lips(looks))


def upright(anchors: Float[Tensor, "faces 3 2"], look: Look) -> Float[Tensor, "faces 2 3"]:
    """Affine matrices of crops in which the eyes lie straight above the mouth.

    They map crop to picture, both from -1 to 1, as `torch.nn.functional.affine_grid` wants it.

    Args:
        anchors: centres of both eyes and the mouth in shares of the side.
        look: what the crops show.
    """
    anchors = anchors * 2 - 1
    eyes, mouth = anchors[:, :2].mean(dim=1), anchors[:, 2]
    down = look.zoom * (mouth - eyes)
    right = torch.stack([down[:, 1], -down[:, 0]], dim=1)
    return torch.stack([right, down, eyes + look.centre * (mouth - eyes)], dim=2)


def crop(
    pictures: Float[Tensor, "pictures 3 height width"],
    matrices: Float[Tensor, "pictures 2 3"],
    side: int,
) -> Float[Tensor, "pictures 3 {side} {side}"]:
    """The crops that the matrices describe, bilinear; outside the picture its edge goes on."""
    grid = affine_grid(matrices, [len(pictures), 3, side, side], align_corners=False)
    return grid_sample(pictures, grid, padding_mode="border", align_corners=False)


def _trunk(side: int, features: int, channels: int) -> nn.Sequential:
    """Pictures → features; the last maps keep where things are."""
    layers, before = [], channels
    for level in range(4):
        after = WIDTH * 2**level
        layers += _convolution(before, after, stride=2)
        if level:
            layers += _convolution(after, after)
        before = after
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(before * (-(-side // 16)) ** 2, features))


def _convolution(before: int, after: int, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(after), nn.ReLU()]


def _centred(pixels: Tensor) -> Tensor:
    return (pixels / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def _standard(crops: Tensor) -> Tensor:
    """Grey, mean 0, deviation 1: neither skin nor light tells what a muscle does."""
    grey = crops.mean(dim=1, keepdim=True)
    deviation, mean = torch.std_mean(grey, dim=(2, 3), keepdim=True)
    return ((grey - mean) / (deviation + 1)).contiguous(memory_format=torch.channels_last)


def _with_constant(features: Tensor) -> Tensor:
    unit = normalize(features.float())
    return torch.cat([unit, torch.ones_like(unit[:, :1])], dim=1)
