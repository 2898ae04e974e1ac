"""Speech, emotion, motion seed → ARKit coefficients and head pose of each frame, for anybody."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d, uniform_filter1d

from fixtalk.shapes import Float
from fixtalk.synthetic.speech import Speech
from fixtalk.synthetic.visemes import FPS, both_sides, mouth_curves

EMOTIONS: dict[str, dict[str, float]] = {
    "neutral": {},
    "happy": both_sides(mouthSmile_=0.75, cheekSquint_=0.6, eyeSquint_=0.35, mouthUpperUp_=0.2),
    "sad": both_sides(
        mouthFrown_=0.7, browInnerUp=0.9, mouthShrugLower=0.35, eyeSquint_=0.2, eyeLookDown_=0.3
    ),
    "angry": both_sides(
        browDown_=1.0, noseSneer_=0.4, mouthFrown_=0.4, eyeSquint_=0.4, mouthPress_=0.2
    ),
    "surprised": both_sides(browInnerUp=0.9, browOuterUp_=0.9, eyeWide_=0.8, jawOpen=0.22),
    "fear": both_sides(
        browInnerUp=1.0, browDown_=0.25, eyeWide_=0.9, mouthStretch_=0.6, jawOpen=0.1
    ),
    "disgusted": both_sides(
        noseSneer_=1.0, mouthUpperUp_=0.55, browDown_=0.6, eyeSquint_=0.5, mouthFrown_=0.3
    ),
    "contempt": {
        **both_sides(eyeSquint_=0.25),
        "mouthSmileRight": 0.75,
        "mouthDimpleRight": 0.8,
        "noseSneerRight": 0.25,
        "browOuterUpRight": 0.4,
    },
}
LEVELS = {1: 0.4, 2: 0.7, 3: 1.0}
BLINK = (0.5, 1.0, 0.9, 0.45, 0.12)
WIDE_SHARE = 0.35  # of the motions turn the head far to a side and back
WIDE_YAW = 0.61  # radians, 35 degrees


@dataclass(frozen=True)
class Motion:
    """What a face does, without whose face it is."""

    arkit: Float[np.ndarray, "frames 52"]
    pose: Float[np.ndarray, "frames 6"]  # yaw, pitch, roll in radians, shift in decimetres
    visemes: tuple[str, ...]


def build_motion(
    speech: Speech,
    emotion: str,
    level: int,
    motion_seed: int,
    names: tuple[str, ...],
    max_seconds: float,
) -> Motion:
    """The motion of a spoken sentence at 25 fps, cut at `max_seconds`.

    Args:
        speech: drives the lips, and through its rhythm the nods.
        emotion: a key of EMOTIONS.
        level: strength of the emotion, 1..3.
        motion_seed: of everything that is not said: blinks, gaze, head.
        names: of the coefficients, in order.
        max_seconds: longest clip.
    """
    num_frames = max(1, int(min(speech.seconds, max_seconds) * FPS))
    arkit, visemes = mouth_curves(speech.phonemes, num_frames, names)
    energy = uniform_filter1d(arkit[:, names.index("jawOpen")], 9, mode="nearest")
    rng = np.random.default_rng([motion_seed, 0])
    mouth_share = 1 - 0.35 * np.clip(2 * energy, 0, 1)
    for name, value in EMOTIONS[emotion].items():
        wobble = 0.85 + 0.15 * _drift(rng, num_frames, 12)
        share = mouth_share if name.startswith("mouth") else 1.0
        arkit[:, names.index(name)] += value * LEVELS[level] * wobble * share
    _blink(arkit, names, np.random.default_rng([motion_seed, 1]))
    _look_around(arkit, names, np.random.default_rng([motion_seed, 2]))
    arkit[:, names.index("browInnerUp")] += 0.25 * np.clip(energy - 0.25, 0, 1)
    pose = _head_pose(np.random.default_rng([motion_seed, 3]), energy)
    return Motion(np.clip(arkit, 0, 1.1).astype(np.float32), pose, tuple(visemes))


def _drift(rng: np.random.Generator, num_frames: int, width: int) -> Float[np.ndarray, " frames"]:
    """Smooth random values of unit spread; `width` in frames."""
    margin = 4 * width
    noise = gaussian_filter1d(rng.standard_normal(num_frames + 2 * margin), width)
    # The filter shrinks white noise to a spread of 1 / sqrt(2 width sqrt(pi)).
    return noise[margin : margin + num_frames] * np.sqrt(2 * width * np.sqrt(np.pi))


def _blink(
    arkit: Float[np.ndarray, "frames 52"], names: tuple[str, ...], rng: np.random.Generator
) -> None:
    eyes = [names.index("eyeBlinkLeft"), names.index("eyeBlinkRight")]
    frame = int(FPS * rng.uniform(0.4, 3.5))
    while frame < len(arkit) - len(BLINK):
        for step, closed in enumerate(BLINK):
            arkit[frame + step, eyes] = np.maximum(arkit[frame + step, eyes], closed)
        frame += int(FPS * rng.uniform(1.2, 4.5))


def _look_around(
    arkit: Float[np.ndarray, "frames 52"], names: tuple[str, ...], rng: np.random.Generator
) -> None:
    """Gaze that rests and jumps: positive looks to the person's left, and up."""
    gaze = np.zeros((len(arkit), 2))
    aim = rng.normal(0, [0.12, 0.08])
    for frame in range(len(arkit)):
        if rng.random() < 0.03:
            aim = rng.normal(0, [0.28, 0.14])
        gaze[frame] = aim
    left, up = np.maximum(gaze, 0).T
    right, down = np.maximum(-gaze, 0).T
    for name, amount in {
        "eyeLookOutLeft": left,
        "eyeLookInRight": left,
        "eyeLookInLeft": right,
        "eyeLookOutRight": right,
        "eyeLookUpLeft": up,
        "eyeLookUpRight": up,
        "eyeLookDownLeft": down,
        "eyeLookDownRight": down,
    }.items():
        arkit[:, names.index(name)] += amount


def _head_pose(
    rng: np.random.Generator, energy: Float[np.ndarray, " frames"]
) -> Float[np.ndarray, "frames 6"]:
    count = len(energy)
    yaw = 0.26 * _drift(rng, count, 14) + 0.03 * _drift(rng, count, 6)
    if rng.random() < WIDE_SHARE:
        side = 1 if rng.random() < 0.5 else -1
        turn = np.sin(np.pi * np.clip((np.arange(count) / count - 0.1) / 0.8, 0, 1)) ** 2
        yaw = yaw * 0.5 + side * rng.uniform(0.45, WIDE_YAW) * turn
    pitch = 0.13 * _drift(rng, count, 14) + 0.03 * _drift(rng, count, 6)
    pitch = pitch + 0.10 * (energy - energy.mean())
    roll = 0.10 * _drift(rng, count, 16)
    shift = [size * _drift(rng, count, 18) for size in (0.08, 0.06, 0.12)]
    limits = np.array([WIDE_YAW, 0.35, 0.3, 0.2, 0.15, 0.3])
    pose = np.stack([yaw, pitch, roll, *shift], axis=1)
    return np.clip(pose, -limits, limits).astype(np.float32)
