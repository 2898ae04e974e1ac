"""Sound file, or the sound track of a video → int16 mono samples at 16 kHz."""

import av
import numpy as np

from fixtalk.container import (
    FPS,
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

MEL_RATE = 80  # mel frames a second: hops of 200 samples
MEL_WINDOW = 16  # mel frames, five video frames, that speech drives the lips by


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


def first_mel_frame(frame: int) -> int:
    """First of the MEL_WINDOW mel frames that are heard from the beginning of a video frame on.

    It begins 16 / 5 mel frames later each video frame, rounded down: exact, however long the
    clip is. A mel frame k covers the time from k / 80 s on. The last four frames of a clip have
    no whole window; take the last one there is.

    Args:
        frame: number of the video frame, from 0 at 25 fps.

    Source: Rudrabha/Wav2Lip inference.py, mel_idx_multiplier.
    """
    return frame * MEL_RATE // FPS
