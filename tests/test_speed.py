"""Speed: hand-made times give the frames a second and latencies that they should."""

import time

import numpy as np
import pytest
import torch

from pipelines.speed import Stopwatch, summarise

CPU = torch.device("cpu")


def clip(laps, seconds, memory=1, device="Abacus"):
    frames = sum(count for count, _ in laps)
    return {"frames": frames, "seconds": seconds, "laps": laps, "memory": memory * 2**20,
            "device": device}  # fmt: skip


def test_rates_and_latencies_of_all_clips_together():
    clips = [clip([(8, 0.1), (2, 0.05)], 1.0), clip([(8, 0.1)], 0.5, memory=3)]

    speed = summarise(clips, batch=8)

    assert speed == {
        "device": "Abacus", "clips": 2, "frames": 18, "batch": 8,
        "fps_model": 72.0, "fps": 12.0, "latency_ms_p50": 100.0, "latency_ms_p99": 100.0,
        "memory_mb": 3.0,
    }  # fmt: skip


def test_slow_batches_show_in_the_tail_alone():
    laps = [(1, 0.01)] * 98 + [(1, 1.0)] * 2

    speed = summarise([clip(laps, 3.0)], batch=1)

    assert speed["latency_ms_p50"] == 10.0
    assert speed["latency_ms_p99"] == pytest.approx(np.percentile([10] * 98 + [1000] * 2, 99))


def test_no_model_has_no_latency_and_no_clip_no_number():
    still = {**clip([], 0.5), "frames": 10}

    assert summarise([still], batch=8)["fps"] == 20.0
    assert summarise([still], batch=8)["fps_model"] is None
    empty = summarise([], batch=8)
    assert (empty["clips"], empty["fps"], empty["memory_mb"]) == (0, None, None)


def test_watch_counts_the_model_apart_from_the_rest():
    watch = Stopwatch(CPU)
    with watch.lap(3):
        time.sleep(0.02)
    time.sleep(0.02)

    stopped = watch.stop(3)

    ((frames, seconds),) = stopped["laps"]
    assert frames == 3
    assert 0.02 <= seconds <= stopped["seconds"] - 0.02
    assert stopped["memory"] > 2**20
    assert stopped["device"]


def test_watch_counts_what_each_batch_takes_to_come(monkeypatch):
    now = [0.0]

    def batches():
        for count, seconds in ((2, 3.0), (1, 4.0)):
            now[0] += seconds
            yield np.zeros((count, 4, 4, 3), np.uint8)

    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    watch = Stopwatch(CPU)
    shown = 0
    for _ in watch.each(batches()):
        now[0] += 100.0  # what is done with a frame does not count
        shown += 1

    assert shown == 3
    assert watch.laps == [(2, 3.0), (1, 4.0)]
