"""Control of motion: gains, relative motion, the one-euro filter in pieces, short drivers."""

import math
from itertools import islice

import numpy as np
import pytest
import torch

from fixtalk.container import FPS
from fixtalk.control import (
    Calming,
    Jitter,
    OneEuroFilter,
    Smoothing,
    blinks,
    mix,
    to_and_fro,
)

OWN = torch.tensor([[1.0, -2.0]])
DRIVEN = torch.tensor([[3.0, 0.1], [0.0, -4.0]])


def test_gain_of_one_is_the_driver_bit_by_bit_and_of_zero_the_source():
    assert torch.equal(mix(OWN, DRIVEN), DRIVEN)
    assert torch.equal(mix(OWN, DRIVEN, 0.0), OWN.expand(2, 2))


def test_gain_exaggerates_the_difference_from_the_source():
    assert torch.allclose(mix(OWN, DRIVEN, 1.5), torch.tensor([[4.0, 1.15], [-0.5, -5.0]]))


def test_relative_motion_leaves_out_what_the_faces_differ_by():
    offset = torch.tensor([[10.0, -7.0]])

    moved = mix(OWN, DRIVEN + offset, 2.0, DRIVEN[:1] + offset)

    assert torch.allclose(moved, OWN + 2 * (DRIVEN - DRIVEN[:1]), atol=1e-5)
    assert torch.allclose(moved[0], OWN[0])  # the neutral frame is the source as it is


@pytest.mark.parametrize("pieces", [[100], [1] * 100, [7, 50, 43]])
def test_filter_gives_the_same_bits_in_pieces(pieces):
    torch.manual_seed(0)
    values = torch.randn(100, 5).cumsum(0)
    once = OneEuroFilter(Smoothing())(values)

    filtering = OneEuroFilter(Smoothing())
    parts = [filtering(piece) for piece in values.split(pieces)]

    assert torch.equal(torch.cat(parts), once)
    assert not torch.equal(once, values)


def test_filter_without_beta_is_the_low_pass_of_the_paper():
    # a = 1 / (1 + tau / T), tau = 1 / (2 pi cutoff); a step reaches 1 - (1 - a)^n after n frames
    a = 1 / (1 + 25 / (2 * math.pi * 2.0))

    step = OneEuroFilter(Smoothing(cutoff=2.0, beta=0.0))(torch.tensor([[0.0]] + [[1.0]] * 4))

    expected = torch.tensor([[1 - (1 - a) ** n] for n in range(5)])
    assert torch.allclose(step, expected, atol=1e-6)


def test_filter_calms_noise_and_follows_a_jump():
    torch.manual_seed(0)
    noise = 0.01 * torch.randn(200, 1)
    jump = torch.cat([torch.zeros(50, 1), 5 * torch.ones(10, 1)])

    calm = OneEuroFilter(Smoothing())(noise)
    followed = OneEuroFilter(Smoothing())(jump)

    assert calm.diff(n=2, dim=0).std() < 0.4 * noise.diff(n=2, dim=0).std()
    assert followed[51, 0] > 4.5  # one frame after the jump


@pytest.mark.parametrize("wrong", [{"cutoff": 0.0}, {"beta": -1.0}, {"derivative_cutoff": -2.0}])
def test_impossible_smoothing_is_refused(wrong):
    with pytest.raises(ValueError, match=f"smoothing.{next(iter(wrong))}"):
        Smoothing(**wrong)


@pytest.mark.parametrize(
    ("items", "shown"),
    [("abcd", "abcdcbabcdcb"), ("ab", "abababababab"), ("a", "aaaaaaaaaaaa"), ("", "")],
)
def test_short_driver_goes_to_and_fro(items, shown):
    assert "".join(islice(to_and_fro(items), 12)) == shown


def test_blinks_are_short_and_come_every_few_seconds():
    minute = list(islice(blinks(3), 60 * FPS))

    shut = [n for n, closed in enumerate(minute) if closed == 1]
    assert 20 <= len(shut) <= 30  # 26 a minute in conversation, says Bentivoglio
    assert min(np.diff(shut)) >= FPS
    assert all(minute[n - 2] == 0 < minute[n + 1] < 1 for n in shut)
    assert all(minute[n + 4] == 0 for n in shut)
    assert minute == list(islice(blinks(3), 60 * FPS)) != list(islice(blinks(4), 60 * FPS))


@pytest.mark.parametrize("pieces", [[4, 1], [1] * 5])
def test_jitter_is_the_mean_norm_of_second_differences(pieces):
    values = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    jitter = Jitter()

    for piece in values.split(pieces):
        jitter.add(piece)

    assert jitter.mean == pytest.approx((10 + 5 + 0) / 3)


def test_calming_tells_of_each_component_before_and_after():
    torch.manual_seed(0)
    noise = {"lip": torch.randn(50, 3), "pose": torch.zeros(50, 2)}
    calming, idle = Calming(Smoothing()), Calming(None)

    for name, values in noise.items():
        filtered = calming(name, values)
        assert torch.equal(idle(name, values), values)

    assert torch.equal(filtered, noise["pose"])
    assert calming.after["lip"].mean < 0.8 * calming.before["lip"].mean
    assert idle.after["lip"].mean == idle.before["lip"].mean == calming.before["lip"].mean
    assert calming.before["pose"].mean == 0
