"""Training pairs: pure functions of (seed, step, index), within a session, with their warp."""

import numpy as np
import pytest
import torch

from fixtalk.media import encode_video
from fixtalk.pairs import Augmentation, PairSampler

SIDE, FRAMES = 64, 14
PLAIN = Augmentation(flip=0.0, colour=0.0, driver_colour=0.0, driver_stretch=0.0)
LIVELY = Augmentation(flip=0.5, colour=0.2, driver_colour=0.3, driver_stretch=0.1)


def grey_clip(person, session, clip, first):
    """Frame i of the clip is grey of value first + 4 i: the pixels tell which frame it is."""
    values = first + 4 * np.arange(FRAMES, dtype=np.uint8)
    frames = np.broadcast_to(values[:, None, None, None], (FRAMES, SIDE, SIDE, 3))
    video = encode_video(np.ascontiguousarray(frames), crf=1, gop=5)
    return {"person": person, "session": session, "clip": clip, "frames": FRAMES, "video": video}


@pytest.fixture(scope="module")
def rows():
    return [
        grey_clip("A", "A1", "a0", 0),
        grey_clip("A", "A1", "a1", 60),
        grey_clip("B", None, "b0", 120),
        grey_clip("B", None, "b1", 180),
    ]


def grey(frames):
    """Mean pixel of each frame, 0-255."""
    return ((frames.mean((1, 2, 3)) + 1) * 127.5).round()


def clip_of(value):
    return int((value + 2) // 60)


def sampler(rows, augmentation=PLAIN, **options):
    return PairSampler(rows, seed=3, distance=5, augmentation=augmentation, **options)


def test_item_depends_on_seed_step_and_index_alone(rows):
    whole = sampler(rows, LIVELY).batch(7, range(8))
    share = sampler(rows, LIVELY).batch(7, range(4, 8))
    later = sampler(rows, LIVELY).batch(8, range(8))

    for name in ("source", "driver", "target"):
        assert torch.equal(getattr(whole, name)[4:], getattr(share, name))
    assert not torch.equal(whole.source, later.source)


def test_frames_of_a_clip_lie_apart_and_sessions_are_not_mixed(rows):
    batch = sampler(rows).batch(0, range(200))

    sources, drivers = grey(batch.source).tolist(), grey(batch.driver).tolist()
    crossed = 0
    for source, driver in zip(sources, drivers, strict=True):
        if clip_of(source) == clip_of(driver):
            assert abs(source - driver) >= 4 * 5 - 2
        else:
            crossed += 1
            assert {clip_of(source), clip_of(driver)} == {0, 1}
    assert crossed > 0
    assert {clip_of(value) for value in sources} == {0, 1, 2, 3}


def test_disguise_changes_the_driver_and_not_the_target(rows):
    disguised = sampler(rows, LIVELY).batch(0, range(16))
    plain = sampler(rows).batch(0, range(16))

    assert not torch.allclose(disguised.driver, disguised.target, atol=0.02)
    assert torch.equal(plain.driver, plain.target)
    assert disguised.shows_target.all()


def test_mirrored_pair_keeps_an_exact_warp(rows):
    line = torch.linspace(-1, 1, SIDE)
    flow = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1).numpy()
    flow = flow + np.array([0.25, 0.5], np.float32)
    valid = np.zeros((SIDE, SIDE), bool)
    valid[:, :10] = True
    always = Augmentation(flip=1.0, colour=0.0, driver_colour=0.0, driver_stretch=0.0)

    batch = sampler(rows, always, truth=lambda source, driver: (flow, valid)).batch(0, range(2))

    offset = batch.flow[0] - torch.stack(torch.meshgrid(line, line, indexing="xy"), -1)
    assert torch.allclose(offset, torch.tensor([-0.25, 0.5]), atol=1e-6)
    assert batch.valid[0, :, -10:].all()
    assert not batch.valid[0, :, :-10].any()


def test_stranger_drives_where_the_warp_is_known(rows):
    seen = []

    def truth(source, driver):
        seen.append((source[0]["person"], driver[0]["person"]))
        return np.zeros((SIDE, SIDE, 2), np.float32), np.ones((SIDE, SIDE), bool)

    batch = sampler(rows, strangers=0.25, truth=truth).batch(0, range(16))

    strangers = [source != driver for source, driver in seen]
    assert strangers == (~batch.shows_target).tolist()
    assert sum(strangers) == 4
    without = sampler(rows, strangers=0.25).batch(0, range(16))
    assert without.shows_target.all()


def test_clips_of_one_frame_are_nothing_to_train_on(rows):
    with pytest.raises(ValueError, match="none of 1 clips holds two frames"):
        sampler([rows[0] | {"frames": 1}])
    with pytest.raises(ValueError, match="flip lies in"):
        Augmentation(flip=2.0, colour=0.0, driver_colour=0.0, driver_stretch=0.0)
