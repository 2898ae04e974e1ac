"""The audio encoder by Wav2Lip's sizes, frames on their own, emotions as numbers."""

from itertools import pairwise

import pytest
import torch

from fixtalk.speech import EMOTIONS, LAYERS, AudioEncoder, Speech, SpeechConfig, strength_of

CONFIG = SpeechConfig(width=0.125, hidden=16, memory=3)


def pieces(count, seed=0):
    return torch.randn(count, 1, 80, 16, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def speech():
    torch.manual_seed(0)
    speech = Speech(CONFIG, lips=6, poses=4, expressions=3)
    told = speech._lip_mood, speech._lip_own, speech._tone_own, speech._emotion_own
    for layer in (speech._lip, speech._tone, speech._emotion[-1], *told):
        torch.nn.init.normal_(layer.weight)
    return speech


def test_published_width_has_the_published_count_without_batch_norm():
    speech = Speech(SpeechConfig(width=1.0, hidden=8, memory=1), lips=20, poses=6, expressions=10)
    normalised = 2 * sum(channels for *_, channels in LAYERS)

    count = sum(p.numel() for part in (speech.encoder, speech._lip) for p in part.parameters())

    assert normalised == 4416  # factors and offsets of EDTalk's thirteen batch norms
    assert count == 2_818_516 == 2_822_932 - normalised


def test_maps_have_the_published_sizes():
    encoder, x = AudioEncoder(1.0), pieces(1)
    wanted = [
        *[(32, 80, 16)] * 3, *[(64, 27, 16)] * 3, *[(128, 9, 6)] * 3, *[(256, 3, 3)] * 2,
        *[(512, 1, 1)] * 2,
    ]  # fmt: skip

    sizes = []
    for layer in encoder.layers:
        x = layer(x)
        sizes.append(tuple(x.shape[1:]))

    assert sizes == wanted
    assert encoder(pieces(2)).shape == (2, encoder.width) == (2, 512)


def test_features_of_a_frame_are_its_own(speech):
    frames = pieces(5)
    others = torch.cat([3 * pieces(2, seed=1), frames[2:3], 9 * pieces(1, seed=2)])

    alone, among = speech.hear(frames[2:3]), speech.hear(frames)[2:3]

    assert torch.allclose(alone, among, atol=1e-5)
    assert torch.allclose(alone, speech.hear(others)[2:3], atol=1e-5)
    assert not torch.allclose(alone, speech.hear(frames)[3:4], atol=1e-2)


def test_depth_keeps_the_scale_of_the_features():
    torch.manual_seed(0)
    spread = AudioEncoder(1.0)(pieces(4)).std()

    assert 0.3 < spread < 3


def test_nothing_is_said_before_something_is_learnt():
    speech = Speech(CONFIG, lips=6, poses=4, expressions=3)
    sounds = speech.hear(pieces(3))

    lips, face = torch.ones(3, 6), torch.ones(3, 3)
    parts = (
        speech.lip(sounds, lips, torch.eye(8)[:3]),
        speech.tone(sounds, face),
        speech.show(torch.eye(8)[:3], face),
    )
    for silent in (*parts, speech.blink(torch.ones(3))):
        assert not silent.any()


def test_a_mouth_is_moved_by_sound_emotion_and_the_own_face_each_by_itself(speech):
    sounds, lips = speech.hear(pieces(2)), torch.randn(2, 6)
    mood, calm = strength_of("happy", 2.0).expand(2, -1), torch.zeros(2, 8)
    plain = speech.lip(sounds, 0 * lips, calm)

    by_mood = speech.lip(sounds, 0 * lips, mood) - plain
    by_own = speech.lip(sounds, lips, calm) - plain

    assert torch.allclose(speech.lip(sounds, lips, mood), plain + by_mood + by_own, atol=1e-3)
    assert torch.allclose(by_mood[0], by_mood[1], atol=1e-3)
    for change in (by_mood, by_own, plain.diff(dim=0)):
        assert change.norm(dim=1).min() > 0.1


def test_an_expression_is_heard_or_named_beside_the_own_face(speech):
    sounds, face = speech.hear(pieces(2)), torch.randn(2, 3)
    mood = strength_of("happy", 2.0).expand(2, -1)

    heard = speech.tone(sounds, face) - speech.tone(sounds, 0 * face)
    named = speech.show(mood, face) - speech.show(mood, 0 * face)

    assert heard.norm(dim=1).min() > 0.1
    assert named.norm(dim=1).min() > 0.1
    assert not torch.allclose(heard, named, atol=1e-2)


def test_emotion_is_its_level_in_thirds_at_its_place():
    weak, strong = strength_of("sad", 1.0), strength_of("sad", 3.0)

    assert strong.tolist() == [float(name == "sad") for name in EMOTIONS]
    assert torch.allclose(weak, strong / 3)
    assert strength_of("happy", 1.5)[0] == pytest.approx(0.5)
    assert len({tuple(strength_of(name, 2.0).tolist()) for name in EMOTIONS}) == 8


def test_emotions_are_those_that_clips_are_labelled_with():
    from fixtalk.synthetic.motion import EMOTIONS as SHOWN

    assert set(EMOTIONS) == set(SHOWN)


def test_another_emotion_or_level_is_refused():
    with pytest.raises(ValueError, match="emotion 'bored': choose one of happy, angry"):
        strength_of("bored", 2.0)
    for level in (0.0, 0.5, 3.5):
        with pytest.raises(ValueError, match=f"level {level}: choose from 1 to 3"):
            strength_of("happy", level)


def test_expression_depends_on_the_emotion_shown(speech):
    strengths = torch.stack([strength_of(name, 3.0) for name in EMOTIONS])
    shown = speech.show(strengths, torch.ones(8, 3))

    assert shown.shape == (8, 3)
    assert all(not torch.allclose(a, b, atol=1e-3) for a, b in pairwise(shown))


@pytest.mark.parametrize(
    ("change", "message"),
    [({"width": 0.0}, "speech.width 0.0"), ({"width": 2.5}, "at most 2"),
     ({"hidden": 0}, "speech.hidden 0"), ({"memory": 0}, "speech.memory 0")],
)  # fmt: skip
def test_impossible_sizes_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        SpeechConfig(**({"width": 0.5, "hidden": 8, "memory": 2} | change))
