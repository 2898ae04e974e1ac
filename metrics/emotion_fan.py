"""Face chips of a video → one emotion: emotion-FAN's ResNet-18 with two levels of attention."""

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from metrics.crops import similarity

CLASSES = 8  # MEAD's; the original has seven
FEATURES = 512
CHIP_SIDE = 224
CHIP_PADDING = 0.25  # of the template's side, at each end
FIVE_OF_68 = [45, 42, 36, 39, 33]  # outer and inner corner of each eye, end of the nose
TEMPLATE = torch.tensor(
    [
        [0.8595674595992, 0.2134981538014],
        [0.6460604764104, 0.2289674387677],
        [0.1205750620789, 0.2137274526848],
        [0.3340850613712, 0.2290642403242],
        [0.4901123135679, 0.6277975316475],
    ],
    dtype=torch.float64,
)


def face_chip(
    frame: UInt8[Tensor, "3 height width"], points: Float[Tensor, "68 2"]
) -> UInt8[Tensor, "3 224 224"]:
    """Upright face, 224 pixels a side, eyes and nose on dlib's template; black outside the frame.

    The original finds its five points with a detector of their own: here they are five of the 68,
    within a pixel or two of those.

    Args:
        frame: RGB.
        points: iBUG order, in pixels of `frame`.

    Raises:
        ValueError: NaN, or all five points coincide.

    Source: davisking/dlib dlib/image_transforms/interpolation.h get_face_chip_details and
        extract_image_chip, as yuangan/evaluation_eat code/face_alignment_code calls them (size
        224, padding 0.25); within 2 grey levels of dlib's own chip.
    """
    template = (TEMPLATE + CHIP_PADDING) / (1 + 2 * CHIP_PADDING) * CHIP_SIDE
    matrix = similarity(template, points[FIVE_OF_68].double().cpu()).numpy()
    scale = np.linalg.norm(matrix[:, 0])  # frame pixels a chip pixel
    # dlib's rectangles end on the last pixel: both sides of the map are one pixel short
    middle = matrix @ (CHIP_SIDE / 2, CHIP_SIDE / 2, 1)
    matrix[:, :2] *= (CHIP_SIDE * scale - 1) / ((CHIP_SIDE - 1) * scale)
    matrix[:, 2] = middle - matrix[:, :2].sum(axis=1) * (CHIP_SIDE - 1) / 2
    picture = frame.permute(1, 2, 0).contiguous().cpu().numpy()
    while scale > 2:
        picture, scale = cv2.pyrDown(picture), scale / 2
        matrix = matrix / 2 + np.array([[0, 0, -0.25], [0, 0, 0.25]])  # dlib's halving, as it is
    chip = cv2.warpAffine(
        picture, matrix, (CHIP_SIDE, CHIP_SIDE), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    )
    return torch.from_numpy(chip).permute(2, 0, 1)


class FrameAttentionNetwork(nn.Module):
    """ResNet-18 that weighs frames by themselves (alpha) and beside the whole video (beta).

    Names of the layers are those of the published checkpoints. `pred_fc1` predicts without
    relation attention: it is in the checkpoints, but this protocol never runs it.

    Source: Open-Debin/Emotion-FAN basic_code/networks.py, ResNet_AT; eight classes as in
        yuangan/evaluation_eat @e39b004.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = nn.Sequential(ResidualBlock(64, 64), ResidualBlock(64, 64))
        self.layer2 = nn.Sequential(ResidualBlock(64, 128), ResidualBlock(128, 128))
        self.layer3 = nn.Sequential(ResidualBlock(128, 256), ResidualBlock(256, 256))
        self.layer4 = nn.Sequential(ResidualBlock(256, FEATURES), ResidualBlock(FEATURES, FEATURES))
        self.alpha = nn.Sequential(nn.Linear(FEATURES, 1), nn.Sigmoid())
        self.beta = nn.Sequential(nn.Linear(2 * FEATURES, 1), nn.Sigmoid())
        self.pred_fc1 = nn.Linear(FEATURES, CLASSES)
        self.pred_fc2 = nn.Linear(2 * FEATURES, CLASSES)

    def forward(
        self, chips: Float[Tensor, "frames 3 height width"]
    ) -> Float[Tensor, "frames features"]:
        """Features of each face chip; pixels 0 to 1, RGB, not normalised."""
        x = self.maxpool(torch.relu(self.bn1(self.conv1(chips))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x)))).mean(dim=(2, 3))

    def pool(self, features: Float[Tensor, "frames features"]) -> Float[Tensor, " classes"]:
        """Logits of the video that the frames make up; `nan` without a frame.

        The published evaluation weighs frames by alpha, but divides by the sum of alpha times
        beta; training has alpha times beta in both places. Accuracies of the papers come from the
        evaluation, so this follows it.

        Source: Open-Debin/Emotion-FAN basic_code/networks.py, ResNet_AT.forward, phrase "eval".
        """
        alpha = self.alpha(features)
        video = (alpha * features).sum(dim=0) / alpha.sum()
        related = torch.cat([features, video.expand_as(features)], dim=1)
        beta = self.beta(related)
        return self.pred_fc2((alpha * related).sum(dim=0) / (alpha * beta).sum())


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut; where channels change, size is halved.

    Source: He et al. 2016, the basic block of ResNet-18.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        stride = 1 if inputs == outputs else 2
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = nn.Sequential()
        if inputs != outputs:
            shortcut = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(outputs))

    def forward(self, x: Float[Tensor, "n i h w"]) -> Float[Tensor, "n o h2 w2"]:
        """Features of the next stage."""
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + self.downsample(x))
