"""Damaged videos and shards: a reason or an error that names the file, never a crash or a wait.

A process of its own does the reading: a decoder that crashes or hangs fails the test, not pytest.
"""

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from fixtalk.dataset import FOOTERS
from fixtalk.encoding import retime
from fixtalk.media import SAMPLES_PER_FRAME, VideoReader, write_video
from tests.clip_shards import write_shard
from tests.conftest import ROOT
from tests.mutations import KINDS
from tests.test_crop import portrait

FEW, ALL = range(10), range(10, 100)  # seeds: both together are the hundred
SECONDS = 30  # that one file may take
GIGABYTES = 6  # of address space
MARKS = np.arange(4 * 68 * 2, dtype=np.float32).reshape(4, 68, 2)

READER = """
import faulthandler, json, resource, sys, time
from pathlib import Path
from tests.mutations import mutate
from tests.test_fuzz import GIGABYTES, READERS, SECONDS
resource.setrlimit(resource.RLIMIT_AS, (GIGABYTES << 30,) * 2)
kind, good, folder, first, last = sys.argv[1:]
READERS[kind](Path(good).read_bytes(), Path(folder))  # imports take their time
for seed in range(int(first), int(last)):
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    begin = time.monotonic()
    outcome = READERS[kind](mutate(Path(good).read_bytes(), seed), Path(folder))
    print(json.dumps([seed, outcome, time.monotonic() - begin]), flush=True)
"""


def read_bad_video(data, folder):
    """Reasons and damage that crop's report on it names, and how many clips it still gives."""
    from tests.test_pieces import cropped

    (folder / "a.mp4").write_bytes(data)
    rows, report = cropped(folder)
    assert all(row["frames"] >= 12 and row["video"] for row in rows)
    return [len(rows), sorted({one["reason"] for one in report["dropped"]}), report.get("damage")]


def read_bad_shard(data, folder):
    """For both readers: the error that names the shard, or that all is as it was written."""
    from fixtalk.dataset import ShardError, read_clips
    from fixtalk.pages import find_pages, missing_labels, read_page

    def by_page():
        pages = find_pages(folder, "train")
        missing_labels(pages, ["landmarks", "box"])
        return [row for page in pages for row in read_page(page)]

    (folder / "shards").mkdir(exist_ok=True)
    (folder / "shards" / "00000.parquet").write_bytes(data)
    (folder / "shards" / FOOTERS).write_bytes((folder / FOOTERS).read_bytes())
    outcomes = []
    for read in (lambda: read_clips(folder), by_page):
        try:
            rows = read()
            outcomes.append("unchanged" if as_written(rows) else "changed unnoticed")
        except ShardError as error:
            outcomes.append("named" if "00000.parquet cannot be read" in str(error) else str(error))
    return outcomes


READERS = {"video": read_bad_video, "shard": read_bad_shard}


def some_rows():
    """Twelve clips in two row groups."""
    return [
        {
            "clip": f"P{n}/clip", "person": f"P{n}", "frames": 4, "video": bytes([n]) * 5000,
            "audio": bytes([n]) * 2000, "landmarks": MARKS + n,
        }
        for n in range(12)
    ]  # fmt: skip


def as_written(rows):
    return len(rows) == 12 and all(
        all(np.array_equal(row[name], value) for name, value in right.items())
        for row, right in zip(rows, some_rows(), strict=True)
    )


def outcomes(kind, good, folder, seeds):
    """What became of each seed; fails where the process ended or hung before the last."""
    span = [str(seeds.start), str(seeds.stop)]
    command = [sys.executable, "-c", READER, kind, str(good), str(folder), *span]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"after seed {[one[0] for one in lines][-1:]}: {done.stderr}"
    assert [seed for seed, *_ in lines] == list(seeds)
    return [outcome for _, outcome, _ in lines]


@pytest.fixture
def good_video(tmp_path) -> Path:
    noise = np.random.default_rng(0).normal(size=24 * SAMPLES_PER_FRAME) * 3000
    write_video(tmp_path / "good.mp4", portrait(24), audio=noise.astype(np.int16), gop=12)
    return tmp_path / "good.mp4"


@pytest.fixture
def good_shard(tmp_path) -> Path:
    import pyarrow.parquet as pq

    from fixtalk.shards import ShardWriter

    plain = write_shard(tmp_path / "plain", some_rows()) / "shards" / "00000.parquet"
    writer = ShardWriter(tmp_path, 256.0)
    for batch in pq.ParquetFile(plain).iter_batches(batch_size=1):
        writer.add(batch)
    writer.close()
    return tmp_path / "00000.parquet"


@pytest.mark.parametrize("seeds", [FEW, pytest.param(ALL, marks=pytest.mark.slow)])
def test_a_damaged_video_gives_clips_or_a_reason(good_video, tmp_path, seeds):
    found = outcomes("video", good_video, tmp_path, seeds)

    assert all(clips or reasons for clips, reasons, _ in found)
    assert any(reasons or damage for _, reasons, damage in found)


@pytest.mark.parametrize("seeds", [FEW, pytest.param(ALL, marks=pytest.mark.slow)])
def test_a_damaged_shard_is_named_or_unharmed(good_shard, tmp_path, seeds):
    found = outcomes("shard", good_shard, tmp_path, seeds)

    assert {outcome for pair in found for outcome in pair} <= {"named", "unchanged"}
    flips = [pair for seed, pair in zip(seeds, found, strict=True) if KINDS[seed % 5] == "flips"]
    assert set(map(tuple, flips)) == {("named", "named")}, "every page has a checksum"


def test_time_stamps_of_hours_do_not_fill_in_hours_of_frames(good_video, tmp_path):
    retime(good_video, tmp_path / "hours.mp4", Fraction(10_000))
    reader = VideoReader(tmp_path / "hours.mp4")

    assert sum(1 for _ in reader) <= 5 * 25
    assert "stands still for 400.0 s" in reader.damage


@pytest.mark.parametrize("names", [[b"avc1", b"avcC"], [b"mp4a", b"esds"]], ids=["video", "sound"])
def test_an_unknown_codec_is_a_reason(good_video, tmp_path, names):
    data = good_video.read_bytes()
    for name in names:
        data = data.replace(name, b"zzzz")

    outcome = read_bad_video(data, tmp_path)

    assert outcome == [0, ["unknown codec"], None]
