"""Training where speech drives: loss terms by hand, gradients, resume, what is learnt and kept."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fixtalk.augmentation import Augmentation
from fixtalk.checkpoint import load_checkpoint, save_checkpoint, start_from_base
from fixtalk.decoupling import Motion
from fixtalk.media import SAMPLES_PER_FRAME, encode_video
from fixtalk.pages import find_pages
from fixtalk.pairs import PairSampler
from fixtalk.phases import Stretch, parts
from fixtalk.reenactment import Batch
from fixtalk.talking import Talk, Talking
from fixtalk.talks import TALK
from fixtalk.terms import loss_terms
from fixtalk.training import Microbatch, train_step
from tests.clip_shards import write_shard
from tests.conftest import (
    METHOD,
    TINY,
    TINY_BASE,
    TINY_TALKING,
    Ears,
    pictures_that_move,
    state_of,
    talks_that_move,
)
from tests.talkers import portrait
from tests.voices import BOAT, FOX, spoken


@pytest.fixture
def talks():
    return talks_that_move()


@pytest.fixture
def sync():
    return dataclasses.replace(METHOD, sync=Ears())


def steps(state, batch, schedule, count, method=METHOD):
    return [train_step(state, [Microbatch(batch, 1.0)], schedule, method) for _ in range(count)]


def taught(batch):
    return torch.zeros(len(batch.source), dtype=torch.bool)


def lively(recipe, config):
    """A state whose generator warps and whose lips move: an untrained one begins at zero."""
    state = state_of(config)
    steps(state, pictures_that_move(), [Stretch("texture", recipe.phases["texture"], 3)], 3)
    with torch.no_grad():
        state.model.speech._lip.weight.normal_()
    return state


def assert_lips_alone_learn(model):
    """Of all gradients only those of what is heard, and of the lips that it gives."""
    for part, weights in parts(model).items():
        if part != "speech":
            assert all(weight.grad is None for weight in weights), part
    speech = model.speech
    assert all(weight.grad.any() for weight in (*speech.encoder.parameters(), speech._lip.weight))
    assert speech._tone.weight.grad is None


def terms_of(recipe, batch, seen, phase="hear", method=METHOD):
    state = state_of(TINY_BASE)
    phase = recipe.phases[phase]
    return dict(loss_terms(state.model, state.discriminator, phase, batch, seen, method))


def test_terms_by_hand(recipe, talks):
    shown = Motion(torch.randn(4, 5, 6), torch.randn(4, 5, 4), torch.randn(4, 5, 3))
    ramp = 0.5 * torch.arange(5.0)[:, None]
    felt = shown.expression.mean(1) + 2
    blink = shown.expression + 7 + torch.tensor([0, 0, 1, 0, 0])[:, None]  # one frame differs by 1
    seen = Talk(shown, shown.lip + ramp, shown.expression - 3, felt, blink, torch.tensor(1.5), None)
    talks = dataclasses.replace(talks, strength=talks.strength * torch.tensor([[1], [0], [0], [0]]))

    terms = terms_of(recipe, talks, seen)

    assert set(terms) == {"l_lip", "l_lip_motion", "l_tone", "l_emotion", "l_lids", "l_pose"}
    assert terms["l_lip"].item() == pytest.approx((0 + 0.25 + 1 + 2.25 + 4) / 5, rel=1e-4)
    assert terms["l_lip_motion"].item() == pytest.approx(0.25, rel=1e-4)
    assert terms["l_tone"].item() == pytest.approx(9, rel=1e-4)
    assert terms["l_emotion"].item() == pytest.approx(4 / 4, rel=1e-4)  # one label of four
    assert terms["l_lids"].item() == pytest.approx((0.8**2 + 4 * 0.2**2) / 5, rel=1e-4)
    assert terms["l_pose"] == 1.5


def test_what_frames_show_gets_no_gradient(recipe, talks):
    shown = Motion(*(torch.randn(4, 5, n, requires_grad=True) for n in (6, 4, 3)))
    made = [torch.randn(*s, requires_grad=True) for s in ((4, 5, 6), (4, 5, 3), (4, 3), (4, 5, 3))]

    sum(terms_of(recipe, talks, Talk(shown, *made, None, None)).values()).backward()

    assert all(part.grad is None for part in shown)
    assert all(part.grad.any() for part in made)


def test_l_sync_reaches_speech_alone_and_leaves_the_expert(recipe, talks, sync):
    state, phase = lively(recipe, TINY_TALKING), recipe.phases["speak"]
    before = copy.deepcopy(sync.sync.state_dict())
    schedule = [Stretch("texture", recipe.phases["texture"], 3), Stretch("speak", phase, 3)]
    steps(state, talks, schedule, 2, sync)
    state.model.zero_grad(set_to_none=True)

    seen = Talking(state.model)(talks, phase, taught(talks))
    terms = dict(loss_terms(state.model, state.discriminator, phase, talks, seen, sync))
    terms["l_sync"].backward()

    logits = sync.sync(seen.frames, talks.sound)
    picked = F.cross_entropy(logits, torch.arange(4))
    assert terms["l_sync"].item() == pytest.approx(picked.item(), rel=1e-5)
    assert_lips_alone_learn(state.model)
    for name, weight in sync.sync.named_parameters():
        assert weight.grad is None
        assert torch.equal(weight, before[name])


def test_landmarks_of_made_frames_teach_speech_alone(recipe, talks):
    state, phase = lively(recipe, TINY_BASE), recipe.phases["articulate"]
    schedule = [Stretch("texture", recipe.phases["texture"], 3), Stretch("articulate", phase, 3)]

    def points(frames):
        """A stand-in for landmarks: how bright each row of a frame is."""
        return frames.mean((1, 3)).repeat(1, 3)[:, :136].unflatten(1, (68, 2))

    method = dataclasses.replace(METHOD, points=points)
    steps(state, talks, schedule, 1, method)
    state.model.zero_grad(set_to_none=True)

    seen = Talking(state.model)(talks, phase, taught(talks))
    terms = dict(loss_terms(state.model, state.discriminator, phase, talks, seen, method))
    terms["l_points"].backward()

    assert_lips_alone_learn(state.model)


def test_without_an_expert_l_sync_is_left_out(recipe, talks, sync):
    schedule = [Stretch("speak", recipe.phases["speak"], 1)]

    (without,), (with_,) = (
        steps(state_of(), talks, schedule, 1, method) for method in (METHOD, sync)
    )

    assert set(with_) - set(without) == {"l_sync"}
    assert {"l_lip", "l_rec", "l_per", "l_mouth", "l_pose"} <= set(without)


def test_lips_that_are_heard_move_the_frames_and_nothing_else_does(recipe, talks):
    state = lively(recipe, TINY_BASE)
    others = dataclasses.replace(talks, strength=talks.strength.flip(0))
    deaf = dataclasses.replace(talks, speech=torch.zeros_like(talks.speech))
    phase = recipe.phases["speak"]

    one, same, unheard = (
        Talking(state.model)(batch, phase, taught(batch)).frames for batch in (talks, others, deaf)
    )

    assert one.shape == talks.target.shape
    assert torch.equal(one, same)
    assert not torch.allclose(one, unheard, atol=1e-4)


def test_lips_are_told_the_mood_and_the_mouth_of_the_source(recipe, talks):
    state, phase = lively(recipe, TINY_BASE), recipe.phases["hear"]
    unlabelled = dataclasses.replace(talks, mood=torch.zeros(4, 8))
    elsewhere = dataclasses.replace(talks, source=talks.source.flip(0))
    with torch.no_grad():
        state.model.speech._lip_mood.weight.normal_()
        state.model.speech._lip_own.weight.normal_()

    told, untold, moved = (
        Talking(state.model)(batch, phase, taught(batch)).lip
        for batch in (talks, unlabelled, elsewhere)
    )

    assert torch.equal(told[1:], untold[1:])
    assert not torch.allclose(told[0], untold[0], atol=1e-2)
    assert not any(torch.allclose(told[n], moved[n], atol=1e-4) for n in range(4))


def test_frames_are_rendered_of_the_person_beside_them(recipe, talks):
    state = state_of(TINY_BASE)
    phase = recipe.phases["speak"]

    whole = Talking(state.model)(talks, phase, taught(talks)).frames
    (second,) = talks.split(1)[1:2]
    alone = Talking(state.model)(second, phase, taught(second)).frames

    assert torch.allclose(whole[1:2], alone, atol=1e-4)
    assert not torch.allclose(whole[:1], alone, atol=1e-2)


def test_blink_is_learnt_from_what_closed_eyes_change(recipe, talks):
    state, phase = state_of(TINY_BASE), recipe.phases["hear"]
    frames = talks.target.flatten(0, 1)
    with torch.no_grad():  # frames that differ by the eyes alone
        shown = state.model.motion(frames).expression.unflatten(0, (4, 5))
    wanted = torch.tensor([2.0, 0.0, -1.0])
    closed = talks.closed
    seen = Talking(state.model)(talks, phase, taught(talks))
    seen = seen._replace(
        shown=seen.shown._replace(expression=shown[:, :1] + closed[..., None] * wanted)
    )
    lids = torch.optim.Adam([state.model.speech._lids], 0.02)

    for _ in range(200):
        talk = seen._replace(blink=state.model.speech.blink(closed))
        terms = dict(loss_terms(state.model, state.discriminator, phase, talks, talk, METHOD))
        lids.zero_grad()
        terms["l_lids"].backward()
        lids.step()

    assert torch.allclose(state.model.speech.blink(torch.ones(1))[0], wanted, atol=0.02)


def test_eyes_that_no_landmarks_show_teach_nothing_and_break_nothing(recipe, talks):
    state = state_of(TINY_BASE)
    blind = dataclasses.replace(talks, closed=torch.zeros_like(talks.closed))

    steps(state, blind, [Stretch("hear", recipe.phases["hear"], 2)], 2)

    assert not state.model.speech._lids.any()
    assert state.model.speech._lids.grad is not None  # data parallelism waits for it


def test_hearing_renders_nothing(recipe, talks):
    state = state_of(TINY_BASE)

    assert Talking(state.model)(talks, recipe.phases["hear"], taught(talks)).frames is None


def test_run_resumed_within_speak_has_the_same_curve(recipe, talks, sync):
    schedule = [Stretch(name, recipe.phases[name], n) for name, n in (("hear", 2), ("speak", 4))]
    straight, begun, resumed = state_of(), state_of(), state_of(seed=7)
    wanted = steps(straight, talks, schedule, 6, sync)
    steps(begun, talks, schedule, 4, sync)
    saved = copy.deepcopy(begun.state_dict())

    resumed.load_state_dict(saved)
    curve = steps(resumed, talks, schedule, 2, sync)

    assert curve == wanted[4:]
    assert curve[0] != curve[1]
    for ours, theirs in zip(
        resumed.average.parameters(), straight.average.parameters(), strict=True
    ):
        assert torch.equal(ours, theirs)


def test_variant_starts_with_the_speech_of_its_base(recipe, talks, tmp_path):
    base, varied = state_of(TINY_BASE), state_of(seed=2)
    steps(base, talks, [Stretch("hear", recipe.phases["hear"], 2)], 2)
    save_checkpoint(base.model, tmp_path, {}, base.discriminator)
    pieces = talks.speech.flatten(0, 1)

    assert not torch.allclose(varied.model.speech.hear(pieces), base.model.speech.hear(pieces))
    start_from_base(varied, tmp_path)

    for network in (varied.model, varied.average):
        for name, weight in base.model.speech.state_dict().items():
            assert torch.equal(weight, network.speech.state_dict()[name]), name


def test_base_without_speech_leaves_it_as_drawn(tmp_path):
    base, varied = state_of(TINY, seed=3), state_of()
    save_checkpoint(base.model, tmp_path, {})
    drawn = {name: weight.clone() for name, weight in varied.model.speech.state_dict().items()}

    start_from_base(varied, tmp_path)

    for name, weight in varied.model.speech.state_dict().items():
        assert torch.equal(weight, drawn[name]), name
    bank = varied.model.backbone.decoupling.lip_pose_bank
    assert torch.equal(bank, base.model.backbone.decoupling.lip_pose_bank)


def test_checkpoint_keeps_speech(recipe, talks, tmp_path):
    state = state_of()
    steps(state, talks, [Stretch("hear", recipe.phases["hear"], 2)], 2)
    save_checkpoint(state.model, tmp_path, {"variant": "fixtalk"})

    loaded = load_checkpoint(tmp_path)

    assert loaded.config == state.model.config
    ours, theirs = (model.speech for model in (state.model.eval(), loaded))
    sounds = ours.hear(talks.speech.flatten(0, 1))
    assert torch.equal(sounds, theirs.hear(talks.speech.flatten(0, 1)))
    lips, moods = torch.ones(len(sounds), 6), talks.strength.repeat_interleave(TALK, 0)
    assert torch.equal(ours.lip(sounds, lips, moods), theirs.lip(sounds, lips, moods))
    assert ours.lip(sounds, 0 * lips, 0 * moods).any()
    for layer in (ours._lip_own, ours._lip_mood, ours._tone_own, ours._emotion_own):
        assert layer.weight.any()
    face = torch.ones(4, 3)
    assert torch.equal(ours.show(talks.strength, face), theirs.show(talks.strength, face))
    drawn = [
        torch.stack(list(part.pose.draw(torch.zeros(4), sounds, torch.Generator().manual_seed(0))))
        for part in (ours, theirs)
    ]
    assert torch.equal(*drawn)


def talking_clip(name, text, voice):
    """A portrait whose mouth opens with the loudness of a sentence."""
    audio = spoken(text, voice)[: 50 * SAMPLES_PER_FRAME]
    loud = np.abs(audio.reshape(-1, SAMPLES_PER_FRAME).astype(float)).mean(1)
    heights = (14 * loud / loud.max()).round().astype(int)
    frames = np.stack([portrait(64)] * len(heights))
    for frame, height in zip(frames, heights, strict=True):
        frame[44 : 44 + height, 24:42] = 0
    return {
        "clip": name, "person": name, "frames": len(frames), "audio": audio.astype("<i2").tobytes(),
        "video": encode_video(frames, crf=5, gop=5), "emotion": "happy", "level": 2,
    }  # fmt: skip


def test_lips_learn_to_follow_speech(recipe, tmp_path):
    rows = [talking_clip("A", FOX, "en-us+m3"), talking_clip("B", BOAT, "en-us+m3")]
    plain = Augmentation(flip=0.0, colour=0.0, driver_colour=0.0, driver_stretch=0.0)
    sampler = PairSampler(
        find_pages(write_shard(tmp_path, rows), "train"), seed=1, lanes=4, visits=8, distance=5,
        gate=0.1, augmentation=plain, labelled=False,
    )  # fmt: skip
    state, batches = state_of(TINY_BASE), [Batch.of(sampler.talks(n, range(4))) for n in range(20)]
    lip_head = state.model.backbone.decoupling.lip[-1]
    with torch.no_grad():  # coefficients around 0 of spread 1, as an untrained head has not
        lips = torch.cat([state.model.motion(b.target.flatten(0, 1)).lip for b in batches])
        lip_head.weight /= lips.std(0)[:, None]
        lip_head.bias.copy_((lip_head.bias - lips.mean(0)) / lips.std(0))
    schedule = [Stretch("hear", recipe.phases["hear"], 120)]

    history = [steps(state, batches[n % 20], schedule, 1)[0]["l_lip"] for n in range(120)]

    # 1 is what the best constant leaves
    assert np.mean(history[:20]) > 0.6
    assert np.mean(history[-20:]) < 0.45
