"""Two faces with landmarks → the first with the second's mouth, its pose kept."""

import cv2
import numpy as np

from fixtalk.face_shape import EYES, MOUTH
from fixtalk.shapes import Bool, Float, UInt8

INNER_MOUTH = slice(60, 68)  # of the 68 landmarks of iBUG 300-W
MARGIN = 5 / 256  # of the side, around the mouth; the paste fades out over it
BOX_MARGIN = 0.2  # of its longer side, around the box of a mouth
CENTRE = 0.5 + 0.5j  # of the pixel that OpenCV calls (0, 0)


class MouthOutsideError(ValueError):
    """A mouth that its frame does not show."""


def swap_mouth(
    face: UInt8[np.ndarray, "height width 3"],
    points: Float[np.ndarray, "68 2"],
    donor: UInt8[np.ndarray, "height width 3"],
    donor_points: Float[np.ndarray, "68 2"],
) -> UInt8[np.ndarray, "height width 3"]:
    """The face with the mouth of the donor, turned, scaled and shifted to where its own was.

    The rectangle pasted holds both mouths, so that neither is cut, and takes on the complexion
    around it. The jaw stays: an open mouth on a closed jaw is the price of having no renderer.

    Args:
        face: frame that keeps all but its mouth.
        points: its landmarks in pixels, pixel centres at +0.5.
        donor: frame of the same size.
        donor_points: the donor's landmarks.

    Raises:
        MouthOutsideError: a mouth outside the frame.
        ValueError: landmarks that are no face.

    Source: EDTalk, released code, where the donor keeps its colours and the edge is hard.
    """
    anchors, donor_anchors = _anchors(points), _anchors(donor_points)
    spread = donor_anchors - donor_anchors.mean()
    turn = np.vdot(spread, anchors) / np.vdot(spread, spread)  # least squares over the anchors
    shift = anchors[2] - turn * donor_anchors[2]
    offset = turn * CENTRE + shift - CENTRE
    matrix = np.array([[turn.real, -turn.imag, offset.real], [turn.imag, turn.real, offset.imag]])
    height, width = face.shape[:2]
    aligned = cv2.warpAffine(donor, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
    mouths = np.concatenate([_complex(points)[MOUTH], turn * _complex(donor_points)[MOUTH] + shift])
    across, down = (_weights(m, n) for m, n in ((mouths.real, width), (mouths.imag, height)))
    opacity = np.outer(down, across)[..., None]
    if not opacity.any():
        where = f"the mouth at {anchors[2]:.1f} lies outside the {width}×{height} frame"
        raise MouthOutsideError(where)
    seam = opacity * (1 - opacity)
    complexion = np.ones(3)
    if seam.any():
        complexion = (seam * face).sum((0, 1)) / (seam * aligned).sum((0, 1)).clip(min=1)
    mouth = (aligned * complexion).clip(0, 255)
    return (face + opacity * (mouth - face)).round().astype(np.uint8)


def mouth_box(points: Float[np.ndarray, "68 2"], side: int) -> Bool[np.ndarray, "side side"]:
    """Pixels of a square frame in the box around the mouth, widened by a fifth on each side.

    Args:
        points: landmarks in pixels, pixel centres at +0.5; the mouth may lie outside.
        side: of the frame.
    """
    low, high = points[MOUTH].min(0), points[MOUTH].max(0)
    margin = BOX_MARGIN * (high - low).max()
    centres = np.arange(side) + 0.5
    across, down = (
        (centres > low[axis] - margin) & (centres < high[axis] + margin) for axis in (0, 1)
    )
    return np.outer(down, across)


def _anchors(points: Float[np.ndarray, "68 2"]) -> np.ndarray:
    """Centres of both eyes and of the inner mouth, as complex numbers."""
    places = _complex(points)
    anchors = np.array([places[part].mean() for part in (*EYES, INNER_MOUTH)])
    if not np.isfinite(points).all():
        raise ValueError("some landmarks are no numbers")
    if np.abs(anchors - anchors.mean()).max() < 1:
        raise ValueError(f"eyes and mouth at {anchors.round(1)} are less than 2 pixels apart")
    return anchors


def _complex(points: Float[np.ndarray, "68 2"]) -> np.ndarray:
    return points[:, 0] + 1j * points[:, 1].astype(np.float64)


def _weights(coordinates: np.ndarray, count: int) -> Float[np.ndarray, " count"]:
    """1 between the outermost coordinates, falling to 0 over the margin."""
    margin = MARGIN * count
    centres = np.arange(count) + 0.5
    inside = np.minimum(centres - coordinates.min(), coordinates.max() - centres)
    return (1 + inside / margin).clip(0, 1).astype(np.float32)
