"""Facial points of two clips → how far apart they are; detector probabilities → faces found."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from metrics.inputs import check_numbers

REGIONS = {"face": slice(0, 68), "mouth": slice(48, 68)}  # iBUG order


def landmark_distance(
    fake: Float[Tensor, "frames 68 2"],
    real: Float[Tensor, "frames 68 2"],
    region: Literal["face", "mouth"] = "face",
    centre: bool = True,
) -> Float[Tensor, " frames"]:
    """Mean distance between the 68 iBUG points of each frame, in pixels; lower is better.

    The unit is a pixel of whatever frame the points were found in: 128 px crops in the tables
    of EAT and FixTalk. Frames without a face have no points: leave them out and count them.

    Args:
        fake: points of the generated frames.
        real: points of the ground truth, aligned one to one with `fake`.
        region: "face" for all points (F-LMD), "mouth" for points 48-67 (M-LMD).
        centre: move each set to its own mean over the region first, which forgives a shifted
            crop; rotation and scale are never forgiven.

    Raises:
        ValueError: shapes differ or are not (frames, 68, 2), no frame, or NaN.

    Source: yuangan/evaluation_eat test_lmd.py; equal to 1e-9 (tests/golden/landmarks.json).
    """
    if region not in REGIONS:
        raise ValueError(f"region={region!r}: expected one of {', '.join(REGIONS)}")
    check_numbers(fake=fake, real=real)
    if fake.shape[1:] != (68, 2):
        raise ValueError(f"expected (frames, 68, 2), got {tuple(fake.shape)}")
    points = REGIONS[region]
    return point_distance(fake[:, points], real[:, points], centre)


def point_distance(
    fake: Float[Tensor, "frames points 2"],
    real: Float[Tensor, "frames points 2"],
    centre: bool = True,
) -> Float[Tensor, " frames"]:
    """Mean distance between corresponding points of each frame, in pixels; lower is better.

    Not comparable between sets of points: five points of a detector are not the 68 of LMD.

    Args:
        fake: points of the generated frames.
        real: points of the ground truth, aligned one to one with `fake`.
        centre: move each set to its own mean first.

    Raises:
        ValueError: shapes differ, no frame, or NaN.

    Source: yuangan/evaluation_eat test_lmd.py, for any set of points.
    """
    check_numbers(fake=fake, real=real)
    fake, real = fake.double(), real.double()
    if centre:
        fake, real = (points - points.mean(dim=1, keepdim=True) for points in (fake, real))
    return (fake - real).norm(dim=-1).mean(dim=-1)


def face_found(
    probabilities: Float[Tensor, " frames"], min_probability: float
) -> Float[Tensor, " frames"]:
    """1 for each frame with a face above the probability, else 0; higher is better.

    Args:
        probabilities: of the best detection of each frame; 0 for no detection.
        min_probability: of a face that counts, 0 to 1.

    Raises:
        ValueError: no frame, or NaN.

    Source: share of frames scored, as THEval and EAT report beside their distances.
    """
    check_numbers(probabilities=probabilities)
    if probabilities.numel() == 0:
        raise ValueError("probabilities are empty: a clip without frames has no share")
    return (probabilities > min_probability).to(torch.float64)
