"""Training pairs: pure functions of (seed, step, lane), with their warps and swapped mouths."""

import numpy as np
import pytest
import torch

from fixtalk import pairs
from fixtalk.augmentation import Augmentation
from fixtalk.media import encode_video
from fixtalk.pages import find_pages, missing_labels, read_page
from fixtalk.pairs import PairSampler
from fixtalk.reenactment import Batch
from tests.clip_shards import write_shard
from tests.drawn_faces import face_points, flat_face

SIDE, FRAMES = 64, 14
ESTIMATED = np.float32([0.14, -0.14, 0.2])  # yaw, pitch, roll of each head
PLAIN = Augmentation(flip=0.0, colour=0.0, driver_colour=0.0, driver_stretch=0.0)
LIVELY = Augmentation(flip=0.5, colour=0.2, driver_colour=0.3, driver_stretch=0.1)


def grey_clip(person, session, clip, first):
    """Frame i of the clip is grey of value first + 4 i: the pixels tell which frame it is."""
    values = first + 4 * np.arange(FRAMES, dtype=np.uint8)
    frames = np.broadcast_to(values[:, None, None, None], (FRAMES, SIDE, SIDE, 3))
    video = encode_video(np.ascontiguousarray(frames), crf=1, gop=5)
    # the face walks to the right by a pixel a frame
    walk = np.arange(FRAMES, dtype=np.float32)[:, None, None] * np.array([1, 0], np.float32)
    return {
        "person": person, "session": session, "clip": clip, "frames": FRAMES, "video": video,
        "landmarks": face_points() + walk, "head_pose": np.tile(ESTIMATED, (FRAMES, 1)),
    }  # fmt: skip


def face_clip(person, skin, mouth):
    """A flat face that walks to the right, of a skin and a mouth by which to tell the person."""
    frames = np.stack([flat_face(skin, mouth, shift) for shift in range(FRAMES)])
    clip = grey_clip(person, None, person, 0)
    return clip | {"video": encode_video(frames, crf=1, gop=5)}


@pytest.fixture(scope="module")
def rows():
    return [
        grey_clip("A", "A1", "a0", 0),
        grey_clip("A", "A1", "a1", 60),
        grey_clip("B", None, "b0", 120),
        grey_clip("B", None, "b1", 180),
    ]


@pytest.fixture(scope="module")
def faces():
    people = [("A", 80, 0.5), ("B", 120, 0.75), ("C", 150, 1.25)]
    return [face_clip(*person) for person in people]


def grey(frames):
    """Mean pixel of each frame, 0-255."""
    return ((frames.mean((1, 2, 3)) + 1) * 127.5).round()


def clip_of(value):
    return int((value + 2) // 60)


@pytest.fixture
def sampler(tmp_path):
    """Makes samplers of rows that lie on disk, `group` of them in a page."""

    def of(rows, augmentation=PLAIN, *, group=8, lanes=8, visits=1, gate=0.1, **options):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        pages = find_pages(write_shard(folder, rows, group), "train")
        labelled = missing_labels(pages, ["landmarks"]) == {"landmarks": 0}
        return PairSampler(
            pages, seed=3, lanes=lanes, visits=visits, distance=5, gate=gate,
            augmentation=augmentation, labelled=labelled, **options,
        )  # fmt: skip

    return of


def skin(frames):
    """Grey of the top rows, which no mouth reaches."""
    return ((frames[:, :, :20].mean((1, 2, 3)) + 1) * 127.5).round()


def mouth(frames):
    """Darkest or brightest grey of the rows of the mouth, whichever is further from the skin."""
    rows = (frames[:, :, 44:48].mean((1, 2)) + 1) * 127.5
    offset = rows - skin(frames)[:, None]
    return offset.gather(1, offset.abs().argmax(1, keepdim=True))[:, 0] + skin(frames)


def test_item_depends_on_seed_step_and_lane_alone(sampler, rows):
    whole = sampler(rows, LIVELY).batch(7, range(8))
    share = sampler(rows, LIVELY).batch(7, range(4, 8))
    later = sampler(rows, LIVELY).batch(8, range(8))

    for name in ("source", "driver", "target"):
        assert torch.equal(getattr(whole, name)[4:], getattr(share, name))
    assert not torch.equal(whole.source, later.source)


def test_frames_of_a_clip_lie_apart_and_sessions_are_not_mixed(sampler, rows):
    batch = sampler(rows, lanes=200).batch(0, range(200))

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


def test_disguise_changes_the_driver_and_not_the_target(sampler, rows):
    disguised = sampler(rows, LIVELY).batch(0, range(16))
    plain = sampler(rows).batch(0, range(16))

    assert not torch.allclose(disguised.driver, disguised.target, atol=0.02)
    assert torch.equal(plain.driver, plain.target)
    assert disguised.shows_target.all()


def test_mirrored_pair_keeps_an_exact_warp(sampler, rows):
    line = torch.linspace(-1, 1, SIDE)
    flow = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1).numpy()
    flow = flow + np.array([0.25, 0.5], np.float32)
    valid = np.zeros((SIDE, SIDE), bool)
    valid[:, :10] = True
    always = Augmentation(flip=1.0, colour=0.0, driver_colour=0.0, driver_stretch=0.0)

    batch = sampler(rows, always, truth=lambda source, driver: (flow, valid)).batch(
        0, range(2), warps=True
    )

    offset = batch.flow[0] - torch.stack(torch.meshgrid(line, line, indexing="xy"), -1)
    assert torch.allclose(offset, torch.tensor([-0.25, 0.5]), atol=1e-6)
    assert batch.valid[0, :, -10:].all()
    assert not batch.valid[0, :, :-10].any()


def test_stranger_drives_where_the_warp_is_known(sampler, rows):
    seen = []

    def truth(source, driver):
        seen.append((source[0]["person"], driver[0]["person"]))
        return np.zeros((SIDE, SIDE, 2), np.float32), np.ones((SIDE, SIDE), bool)

    drawn = sampler(rows, lanes=16, strangers=0.25, truth=truth)
    batch = drawn.batch(0, range(16), warps=True)

    strangers = [source != driver for source, driver in seen]
    assert strangers == (~batch.shows_target).tolist()
    assert sum(strangers) == 4
    for without in (drawn.batch(0, range(16)), sampler(rows, strangers=0.25).batch(0, range(16))):
        assert without.shows_target.all()
        assert without.flow is None


def test_clips_of_one_frame_are_nothing_to_train_on(sampler, rows):
    with pytest.raises(ValueError, match="no clip holds two frames"):
        sampler([rows[0] | {"frames": 1}])
    with pytest.raises(ValueError, match="flip lies in"):
        Augmentation(flip=2.0, colour=0.0, driver_colour=0.0, driver_stretch=0.0)


def test_gate_opens_for_pairs_whose_landmarks_lie_apart(sampler, rows):
    batch = sampler(rows, lanes=60, gate=7.5 / SIDE).batch(0, range(60))

    # the face walks a pixel a frame, and a frame is 4 shades of grey
    source, driver = (
        ((grey(frames) + 2) % 60 / 4).floor() for frames in (batch.source, batch.driver)
    )
    assert torch.equal(batch.moves, (source - driver).abs() > 7.5)
    assert 0 < batch.moves.sum() < 60


def test_coefficients_are_told_the_shape_of_the_driver_mirrored_with_it(sampler, rows):
    turned = np.tile(np.float32([0.56, 0.14, -0.1, 9, 9, 9]), (FRAMES, 1))
    known = [row | {"pose": turned} for row in rows]
    mirroring = Augmentation(flip=1.0, colour=0.0, driver_colour=0.0, driver_stretch=0.0)

    estimated, exact, mirrored = (
        sampler(clips, augmentation, lanes=20).batch(0, range(20))
        for clips, augmentation in ((rows, PLAIN), (known, PLAIN), (known, mirroring))
    )

    # the face walks a pixel a frame, and a frame is 4 shades of grey
    walked = ((grey(estimated.driver) + 2) % 60 / 4).floor()
    middle = (face_points()[36:48].mean(0)[0] + walked) / SIDE
    assert torch.allclose(estimated.head[:, :3], torch.tensor([0.5, -1.0, 2.0]), atol=1e-6)
    assert torch.allclose(estimated.head[:, 3], (middle - 0.5) / 0.12, atol=1e-5)
    assert torch.allclose(exact.head[:, :3], torch.tensor([2.0, 1.0, -1.0]), atol=1e-6)
    assert torch.allclose(mirrored.head[:, 3], (0.5 - middle) / 0.12, atol=1e-5)
    assert torch.allclose(mirrored.head[:, :3], torch.tensor([-2.0, 1.0, 1.0]), atol=1e-6)
    assert torch.equal(mirrored.head[:, 4:], exact.head[:, 4:])
    assert torch.equal(mirrored.lips, exact.lips)
    assert torch.equal(mirrored.brows, exact.brows)


def test_clip_without_landmarks_leaves_the_gate_unknown_and_mouths_unswapped(sampler, rows):
    unmarked = sampler([*rows, rows[0] | {"clip": "bare", "landmarks": None}])

    assert unmarked.batch(0, range(4)).moves is None
    with pytest.raises(ValueError, match="no landmarks to swap mouths by: leave phases"):
        unmarked.batch(0, range(4), swaps=True)


def test_one_person_alone_cannot_swap_mouths(sampler, rows):
    with pytest.raises(ValueError, match="one person"):
        sampler(rows[:2]).batch(0, range(2), swaps=True)


def test_landmarks_that_are_no_face_are_named_by_clip_and_frame(sampler, faces):
    broken = faces[0] | {"landmarks": np.zeros((FRAMES, 68, 2), np.float32)}

    with pytest.raises(ValueError, match=r"frame \d+ of A.*less than 2 pixels"):
        sampler([broken, *faces[1:]]).batch(0, range(8), swaps=True)


def test_mouth_that_its_frame_does_not_show_is_not_swapped(sampler, faces):
    below = faces[0]["landmarks"] + np.array([0, 2 * SIDE], np.float32)
    one, other = faces[0] | {"landmarks": below}, faces[1]

    batch = sampler([one, other], lanes=24).batch(0, range(24), swaps=True)

    assert torch.equal(batch.lip, batch.driver)
    assert torch.equal(batch.pose, batch.driver)


def test_swapped_frames_show_one_person_with_the_mouth_of_another(sampler, faces):
    batch = sampler(faces, lanes=24).batch(0, range(24), swaps=True)

    skins, mouths = torch.tensor([80, 120, 150]), torch.tensor([0.5, 0.75, 1.25])
    driver, partner = (
        (skin(f)[:, None] - skins).abs().argmin(1) for f in (batch.driver, batch.lip)
    )
    assert (driver != partner).all()
    assert torch.equal(skin(batch.pose), skin(batch.driver))
    assert (mouth(batch.lip) - skins[partner] * mouths[driver]).abs().max() < 6
    assert (mouth(batch.pose) - skins[driver] * mouths[partner]).abs().max() < 6


def test_swaps_leave_the_pair_as_it_is_without_them(sampler, faces):
    drawn = sampler(faces, LIVELY)

    plain, swapped = drawn.batch(5, range(8)), drawn.batch(5, range(8), swaps=True)
    share = drawn.batch(5, range(4, 8), swaps=True)

    for name in ("source", "driver", "target", "moves"):
        assert torch.equal(getattr(plain, name), getattr(swapped, name))
    assert plain.lip is None
    assert plain.pose is None
    for name in ("lip", "pose"):
        assert torch.equal(getattr(swapped, name)[4:], getattr(share, name))


def test_swapped_frames_wear_the_disguise_of_the_driver(sampler, faces):
    batch = sampler(faces, LIVELY).batch(0, range(12), swaps=True)

    # the driver with another mouth is the driver pixel by pixel, but for the mouth
    changed = (batch.pose - batch.driver).abs().amax(1) > 1e-6
    assert not changed[:, :36].any()
    assert (changed.float().mean((1, 2)) > 0.005).all()
    # and its partner's skin has got the same gains: brighter people stay brighter by as much
    ratio = skin(batch.lip) / skin(batch.driver)
    known = torch.tensor([a / b for a in (80, 120, 150) for b in (80, 120, 150) if a != b])
    unclipped = torch.maximum(batch.lip.amax((1, 2, 3)), batch.driver.amax((1, 2, 3))) < 0.99
    assert unclipped.sum() > 4
    assert ((ratio[:, None] - known).abs().amin(1) < 0.03)[unclipped].all()


def test_partner_of_a_stranger_is_somebody_else_again(sampler, faces):
    def truth(source, driver):
        return np.zeros((SIDE, SIDE, 2), np.float32), np.ones((SIDE, SIDE), bool)

    batch = sampler(faces, strangers=0.5, truth=truth).batch(0, range(16), warps=True, swaps=True)

    assert (~batch.shows_target).sum() == 8
    assert (skin(batch.lip) != skin(batch.driver)).all()


def test_every_visit_shows_the_clip_whose_turn_it_is(sampler, rows):
    drawn = sampler(rows, lanes=2, visits=3)

    for step in range(drawn.order.epoch_steps):
        batch = drawn.batch(step, range(2))
        for lane in range(2):
            shown = {clip_of(grey(view)[lane]) for view in (batch.source, batch.target)}
            assert drawn.order(step, lane).row in shown


@pytest.mark.parametrize("group", [1, 2])
def test_other_people_come_from_the_companion_page(sampler, faces, group):
    people = [face | {"clip": f"{face['clip']}{i}"} for face in faces for i in range(2)]
    seen = []

    def truth(source, driver):
        seen.append((source[0]["person"], driver[0]["person"]))
        return np.zeros((SIDE, SIDE, 2), np.float32), np.ones((SIDE, SIDE), bool)

    drawn = sampler(people, group=group, lanes=6, visits=2, strangers=0.5, truth=truth)
    batches = [drawn.batch(step, range(6), warps=True, swaps=True) for step in range(4)]

    strange = torch.cat([~batch.shows_target for batch in batches])
    assert [source != driver for source, driver in seen] == strange.tolist()
    assert strange.sum() == 12
    assert all((skin(batch.lip) != skin(batch.driver)).all() for batch in batches)


def test_lanes_split_over_workers_give_what_one_worker_gives(sampler, faces):
    def truth(source, driver):
        shape = (SIDE, SIDE)
        return np.full((*shape, 2), source[1] - driver[1], np.float32), np.ones(shape, bool)

    options = {"group": 1, "lanes": 6, "visits": 2, "strangers": 0.5, "truth": truth}
    whole, *workers = (sampler(faces, LIVELY, **options) for _ in range(4))

    for step in range(5):
        wanted = whole.arrays(step, range(6), warps=True, swaps=True)
        parts = [
            worker.arrays(step, range(2 * rank, 2 * rank + 2), warps=True, swaps=True)
            for rank, worker in enumerate(workers)
        ]
        assert set(wanted) == {
            "source", "driver", "target", "lip", "pose", "shows_target", "moves", "mouth", "flow",
            "lips", "head", "brows", "valid",
        }  # fmt: skip
        for name, array in wanted.items():
            together = np.concatenate([part[name] for part in parts])
            assert array.dtype == together.dtype
            assert np.array_equal(array, together)


def test_worker_reads_the_pages_of_its_lanes_once_and_forgets_them(sampler, rows, monkeypatch):
    reads = []
    monkeypatch.setattr(pairs, "read_page", lambda page: reads.append(page) or read_page(page))
    clips = [row | {"clip": f"{i}{row['clip']}"} for i in range(4) for row in rows]
    drawn = sampler(clips, group=2, lanes=4, visits=4)
    steps = range(drawn.order.epoch_steps)
    items = [drawn.order(step, lane) for step in steps for lane in (0, 1)]
    most = 0

    for step in steps:
        drawn.arrays(step, (0, 1))
        most = max(most, len(drawn.held))

    assert sorted(reads) == sorted({drawn.pages[item.page] for item in items})
    assert len(reads) < len(drawn.pages)
    assert most == 2
    reads.clear()
    drawn.arrays(0, (3,), swaps=True)
    item = drawn.order(0, 3)
    assert item.page != item.companion
    assert set(reads) == {drawn.pages[item.page], drawn.pages[item.companion]}


def test_frames_travel_as_bytes_and_arrive_as_the_batch(sampler, faces):
    drawn = sampler(faces, LIVELY)

    arrays = drawn.arrays(2, range(4), swaps=True)

    views = ("source", "driver", "target", "lip", "pose")
    assert {arrays[name].dtype for name in views} == {np.dtype(np.uint8)}
    assert {arrays[name].shape for name in views} == {(4, SIDE, SIDE, 3)}
    batch = Batch.of(arrays, torch.device("cpu"))
    for name in views:
        pixels = ((getattr(batch, name) + 1) * 127.5).round().permute(0, 2, 3, 1)
        assert np.array_equal(pixels.numpy(), arrays[name])
    assert batch.moves.tolist() == arrays["moves"].tolist()
    assert batch.flow is None


def test_microbatches_are_the_batch_in_order(sampler, faces):
    batch = sampler(faces).batch(0, range(5))

    parts = batch.split(2)

    assert [len(part.source) for part in parts] == [2, 2, 1]
    for name in ("source", "driver", "target", "shows_target", "moves"):
        together = torch.cat([getattr(part, name) for part in parts])
        assert torch.equal(together, getattr(batch, name))
    assert all(part.lip is None for part in parts)
