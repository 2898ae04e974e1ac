"""Checkpoints: what was saved comes back whole, whatever kills, fills or damages the storage."""

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import fsspec
import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem

from pipelines.checkpoints import Checkpoints, _best


def a_state(step, numbers=1000):
    """Shaped like a training state: nested, with tensors, numbers and lists."""
    moments = {0: {"exp_avg": torch.full((numbers,), float(step)), "step": torch.tensor(step)}}
    groups = [{"lr": 1e-3, "betas": (0.0, 0.99), "params": [0]}]
    return {"step": step, "phase": "emi", "optimiser": {"state": moments, "param_groups": groups}}


def is_whole(state, step):
    moments = state["optimiser"]["state"][0]
    return state["step"] == step and bool((moments["exp_avg"] == step).all())


def save_all(checkpoints, *steps, scores=()):
    for i, step in enumerate(steps):
        checkpoints.save(a_state(step), step, scores[i] if scores else None)
    checkpoints.flush()


def steps_of(checkpoints):
    return [kept.step for kept in checkpoints.kept()]


@pytest.fixture
def bucket(monkeypatch):
    """URL of a folder on an S3 server of this machine."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    yield f"s3://bucket-{uuid.uuid4().hex}/runs/one"
    server.stop()
    fsspec.filesystem("s3").clear_instance_cache()


@pytest.fixture(params=["path", "file", "memory", "s3"])
def place(request, tmp_path):
    if request.param == "s3":
        return request.getfixturevalue("bucket")
    kinds = {"path": tmp_path / "a" / "run", "file": f"file://{tmp_path}/run"}
    return str(kinds.get(request.param, f"memory://{uuid.uuid4().hex}"))


def test_a_state_comes_back_from_any_storage(place):
    empty = Checkpoints(place)
    assert (empty.kept(), _best([]), empty.newest()) == ([], None, None)

    save_all(Checkpoints(place), 100, 200, scores=(30.5, 29.0))

    kept, state = Checkpoints(place).newest()
    assert (kept.name, kept.step, kept.score) == ("step-00000200", 200, 29.0)
    assert is_whole(state, 200)
    assert state["optimiser"]["param_groups"] == a_state(200)["optimiser"]["param_groups"]
    assert _best(Checkpoints(place).kept()).step == 100


def test_the_last_ones_and_the_best_stay(place):
    checkpoints = Checkpoints(place, keep=2)

    save_all(checkpoints, 1, 2, 3, 4, 5, 6, scores=(float("nan"), 7.0, None, 7.0, 1.0, 6.0))

    assert steps_of(checkpoints) == [2, 5, 6]
    assert _best(checkpoints.kept()).step == 2
    fs, root = fsspec.core.url_to_fs(place)
    assert len(fs.ls(root)) == 6  # a state and a mark each


def test_pruning_sees_what_an_earlier_process_wrote(tmp_path):
    save_all(Checkpoints(str(tmp_path)), 1, 2)
    resumed = Checkpoints(str(tmp_path))
    resumed.newest()

    save_all(resumed, 3)

    assert steps_of(resumed) == [2, 3]


def test_a_damaged_newest_state_does_not_push_out_whole_ones(tmp_path):
    save_all(Checkpoints(str(tmp_path)), 1, 5)
    next(tmp_path.glob("step-00000005*.pt")).write_bytes(b"")
    resumed = Checkpoints(str(tmp_path))
    assert resumed.newest()[0].step == 1

    save_all(resumed, 2)
    assert steps_of(resumed) == [1, 2, 5]

    save_all(resumed, 3, 5)
    assert steps_of(resumed) == [3, 5]
    assert is_whole(resumed.newest()[1], 5)


def cut(file):
    os.truncate(file, file.stat().st_size // 2)


def flip(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize(
    ("pattern", "harm"),
    [("*2-*.pt", cut), ("*2-*.pt", flip), ("*2-*.pt", os.remove), ("*2.json", cut)],
)
def test_damage_is_named_and_the_state_before_is_used(tmp_path, caplog, pattern, harm):
    save_all(Checkpoints(str(tmp_path)), 1, 2)
    (file,) = tmp_path.glob(pattern)
    harm(file)

    kept, state = Checkpoints(str(tmp_path)).newest()

    assert kept.step == 1
    assert is_whole(state, 1)
    assert str(file) in caplog.text
    assert len(list(tmp_path.glob("step-00000002*"))) == (1 if harm is os.remove else 2)


def test_loading_a_damaged_state_names_its_file(tmp_path):
    checkpoints = Checkpoints(str(tmp_path))
    save_all(checkpoints, 7)
    (file,) = tmp_path.glob("*.pt")
    flip(file)

    with pytest.raises(ValueError, match=f"{file.name}: damaged"):
        checkpoints.load(checkpoints.kept()[0])


def test_saving_returns_before_the_write_and_later_changes_do_not_reach_it(tmp_path, monkeypatch):
    written, sync = threading.Event(), os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: written.wait(30) and sync(handle))
    checkpoints, state = Checkpoints(str(tmp_path)), a_state(1)

    checkpoints.save(state, 1)
    state["optimiser"]["state"][0]["exp_avg"].zero_()
    assert checkpoints.kept() == []
    written.set()
    checkpoints.flush()

    assert is_whole(checkpoints.newest()[1], 1)


def test_one_write_at_a_time_and_in_order(tmp_path, monkeypatch):
    order, sync = [], os.fsync

    def slow(handle):
        order.append(threading.get_ident())
        begun = len(order)
        time.sleep(0.02)
        assert len(order) == begun, "another write began meanwhile"
        sync(handle)

    monkeypatch.setattr(os, "fsync", slow)
    checkpoints = Checkpoints(str(tmp_path), keep=5)
    save_all(checkpoints, 1, 2, 3)

    assert steps_of(checkpoints) == [1, 2, 3]
    assert threading.get_ident() not in order


def test_a_full_disk_is_reported_by_the_next_call_and_can_be_left(tmp_path, monkeypatch):
    checkpoints = Checkpoints(str(tmp_path))
    save_all(checkpoints, 1)

    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", full)
        checkpoints.save(a_state(2), 2)
        with pytest.raises(OSError, match="No space left") as failure:
            checkpoints.save(a_state(3), 3)

    for told in (str(tmp_path), "bytes needed", "free", "FIXTALK_CHECKPOINTS", "from step 1"):
        assert told in str(failure.value)
    assert len(list(tmp_path.iterdir())) == 2, "half a state was left on the full disk"
    assert is_whole(checkpoints.newest()[1], 1)
    save_all(checkpoints, 3)
    assert steps_of(checkpoints) == [1, 3]


def test_a_storage_that_was_away_for_a_while_gets_the_next_state(tmp_path, monkeypatch, caplog):
    checkpoints = Checkpoints(str(tmp_path))

    def away(handle):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", away)
        checkpoints.save(a_state(2), 2)
        with pytest.raises(OSError, match="Input/output error"):
            checkpoints.flush()
        checkpoints.save(a_state(2), 2)
        checkpoints._writer.submit(int).result()  # behind the write that failed
    checkpoints.save(a_state(3), 3)

    assert steps_of(checkpoints) == [3], "written before the call returned"
    assert "saving step 2 failed" in caplog.text


def die_at_sync(folder, step, count):
    """Save a state of another process and be killed at one of its syncs to the disk."""
    syncs, sync = iter(range(1, count + 1)), os.fsync

    def fatal(handle):
        if next(syncs) == count:
            os.kill(os.getpid(), signal.SIGKILL)
        sync(handle)

    os.fsync = fatal
    save_all(Checkpoints(folder), step)


@pytest.mark.parametrize("count", [1, 2, 3, 4])  # state, its folder, mark, its folder
@pytest.mark.parametrize("step", [1, 2])  # the only state is saved anew, or a second one
def test_a_kill_at_any_point_leaves_a_whole_state(tmp_path, step, count):
    before = Checkpoints(str(tmp_path))
    before.save(a_state(1) | {"phase": "other"}, 1)
    before.flush()
    child = multiprocessing.get_context("fork").Process(
        target=die_at_sync, args=(str(tmp_path), step, count)
    )
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL

    resumed = Checkpoints(str(tmp_path))
    kept, state = resumed.newest()

    committed = count == 4
    assert kept.step == (step if committed else 1)
    assert is_whole(state, kept.step)
    assert state["phase"] == ("emi" if committed else "other")
    save_all(resumed, 3, 4)
    assert {file.name[:13] for file in tmp_path.iterdir()} == {"step-00000003", "step-00000004"}
    assert len(list(tmp_path.iterdir())) == 4, "the killed process left something behind"


SAVES = """
import sys
sys.path.insert(0, {root!r})
from tests.test_checkpoints import Checkpoints, a_state
checkpoints = Checkpoints(sys.argv[1])
newest = checkpoints.newest()
begin = newest[0].step if newest else 0
for step in range(begin + 1, begin + 1 + int(sys.argv[2])):
    checkpoints.save(a_state(step, int(sys.argv[3])), step)
    print(step, flush=True)
"""


def saving(folder, times, numbers):
    code = SAVES.format(root=str(Path.cwd()))
    command = [sys.executable, "-c", code, str(folder), str(times), str(numbers)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


@pytest.mark.slow
def test_a_large_state_survives_kills_at_random_moments(tmp_path):
    before = 0
    for round_ in range(4):
        child = saving(tmp_path, 10_000, 15_000_000)
        for _ in range(2):
            child.stdout.readline()
        time.sleep(0.1 * round_)
        child.kill()
        child.wait()
        kept, state = Checkpoints(str(tmp_path)).newest()
        assert is_whole(state, kept.step)
        assert kept.step > before
        before = kept.step
    assert len(list(tmp_path.glob("*.json"))) <= 3


@pytest.mark.slow
def test_a_process_that_ends_without_flush_has_written_its_last_state(tmp_path):
    child = saving(tmp_path, 2, 10_000_000)

    child.communicate()

    assert child.returncode == 0
    kept, state = Checkpoints(str(tmp_path)).newest()
    assert is_whole(state, 2)
    assert kept.step == 2


def test_a_storage_that_does_not_answer_is_an_error_not_an_empty_one(monkeypatch):
    place = f"memory://{uuid.uuid4().hex}"
    checkpoints = Checkpoints(place)
    save_all(checkpoints, 1)

    read = MemoryFileSystem.cat_file

    def lost(fs, path, *rest):
        if path.endswith(".pt"):
            raise ConnectionError("no route to the storage")
        return read(fs, path, *rest)

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", lost)
    checkpoints.save(a_state(2), 2)
    with pytest.raises(OSError, match=f"{place}: saving step 2 failed .*no route"):
        checkpoints.flush()
    monkeypatch.setattr(MemoryFileSystem, "cat_file", lost)
    with pytest.raises(ConnectionError):
        checkpoints.newest()


@pytest.mark.parametrize(("place", "told"), [("gs://bucket/run", "gcsfs"), ("no://run", "no")])
def test_a_url_that_cannot_be_opened_says_what_is_missing(place, told):
    with pytest.raises(ValueError, match=f"{place}: .*{told}"):
        Checkpoints(place)


def test_a_place_that_cannot_be_a_folder_is_named(tmp_path):
    (tmp_path / "taken").write_text("a file")

    with pytest.raises(OSError, match=f"{tmp_path}/taken/run: .*FIXTALK_CHECKPOINTS"):
        Checkpoints(f"{tmp_path}/taken/run")


def test_at_least_one_state_is_kept(tmp_path):
    with pytest.raises(ValueError, match="keep 0"):
        Checkpoints(str(tmp_path), keep=0)
