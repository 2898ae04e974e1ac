"""The table of phases: what it refuses, what a step belongs to, when EDI's teacher goes."""

import dataclasses

import pytest

from fixtalk.phases import Phase, Stretch, stretch_at, taught_share

PLAIN = Phase(
    trains={"edi": 1.0}, expression=True, learning_rate=1e-3, final_learning_rate=1e-3,
    discriminator_learning_rate=0.0, penalty=0.0, weights={"l_rec": 1.0},
)  # fmt: skip
OTHER = dataclasses.replace(PLAIN, trains={"emi": 1.0}, weights={"imitation": 1.0})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trains": {"nose": 1.0}}, r"unknown part \['nose'\]"),
        ({"trains": {"edi": 0.0}}, "at least one part"),
        ({"weights": {"l_nose": 1.0}}, r"unknown loss \['l_nose'\]"),
        ({"weights": {"l_rec": 0.0}}, "at least one loss"),
        ({"weights": {"l_rec": 1.0, "l_per": -1.0}}, "at least 0"),
        ({"weights": {"l_adv": 1.0}}, "l_adv needs discriminator_learning_rate"),
        ({"trains": {"expression": 1.0}, "expression": False}, "trained where expression is true"),
    ],
)
def test_wrong_phase_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(PLAIN, **change)


def test_only_losses_on_frames_ask_for_rendering():
    assert PLAIN.renders
    assert not OTHER.renders


def test_schedule_picks_stretch_and_share():
    schedule = [Stretch("a", PLAIN, 2), Stretch("b", OTHER, 3)]

    assert stretch_at(schedule, 0) == (schedule[0], 0.0)
    assert stretch_at(schedule, 1) == (schedule[0], 1.0)
    assert stretch_at(schedule, 3) == (schedule[1], 0.5)
    with pytest.raises(IndexError, match="behind the last phase b"):
        stretch_at(schedule, 5)


def test_teacher_steps_back_over_the_steps_that_train_edi():
    # ten steps of EDI, cut in two by steps that leave it alone
    schedule = [Stretch("a", PLAIN, 4), Stretch("b", OTHER, 5), Stretch("c", PLAIN, 6)]

    shares = [taught_share(schedule, step) for step in range(15)]

    assert shares == [1, 1, 0.5, 0.5, *[0.5] * 5, 0.5, 0.5, 0, 0, 0, 0]
