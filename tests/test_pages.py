"""Pages of shards and their order: what is read, and that each clip has its turn."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from fixtalk.dataset import read_clips
from fixtalk.pages import Order, Page, find_pages, missing_labels, read_page
from tests.clip_shards import write_shard

MARKS = np.zeros((4, 68, 2), np.float32)


def clip(name, person, **columns):
    return {"clip": name, "person": person, "frames": 4, "video": b"film", **columns}


def some_pages(count=7, people=3):
    """Pages of one to three clips, each page of one person."""
    return [
        Page(Path("shard"), group, tuple(range(1 + group % 3)), (f"P{group % people}",) * 3)
        for group in range(count)
    ]


def order_of(pages, seed=1, lanes=4, visits=3):
    return Order(pages, seed=seed, lanes=lanes, visits=visits)


def epoch_of(order, epoch, lanes=4):
    steps = range(epoch * order.epoch_steps, (epoch + 1) * order.epoch_steps)
    return [[order(step, lane) for step in steps] for lane in range(lanes)]


def turns(lanes):
    return [[(item.page, item.row) for item in lane] for lane in lanes]


def test_pages_hold_the_rows_of_a_split_with_two_frames_and_kept_people(tmp_path):
    first = [
        clip("a", "A"), clip("b", "B", split="test"), clip("c", "C", frames=1),
        clip("d", "D", speech=0.4), clip("e", "E", split="test"), clip("f", "F", split="test"),
    ]  # fmt: skip
    write_shard(tmp_path, [clip("g", "A"), clip("h", "H")], group=2, name="00001")
    write_shard(tmp_path, first, group=2, name="00000")
    shards = [tmp_path / "shards" / f"0000{index}.parquet" for index in range(2)]

    pages = find_pages(tmp_path, "train", keep=lambda person: person != "H")

    assert pages == [
        Page(shards[0], 0, (0,), ("A",), (False,)),
        Page(shards[0], 1, (1,), ("D",), (True,)),
        Page(shards[1], 0, (0,), ("A",), (False,)),
    ]
    assert [row["clip"] for page in pages for row in read_page(page)] == ["a", "d", "g"]
    assert [page.people for page in find_pages(tmp_path, "test")] == [("B",), ("E", "F")]


def test_pages_hold_what_reading_all_clips_gives(tmp_path):
    write_shard(tmp_path, [clip(str(i), "A", landmarks=MARKS + i) for i in range(5)], group=2)

    paged = [row for page in find_pages(tmp_path, "train") for row in read_page(page)]

    for one, other in zip(paged, read_clips(tmp_path), strict=True):
        assert np.array_equal(one.pop("landmarks"), other.pop("landmarks"))
        assert one == other


def test_finding_pages_reads_no_videos(tmp_path):
    film = bytes(1_000_000)
    write_shard(tmp_path, [clip(str(i), "A", video=film) for i in range(4)], group=2)
    shard = tmp_path / "shards" / "00000.parquet"
    # the lengths of the videos are spoilt: whoever reads them fails
    shard.write_bytes(shard.read_bytes().replace(len(film).to_bytes(4, "little"), b"\xff" * 4))

    pages = find_pages(tmp_path, "train")

    assert [page.rows for page in pages] == [(0, 1), (0, 1)]
    with pytest.raises(ValueError, match="cannot be read"):
        read_page(pages[0])


def test_unreadable_shards_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="run the crop stage first"):
        find_pages(tmp_path, "train")
    write_shard(tmp_path, [clip("a", "A")])
    shard = tmp_path / "shards" / "00000.parquet"
    page = find_pages(tmp_path, "train")[0]
    shard.write_bytes(shard.read_bytes()[:-50])
    for read in (lambda: find_pages(tmp_path, "train"), lambda: read_page(page)):
        with pytest.raises(ValueError, match=r"00000.parquet cannot be read .* crop stage again"):
            read()


def test_missing_labels_are_counted_in_used_rows_only(tmp_path):
    pose = np.zeros((4, 6), np.float32)
    rows = [
        clip("a", "A", landmarks=MARKS, camera="c", pose=pose),
        clip("b", "A", landmarks=MARKS, camera="c"),
        clip("c", "A", landmarks=MARKS, split="test"),
        clip("d", "A", landmarks=MARKS),
        clip("e", "A", landmarks=MARKS),
        clip("f", "A", landmarks=MARKS, split="test"),
    ]
    pages = find_pages(write_shard(tmp_path, rows, group=3), "train")

    counts = missing_labels(pages, ("landmarks", "box", "camera", "pose", "arkit"))

    assert counts == {"landmarks": 0, "box": 0, "camera": 2, "pose": 3, "arkit": 4}


@pytest.mark.parametrize("lanes", [1, 4, 5, 1000])
def test_each_clip_is_visited_equally_often_in_an_epoch(lanes):
    pages, visits = some_pages(), 3
    order = order_of(pages, lanes=lanes, visits=visits)

    seen = Counter(turn for lane in turns(epoch_of(order, 1, lanes)) for turn in lane)

    clips = {(i, row) for i, page in enumerate(pages) for row in page.rows}
    assert set(seen) == clips
    assert min(seen.values()) >= visits
    padding = order.epoch_steps * lanes - visits * len(clips)
    assert padding < lanes
    assert sum(seen.values()) == visits * len(clips) + padding


def test_order_is_a_function_of_seed_step_and_lane():
    pages = some_pages()
    one, other = order_of(pages), order_of(pages)

    forward = {(step, lane): one(step, lane) for step in range(60) for lane in range(4)}

    places = list(forward)
    np.random.default_rng(0).shuffle(places)
    assert {tuple(place): other(*place) for place in places} == forward


def test_order_differs_between_epochs_and_seeds():
    pages = some_pages()
    order = order_of(pages)
    first, second = (turns(epoch_of(order, epoch)) for epoch in range(2))

    assert first != second
    assert first != turns(epoch_of(order_of(pages, seed=2), 0))
    assert {item.epoch for lane in epoch_of(order, 1) for item in lane} == {1}


def test_lane_walks_from_page_to_page_without_coming_back():
    pages = some_pages(count=40)
    order = order_of(pages, lanes=4)

    for lane in turns(epoch_of(order, 0)):
        walk = [page for page, _ in lane]
        changes = sum(one != other for one, other in pairwise(walk))
        assert changes == len(set(walk)) - 1


def test_companion_shows_another_person():
    pages = [*some_pages(), Page(Path("shard"), 7, (0, 1), ("P0", "P9"))]
    order = order_of(pages, lanes=1)
    sequence = list(dict.fromkeys(item.page for item in epoch_of(order, 0, 1)[0]))

    for item in epoch_of(order, 0, 1)[0]:
        person = pages[item.page].people[item.row]
        before = sequence.index(item.page)
        around = sequence[before::-1] + sequence[:before:-1]
        assert item.companion == next(p for p in around if set(pages[p].people) - {person})


def test_person_alone_has_no_companion_but_the_page_itself():
    order = order_of(some_pages(people=1))

    assert all(item.companion == item.page for lane in epoch_of(order, 0) for item in lane)


def test_nothing_to_go_through_is_refused():
    with pytest.raises(ValueError, match="nothing to train on"):
        order_of([])
