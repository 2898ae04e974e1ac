"""Plan of a clip → its frames, sound and exact labels."""

from dataclasses import dataclass

import numpy as np

from fixtalk.shapes import Float, Int, UInt8
from fixtalk.synthetic.corpus import ClipPlan
from fixtalk.synthetic.light import build_light
from fixtalk.synthetic.motion import build_motion
from fixtalk.synthetic.render import Person, Renderer
from fixtalk.synthetic.speech import SAMPLE_RATE, speak
from fixtalk.synthetic.visemes import FPS


@dataclass(frozen=True)
class RenderedClip:
    """One clip in memory."""

    frames: UInt8[np.ndarray, "frames height width 3"]
    audio: Int[np.ndarray, " samples"]  # int16, 16 kHz
    arkit: Float[np.ndarray, "frames 52"]
    pose: Float[np.ndarray, "frames 6"]
    landmarks: Float[np.ndarray, "frames 68 2"]  # raw pixels, pixel centres at +0.5
    visemes: tuple[str, ...]
    camera: str

    def labels(self) -> dict[str, np.ndarray]:
        """The arrays of the label file."""
        return {
            "arkit": self.arkit,
            "pose": self.pose,
            "landmarks": self.landmarks,
            "viseme": np.array(self.visemes),
            "camera": np.array(self.camera),
        }


def render_clip(
    renderer: Renderer, person: Person, plan: ClipPlan, max_seconds: float
) -> RenderedClip:
    """The clip of a plan.

    Coefficients are rounded to float16 first, so the labels hold exactly what is drawn.

    Raises:
        ValueError: `person` is not the plan's.
    """
    if person.identity_seed != plan.identity_seed:
        raise ValueError(f"{plan.clip}: planned for identity seed {plan.identity_seed}, "
                         f"given {person.identity_seed}")  # fmt: skip
    speech = speak(plan.sentence, plan.voice)
    names = renderer.head.expressions.names
    motion = build_motion(speech, plan.emotion, plan.level, plan.motion_seed, names, max_seconds)
    arkit, light = motion.arkit.astype(np.float16), build_light(plan.light_seed)
    frames, landmarks = [], []
    for coefficients, pose in zip(arkit.astype(np.float32), motion.pose, strict=True):
        frame, points = renderer.frame(person, light, coefficients, pose)
        frames.append(frame)
        landmarks.append(points)
    num_samples = len(frames) * SAMPLE_RATE // FPS
    audio = np.zeros(num_samples, np.int16)
    spoken = speech.audio[:num_samples]
    audio[: len(spoken)] = np.round(spoken * 32767)
    return RenderedClip(
        frames=np.stack(frames),
        audio=audio,
        arkit=arkit,
        pose=motion.pose,
        landmarks=np.stack(landmarks),
        visemes=motion.visemes,
        camera=renderer.camera.to_json(),
    )
