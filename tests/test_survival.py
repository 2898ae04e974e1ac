"""Trainings that are killed, starved or stopped end as the one that was left alone."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from pipelines.cluster import LOOPBACK, QUIET
from tests.training_runs import MOMENTARY, TinyTraining, left_after

PHASES = [{"warp": 120}, {"texture": 30}]  # the second has a discriminator
RAY_START = (
    "--block",
    "--num-cpus=1",
    "--disable-usage-stats",
    f"--object-store-memory={200 * 2**20}",
)
FULL_DISK = """
import errno, os

sync = os.fsync

def full(handle):
    name = os.path.basename(os.readlink(f"/proc/self/fd/{handle}"))
    if name.startswith(".step-") and int(name.split("-")[1].split(".")[0]) >= 30:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    sync(handle)

os.fsync = full
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two workers need two cores"),
]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    training = TinyTraining(tmp_path_factory.mktemp("undisturbed"), PHASES)
    assert training.run() == 0, training.said()
    assert training.untracked() == []
    assert {row["workers"] for row in training.rows()} == {2}
    return training


@pytest.fixture
def training(tmp_path):
    """A training that was not started yet; none of its processes outlives the test."""
    training = TinyTraining(tmp_path / "training", PHASES)
    yield training
    for process in training.processes():
        process.kill()


def status_of(training):
    (run,) = training.tracked()[1]
    return run.info.status


def test_dead_worker_is_replaced(training, undisturbed):
    process = training.start()
    training.wait_for(30, process)
    workers = training.workers()
    assert len(workers) == 2

    workers[0].kill()

    assert process.wait() == 0, training.said()
    assert training.differences(undisturbed) == []


def test_dead_driver_takes_its_workers_along(training, undisturbed):
    process = training.start()
    training.wait_for(30, process)
    family = training.processes()
    assert len(training.workers()) == 2

    process.kill()
    process.wait()
    again = training.start()  # at once: while the others of the family still end

    assert left_after(family, seconds=60) == []
    assert again.wait() == 0, training.said()
    assert training.differences(undisturbed) == []


def test_state_cut_short_by_a_kill_is_passed_over(training, undisturbed):
    process = training.start()
    training.wait_for(40, process)
    family = training.processes()
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert left_after(family, seconds=60) == []
    newest = training.store / training.states()[-1].file
    os.truncate(newest, newest.stat().st_size // 2)

    assert training.run() == 0, training.said()

    assert f"{newest}: damaged" in training.said()
    assert "going back to the state before" in training.said()
    assert training.differences(undisturbed) == []


def test_sigterm_saves_first_and_ends_with_143(training, undisturbed):
    process = training.start()
    training.wait_for(30, process)

    process.terminate()

    assert process.wait() == 143, training.said()
    reached = training.saved()
    assert 30 <= reached < training.steps
    assert f"base: step {reached} of {training.steps}: stopped; the same" in training.said()
    assert status_of(training) == "KILLED"
    assert training.run() == 0, training.said()
    assert training.differences(undisturbed) == []


def test_full_disk_ends_the_training_and_leaves_what_was_saved(training, undisturbed, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(FULL_DISK)
    path = f"{tmp_path}{os.pathsep}{training.environment['PYTHONPATH']}"

    assert training.run(PYTHONPATH=path) == 1, training.said()

    error = training.said()
    assert f"OSError: {training.store}: saving step 30 failed" in error
    assert "bytes needed" in error
    assert "No space left" in error
    assert "FIXTALK_CHECKPOINTS elsewhere; the same command goes on from step 20" in error
    assert training.saved() == 20
    assert not list(training.store.glob(".step-*")), "half a state was left on the full disk"
    assert status_of(training) == "FAILED"
    assert training.run() == 0, training.said()
    assert training.differences(undisturbed) == []


def test_training_goes_on_without_a_lost_node(training, undisturbed):
    port = free_port()
    head = f"127.0.0.2:{port}"
    with (
        tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder,
        node(
            training, "--head", "--node-ip-address=127.0.0.2", f"--port={port}",
            "--include-dashboard=false", f"--temp-dir={folder}",
        ),
        node(training, f"--address={head}", "--node-ip-address=127.0.0.3") as second,
    ):  # fmt: skip
        process = training.start(RAY_ADDRESS=head)
        training.wait_for(30, process)
        before = training.rows()
        systems = sorted(path.name for path in training.store.glob("system-*.jsonl"))

        kill_family(second)

        assert process.wait() == 0, training.said()
    assert systems == ["system-0.jsonl", "system-1.jsonl"]
    assert {row["workers"] for row in before} == {2}
    assert training.rows()[-1]["workers"] == 1
    assert training.untracked() == []
    # one worker adds in another order than two
    other = (*MOMENTARY, "workers")
    for ours, theirs in zip(training.rows(), undisturbed.rows(), strict=True):
        assert {k: v for k, v in ours.items() if k not in other} == pytest.approx(
            {k: v for k, v in theirs.items() if k not in other}, rel=1e-4
        )


@contextmanager
def node(training, *options):
    """A node of one CPU of a cluster on loopback: its `ray start`, ended with the block."""
    process = subprocess.Popen(
        [Path(sys.executable).with_name("ray"), "start", *RAY_START, *options],
        env=training.environment | QUIET | LOOPBACK | {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert any("Ray runtime started" in line for line in process.stdout)
        yield process
    finally:
        kill_family(process)


def kill_family(process):
    if process.poll() is None:
        for member in [*psutil.Process(process.pid).children(recursive=True), process]:
            member.kill()
        process.wait()


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.2", 0))
        return free.getsockname()[1]
