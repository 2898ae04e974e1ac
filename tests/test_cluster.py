"""Parallel maps: order, errors, lost actors, and sessions that end with their driver."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipelines.cluster import cores, map_parallel, ray_session
from tests.sockets import beyond_loopback, family

ROOT = Path(__file__).parent.parent
TASKS = """
import os, signal, time
from pathlib import Path

def square_beside_another(number):
    Path(f"by{os.getpid()}").touch()
    end = time.monotonic() + 60  # a busy machine may start one process long before the other
    while len(list(Path().glob("by*"))) < 2 and time.monotonic() < end:
        time.sleep(0.05)
    if number == 7:
        raise LookupError(f"item {number}")
    return number**2, os.getpid(), Path("here.txt").read_text()

def square_with_an_accident(number):
    mark = Path("killed")
    if number == 3 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number**2

def never_ending(number):
    Path(f"busy{number}").touch()
    time.sleep(600)
"""
LATE = """
import json, time
import psutil
from ray._private import services
from pipelines.cluster import ray_session

def of_ray():
    family = psutil.Process().children(recursive=True)
    return sorted(one.name() for one in family if one.name() in ("gcs_server", "raylet"))

found, begin = services.get_node, time.monotonic()

def late(*arguments):
    if time.monotonic() - begin < 40:
        raise RuntimeError("no such node yet")
    return found(*arguments)

services.get_node = late
with ray_session() as cluster:
    print(json.dumps([cluster.cpus, of_ray()]))
"""
MAP = """
import json, os
import ray  # before the session asks it to stay on loopback
from pipelines.cluster import map_parallel
from tests.sockets import listening
from tasks import square_beside_another

told = {"results": [], "sockets": []}
try:
    for result in map_parallel(square_beside_another, range(9), "squares"):
        told["results"].append(result)
        told["sockets"] = sorted({*map(tuple, told["sockets"]), *listening(os.getpid())})
except LookupError as error:
    told["error"] = str(error)
print(json.dumps(told))
"""

SLOW = """
import json, time
import numpy as np
import ray
from pipelines.cluster import quiet_data, ray_session

def yields(rows):
    for _ in range(16):
        yield {"block": [np.zeros(200_000, np.uint8).tobytes()]}

with ray_session():
    quiet_data()
    data = ray.data.from_items(list(range(400)), override_num_blocks=400)
    stream = iter(data.map_batches(yields, batch_size=1).iter_batches(batch_size=1))
    begin = end = None
    for number, _ in zip(range(70), stream):
        time.sleep(0.1)
        if number == 20:
            begin = time.monotonic(), time.process_time()
    print(json.dumps((time.process_time() - begin[1]) / (time.monotonic() - begin[0])))
"""


def square(number):
    return number**2


def fail_at_two(number):
    if number == 2:
        raise ValueError(f"item {number}")
    return number


def test_one_worker_maps_in_order_here():
    assert list(map_parallel(square, range(5), "squares")) == [0, 1, 4, 9, 16]
    assert list(map_parallel(square, [], "nothing")) == []


def test_first_error_ends_the_map():
    with pytest.raises(ValueError, match="item 2"):
        list(map_parallel(fail_at_two, range(9), "numbers"))


@pytest.mark.parametrize("wrong", ["0", "-1", "many"])
def test_wrong_worker_limit_is_named(monkeypatch, wrong):
    monkeypatch.setenv("FIXTALK_WORKERS", wrong)

    with pytest.raises(ValueError, match=f"FIXTALK_WORKERS='{wrong}'"):
        cores()


@pytest.fixture
def driver(tmp_path):
    """Starts Python code with two workers, in a folder with a module of tasks."""
    (tmp_path / "tasks.py").write_text(TASKS)
    (tmp_path / "here.txt").write_text("read")
    environment = os.environ | {"FIXTALK_WORKERS": "2", "PYTHONPATH": str(ROOT)}

    def start(code):
        command = [sys.executable, "-c", code]
        return subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
        )

    return start


def told_by(run):
    """What the driver printed last."""
    out, _ = run.communicate(timeout=240)
    assert run.returncode == 0
    return json.loads(out.splitlines()[-1])


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two workers need two cores")
def test_two_workers_map_in_order_until_the_first_error(driver):
    told = told_by(driver(MAP))

    squares, actors, texts = zip(*told["results"], strict=True)
    assert squares == tuple(number**2 for number in range(7))
    assert len(set(actors)) == 2
    assert set(texts) == {"read"}, "paths are relative to the folder of the driver"
    assert told["error"] == "item 7"
    assert told["sockets"], "no session was seen"
    assert not beyond_loopback(map(tuple, told["sockets"]))


def test_a_slow_consumer_of_ray_data_is_left_its_processor(driver):
    assert told_by(driver(SLOW)) < 0.3, "without a pause Ray Data's loop takes three quarters"


@pytest.mark.slow
def test_items_of_a_killed_actor_are_done_again(driver, tmp_path):
    told = told_by(driver(MAP.replace("square_beside_another", "square_with_an_accident")))

    assert (tmp_path / "killed").exists()
    assert told["results"] == [number**2 for number in range(9)]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_all_processes_end_with_a_killed_driver(driver, tmp_path):
    run = driver(MAP.replace("square_beside_another", "never_ending"))
    try:
        deadline = time.monotonic() + 240
        while len(list(tmp_path.glob("busy*"))) < 2:
            assert run.poll() is None, "the map ended before its items began"
            assert time.monotonic() < deadline
            time.sleep(0.1)
        started = family(run.pid)[1:]
    finally:
        run.kill()
        run.wait()

    assert len(started) > 2
    _, alive = psutil.wait_procs(started, timeout=30)
    # Ray's two agents first try for a minute to tell the dead session about it
    assert {one.name() for one in alive} <= {"ray::DashboardAgent", "ray::RuntimeEnvAgent"}
    assert not psutil.wait_procs(alive, timeout=120)[1]


@pytest.mark.parametrize(
    ("reason", "starts"), [("The current node timed out during startup.", 3), ("no space left", 1)]
)
def test_session_gets_more_starts_on_a_busy_machine_only(monkeypatch, reason, starts):
    import ray

    tried = []

    def init(**options):
        tried.append(options["address"])
        raise RuntimeError(reason)

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", init)

    with pytest.raises(RuntimeError, match=reason), ray_session():
        pass

    assert tried == ["local"] * starts


@pytest.mark.slow
def test_session_that_was_late_the_first_time_leaves_nothing_of_that_start(driver):
    assert told_by(driver(LATE)) == [2, ["gcs_server", "raylet"]]
