"""Renderer settings → frames per CPU-second of one thread, printed as a table."""

import time
from collections.abc import Callable
from functools import partial

import numpy as np

from fixtalk.synthetic.camera import Camera
from fixtalk.synthetic.correspondence import CroppedFrame, FaceGeometry, correspondence
from fixtalk.synthetic.head import load_head
from fixtalk.synthetic.light import build_light
from fixtalk.synthetic.motion import Motion, build_motion
from fixtalk.synthetic.render import Renderer, build_person
from fixtalk.synthetic.speech import Voice, speak

# resolution, mesh level, supersampling: what params.yaml should say for each resolution
SETTINGS = ((64, 0, 2), (96, 0, 2), (128, 0, 2), (256, 0, 2), (256, 1, 1), (512, 1, 1))
PEOPLE = (11, 12, 13)
TEXT = "We painted the wooden boat on a cold bright morning."


def cpu_seconds(function: Callable[[], object]) -> float:
    """CPU time of one call, of this process."""
    start = time.process_time()
    function()
    return time.process_time() - start


def sample_motion() -> Motion:
    """A spoken sentence with a strong emotion."""
    speech = speak(TEXT, Voice("en-us+m1", 165, 50, 50))
    return build_motion(speech, "happy", 3, 5, load_head(0).expressions.names, 3.0)


def measure(resolution: int, level: int, supersampling: int, motion: Motion) -> tuple[float, float]:
    """CPU-seconds to set up a person, and frames per CPU-second, means over PEOPLE."""
    head = load_head(level)
    renderer = Renderer(head, Camera(resolution), supersampling)
    light = build_light(3)
    first = build_person(head, 1, resolution)
    renderer.frame(first, light, motion.arkit[0], motion.pose[0])  # compiles, fills caches
    setup, drawing, frames = 0.0, 0.0, 0
    for seed in PEOPLE:
        setup += cpu_seconds(partial(build_person, head, seed, resolution))
        person = build_person(head, seed, resolution)
        for arkit, pose in list(zip(motion.arkit, motion.pose, strict=True))[::2]:
            drawing += cpu_seconds(partial(renderer.frame, person, light, arkit, pose))
            frames += 1
    return setup / len(PEOPLE), frames / drawing


def measure_correspondence(motion: Motion, repeats: int = 200) -> tuple[float, float]:
    """Milliseconds to set up a geometry, and of one pair at 64 pixels."""
    head, camera, box = load_head(0), Camera(96), (14.0, 12.0, 68.0)
    geometry = FaceGeometry(head, 1)
    source = CroppedFrame(motion.arkit[0], motion.pose[0], box)
    driver = CroppedFrame(motion.arkit[-1], motion.pose[-1], box)
    correspondence(geometry, camera, source, driver, 64)
    setup = np.mean([cpu_seconds(partial(FaceGeometry, head, seed)) for seed in PEOPLE])
    pair = partial(correspondence, geometry, camera, source, driver, 64)
    return 1000 * float(setup), 1000 * float(np.mean([cpu_seconds(pair) for _ in range(repeats)]))


if __name__ == "__main__":
    motion = sample_motion()
    print("| pixels | mesh level | supersampling | set-up, CPU-s | frames per CPU-s |")
    print("|---|---|---|---|---|")
    for row in SETTINGS:
        setup_seconds, rate = measure(*row, motion)
        print(f"| {row[0]} | {row[1]} | {row[2]} | {setup_seconds:.2f} | {rate:.0f} |")
    geometry_ms, pair_ms = measure_correspondence(motion)
    print(f"\ncorrespondence at 64 pixels: {pair_ms:.2f} ms a pair, geometry {geometry_ms:.1f} ms")
