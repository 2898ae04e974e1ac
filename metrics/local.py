"""Clips → what the judges say that the `judge` stage trained on rendered people.

They know only faces cropped as that corpus crops them: boxes and points that the official judges
need are accepted, so that one can stand in for the other, and not used.
"""

from collections.abc import Callable
from functools import cache

import torch
from jaxtyping import Float, Int16, UInt8
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from metrics.inputs import check_clip
from metrics.networks import (
    FACE_SIDE,
    LIP_POOL,
    LIP_SIDE,
    EmotionNetwork,
    IdentityNetwork,
    LandmarkNetwork,
    SyncNetwork,
)
from metrics.sync import FRAMES_PER_WINDOW, mfcc_windows

AT_ONCE = 32  # frames or windows a network sees at once: bounds memory whatever the clip


class _Local:
    """A trained network of a known file.

    Args:
        weights: state dict of the network, or the network itself.
        sha256: of the file that the weights come from.

    Raises:
        RuntimeError: the state dict belongs to another network.
    """

    network_class: type[nn.Module]

    def __init__(self, weights: nn.Module | dict[str, Tensor], sha256: str) -> None:
        network = weights
        if isinstance(weights, dict):
            network = self.network_class()
            network.load_state_dict(weights)
        self.network = network.eval().requires_grad_(False)
        self.sha256 = sha256

    @torch.inference_mode()
    def _over(self, values: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        """The function's rows for all values, computed a few at a time."""
        device = next(self.network.parameters()).device
        return torch.cat([function(some.to(device)).cpu() for some in values.split(AT_ONCE)])


class LocalIdentity(_Local):
    """Embeds whose face a frame shows."""

    network_class = IdentityNetwork

    def embed(
        self,
        frames: UInt8[Tensor, "frames 3 height width"],
        boxes: Float[Tensor, "frames 4"] | None = None,
    ) -> Float[Tensor, "frames 128"]:
        """Unit embedding of the face in each frame.

        Args:
            frames: RGB.
            boxes: not used.

        Raises:
            TypeError: frames are not uint8.
            ValueError: no frame, or not (frames, 3, height, width).
        """
        check_clip(frames)
        return self._over(frames, lambda some: self.network(face_pictures(some)))


class LocalLandmarks(_Local):
    """Finds 68 points in each frame, whether or not there is a face."""

    network_class = LandmarkNetwork

    def points(
        self,
        frames: UInt8[Tensor, "frames 3 height width"],
        boxes: Float[Tensor, "frames 4"] | None = None,
    ) -> Float[Tensor, "frames 68 2"]:
        """The iBUG points in pixels of the frames; the first pixel's centre is (0.5, 0.5).

        Args:
            frames: RGB.
            boxes: not used.

        Raises:
            TypeError: frames are not uint8.
            ValueError: no frame, or not (frames, 3, height, width).
        """
        check_clip(frames)
        height, width = frames.shape[2:]
        shares = self._over(frames, lambda some: self.network(face_pictures(some)))
        return shares * torch.tensor([width, height])


class LocalEmotion(_Local):
    """Tells the emotion of a video."""

    network_class = EmotionNetwork

    def probabilities(self, frames: UInt8[Tensor, "frames 3 height width"]) -> Float[Tensor, " 8"]:
        """Probability of each of `metrics.emotion.EMOTIONS`: one distribution for the video.

        Args:
            frames: RGB, all of the video; where they do not fit, `features` and `pool` do the
                same piece by piece.

        Raises:
            TypeError: frames are not uint8.
            ValueError: no frame, or not (frames, 3, height, width).
        """
        return self.pool(self.features(frames))

    def features(
        self,
        frames: UInt8[Tensor, "frames 3 height width"],
        points: Float[Tensor, "frames 68 2"] | None = None,
    ) -> Float[Tensor, "frames 52"]:
        """ARKit coefficients of the face in each frame.

        Args:
            frames: RGB.
            points: not used.

        Raises:
            TypeError: frames are not uint8.
            ValueError: no frame, or not (frames, 3, height, width).
        """
        check_clip(frames)
        return self._over(frames, lambda some: self.network.coefficients(face_pictures(some)))

    def pool(self, features: Float[Tensor, "frames 52"]) -> Float[Tensor, " 8"]:
        """Probability of each emotion in the video whose frames have these coefficients.

        They are averaged before the emotion is read: what speech and blinks do cancels out.
        """
        mean = features.float().mean(dim=0, keepdim=True)
        return self._over(mean, self.network.emotion)[0].double().softmax(dim=0)


class LocalSync(_Local):
    """Embeds lips and sound of every window of five frames."""

    network_class = SyncNetwork

    def embed_video(
        self, frames: UInt8[Tensor, "frames 3 height width"]
    ) -> Float[Tensor, "windows 256"]:
        """Embedding of the lips in each window; equal to the network's `forward_lip`.

        Args:
            frames: RGB, at least five.

        Raises:
            TypeError: frames are not uint8.
            ValueError: fewer than five frames, or not (frames, 3, height, width).
        """
        check_clip(frames)
        if len(frames) < FRAMES_PER_WINDOW:
            raise ValueError(f"{len(frames)} frames: a window needs {FRAMES_PER_WINDOW}")
        looks = self._over(frames, lambda some: self.network.look(lip_pictures(some)))
        windows = looks.unfold(0, FRAMES_PER_WINDOW, 1).transpose(1, 2)
        return self._over(windows, self.network.embed_looks)

    def embed_audio(self, audio: Int16[Tensor, " samples"]) -> Float[Tensor, "windows 256"]:
        """Embedding of the sound beside each window.

        Args:
            audio: mono, 16 kHz, in time with 25 frames a second.

        Raises:
            TypeError: not int16.
            ValueError: shorter than five frames, or not one channel.
        """
        return self._over(mfcc_windows(audio), self.network.forward_aud)


def face_pictures(
    frames: UInt8[Tensor, "frames 3 height width"] | Float[Tensor, "frames 3 height width"],
) -> Float[Tensor, "frames 3 64 64"]:
    """Whole frames as the networks see them: 64 x 64 with antialiasing, 0-255."""
    return interpolate(frames.float(), (FACE_SIDE, FACE_SIDE), mode="bilinear", antialias=True)


def lip_pictures(
    frames: UInt8[Tensor, "frames 3 height width"] | Float[Tensor, "frames 3 height width"],
) -> Float[Tensor, "frames 3 56 56"]:
    """BGR frames at 224 x 224 after the pooling that SyncNetwork begins with, 0-255.

    Both are linear along each axis, so that two small products replace the large picture.
    """
    rows, columns = (_pooling(side).to(frames.device) for side in frames.shape[2:])
    return rows @ frames.flip(1).float() @ columns.mT


@cache
def _pooling(side: int) -> Tensor:
    """Matrix from a line of `side` pixels to the 56 that resizing to 224 and pooling leave."""
    with torch.inference_mode(False):  # a process that judges first may learn afterwards
        one = torch.eye(side)[None, None]
        large = interpolate(one, (LIP_SIDE, side), mode="bilinear", antialias=True)
        return avg_pool2d(large, (LIP_POOL, 1))[0, 0]
