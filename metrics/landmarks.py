"""Facial points → how far apart two clips are, how shaky one is; detections → faces found."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from metrics.inputs import check_numbers

REGIONS = {"face": slice(0, 68), "mouth": slice(48, 68)}  # iBUG order
EYES = (slice(36, 42), slice(42, 48))


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
    _check_ibug(fake)
    points = REGIONS[region]
    return point_distance(fake[:, points], real[:, points], centre)


def normalised_landmark_distance(
    fake: Float[Tensor, "frames 68 2"],
    real: Float[Tensor, "frames 68 2"],
    region: Literal["face", "mouth"] = "face",
) -> Float[Tensor, " frames"]:
    """Mean distance of the iBUG points in inter-ocular distances of the truth; lower is better.

    Nothing is centred: a shifted face counts as wrong. Independent of the resolution, hence not
    comparable with the pixels of `landmark_distance`. A true face with both eyes in one place has
    no scale: its frame is `nan`.

    Args:
        fake: points of the generated frames.
        real: points of the ground truth, aligned one to one with `fake`.
        region: "face" for all points, "mouth" for points 48-67.

    Raises:
        ValueError: shapes differ or are not (frames, 68, 2), no frame, or NaN.

    Source: normalised mean error of 300-W (Sagonas et al. 2013), between the centres of the eyes;
        equal to 1e-9 (tests/golden/landmarks.json).
    """
    distance = landmark_distance(fake, real, region, centre=False)
    scale = interocular_distance(real)
    return torch.where(scale > 0, distance / scale, torch.nan)


def interocular_distance(points: Float[Tensor, "frames 68 2"]) -> Float[Tensor, " frames"]:
    """Distance between the centres of the eyes of each frame, in pixels; a scale, not a score.

    The centre is the mean of an eye's six points. Measures between the outer corners are longer.

    Raises:
        ValueError: not (frames, 68, 2), no frame, or NaN.

    Source: iBUG points 36-41 and 42-47, as drawn by Sagonas et al. 2013.
    """
    check_numbers(points=points)
    _check_ibug(points)
    right, left = (points[:, eye].double().mean(dim=1) for eye in EYES)
    return (left - right).norm(dim=-1)


def jitter(points: Float[Tensor, "frames points 2"]) -> Float[Tensor, " frames"]:
    """Mean size of the points' second difference in time, in pixels per frame²; lower is better.

    Still or steadily moving points score 0. The first and last frame have one neighbour only and
    are `nan`. True speech is not 0: read it beside the value of the true frames.

    Args:
        points: any set of facial points, every frame of the clip in order; `nan` where no face
            was found, which makes that frame and its neighbours `nan`.

    Raises:
        ValueError: no frame.

    Source: discrete acceleration of the points, x[t-1] - 2x[t] + x[t+1], defined by this project.
    """
    check_numbers(points=points.nan_to_num())
    values = points.new_full((len(points),), torch.nan, dtype=torch.float64)
    values[1:-1] = points.double().diff(n=2, dim=0).norm(dim=-1).mean(dim=-1)
    return values


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
    return (probabilities > min_probability).to(torch.float64)


def _check_ibug(points: Tensor) -> None:
    if points.shape[1:] != (68, 2):
        raise ValueError(f"expected (frames, 68, 2), got {tuple(points.shape)}")
