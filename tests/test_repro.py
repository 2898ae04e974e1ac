"""The whole pipeline with tiny parameters in a temporary copy; a second run does nothing."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pandas as pd
import psutil
import pytest

from pipelines.checkpoints import Checkpoints
from tests.sockets import beyond_loopback, family, listening

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

import smoke  # noqa: E402 - lies beside the package, not in it

DVC = [sys.executable, "-m", "dvc"]


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A copy of this project with tiny parameters and all cores of the machine."""
    monkeypatch.delenv("FIXTALK_WORKERS", raising=False)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    smoke.copy_checkout(tmp_path)
    smoke.shrink_params(tmp_path / "params.yaml")
    return tmp_path


@contextmanager
def watched_sockets():
    """What this process and all that it starts listen on, looked at each second: a set."""
    seen, done = set(), threading.Event()

    def look():
        while not done.wait(1.0):
            seen.update(listening(os.getpid()))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


@pytest.mark.timeout(1800)
def test_smoke_run_ends_with_a_leaderboard_and_the_next_runs_nothing(checkout):
    with watched_sockets() as sockets:
        smoke.run(checkout)

    results = checkout / "results"
    board = pd.read_csv(results / "leaderboard.csv")
    systems = {"copy_source", "edtalk", "emi", "edi", "fixtalk"}
    for protocol, rivals in (("self", set()), ("cross", set()), ("audio", {"silent", "shuffled"})):
        assert set(board["system"][board["protocol"] == protocol]) == systems | rivals
    assert board["psnr"].between(3, 60).all()
    assert (results / "contact_sheet.png").is_file()
    assert (results / "localise.png").is_file()
    metrics = json.loads((results / "edtalk" / "metrics.json").read_text())
    assert metrics["self"]["pairs"] == 4
    assert (checkout / "mlflow.db").is_file()

    names = {name for _, name in sockets}
    assert any("TrainWorker" in name for name in names), f"no training was seen: {names}"
    assert not beyond_loopback(sockets)

    again = subprocess.run(
        [*DVC, "repro"], cwd=checkout, capture_output=True, text=True, check=True
    )
    assert "Running stage" not in again.stdout
    assert "up to date" in again.stdout


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_killed_again_and_again_it_ends_with_the_same_leaderboard(checkout):
    smoke.run(checkout)
    undisturbed = pd.read_csv(checkout / "results" / "leaderboard.csv")
    models = [f"models/{name}" for name in ("base", "edtalk", "emi", "edi", "fixtalk", "judges")]
    for made in ("data", *models, "checkpoints", "results", ".dvc/cache"):
        shutil.rmtree(checkout / made)
    (checkout / "dvc.lock").unlink()

    for seconds in (30, 60, 90, 120):
        run = subprocess.Popen(smoke.REPRO, cwd=checkout)
        try:
            run.wait(seconds)
        except subprocess.TimeoutExpired:
            for process in family(run.pid):
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            run.wait()
    smoke.run(checkout)

    # not bit for bit: rarely x264 writes other bytes for equal frames (docs/LOG.md)
    board = pd.read_csv(checkout / "results" / "leaderboard.csv")
    columns = ["protocol", "system", "pairs", "people", "frames"]
    pd.testing.assert_frame_equal(board[columns], undisturbed[columns])
    assert (board["psnr"] - undisturbed["psnr"]).abs().max() < 0.1
    assert (board["ssim"] - undisturbed["ssim"]).abs().max() < 0.01


def commit(project):
    """Make the project a commit, as queued experiments start from one."""
    git = ["git", "-c", "user.name=nobody", "-c", "user.email=nobody@localhost"]
    subprocess.run(["git", "add", "-A"], cwd=project, check=True)
    subprocess.run([*git, "commit", "-q", "-m", "the base is trained"], cwd=project, check=True)


def dvc(project, *arguments):
    """What a dvc command prints."""
    command = [*DVC, *arguments]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_queued_experiment_keeps_its_states_and_its_run_in_the_project(checkout):
    from mlflow import MlflowClient

    smoke.run(checkout, "base")
    commit(checkout)
    (first,) = (checkout / "checkpoints" / "base").iterdir()

    dvc(checkout, "exp", "run", "--queue", "-S", "train.average_decay=0.9", "base")
    dvc(checkout, "queue", "start")
    deadline = time.monotonic() + 900
    while "Success" not in (status := dvc(checkout, "queue", "status")):
        assert "Failed" not in status, status
        assert time.monotonic() < deadline, status
        time.sleep(2)

    stores = list((checkout / "checkpoints" / "base").iterdir())
    assert len(stores) == 2
    assert first in stores
    for store in stores:
        kept, _ = Checkpoints(str(store)).newest()
        assert kept.step == smoke.STEPS
    client = MlflowClient(f"sqlite:///{checkout}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("fixtalk").experiment_id])
    assert {run.data.tags["fixtalk.key"] for run in runs} == {store.name for store in stores}
    assert {run.data.params["train.average_decay"] for run in runs} == {"0.99", "0.9"}
    assert {run.info.status for run in runs} == {"FINISHED"}
