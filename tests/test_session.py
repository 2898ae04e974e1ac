"""scripts/session.py: one Ray session for a command and all that it starts."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.sockets import beyond_loopback, family, listening

ROOT = Path(__file__).parent.parent
STAGE = """
import json, os
from pathlib import Path
from pipelines.cluster import ray_session

with ray_session():
    import ray
    facts = {"address": os.environ["RAY_ADDRESS"], "node": ray.nodes()[0]["NodeID"]}
    with Path("joined").open("a") as file:
        file.write(json.dumps(facts) + "\\n")
"""
SAVING_STAGE = """
import signal, time
from pathlib import Path
from pipelines.cluster import ray_session

with ray_session():
    import ray
    told = []
    signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    Path("ready").touch()
    while not told:
        time.sleep(0.1)
    time.sleep(2)
    Path("saved").write_text(ray.get(ray.remote(lambda: "by a task").remote()))
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core needs no session"),
]


@pytest.fixture
def session(tmp_path):
    """Starts a shell command under scripts/session.py, which ends with the test."""
    python = Path(sys.executable).parent
    environment = os.environ | {
        "FIXTALK_WORKERS": "2",
        "PYTHONPATH": str(ROOT),
        "PATH": f"{python}{os.pathsep}{os.environ['PATH']}",
    }
    (tmp_path / "stage.py").write_text(STAGE)
    (tmp_path / "saving_stage.py").write_text(SAVING_STAGE)
    runs = []

    def start(command):
        line = [sys.executable, str(ROOT / "scripts" / "session.py"), "sh", "-c", command]
        runs.append(subprocess.Popen(line, cwd=tmp_path, env=environment))
        return runs[-1]

    yield start
    for run in runs:
        run.kill()
        run.wait()


def test_commands_join_one_session_that_listens_on_loopback(session, tmp_path):
    run = session("python stage.py && python stage.py && exit 7")
    sockets = set()
    while run.poll() is None:
        sockets |= listening(run.pid)
        time.sleep(0.2)

    assert run.returncode == 7
    first, second = map(json.loads, (tmp_path / "joined").read_text().splitlines())
    assert first == second
    assert first["address"].startswith("127.0.0.1:")
    assert any(name == "raylet" for _, name in sockets), "the session was not seen"
    assert not beyond_loopback(sockets)


def test_sigterm_reaches_a_stage_which_saves_before_the_session_ends(session, tmp_path):
    run = session("python saving_stage.py; true")  # the shell dies at once, as DVC does
    deadline = time.monotonic() + 240
    while not (tmp_path / "ready").exists():
        assert run.poll() is None, "the session ended before its stage was ready"
        assert time.monotonic() < deadline
        time.sleep(0.1)
    started = family(run.pid)[1:]

    run.terminate()

    assert run.wait(60) == 128 + signal.SIGTERM
    assert (tmp_path / "saved").read_text() == "by a task"
    assert not psutil.wait_procs(started, timeout=30)[1]
