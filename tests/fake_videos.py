"""Videos whose frames tell their number: brightness is 8 * (number % 30); a tone each second."""

from fractions import Fraction

import av
import numpy as np

RATE = 44100


def film(
    path,
    seconds=8.0,
    fps=Fraction(30000, 1001),
    width=160,
    height=120,
    has_sound=True,
    still=(0, 0),
):
    """Write it: key frames every 50 frames, B-frames, a beep in the first half of each second.

    The picture stands between the two seconds of `still`: no frame begins there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        video = container.add_stream("libx264", rate=fps)
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.options = {"g": "50", "bf": "2", "crf": "10", "threads": "1"}
        sound = container.add_stream("aac", rate=RATE) if has_sound else None
        if sound:
            sound.layout = "mono"
        for number in range(round(seconds * fps)):
            pixels = np.full((height, width, 3), 8 * (number % 30), np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, 1 / Fraction(fps)
            if not still[0] <= number / fps < still[1]:
                container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if sound:
            frame = av.AudioFrame.from_ndarray(beeps(seconds, RATE)[None], "s16", "mono")
            frame.sample_rate, frame.pts = RATE, 0
            container.mux(sound.encode(frame))
            container.mux(sound.encode(None))


def beeps(seconds, rate):
    """Int16 samples: 440 Hz in the first half of each second, silence in the other."""
    time = np.arange(round(seconds * rate)) / rate
    return (8000 * np.sin(2 * np.pi * 440 * time) * (time % 1 < 0.5)).astype(np.int16)


def numbers_of(path):
    """Frame numbers modulo 30, read from the brightness."""
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return [round(float(frame.mean()) / 8) for frame in frames]
