"""Sound file, or the sound track of a video → int16 mono samples at 16 kHz."""

import av
import numpy as np

from fixtalk.container import (
    MAX_SECONDS,
    SAMPLE_RATE,
    SOUND_FORMATS,
    MediaError,
    Video,
    frames_of,
    name_of,
    open_media,
    sound_stream,
)
from fixtalk.shapes import Int


def read_sound(sound: Video) -> Int[np.ndarray, " samples"]:
    """All samples of the first sound track, int16 mono at 16 kHz.

    Time starts with the track. The track of a video may start later than its pictures: read it
    with `media.read_audio`, which aligns both.

    Raises:
        MediaError: missing, not readable, without a sound track or longer than six hours.
    """
    with open_media(sound, SOUND_FORMATS) as container:
        stream = sound_stream(container, name_of(sound))
        if stream is None:
            raise MediaError(f"{name_of(sound)}: no sound track in it", "no sound")
        resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
        pieces, samples = [], 0
        for frame in frames_of(container, stream):
            frame.pts = None  # a jump of the time stamps would make the resampler stretch
            pieces += [piece.to_ndarray()[0] for piece in resampler.resample(frame)]
            samples += frame.samples
            if samples > MAX_SECONDS * frame.sample_rate:
                raise MediaError(f"{name_of(sound)}: longer than {MAX_SECONDS} s; cut it")
        pieces += [piece.to_ndarray()[0] for piece in resampler.resample(None)]
    if not sum(map(len, pieces)):
        raise MediaError(f"{name_of(sound)}: no sound can be decoded; fetch it again", "no sound")
    return np.concatenate(pieces)
