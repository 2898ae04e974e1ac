"""Five points of a face, or 68 landmarks → which way the head looks, how far the mouth is open."""

import numpy as np

from fixtalk.shapes import Float

# Eyes, tip of the nose, corners of the mouth, as the detector orders them: x to the right of the
# picture, y up, z towards the camera, in distances between the eyes. Mean of 60 people of the
# CC0 head (fixtalk/synthetic) at rest; people differ by 0.13 in y and 0.12 in z.
MODEL = np.array(
    [
        [-0.500, 0.000, 0.000],
        [0.500, 0.000, 0.000],
        [0.000, -0.614, 0.504],
        [-0.377, -1.096, 0.106],
        [0.377, -1.096, 0.106],
    ]
)
DEVIATIONS = np.array([0.05, 0.05, 0.10, 0.15, 0.15])  # of people and mouths from it
SPREAD = np.array([0.5, 0.2, 0.3])  # radians of yaw, pitch and roll that talking heads keep within
CAMERA_DISTANCE = 20.0  # distances between the eyes: 1.3 m, a usual shot of head and shoulders
STEPS, NUDGE, FARTHEST_STEP = 15, 1e-5, 0.5  # of Gauss-Newton, its derivatives, in radians
UPPER_LIP, LOWER_LIP = [61, 62, 63], [67, 66, 65]  # inner edges, iBUG order
EYES = [36, 45]  # outer corners


def head_angles(points: Float[np.ndarray, "frames 5 2"]) -> Float[np.ndarray, "frames 3"]:
    """Yaw, pitch and roll in radians of the head in each frame.

    Positive yaw turns the face to the right of the picture, positive pitch downwards, positive
    roll tilts the crown to the left of the picture; the head rolls first, then nods, then turns.

    The most probable pose of a mean face seen by a pinhole camera, each point and each angle
    normally distributed (Gauss-Newton). Place and size in the picture do not matter. Nods are
    told from five points only roughly: a short nose and an open mouth look like one.

    Args:
        points: eyes, nose, corners of the mouth in pixels, y down, left of the picture first.
    """
    model = MODEL - MODEL.mean(axis=0)
    seen = (points - points.mean(axis=1, keepdims=True)) * [1, -1]
    spread = np.sqrt((seen**2).sum(axis=(1, 2)) / (model[:, :2] ** 2).sum())
    seen = seen / np.maximum(spread, 1e-6)[:, None, None]
    unknown = np.zeros((len(points), 6))  # yaw, pitch, roll, log scale, shift
    for _ in range(STEPS):
        error = _misfit(unknown, model, seen)
        nudged = [_misfit(unknown + step, model, seen) for step in NUDGE * np.eye(6)]
        slope = (np.stack(nudged, axis=2) - error[..., None]) / NUDGE
        square = slope.transpose(0, 2, 1) @ slope + NUDGE * np.eye(6)
        step = np.linalg.solve(square, slope.transpose(0, 2, 1) @ error[..., None])[..., 0]
        unknown -= np.clip(step, -FARTHEST_STEP, FARTHEST_STEP)
    return unknown[:, :3].astype(np.float32)


def mouth_opening(landmarks: Float[np.ndarray, "frames 68 2"]) -> Float[np.ndarray, " frames"]:
    """Gap between the inner lips over the distance of the outer corners of the eyes.

    Mean of three places; 0 closed, about 0.3 wide open. A turned head brings the eyes together
    and so reads as more open.
    """
    gaps = np.linalg.norm(landmarks[:, UPPER_LIP] - landmarks[:, LOWER_LIP], axis=-1)
    eyes = np.linalg.norm(landmarks[:, EYES[0]] - landmarks[:, EYES[1]], axis=-1)
    return (gaps.mean(axis=1) / np.maximum(eyes, 1e-6)).astype(np.float32)


def _misfit(
    unknown: Float[np.ndarray, "frames 6"],
    model: Float[np.ndarray, "5 3"],
    seen: Float[np.ndarray, "frames 5 2"],
) -> Float[np.ndarray, "frames 13"]:
    """How far the points, and how far the angles lie from what is expected, in deviations."""
    turned = np.einsum("nij,kj->nki", _rotations(unknown[:, :3]), model)
    nearness = CAMERA_DISTANCE / (CAMERA_DISTANCE - turned[..., 2:])
    shown = turned[..., :2] * nearness * np.exp(unknown[:, 3])[:, None, None]
    apart = (shown + unknown[:, None, 4:] - seen) / DEVIATIONS[:, None]
    return np.concatenate(
        [apart.reshape(len(seen), 2 * len(model)), unknown[:, :3] / SPREAD], axis=1
    )


def _rotations(angles: Float[np.ndarray, "frames 3"]) -> Float[np.ndarray, "frames 3 3"]:
    """Matrices of yaw · pitch · roll, as `fixtalk.synthetic.pose.rotation` has them."""
    (cy, cp, cr), (sy, sp, sr) = np.cos(angles.T), np.sin(angles.T)
    rows = [
        [cy * cr + sy * sp * sr, sy * sp * cr - cy * sr, sy * cp],
        [cp * sr, cp * cr, -sp],
        [cy * sp * sr - sy * cr, sy * sr + cy * sp * cr, cy * cp],
    ]
    return np.moveaxis(np.array(rows), 2, 0)
