"""A published portrait → clips of it, moving, at any frame rate, with or without sound."""

from fractions import Fraction

import av
import cv2
import numpy as np
from skimage.data import astronaut

NTSC = Fraction(30000, 1001)


def portrait(side=128, shift=0):
    """The astronaut's head, `shift` pixels further to the left."""
    head = astronaut()[0:220, 110 + shift : 330 + shift]
    return cv2.resize(head, (side, side), interpolation=cv2.INTER_AREA)


def swaying(picture):
    """Pictures by frame number; `picture` draws one of a given shift."""
    pictures = {shift: picture(shift=shift) for shift in range(-12, 13)}
    return lambda number: pictures[round(12 * np.sin(number / 7))]


def write_clip(path, frames=30, fps=Fraction(25), pictures=None, sound=None, rate=48000):
    """A clip, by default of a head that sways; `sound` is a float signal, two channels alike."""
    pictures = pictures or swaying(portrait)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"preset": "ultrafast"})
        stream.pix_fmt = "yuv420p"
        stream.height, stream.width = pictures(0).shape[:2]
        if sound is not None:
            add_sound(container, sound, rate, "aac")
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(pictures(number), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_sound(path, sound, rate, codec):
    with av.open(str(path), "w") as container:
        add_sound(container, sound, rate, codec)
    return path


def add_sound(container, sound, rate, codec):
    stream = container.add_stream(codec, rate=rate)
    stream.layout = "stereo"
    samples = np.repeat((sound * 32000).astype(np.int16), 2)[None]
    frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="stereo")
    frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), 0
    resampler = av.AudioResampler(format=stream.format, layout="stereo", rate=rate)
    fifo = av.AudioFifo()
    for piece in resampler.resample(frame):
        fifo.write(piece)
    length = stream.codec_context.frame_size or 1024
    while piece := fifo.read(length) or fifo.read(0):
        container.mux(stream.encode(piece))
    container.mux(stream.encode(None))


def clicks(times, seconds, rate=48000):
    """Silence with a click of 5 ms at each time."""
    sound = np.zeros(round(seconds * rate))
    tone = np.sin(2 * np.pi * 1000 * np.arange(round(0.005 * rate)) / rate)
    for time in times:
        start = round(time * rate)
        sound[start : start + len(tone)] = tone
    return sound
