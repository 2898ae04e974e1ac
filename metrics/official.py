"""Clips → features according to the networks that papers quote, built by `metrics.registry`."""

import cv2
import torch
from jaxtyping import Float, Int16, UInt8
from torch import Tensor, nn
from torch.nn.functional import interpolate

import torchvision_cpu
from metrics.emotion_fan import FEATURES, face_chip
from metrics.inputs import check_clip, check_rows
from metrics.sync import FRAMES_PER_WINDOW, mfcc_windows

AT_ONCE = 8  # pictures or windows a network sees at once: bounds memory whatever the clip
INCEPTION_SIDE = 299
FACENET_SIDE = 160
S3FD_SIDE = 110  # pixels at least
SYNCNET_SIDE = 224


class Judge:
    """A frozen network of a known file.

    Args:
        network: built by `metrics.registry.build`; its device is where it computes.
        sha256: of the file that the weights come from.
    """

    def __init__(self, network: nn.Module, sha256: str) -> None:
        self.network = network
        self.sha256 = sha256

    def _place(self, values: Tensor) -> Tensor:
        return values.to(next(self.network.parameters()).device)


class Inception(Judge):
    """Inception-v3 of the TensorFlow release of 2015, as `fid` means it."""

    def __init__(self, network: nn.Module, sha256: str) -> None:
        # the children are in the order in which they run
        *layers, _dropout, _classifier = network.children()
        super().__init__(nn.Sequential(*layers).to(memory_format=torch.channels_last), sha256)

    @torch.inference_mode()
    def features(
        self, frames: UInt8[Tensor, "frames 3 height width"]
    ) -> Float[Tensor, "frames 2048"]:
        """Pooled features of each frame.

        The whole frame is squeezed to 299 x 299 without antialiasing, as pytorch-fid does.

        Raises:
            TypeError: frames are not uint8.
            ValueError: no frame, or not (frames, 3, height, width).

        Source: mseitzer/pytorch-fid src/pytorch_fid/inception.py.
        """
        check_clip(frames)
        rows = []
        for some in frames.split(AT_ONCE):
            pictures = interpolate(
                self._place(some).float() / 255,
                size=(INCEPTION_SIDE, INCEPTION_SIDE),
                mode="bilinear",
                align_corners=False,
            )
            rows.append(self.network(2 * pictures - 1).flatten(1).cpu())
        return torch.cat(rows)


class FaceNet(Judge):
    """InceptionResnetV1 of facenet-pytorch, trained on VGGFace2."""

    @torch.inference_mode()
    def embed(
        self, frames: UInt8[Tensor, "frames 3 height width"], boxes: Float[Tensor, "frames 4"]
    ) -> Float[Tensor, "frames 512"]:
        """Unit embedding of the face in each frame.

        Not on the scale of ArcFace. A box that is `nan` or has no pixel inside the frame gives a
        row of `nan`.

        Args:
            frames: RGB.
            boxes: x0, y0, x1, y1 of MTCNN in pixels; not squared, as the face is not.

        Raises:
            TypeError: frames are not uint8.
            ValueError: no frame, or not one box a frame.

        Source: timesler/facenet-pytorch models/utils/detect_face.py extract_face, margin 0, on
            arrays; models/mtcnn.py fixed_image_standardization.
        """
        check_clip(frames)
        check_rows("boxes", boxes, (len(frames), 4))
        rows = []
        for some, their_boxes in zip(frames.split(AT_ONCE), boxes.split(AT_ONCE), strict=True):
            faces = [_face(*pair) for pair in zip(some, their_boxes, strict=True)]
            found = [face for face in faces if face is not None]
            embeddings = torch.full((len(faces), 512), torch.nan)
            if found:
                pictures = (self._place(torch.stack(found)) - 127.5) / 128
                is_found = torch.tensor([face is not None for face in faces])
                embeddings[is_found] = self.network(pictures).cpu()
            rows.append(embeddings)
        return torch.cat(rows)


class SyncNet(Judge):
    """SyncNet v2 of Chung and Zisserman."""

    @torch.inference_mode()
    def embed_video(
        self, frames: UInt8[Tensor, "frames 3 height width"]
    ) -> Float[Tensor, "windows 1024"]:
        """Embedding of each five frames, the first window beginning with the first frame.

        The whole frame is squeezed to 224 x 224: hand it the crop that the protocol names, as the
        crop decides the score.

        Raises:
            TypeError: frames are not uint8.
            ValueError: fewer than five frames, or not (frames, 3, height, width).

        Source: joonson/syncnet_python SyncNetInstance.py, evaluate; frames as cv2 resizes them.
        """
        check_clip(frames)
        windows = len(frames) - FRAMES_PER_WINDOW + 1
        if windows < 1:
            raise ValueError(f"{len(frames)} frames: SyncNet needs {FRAMES_PER_WINDOW} at least")
        rows = []
        for start in range(0, windows, AT_ONCE):
            some = frames[start : start + AT_ONCE + FRAMES_PER_WINDOW - 1]
            pictures = torch.stack([_blue_green_red(frame) for frame in some])
            lips = pictures.unfold(0, FRAMES_PER_WINDOW, 1).permute(0, 1, 4, 2, 3)
            rows.append(self.network.forward_lip(self._place(lips)).cpu())
        return torch.cat(rows)

    @torch.inference_mode()
    def embed_audio(self, audio: Int16[Tensor, " samples"]) -> Float[Tensor, "windows 1024"]:
        """Embedding of the sound beside each five frames.

        Args:
            audio: mono, 16 kHz.

        Raises:
            TypeError: samples are not int16.
            ValueError: shorter than five frames, or not one channel.

        Source: joonson/syncnet_python SyncNetInstance.py, evaluate.
        """
        windows = mfcc_windows(audio).split(AT_ONCE)
        return torch.cat([self.network.forward_aud(self._place(some)).cpu() for some in windows])


class EmotionFan(Judge):
    """emotion-FAN finetuned on MEAD, the emotion classifier of EAT."""

    @torch.inference_mode()
    def features(
        self, frames: UInt8[Tensor, "frames 3 height width"], points: Float[Tensor, "frames 68 2"]
    ) -> Float[Tensor, "frames 512"]:
        """Features of the face in each frame; `nan` where its points are.

        Raises:
            TypeError: frames are not uint8.
            ValueError: no frame, or not 68 points a frame.

        Source: yuangan/evaluation_eat @e39b004 code/_acc_test.py val, first level.
        """
        check_clip(frames)
        check_rows("points", points, (len(frames), 68, 2))
        rows = []
        for some, their_points in zip(frames.split(AT_ONCE), points.split(AT_ONCE), strict=True):
            features = torch.full((len(some), FEATURES), torch.nan)
            has_face = their_points.isfinite().flatten(1).all(dim=1)
            pairs = zip(some[has_face], their_points[has_face], strict=True)
            chips = [face_chip(*pair) for pair in pairs]
            if chips:
                pictures = self._place(torch.stack(chips)).float() / 255
                features[has_face] = self.network(pictures).cpu()
            rows.append(features)
        return torch.cat(rows)

    @torch.inference_mode()
    def pool(self, features: Float[Tensor, "frames 512"]) -> Float[Tensor, " classes"]:
        """Probability of each emotion in the video that has these features.

        Rows of `nan` are left out; without any other the result is `nan`.

        Source: yuangan/evaluation_eat @e39b004 code/_acc_test.py val, second level.
        """
        has_face = features.isfinite().all(dim=1)
        return self.network.pool(self._place(features[has_face])).softmax(dim=0).cpu()


class S3fd(Judge):
    """S3FD face detector as SyncNet's script runs it."""

    def boxes(
        self, frames: UInt8[Tensor, "frames 3 height width"]
    ) -> list[Float[Tensor, "faces 5"]]:
        """Faces of each frame as x0, y0, x1, y1 in pixels and confidence, the surest first.

        None in frames under 110 pixels a side: at its scale the network has no cell left for them.

        Raises:
            TypeError: frames are not uint8.
            ValueError: no frame, or not (frames, 3, height, width).

        Source: joonson/syncnet_python run_pipeline.py, scale 0.25, confidence 0.9.
        """
        check_clip(frames)
        torchvision_cpu.install()
        from syncnet_python.detectors.s3fd import S3FD

        if min(frames.shape[2:]) < S3FD_SIDE:
            return [torch.empty(0, 5) for _ in frames]
        detector = S3FD(self.network, next(self.network.parameters()).device)
        pictures = (frame.permute(1, 2, 0).contiguous().cpu().numpy() for frame in frames)
        found = (detector.detect_faces(one, conf_th=0.9, scales=[0.25]) for one in pictures)
        return [torch.from_numpy(faces) for faces in found]


def _face(
    frame: UInt8[Tensor, "3 height width"], box: Float[Tensor, " 4"]
) -> Float[Tensor, "3 160 160"] | None:
    """The box as FaceNet's picture; None where it holds no pixel."""
    if not box.isfinite().all():
        return None
    height, width = frame.shape[1:]
    x0, y0 = (int(max(edge, 0)) for edge in box[:2].tolist())
    x1, y1 = int(min(box[2], width)), int(min(box[3], height))
    if x1 <= x0 or y1 <= y0:
        return None
    inside = frame[:, y0:y1, x0:x1].permute(1, 2, 0).contiguous().cpu().numpy()
    face = cv2.resize(inside, (FACENET_SIDE, FACENET_SIDE), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(face).permute(2, 0, 1).float()


def _blue_green_red(frame: UInt8[Tensor, "3 height width"]) -> Float[Tensor, "3 224 224"]:
    """SyncNet's picture of a frame, 0 to 255."""
    picture = frame.flip(0).permute(1, 2, 0).contiguous().cpu().numpy()
    return (
        torch.from_numpy(cv2.resize(picture, (SYNCNET_SIDE, SYNCNET_SIDE))).permute(2, 0, 1).float()
    )
