"""Motion from speech and from labels: swapped one by one, streamed, in time to the frame."""

from itertools import islice

import numpy as np
import pytest
import torch

import fixtalk
from fixtalk.mel import stream_pieces
from fixtalk.model import FixTalk
from fixtalk.sound import read_sound
from tests.conftest import TINY
from tests.discs import disc
from tests.speakers import loudness_as_lips, speaking
from tests.talkers import clicks

SOURCE = disc(0, 0, 64)


@pytest.fixture(scope="module")
def model():
    return speaking()


def speech(seed=0, seconds=0.4, **options):
    noise = np.random.default_rng(seed).normal(size=round(16000 * seconds))
    pieces = stream_pieces((3000 * noise).astype(np.int16))
    return fixtalk.SpeechDriver(pieces=pieces, **options)


def clip(person, start=0, frames=10, **options):
    pictures = [disc(person, start + n, 64) for n in range(frames)]
    return fixtalk.Driver(frames=pictures, **options)


@pytest.fixture
def rendered(model, monkeypatch):
    """Coefficients that the model is asked to render, by component."""
    asked, render = [], FixTalk.animate

    def noted(self, source, motion):
        asked.append(motion)
        return render(self, source, motion)

    monkeypatch.setattr(FixTalk, "animate", noted)

    def made(*drivers, **options):
        asked.clear()
        frames = list(fixtalk.animate(model, SOURCE, drivers, **options))
        parts = zip(*asked, strict=True)
        names = ("lip", "pose", "expression")
        return {n: torch.cat(p) for n, p in zip(names, parts, strict=True)}, np.stack(frames)

    return made


@pytest.mark.parametrize("driven", ["expression", "lip"])
def test_blink_is_added_to_the_expression_and_to_nothing_else(model, rendered, driven, monkeypatch):
    change = torch.tensor([1.0, -2.0, 0.5])
    monkeypatch.setattr(model.speech, "blink", lambda closed: closed[..., None] * change)
    lids = [0.0, 0.5, 1.0, 0.25]  # shorter than the ten frames

    still, plain = rendered(clip(1, components=(driven,)), batch=3)
    moved, blinking = rendered(clip(1, components=(driven,)), batch=3, blinks=lids)

    added = torch.zeros(10, 3)
    added[:4] = torch.tensor(lids)[:, None] * change
    assert torch.allclose(moved["expression"], still["expression"] + added, atol=1e-5)
    assert torch.equal(moved["lip"], still["lip"])
    assert torch.equal(moved["pose"], still["pose"])
    assert np.array_equal(blinking[[0, *range(4, 10)]], plain[[0, *range(4, 10)]])


def test_model_that_hears_nothing_cannot_blink():
    with pytest.raises(ValueError, match="no audio encoder"):
        list(fixtalk.animate(FixTalk(TINY).eval(), SOURCE, [clip(1)], blinks=[1.0]))


def drivers(lip, pose, expression):
    return [lip(("lip",)), pose(("pose",)), expression(("expression",))]


A = {
    "lip": lambda names: speech(1, components=names),
    "pose": lambda names: clip(1, components=names),
    "expression": lambda _: fixtalk.EmotionDriver(emotion="happy"),
}
B = {
    "other speech": ("lip", lambda names: speech(2, components=names)),
    "lips of a clip": ("lip", lambda names: clip(2, 5, components=names)),
    "pose of another clip": ("pose", lambda names: clip(2, 5, components=names)),
    "natural pose": ("pose", lambda names: speech(1, components=names)),
    "other emotion": ("expression", lambda _: fixtalk.EmotionDriver(emotion="sad")),
    "stronger": ("expression", lambda _: fixtalk.EmotionDriver(emotion="happy", level=3.0)),
    "expression of a clip": ("expression", lambda names: clip(1, components=names)),
    "expression heard": ("expression", lambda names: speech(1, components=names)),
}


@pytest.mark.parametrize(("component", "other"), B.values(), ids=B)
def test_swapping_one_input_changes_its_component_only(rendered, component, other):
    before, shown = rendered(*drivers(**A))

    after, shown_after = rendered(*drivers(**A | {component: other}))

    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {component}
    assert not np.array_equal(shown, shown_after)


def test_lips_speak_in_an_emotion_and_louder_at_a_higher_level(rendered):
    options = ({}, {"emotion": "happy", "level": 1.0}, {"emotion": "happy", "level": 3.0})

    plain, weak, strong = (rendered(speech(1, **felt))[0] for felt in options)

    change = weak["lip"] - plain["lip"]
    assert change.norm(dim=1).min() > 0.1
    assert torch.allclose(strong["lip"] - plain["lip"], 3 * change, atol=1e-4)
    for name in ("pose", "expression"):
        assert torch.equal(plain[name], strong[name])


def test_neutral_has_one_level_whatever_is_asked_for():
    weak, strong = (fixtalk.speech.strength_of("neutral", level) for level in (1.0, 3.0))

    assert torch.equal(weak, strong)
    assert weak.max() == pytest.approx(1 / 3)


def test_relative_lips_keep_what_an_emotion_adds_to_a_neutral_mouth(rendered, model):
    options = ({"emotion": "neutral"}, {"emotion": "happy"})

    calm, happy = (rendered(speech(1, relative=True, **felt))[0]["lip"] for felt in options)

    moods = torch.stack([fixtalk.speech.strength_of(name, 2.0) for name in ("neutral", "happy")])
    with torch.no_grad():
        added = 10.0 * model.speech._lip_mood(moods).diff(dim=0)
    assert torch.allclose(happy - calm, added.expand_as(calm), atol=1e-4)


def test_speech_and_emotions_look_at_the_face_of_the_source(model):
    speaker = speech(1, components=("lip", "expression"))
    people = [model.encode_source(torch.rand(1, 3, 64, 64) * 2 - 1) for _ in range(2)]
    pieces = list(speaker.pieces)

    told = []
    for person in people:
        driver = fixtalk.SpeechDriver(pieces=pieces, components=("lip", "expression"))
        (heard,) = driver.moving(model, person, 100)
        (shown,) = fixtalk.EmotionDriver(emotion="sad").moving(model, person, 100)
        told.append((heard["lip"], heard["expression"], shown["expression"]))

    for mine, theirs in zip(*told, strict=True):
        apart = mine - theirs
        assert apart.norm(dim=1).min() > 1e-3
        assert torch.allclose(apart, apart[:1].expand_as(apart), atol=1e-4)


def test_one_speech_moves_all_and_says_the_length(rendered):
    moved, shown = rendered(speech(components=("lip", "pose", "expression"), seconds=0.41))

    assert len(shown) == 11
    assert all(values.std(0).max() > 0 for values in moved.values())


def test_batches_do_not_show(rendered):
    every = ("lip", "pose", "expression")
    once, _ = rendered(speech(components=every), batch=10)

    pieces, _ = rendered(speech(components=every), batch=3)

    for name in every:
        assert torch.allclose(once[name], pieces[name], atol=1e-5)


def test_seed_draws_another_head(rendered):
    poses = [rendered(speech(components=("pose",), seed=s))[0]["pose"] for s in (0, 0, 1)]

    assert torch.equal(poses[0], poses[1])
    assert not torch.equal(poses[0], poses[2])


def test_relative_speech_leaves_a_silent_mouth_and_a_neutral_face_as_they_are(rendered):
    pieces = stream_pieces(np.zeros(6400, np.int16))
    silent = fixtalk.SpeechDriver(pieces=pieces, components=("lip",), relative=True)
    neutral = fixtalk.EmotionDriver(emotion="neutral", relative=True)
    own, _ = rendered(clip(1, components=("pose",)))

    moved, _ = rendered(silent, neutral)

    assert torch.allclose(moved["lip"], own["lip"][:1], atol=1e-5)
    assert torch.allclose(moved["expression"], own["expression"][:1], atol=1e-5)


def test_speech_streams_without_gradients(model):
    asked = []

    def pieces():
        for number in range(1000):
            asked.append(number)
            yield np.full((1, 80, 16), number % 7 - 3, np.float32)

    driver = fixtalk.SpeechDriver(pieces=pieces(), components=("lip", "pose"))
    assert len(list(islice(fixtalk.animate(model, SOURCE, [driver]), 3))) == 3

    assert len(asked) == 3
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


def test_clicks_open_the_lips_in_their_own_frame():
    seconds, times = 300, [0.0, 1.0, 150.0, 299.0]
    sound = (20000 * clicks(times, seconds, 16000)).astype(np.int16)
    model = loudness_as_lips()
    driver = fixtalk.SpeechDriver(pieces=stream_pieces(sound))
    with torch.inference_mode():
        person = model.encode_source(torch.zeros(1, 3, 64, 64))

    lips = torch.cat([part["lip"] for part in driver.moving(model, person, 64)])[:, 0]

    assert len(lips) == 25 * seconds
    loud = torch.nonzero(lips > 0.3 * lips.max())[:, 0] / 25
    found = [loud[(loud - time).abs() < 0.5].mean().item() for time in times]
    assert np.abs(np.array(found) - times).max() <= 1 / 25
    assert min((loud - time).abs().min() for time in times) <= 1 / 25
    assert all(min(abs(moment - time) for time in times) < 0.2 for moment in loud)


def test_reading_a_sound_file_is_enough(tmp_path, rendered):
    from tests.talkers import write_sound

    path = write_sound(tmp_path / "a.wav", clicks([0.1], 0.2, 8000), 8000, "pcm_s16le")

    _, shown = rendered(fixtalk.SpeechDriver(pieces=stream_pieces(read_sound(path))))

    assert len(shown) == 5


@pytest.mark.parametrize(
    ("driver", "message"),
    [
        (speech(), "no audio encoder"),
        (fixtalk.EmotionDriver(emotion="happy"), "no audio encoder"),
    ],
)
def test_model_that_cannot_hear_says_so(driver, message):
    with pytest.raises(ValueError, match=message):
        next(fixtalk.animate(FixTalk(TINY).eval(), SOURCE, [driver]))


def test_wrong_labels_and_pieces_are_refused(model):
    with pytest.raises(ValueError, match="'glad': choose one of happy"):
        fixtalk.EmotionDriver(emotion="glad")
    with pytest.raises(ValueError, match="level 4"):
        fixtalk.EmotionDriver(emotion="happy", level=4.0)
    with pytest.raises(ValueError, match="'glad': choose one of happy"):
        fixtalk.SpeechDriver(pieces=[], emotion="glad")
    driver = fixtalk.SpeechDriver(pieces=iter([np.zeros((80, 16), np.float32)]))
    with pytest.raises(ValueError, match="stream_pieces"):
        next(fixtalk.animate(model, SOURCE, [driver]))
