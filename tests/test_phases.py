"""The table of phases: what it refuses, what a step belongs to, when EDI's teacher goes."""

import dataclasses

import pytest

from fixtalk.model import FixTalk
from fixtalk.phases import Phase, Stretch, parts_of, stretch_at, taught_share, terms_of
from fixtalk.training import parts
from tests.conftest import TINY_BASE, TINY_TALKING

PLAIN = Phase(
    trains={"edi": 1.0}, learning_rate=(1e-3, 1e-3), discriminator=None,
    weights={"l_rec": 1.0},
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
        ({"weights": {"l_adv": 1.0}}, "l_adv needs a discriminator"),
        ({"learning_rate": (1e-3, 0.0)}, "choose both above 0"),
    ],
)
def test_wrong_phase_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(PLAIN, **change)


HEARD = {"l_lip": 1.0, "l_tone": 1.0, "l_emotion": 1.0, "l_lids": 1.0, "l_pose": 1.0}
HEAR = dataclasses.replace(PLAIN, trains={"speech": 1.0}, weights=HEARD)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": {"l_rec": 1.0}}, "speech is trained by l_lip, .*, and they by nothing else"),
        ({"trains": {"edi": 1.0}}, "speech is trained by l_lip, .*, and they by nothing else"),
        ({"trains": {"speech": 0.0, "edi": 1.0}}, "speech is trained by"),
        (
            {"weights": {"l_lip": 1.0}},
            "as a whole: weigh l_tone, l_emotion, l_lids, l_pose as well",
        ),
        ({"weights": HEARD | {"l_pose": 0.0}}, "as a whole: weigh l_pose as well"),
        ({"weights": HEARD | {"l_dis": 1.0, "l_fea": 1.0}}, "l_fea, l_dis cannot be weighed"),
        ({"weights": HEARD | {"warp_truth": 1.0}}, "warp_truth cannot be weighed"),
        ({"weights": HEARD | {"l_sync": 1.0}}, "l_sync looks at frames: weigh l_rec as well"),
    ],
)
def test_phase_that_speaks_by_half_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(HEAR, **change)


def test_phase_speaks_where_speech_is_weighed():
    speak = dataclasses.replace(HEAR, weights=HEARD | {"l_rec": 1.0, "l_sync": 1.0})

    assert HEAR.speaks
    assert speak.speaks
    assert not PLAIN.speaks
    assert not HEAR.renders
    assert speak.renders


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


def test_teacher_steps_back_within_a_phase():
    assert [taught_share(done) for done in (0.0, 0.1, 0.3, 0.5, 0.7, 1.0)] == [1, 1, 0.5, 0.5, 0, 0]


def test_parts_of_an_indicator_exist_with_it_only():
    for config, indicators in ((TINY_BASE, []), (TINY_TALKING, ["emi", "edi"])):
        assert set(parts_of(indicators)) == set(parts(FixTalk(config)))


def test_terms_of_an_indicator_exist_with_it_only():
    assert "l_dis" not in terms_of(["edi"])
    assert {"l_rec", "l_dis", "imitation"} < set(terms_of(["emi"]))
    assert {"l_rec", "l_d_mem", "l_align"} < set(terms_of(["edi"]))
