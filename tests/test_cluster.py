"""Parallel maps and Ray sessions: order, errors, and nothing that listens beyond loopback."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.cluster import cores, map_parallel

ROOT = Path(__file__).parent.parent
SESSION = """
import psutil
from pipelines.cluster import start_ray
session = start_ray()
import ray  # later: Ray reads the environment when it is imported
ray.get(ray.remote(lambda: 1).remote())
family = [psutil.Process(), *psutil.Process().children(recursive=True)]
for process in family:
    for socket in process.net_connections("inet"):
        if socket.status == psutil.CONN_LISTEN:
            print("listens", socket.laddr.ip, process.name())
print("session", session.workers, session.is_local)
"""


def square(number):
    return number**2


def fail_at_two(number):
    if number == 2:
        raise ValueError(f"item {number}")
    return number


@pytest.mark.parametrize("workers", ["1", "2"])
def test_results_come_in_order(monkeypatch, workers):
    monkeypatch.setenv("FIXTALK_WORKERS", workers)

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


def test_local_ray_session_listens_on_loopback_only():
    done = subprocess.run(
        [sys.executable, "-c", SESSION], capture_output=True, text=True, cwd=ROOT, timeout=120
    )

    lines = done.stdout.splitlines()
    addresses = {line.split()[1] for line in lines if line.startswith("listens")}
    assert "session 1 True" in lines, done.stderr
    assert addresses
    assert all(ip.startswith(("127.", "::ffff:127.")) or ip == "::1" for ip in addresses), lines
