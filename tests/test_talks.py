"""Frames in a row with their sound: which frames, which sound, whose mouth, what emotion."""

from functools import cache

import numpy as np
import pytest
import torch

from fixtalk.augmentation import Augmentation
from fixtalk.media import SAMPLES_PER_FRAME, encode_video
from fixtalk.pages import find_pages, missing_labels
from fixtalk.pairs import PairSampler
from fixtalk.reenactment import Batch
from fixtalk.swap import mouth_box
from fixtalk.talks import TALK, eyes_closed, mouths_at, strength_in, talk_at
from tests.clip_shards import write_shard
from tests.drawn_faces import face_points, flat_face
from tests.voices import FOX, spoken

SIDE, FRAMES = 64, 14
PLAIN = Augmentation(flip=0.0, colour=0.0, driver_colour=0.0, driver_stretch=0.0)


def click(frame, frames=FRAMES):
    """Silence but for the middle of one frame."""
    sound = np.zeros(frames * SAMPLES_PER_FRAME, "<i2")
    sound[frame * SAMPLES_PER_FRAME + 270 :][:100] = 20000
    return sound.tobytes()


@cache
def video(frames):
    """The mouth walks to the right by a pixel a frame; frame i is of skin 40 + 8 i."""
    shown = np.stack([flat_face(40 + 8 * n, 0.25, shift=n) for n in range(frames)])
    return encode_video(shown, crf=1, gop=5)


def clip(frames=FRAMES, clicked=7, **columns):
    """A row whose video, landmarks and sound tell which frame is which."""
    walk = np.arange(frames, dtype=np.float32)[:, None, None] * np.array([1, 0], np.float32)
    return {
        "person": "A", "session": None, "clip": "a0", "frames": frames, "emotion": None,
        "level": None, "video": video(frames), "audio": click(clicked, frames),
        "landmarks": face_points() + walk,
    } | columns  # fmt: skip


def indices(frames):
    """Which frames of the clip these are, by their skin."""
    return ((frames[:, :20].mean((1, 2, 3)) - 40) / 8).round().astype(int).tolist()


@pytest.mark.parametrize(
    ("frame", "wanted"),
    [(0, [0, 1, 2, 3, 4]), (2, [0, 1, 2, 3, 4]), (3, [1, 2, 3, 4, 5]), (7, [5, 6, 7, 8, 9]),
     (11, [9, 10, 11, 12, 13]), (13, [9, 10, 11, 12, 13])],
)  # fmt: skip
def test_frames_lie_around_the_one_asked_for_and_within_the_clip(frame, wanted):
    frames, speech, places = talk_at(clip(), frame)

    assert indices(frames) == places == wanted
    assert speech.shape == (TALK, 1, 80, 16)


def test_clip_that_is_shorter_shows_its_last_frame_again():
    for frame in (0, 2):
        frames, speech, places = talk_at(clip(frames=3, clicked=1), frame)

        assert indices(frames) == places == [0, 1, 2, 2, 2]
        assert np.array_equal(speech[2], speech[4])
        assert not np.array_equal(speech[1], speech[2])


@pytest.mark.parametrize("clicked", [0, 6, 7, 8, 13])
def test_click_is_heard_where_its_frame_is_shown(clicked):
    row, loudest = clip(clicked=clicked), {}

    for frame in (2, 7, 11):
        _, speech, places = talk_at(row, frame)
        for place, piece in zip(places, speech, strict=True):
            columns = piece[0].mean(0)
            loudest[place] = int(columns.argmax()) if columns.max() > columns.min() else None

    # a piece begins two frames, 6.4 columns, before its frame, whose middle is 1.6 columns on
    assert loudest[clicked] in (7, 8, 9)
    for place in set(loudest) - {clicked}:
        assert loudest[place] not in (7, 8, 9)


def test_sound_of_another_clip_is_not_mixed_up():
    one, other = (talk_at(clip(clicked=n), 7)[1] for n in (6, 9))

    assert np.array_equal(one, talk_at(clip(clicked=6), 7)[1])
    assert not np.array_equal(one, other)


def test_mouths_follow_the_frames():
    _, _, places = talk_at(clip(), 7)

    mouths = mouths_at(clip(), places, SIDE)

    assert mouths.shape == (TALK, SIDE, SIDE)
    for mouth, place in zip(mouths, places, strict=True):
        assert np.array_equal(mouth, mouth_box(face_points() + np.array([place, 0]), SIDE))
    assert np.array_equal(mouths[0][:, :-1], mouths[1][:, 1:])


def test_closed_eyes_are_told_from_those_the_clip_shows_mostly():
    row = clip()
    points = row["landmarks"].copy()
    lids = np.array([[-3, 0], [-1, -1], [1, -1], [3, 0], [1, 1], [-1, 1]])  # corner first
    for frame in range(FRAMES):
        open_ = {6: 0.5, 7: 0.0, 8: 1.2}.get(frame, 1.0)
        points[frame, 36:42] = [22, 26] + lids * [1, open_]
        points[frame, 42:48] = [42, 26] + lids * [1, open_]

    closed = eyes_closed(row | {"landmarks": points}, [5, 6, 7, 8, 9])

    assert closed.dtype == np.float32
    assert closed.tolist() == pytest.approx([0, 0.5, 1, 0, 0], abs=1e-5)  # wide open is 0 too
    assert not eyes_closed(row | {"landmarks": None}, [5, 6, 7, 8, 9]).any()


def test_strength_is_zero_where_emotion_or_level_is_unknown():
    known = {"emotion": "happy", "level": 3}

    assert strength_in(clip(**known)).tolist() == [1, 0, 0, 0, 0, 0, 0, 0]
    for lacking in ("emotion", "level"):
        assert not strength_in(clip(**known | {lacking: None})).any()


@pytest.fixture
def sampler(tmp_path):
    def of(rows, augmentation=PLAIN, group=8, **options):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        pages = find_pages(write_shard(folder, rows, group), "train")
        labelled = missing_labels(pages, ["landmarks"]) == {"landmarks": 0}
        return PairSampler(
            pages, seed=3, lanes=8, visits=2, distance=5, gate=0.1, augmentation=augmentation,
            labelled=labelled, **options,
        )  # fmt: skip

    return of


def winking(row, every):
    """The same row, its eyes shut in every so-many-th frame."""
    points = row["landmarks"].copy()
    points[::every, 36:48, 1] = 26
    return row | {"landmarks": points}


def test_talks_of_a_batch_are_frames_sound_and_mouths_of_one_clip(sampler):
    rows = [clip(emotion="sad", level=2), clip(clip="a1", person="B", clicked=3)]
    rows = [winking(row, every) for row, every in zip(rows, (3, 4), strict=True)]

    arrays = sampler(rows).talks(0, range(8))
    batch = Batch.of(arrays)

    assert batch.source.shape == (8, 3, SIDE, SIDE)
    assert batch.target.shape == batch.driver.shape == (8, TALK, 3, SIDE, SIDE)
    assert batch.mouth.shape == (8, TALK, SIDE, SIDE)
    assert batch.shows_target.all()
    spoken_by = dict(zip((True, False), rows, strict=True))
    told = set()
    names = ("target", "speech", "mouth", "closed", "strength")
    for frames, speech, mouths, closed, strength in zip(*map(arrays.get, names), strict=True):
        places, is_sad = indices(frames), bool(strength.any())
        assert places == list(range(places[0], places[0] + TALK))
        assert np.array_equal(speech, talk_at(spoken_by[is_sad], places[2])[1])
        assert np.array_equal(mouths, mouths_at(spoken_by[is_sad], places, SIDE))
        assert (closed > 0.5).tolist() == [not place % (3 if is_sad else 4) for place in places]
        told.add(is_sad)
    assert told == {True, False}


def test_source_is_of_another_clip_of_the_session_where_there_is_one(sampler):
    dark = encode_video(np.stack([flat_face(20, 0.25) for _ in range(FRAMES)]), crf=1, gop=5)
    silent = clip(clip="a1", session="A1", audio=None, video=dark)

    apart = sampler([clip(session="A1"), silent]).talks(0, range(8))
    alone = sampler([clip(session="A1"), silent | {"session": "A2"}]).talks(0, range(8))

    assert apart["source"].max() < 30 < apart["target"].max()
    assert alone["source"].max(axis=(1, 2, 3)).min() > 30


def test_half_the_lips_are_told_the_emotion(sampler):
    told = [sampler([clip(emotion="sad", level=3)]).talks(step, range(8)) for step in range(20)]

    strengths, moods = (np.concatenate([talk[n] for talk in told]) for n in ("strength", "mood"))
    is_told = moods.any(1)
    assert strengths.any(1).all()
    assert np.array_equal(moods[is_told], strengths[is_told])
    assert 0.35 < is_told.mean() < 0.65
    assert len({tuple(talk["mood"].any(1)) for talk in told}) > 10


def test_mirrored_talk_mirrors_mouths_with_frames_and_keeps_the_sound(sampler):
    always = Augmentation(flip=1.0, colour=0.0, driver_colour=0.0, driver_stretch=0.0)

    plain, mirrored = (sampler([clip()], how).talks(1, range(4)) for how in (PLAIN, always))

    for name in ("source", "target"):
        assert np.array_equal(plain[name][..., ::-1, :], mirrored[name])
    assert np.array_equal(plain["mouth"][..., ::-1], mirrored["mouth"])
    assert not np.array_equal(plain["mouth"], mirrored["mouth"])
    assert np.array_equal(plain["speech"], mirrored["speech"])


def test_talk_depends_on_seed_step_and_lane_alone(sampler):
    lively = Augmentation(flip=0.5, colour=0.2, driver_colour=0.3, driver_stretch=0.1)

    rows = [clip(emotion="sad", level=3)]

    whole, share = (sampler(rows, lively).talks(3, lanes) for lanes in (range(8), range(4, 8)))

    assert all(np.array_equal(whole[name][4:], share[name]) for name in whole)
    later = sampler(rows, lively).talks(4, range(8))
    assert not np.array_equal(whole["target"], later["target"])
    batch = Batch.of(whole)
    assert torch.equal(batch.driver, batch.target), "who talks is not disguised"


def test_without_landmarks_there_are_no_mouths(sampler):
    assert "mouth" not in sampler([clip(landmarks=None)]).talks(0, range(2))


@pytest.mark.parametrize("audio", [None, b""])
def test_clips_without_speech_are_passed_over(sampler, audio):
    silent, hum, heard = clip(audio=audio), clip(speech=0.0), clip()

    talks = sampler([silent, hum, heard]).talks(0, range(8))

    _, speech, _ = talk_at(heard, 7)
    assert talks["speech"].shape == (8, *speech.shape)
    assert talks["speech"].max() > -4, "no lane listens to silence"
    assert np.abs(talks["sound"]).max() > 0
    with pytest.raises(ValueError, match=r"no clip has speech .* leave phases that train speech"):
        sampler([silent, hum]).talks(0, range(1))


def test_pages_of_silence_are_passed_over(sampler):
    silent = [clip(clip=f"s{n}", person=f"S{n}", audio=None) for n in range(6)]
    drawn = sampler([*silent, clip(emotion="sad", level=3)], group=1)

    strengths = np.concatenate([drawn.talks(step, range(8))["strength"] for step in range(6)])

    assert strengths.any(1).all(), "only one of seven pages has speech, and it is sad"
    assert len({drawn.order(step, 0).page for step in range(6)}) > 1, "pairs are drawn of all"


def test_mel_of_speech_is_in_the_batch_unchanged(sampler):
    audio = spoken(FOX)[: FRAMES * SAMPLES_PER_FRAME].astype("<i2").tobytes()

    batch = Batch.of(sampler([clip(audio=audio)]).talks(0, range(2)))

    assert batch.speech.dtype == torch.float32
    assert batch.speech.min() >= -4
    assert batch.speech.max() > -1
