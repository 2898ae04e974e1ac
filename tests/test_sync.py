"""Lip sync: numbers of the reference, the sign of the offset, and the edges of a clip."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import torchvision_cpu
from metrics.sync import mfcc, mfcc_windows, sync_scores

GOLDEN = Path(__file__).parent / "golden"
CASES = json.loads((GOLDEN / "sync.json").read_text(encoding="utf-8"))["cases"]


def stored(name):
    with np.load(GOLDEN / "sync.npz") as arrays:
        return torch.from_numpy(arrays[name])


def noise(windows, features, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(windows, features, generator=generator)


def lips_and_sound(late, windows=100, features=32):
    """One random walk seen twice: the sound shows what the lips showed `late` frames ago."""
    walk = noise(windows + 20, features, seed=3).cumsum(dim=0)
    return walk[10 : 10 + windows], walk[10 - late : 10 - late + windows]


def test_mfcc_equals_python_speech_features():
    samples, expected = stored("samples"), stored("mfcc")

    coefficients = mfcc(samples)

    assert coefficients.shape == expected.shape
    torch.testing.assert_close(coefficients, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"max_shift={case['max_shift']}")
def test_scores_equal_syncnet(case):
    video, audio = stored("video"), stored("audio")

    scores = sync_scores(video, audio, case["max_shift"])

    assert scores.offset == case["offset"]
    assert scores.distance == pytest.approx(case["distance"], abs=1e-5)
    assert scores.confidence == pytest.approx(case["confidence"], abs=1e-5)


@pytest.mark.parametrize("max_shift", [1, 10, 15, 31])
@pytest.mark.parametrize("windows", [2, 20, 150])
def test_scores_equal_the_installed_syncnet(windows, max_shift):
    torchvision_cpu.install()
    from syncnet_python.SyncNetInstance import calc_pdist

    video, audio = noise(windows, 64, seed=1), noise(windows, 64, seed=2)
    distances = torch.stack(calc_pdist(video, audio, max_shift), dim=1).mean(dim=1)
    smallest, index = distances.min(dim=0)

    scores = sync_scores(video, audio, max_shift)

    assert scores.offset == max_shift - int(index)
    assert scores.distance == pytest.approx(float(smallest), abs=1e-5)
    assert scores.confidence == pytest.approx(float(distances.median() - smallest), abs=1e-5)


@pytest.mark.parametrize("late", range(-10, 11))
def test_late_audio_has_a_negative_offset(late):
    video, audio = lips_and_sound(late)

    scores = sync_scores(video, audio)

    assert scores.offset == -late


def test_matching_sound_scores_better_than_any_other():
    video, audio = lips_and_sound(late=0)
    strengths = [0, 1, 2, 4, 8]

    scores = [
        sync_scores(video, audio + strength * noise(*audio.shape, seed=5)) for strength in strengths
    ]

    distances = [each.distance for each in scores]
    assert distances == sorted(distances)
    assert distances[0] == pytest.approx(1e-6 * 32**0.5, rel=1e-2)  # pairwise_distance adds 1e-6
    confidences = [each.confidence for each in scores]
    assert confidences == sorted(confidences, reverse=True)


def test_more_shifts_never_raise_the_distance():
    video, audio = noise(60, 16, seed=1), noise(60, 16, seed=2)

    distances = [sync_scores(video, audio, shift).distance for shift in (1, 3, 10, 15, 31)]

    assert distances == sorted(distances, reverse=True)


def test_audio_beyond_the_ends_is_zeros():
    video, audio = torch.full((2, 4), 3.0), torch.full((2, 4), 5.0)

    scores = sync_scores(video, audio, max_shift=2)

    # |3 - 5| of four features is 4, |3 - 0| is 6: shifts cost 6, 5, 4, 5, 6.
    assert scores.distance == pytest.approx(4, abs=1e-5)
    assert scores.confidence == pytest.approx(1, abs=1e-5)
    assert scores.offset == 0


def test_windows_begin_with_their_frame():
    samples = stored("samples")

    windows = mfcc_windows(samples)

    assert windows.shape == (46, 1, 13, 20)
    assert windows.dtype == torch.float32
    columns = mfcc(samples).float()
    for index in (0, 1, 44):
        assert torch.equal(windows[index, 0], columns[4 * index : 4 * index + 20].T)


def test_last_column_is_repeated_where_the_clip_ends():
    samples = stored("samples")
    frames = 10 * 640

    exact, short, long = (mfcc_windows(samples[: frames + extra]) for extra in (0, 80, 81))

    assert len(exact) == len(short) == len(long) == 6
    for windows in (exact, short):
        assert torch.equal(windows[-1, 0, :, -1], windows[-1, 0, :, -2])
    assert not torch.equal(long[-1, 0, :, -1], long[-1, 0, :, -2])
    assert torch.equal(exact[:-1], long[:-1])


def test_silence_has_finite_windows():
    windows = mfcc_windows(torch.zeros(3200, dtype=torch.int16))

    assert windows.shape == (1, 1, 13, 20)
    assert torch.isfinite(windows).all()


@pytest.mark.usefixtures("unchecked")
def test_scaled_samples_are_refused():
    scaled = stored("samples").float() / 32768

    with pytest.raises(TypeError, match=r"int16 samples, got torch.float32.*\[-1, 1\]"):
        mfcc(scaled)


@pytest.mark.usefixtures("unchecked")
def test_stereo_is_refused():
    with pytest.raises(ValueError, match=r"one channel, got \(2, 3200\)"):
        mfcc_windows(torch.zeros(2, 3200, dtype=torch.int16))


@pytest.mark.parametrize("samples", [1, 3199])
def test_short_audio_is_refused(samples):
    with pytest.raises(ValueError, match=f"audio has {samples} samples: a window needs 3200"):
        mfcc_windows(torch.zeros(samples, dtype=torch.int16))


def test_no_audio_is_refused():
    with pytest.raises(ValueError, match=r"one channel, got \(0,\)"):
        mfcc_windows(torch.zeros(0, dtype=torch.int16))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("video", "audio", "max_shift", "message"),
    [
        (noise(5, 4, 1), noise(4, 4, 1), 15, "5 windows and audio 4: cut both"),
        (noise(5, 4, 1), noise(5, 3, 1), 15, "differ in shape"),
        (noise(1, 4, 1), noise(1, 4, 1), 15, "1 window: .* at least 2"),
        (noise(5, 4, 1)[0], noise(5, 4, 1)[0], 15, r"expected \(windows, features\)"),
        (noise(5, 4, 1), noise(5, 4, 1) / 0, 15, "audio: 5 frames hold NaN or inf"),
        (noise(5, 4, 1), noise(5, 4, 1), 0, "max_shift=0: expected at least 1"),
    ],
)
def test_what_cannot_be_compared_is_refused(video, audio, max_shift, message):
    with pytest.raises(ValueError, match=message):
        sync_scores(video, audio, max_shift)
