"""The synthetic corpus: seeds that decide one thing each, exact labels, exact correspondence."""

import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from fixtalk.synthetic.camera import Camera
from fixtalk.synthetic.clip import render_clip
from fixtalk.synthetic.corpus import Seeds, plan_corpus, read_sentences
from fixtalk.synthetic.correspondence import CroppedFrame, FaceGeometry, correspondence
from fixtalk.synthetic.head import LANDMARK_VERTICES, load_head
from fixtalk.synthetic.light import build_light
from fixtalk.synthetic.motion import EMOTIONS, build_motion
from fixtalk.synthetic.pose import pose_vertices
from fixtalk.synthetic.render import Renderer, build_person
from fixtalk.synthetic.speech import SpeechError, Voice, resample, speak
from fixtalk.synthetic.visemes import SOUNDS, VISEMES, mouth_curves, viseme_of

SEEDS = Seeds(1, 2, 3, 4)
VOICE = Voice("en-us+m1", 165, 50, 50)
CAMERA = Camera(96)
NAMES = load_head(0).expressions.names


@pytest.fixture(scope="module")
def renderer():
    return Renderer(load_head(0), CAMERA, 2)


@pytest.fixture(scope="module")
def plans():
    return plan_corpus(6, 3, 4, 4, SEEDS)


def coefficients(**values):
    return np.array([values.get(name, 0) for name in NAMES], np.float32)


def rest():
    return np.zeros(6, np.float32)


def talk(seed, emotion="happy"):
    speech = speak("We chose the cheaper pair of boots.", VOICE)
    return build_motion(speech, emotion, 3, seed, NAMES, 3.0)


def test_same_seeds_give_equal_bits(renderer, plans):
    plan = replace(plans[0], sentence="Hello.")

    first, second = (
        render_clip(renderer, build_person(renderer.head, plan.identity_seed, 96), plan, 0.5)
        for _ in range(2)
    )

    assert np.array_equal(first.frames, second.frames)
    assert np.array_equal(first.audio, second.audio)
    for name, values in first.labels().items():
        assert np.array_equal(values, second.labels()[name])


def test_light_changes_pixels_and_no_label(renderer):
    person = build_person(renderer.head, 5, 96)

    first, landmarks = renderer.frame(person, build_light(1), coefficients(), rest())
    second, same_landmarks = renderer.frame(person, build_light(2), coefficients(), rest())

    assert np.abs(first.astype(float) - second).mean() > 5
    assert np.array_equal(landmarks, same_landmarks)


def test_identity_changes_face_and_not_motion(renderer, plans):
    cross = [plan for plan in plans if plan.motion == "m0"]

    clips = [
        render_clip(renderer, build_person(renderer.head, plan.identity_seed, 96), plan, 0.4)
        for plan in cross
    ]

    for clip in clips[1:]:
        assert np.array_equal(clip.pose, clips[0].pose)
        assert np.array_equal(clip.arkit, clips[0].arkit)
        assert np.array_equal(clip.audio, clips[0].audio)
        assert clip.visemes == clips[0].visemes
        assert np.abs(clip.landmarks - clips[0].landmarks).max() > 1


def test_motion_seed_leaves_the_lips_to_the_speech():
    first, second = talk(1, "neutral"), talk(2, "neutral")

    jaw = NAMES.index("jawOpen")
    assert np.array_equal(first.arkit[:, jaw], second.arkit[:, jaw])
    assert not np.array_equal(first.pose, second.pose)


def test_clip_must_show_the_planned_person(renderer, plans):
    person = build_person(renderer.head, plans[0].identity_seed + 1, 96)

    with pytest.raises(ValueError, match="identity seed"):
        render_clip(renderer, person, plans[0], 0.4)


def test_people_and_sentences_of_test_are_unseen_in_training(plans):
    by_split = {
        split: [plan for plan in plans if plan.split == split] for split in ("train", "test")
    }

    for field in ("person", "identity_seed", "sentence", "motion_seed", "light_seed"):
        seen = {getattr(plan, field) for plan in by_split["train"]}
        assert seen.isdisjoint(getattr(plan, field) for plan in by_split["test"]), field
    assert len(read_sentences("train")) >= 40
    assert len(read_sentences("test")) >= 12


def test_plan_is_a_mead_tree_with_shared_cross_motions(plans):
    ordinary = [plan for plan in plans if not plan.clip.startswith("cross/")]
    cross = [plan for plan in plans if plan.clip.startswith("cross/")]

    assert len({plan.clip for plan in plans}) == len(plans) == 9 * 4 + 4 * 3
    assert {plan.clip for plan in cross if plan.motion == "m1"} == {
        f"cross/m1/S{number:03d}" for number in (6, 7, 8)
    }
    assert len({plan.light_seed for plan in cross}) == 1
    assert len({(plan.motion, plan.motion_seed, plan.voice, plan.sentence) for plan in cross}) == 4
    sessions = {(plan.person, plan.session, plan.light_seed) for plan in ordinary}
    assert len(sessions) == len({plan.light_seed for plan in ordinary}) == 9
    for plan in ordinary:
        assert plan.clip.startswith(f"{plan.person}/{plan.emotion}/level_{plan.level}/")
        assert plan.emotion != "neutral" or plan.level == 1


@pytest.mark.parametrize("changed", Seeds._fields)
def test_each_seed_decides_its_own_fields(plans, changed):
    fields = {
        "identity": {"identity_seed", "voice"},  # the voice fits the sex
        "motion": {"motion_seed", "sentence"},
        "light": {"light_seed"},
        "voice": {"voice"},
    }

    others = plan_corpus(6, 3, 4, 4, SEEDS._replace(**{changed: 99}))

    pairs = list(zip(plans, others, strict=True))
    for field in ("identity_seed", "motion_seed", "sentence", "light_seed", "voice", "emotion"):
        is_equal = all(getattr(a, field) == getattr(b, field) for a, b in pairs)
        assert is_equal or field in fields[changed], field
    assert any(getattr(a, f) != getattr(b, f) for a, b in pairs for f in fields[changed])


def test_landmarks_are_in_the_order_of_ibug(renderer):
    person = build_person(renderer.head, 5, 96)

    _, points = renderer.frame(person, build_light(1), coefficients(), rest())

    x, y = points.T
    assert points.shape == (68, 2)
    assert points.min() > 0
    assert points.max() < 96
    for row in (range(1, 16), range(17, 22), range(22, 27), range(31, 36), (36, 37, 38, 39)):
        assert all(x[a] < x[b] for a, b in pairwise(row))  # left to right in the picture
    for row in ((48, 49, 50, 51, 52, 53, 54), (59, 58, 57, 56, 55), (60, 61, 62, 63, 64)):
        assert all(x[a] < x[b] for a, b in pairwise(row))
    for column in ((19, 37, 41, 49, 59), (27, 28, 29, 30, 33, 51, 62, 57, 8), (24, 44, 46, 53)):
        assert all(y[a] < y[b] for a, b in pairwise(column))  # top to bottom
    assert y[0] < y[4] < y[8] > y[12] > y[16]


def test_jaw_opens_the_mouth_and_smile_lifts_its_corners(renderer):
    person = build_person(renderer.head, 5, 96)

    def points(**values):
        return renderer.frame(person, build_light(1), coefficients(**values), rest())[1]

    closed, opened = points(), points(jawOpen=1)
    smiling = points(mouthSmileLeft=1, mouthSmileRight=1)
    assert opened[66, 1] - opened[62, 1] > closed[66, 1] - closed[62, 1] + 4
    assert (smiling[[48, 54], 1] < closed[[48, 54], 1] - 1).all()


def test_positive_yaw_turns_to_the_right_of_the_picture(renderer):
    person = build_person(renderer.head, 5, 96)
    pose = np.array([0.5, 0, 0, 0, 0, 0], np.float32)

    straight = renderer.frame(person, build_light(1), coefficients(), rest())[1]
    turned = renderer.frame(person, build_light(1), coefficients(), pose)[1]

    assert turned[30, 0] > straight[30, 0] + 5


def test_emotions_and_levels_are_told_apart():
    speech = speak("We chose the cheaper pair of boots.", VOICE)
    means = {
        (emotion, level): build_motion(speech, emotion, level, 1, NAMES, 3.0).arkit.mean(0)
        for emotion in EMOTIONS
        for level in (1, 3)
    }

    neutral = means["neutral", 1]
    for emotion in set(EMOTIONS) - {"neutral"}:
        weak, strong = (np.abs(means[emotion, level] - neutral).sum() for level in (1, 3))
        assert strong > 1.5 * weak > 0
    assert len(EMOTIONS) == 8


def test_some_motions_turn_far_and_none_beyond_35_degrees():
    speech = speak("We chose the cheaper pair of boots.", VOICE)
    widest = [
        np.degrees(np.abs(build_motion(speech, "neutral", 1, seed, NAMES, 3.0).pose[:, 0]).max())
        for seed in range(24)
    ]

    assert 3 <= sum(angle > 22 for angle in widest) <= 16
    assert max(widest) <= 35


def test_visemes_follow_the_phonemes():
    phonemes = ((0.0, "m"), (0.2, "ˈɑː"), (0.4, "f"), (0.6, ""))

    curves, labels = mouth_curves(phonemes, 20, NAMES)

    assert labels == ["PP"] * 5 + ["aa"] * 5 + ["FF"] * 5 + ["sil"] * 5
    jaw = curves[:, NAMES.index("jawOpen")]
    assert 5 <= jaw.argmax() <= 9  # open while the vowel sounds
    assert jaw[7] > 0.5
    assert jaw[[2, 17]].max() < 0.05
    assert curves[2, NAMES.index("mouthPressLeft")] > 0.4


def test_every_sound_has_a_viseme_and_every_coefficient_a_name():
    assert set(SOUNDS) | {"sil"} == set(VISEMES)
    for shape in VISEMES.values():
        assert set(shape) <= set(NAMES)
    for shape in EMOTIONS.values():
        assert set(shape) <= set(NAMES)
    assert viseme_of("ˈtʃ") == "CH"
    assert viseme_of("t") == "DD"
    assert viseme_of("") == "sil"


def test_missing_speech_engine_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)

    with pytest.raises(SpeechError, match="pip install espeakng-loader"):
        speak("Hello.", VOICE)


def test_unknown_voice_is_named():
    with pytest.raises(SpeechError, match="nobody"):
        speak("Hello.", Voice("nobody", 160, 50, 50))


def test_resampling_keeps_a_tone_and_drops_what_does_not_fit():
    seconds = np.arange(22050) / 22050

    kept = resample(np.sin(2 * np.pi * 1000 * seconds), 22050)
    dropped = resample(np.sin(2 * np.pi * 10000 * seconds), 22050)

    tone = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)
    assert len(kept) == 16000
    assert np.abs(kept - tone)[100:-100].max() < 0.01
    assert np.abs(dropped)[100:-100].max() < 0.02


def test_camera_survives_its_text():
    camera = Camera(128, fov_degrees=20.0)

    assert Camera.from_json(camera.to_json()) == camera


def crop(frame, box):
    x0, y0, side = box
    return frame[y0 : y0 + side, x0 : x0 + side].astype(np.float32)


@pytest.mark.parametrize("seed", [101, 102, 106])
def test_warped_source_is_the_driver(renderer, seed):
    head, motion = renderer.head, talk(seed)
    person, light = build_person(head, seed, 96), build_light(3)
    last = len(motion.arkit) // 2
    source_box, driver_box = (16, 12, 64), (14, 14, 64)

    frames = [renderer.frame(person, light, motion.arkit[i], motion.pose[i])[0] for i in (0, last)]
    flow, valid = correspondence(
        FaceGeometry(head, seed),
        CAMERA,
        CroppedFrame(motion.arkit[0], motion.pose[0], source_box),
        CroppedFrame(motion.arkit[last], motion.pose[last], driver_box),
        64,
    )

    source, driver = crop(frames[0], source_box), crop(frames[1], driver_box)
    warped = torch.nn.functional.grid_sample(
        torch.from_numpy(source).permute(2, 0, 1)[None],
        torch.from_numpy(flow)[None],
        align_corners=True,
    )[0].permute(1, 2, 0)
    error = ((warped.numpy() - driver)[valid] ** 2).mean()
    still = ((source - driver)[valid] ** 2).mean()
    assert 10 * np.log10(255**2 / error) > 24
    assert error < still / 3
    assert 0.4 < valid.mean() < 0.9
    assert np.abs(flow).max() <= 1


def test_landmarks_map_on_landmarks():
    head, seed, resolution = load_head(0), 103, 256
    geometry, motion = FaceGeometry(head, seed), talk(4)
    boxes = ((16.0, 12.0, 64.0), (10.0, 10.5, 70.0))
    last = len(motion.arkit) - 3
    shots = [
        CroppedFrame(motion.arkit[i], motion.pose[i], box)
        for i, box in zip((0, last), boxes, strict=True)
    ]

    flow, valid = correspondence(geometry, CAMERA, *shots, resolution)

    points = [
        CAMERA.project(
            pose_vertices(head, geometry.shape, shot.arkit, shot.pose), resolution, shot.box
        )[list(LANDMARK_VERTICES), :2]
        for shot in shots
    ]
    places = (flow + 1) / 2 * (resolution - 1) + 0.5
    distances = []
    for source, driver in list(zip(*points, strict=True))[17:60]:  # the jaw hides behind cheeks
        column, row = np.floor(driver - 0.5).astype(int)
        if valid[row : row + 2, column : column + 2].all():
            across, down = driver - 0.5 - (column, row)
            corners = places[row : row + 2, column : column + 2]
            line = corners[0] * (1 - down) + corners[1] * down
            mapped = line[0] * (1 - across) + line[1] * across
            distances.append(np.linalg.norm(mapped - source) * 64 / resolution)
    assert len(distances) > 35
    assert np.median(distances) < 0.05
    assert np.quantile(distances, 0.9) < 0.5


def test_identical_frames_give_the_identity_flow():
    motion = talk(4)
    shot = CroppedFrame(motion.arkit[0], motion.pose[0], (16, 12, 64))

    flow, valid = correspondence(FaceGeometry(load_head(0), 7), CAMERA, shot, shot, 64)

    line = np.linspace(-1, 1, 64, dtype=np.float32)
    grid = np.stack(np.meshgrid(line, line), axis=-1)
    assert valid.mean() > 0.5
    assert np.abs(flow - grid)[valid].max() < 1e-4


def test_hidden_side_is_invalid_and_the_wall_only_between_different_crops():
    shots = [
        CroppedFrame(coefficients(), np.array([yaw, 0, 0, 0, 0, 0], np.float32), (16, 12, 64))
        for yaw in (-0.6, 0.6)
    ]
    moved = shots[0]._replace(box=(15, 12, 64))
    geometry, drawn = FaceGeometry(load_head(0), 7), Renderer(load_head(0), CAMERA, 1)
    drawn.frame(build_person(drawn.head, 7, 96), build_light(1), shots[1].arkit, shots[1].pose)
    wall = drawn.triangle_ids[12:76, 16:80] < 0

    _, valid = correspondence(geometry, CAMERA, *shots, 64)
    _, still = correspondence(geometry, CAMERA, shots[1], shots[1], 64)
    _, apart = correspondence(geometry, CAMERA, moved, shots[1], 64)

    assert valid[0, 0]
    assert not apart[wall].any()
    assert valid[~wall].sum() < 0.75 * still[~wall].sum()
