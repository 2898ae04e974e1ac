"""Speech → windows of sound; embeddings of lips and sound → how well the two keep time."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int16
from python_speech_features import mfcc as reference_mfcc
from torch import Tensor
from torch.nn.functional import pad

from metrics.inputs import check_numbers

SAMPLE_RATE = 16_000
SAMPLES_PER_FRAME = SAMPLE_RATE // 25
COLUMNS_PER_FRAME = 4  # 100 columns a second
FRAMES_PER_WINDOW = 5
COLUMNS_PER_WINDOW = COLUMNS_PER_FRAME * FRAMES_PER_WINDOW
EPSILON = 1e-6  # torch.nn.functional.pairwise_distance adds it to every difference


@dataclass(frozen=True)
class SyncScores:
    """How well lips and sound keep time.

    Attributes:
        confidence: LSE-C, distance of embeddings: median over the shifts minus the minimum;
            higher is better. Grows or shrinks with the number of shifts: compare only equal ones.
        distance: LSE-D, distance of embeddings at the best shift; lower is better. A constant lag
            costs nothing here: read it beside `offset`.
        offset: of the best shift, in frames of 1/25 s; best is 0. Negative when the audio is
            late: -3 when it comes 3 frames after the lips.
    """

    confidence: float
    distance: float
    offset: int


def mfcc(audio: Int16[Tensor, " samples"]) -> Float[Tensor, "columns 13"]:
    """Mel-frequency cepstral coefficients, 100 columns a second, float64.

    Samples scaled to [-1, 1] give other coefficients without any error: the scale of 16-bit
    integers is part of the definition.

    Args:
        audio: mono, 16 kHz.

    Raises:
        TypeError: not int16.
        ValueError: not one channel, or no sample.

    Source: jameslyons/python_speech_features base.py mfcc, defaults; equal to 1e-9
        (tests/golden/sync.json).
    """
    if audio.dtype != torch.int16:
        raise TypeError(
            f"expected int16 samples, got {audio.dtype}: SyncNet degrades silently on samples "
            "scaled to [-1, 1]; decode to 16-bit integers"
        )
    if audio.ndim != 1 or audio.numel() == 0:
        raise ValueError(f"expected (samples,) of one channel, got {tuple(audio.shape)}")
    return torch.from_numpy(reference_mfcc(audio.cpu().numpy(), SAMPLE_RATE))


def mfcc_windows(audio: Int16[Tensor, " samples"]) -> Float[Tensor, "windows 1 13 20"]:
    """Coefficients beside each five frames of video, as SyncNet reads them, float32.

    Window i begins with frame i. There are as many as whole five-frame windows fit, samples // 640
    - 4, one more than SyncNet's own script scores: that last one may lack its last column, and
    then repeats the one before.

    Args:
        audio: mono, 16 kHz, in time with 25 frames a second.

    Raises:
        TypeError: not int16.
        ValueError: shorter than five frames, or not one channel.

    Source: joonson/syncnet_python SyncNetInstance.py, evaluate.
    """
    columns = mfcc(audio).float()
    frames = len(audio) // SAMPLES_PER_FRAME
    if frames < FRAMES_PER_WINDOW:
        minimum = FRAMES_PER_WINDOW * SAMPLES_PER_FRAME
        raise ValueError(f"audio has {len(audio)} samples: a window needs {minimum} (0.2 s)")
    needed = frames * COLUMNS_PER_FRAME
    if len(columns) < needed:  # by one, unless 81 or more samples follow the last whole frame
        columns = torch.cat([columns, columns[-1:]])
    windows = columns[:needed].unfold(0, COLUMNS_PER_WINDOW, COLUMNS_PER_FRAME)
    return windows.unsqueeze(1).contiguous()


def sync_scores(
    video: Float[Tensor, "windows features"],
    audio: Float[Tensor, "windows features"],
    max_shift: int = 15,
) -> SyncScores:
    """Confidence (higher is better), distance (lower is better) and offset (frames) of a clip.

    Beyond both ends the audio is zeros, not left out: large shifts of short clips compare mostly
    with zeros. That is the metric; it makes scores of clips of different length differ.

    Args:
        video: embedding of the lips of each window.
        audio: embedding of the sound of the same window.
        max_shift: frames tried in either direction. Wav2Lip and EAT use 15, SyncNet's default
            is 10; values of different `max_shift` are not comparable.

    Raises:
        ValueError: lengths differ, fewer than two windows, NaN, or max_shift below 1.

    Source: joonson/syncnet_python SyncNetInstance.py, calc_pdist and evaluate, in float64; equal
        to 1e-5 (tests/golden/sync.json).
    """
    _check_embeddings(video, audio, max_shift)
    lips = video.double() + EPSILON
    sound = pad(audio.double(), (0, 0, max_shift, max_shift))
    near = sound.unfold(0, 2 * max_shift + 1, 1)  # a view: nothing is copied
    products = torch.einsum("nd,ndk->nk", lips, near)
    energies = sound.square().sum(dim=1).unfold(0, 2 * max_shift + 1, 1)
    squares = lips.square().sum(dim=1, keepdim=True) + energies - 2 * products
    distances = squares.clamp(min=0).sqrt().mean(dim=0)  # rounding can leave -1e-13
    best = int(distances.argmin())
    return SyncScores(
        confidence=float(distances.median() - distances[best]),
        distance=float(distances[best]),
        offset=max_shift - best,
    )


def _check_embeddings(video: Tensor, audio: Tensor, max_shift: int) -> None:
    if max_shift < 1:
        raise ValueError(f"max_shift={max_shift}: expected at least 1 frame")
    if video.ndim != 2:
        raise ValueError(f"expected (windows, features), got {tuple(video.shape)}")
    if len(video) != len(audio):
        raise ValueError(
            f"video has {len(video)} windows and audio {len(audio)}: cut both to the shorter"
        )
    if len(video) < 2:
        raise ValueError(f"{len(video)} window: a confidence needs at least 2 (6 frames)")
    check_numbers(video=video, audio=audio)
