"""Monitor: which steps are logged, what a restart keeps, and what the tracking run gets."""

import json
import os
import time

import numpy as np
import psutil
import pytest
from PIL import Image

from pipelines import monitor as module
from pipelines import run as run_module
from pipelines.files import append_row
from pipelines.monitor import HISTORY, MIRRORED, Monitor, NodeMonitor, gpu_values, mirror
from pipelines.tracking import BACKLOG, _client, open_run, tracking_uri


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """One migrated database for the module: migrations cost seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('tracking')}/mlflow.db"


@pytest.fixture
def store(database, tmp_path, monkeypatch):
    """Folder of a training, in a project whose server answers."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(run_module, "SECONDS_BEFORE_RETRY", 0.0)
    monkeypatch.setattr(module, "SECONDS_PER_LOOK", 0.0)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


def watch(monitor, state, last):
    logged = {}
    for step in range(1, last + 1):
        state.step = step
        logged[step] = monitor.look(state, {"l_rec": 1 / step})
    return logged


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def steps_of(run, name):
    return [p.step for p in _client(tracking_uri()).get_metric_history(run.run_id, name)]


def grids_of(run):
    files = _client(tracking_uri()).list_artifacts(run.run_id, "images")
    return sorted(int(f.path.split("+")[2]) for f in files if f.path.endswith(".png"))


def write(folder, step):
    """As a worker does: a row of the history, one of the node, and a grid."""
    append_row(folder / HISTORY, {"step": step, "time": 1000 * step, "l_rec": 1 / step})
    values = {"step": step, "time": 1000 * step, "cpu_utilization_percentage": 50.0}
    append_row(folder / "system-0.jsonl", values)
    (folder / "samples").mkdir(exist_ok=True)
    Image.new("RGB", (8, 8)).save(folder / "samples" / f"{step:08d}.png")


def test_every_tenth_every_sampled_and_the_last_step_are_logged(tmp_path, tiny_state, batch):
    monitor = Monitor(tmp_path, batch, sample_every=15, steps=23)

    logged = watch(monitor, tiny_state, 23)

    history = rows(tmp_path / HISTORY)
    assert [row["step"] for row in history] == [10, 15, 20, 23]
    assert [row["step"] for row in history if "validation_psnr" in row] == [15, 23]
    assert all(abs(row["time"] / 1000 - time.time()) < 60 for row in history)
    grids = sorted((tmp_path / "samples").iterdir())
    assert [path.name for path in grids] == ["00000015.png", "00000023.png"]
    assert np.asarray(Image.open(grids[0])).shape == (4 * 64, 3 * 64, 3)
    assert {step for step, values in logged.items() if values} == {10, 15, 20, 23}
    assert logged[15]["validation_psnr"] == history[1]["validation_psnr"]
    assert logged[15]["l_rec"] == 1 / 15


def test_restart_drops_half_a_line_and_logs_no_step_twice(tmp_path, tiny_state):
    (tmp_path / HISTORY).write_text('{"step": 10}\n{"step": 20}\n{"step": 3')

    logged = watch(Monitor(tmp_path, None, sample_every=10, steps=40), tiny_state, 40)

    assert [row["step"] for row in rows(tmp_path / HISTORY)] == [10, 20, 30, 40]
    assert logged[20] == {"step": 20}  # what was logged then: its score goes with a state
    assert [path.name for path in tmp_path.iterdir()] == [HISTORY]


def test_node_is_watched_under_the_names_that_mlflow_uses(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SECONDS_PER_LOOK", 0.0)

    for _ in range(2):  # a restart goes through its steps again
        node = NodeMonitor(tmp_path, 3)
        node.look(1)
        node.look(2)

    first, second = rows(tmp_path / "system-3.jsonl")
    assert (first["step"], second["step"]) == (1, 2)
    assert 0 <= first["cpu_utilization_percentage"] <= 100
    assert 0 < first["system_memory_usage_megabytes"] < psutil.virtual_memory().total / 1e6
    assert first["disk_available_megabytes"] > 0


def test_node_is_not_watched_at_every_step(tmp_path):
    node = NodeMonitor(tmp_path, 0)

    for step in range(1, 4):
        node.look(step)

    assert [row["step"] for row in rows(tmp_path / "system-0.jsonl")] == [1]


def test_gpus_are_told_in_mlflow_units_and_without_what_they_do_not_know():
    table = "37, 1000, 70.5\n[N/A], 0, [Not Supported]\n"

    assert gpu_values(table) == {
        "gpu_0_utilization_percentage": 37.0,
        "gpu_0_memory_usage_megabytes": 1048.576,
        "gpu_0_power_usage_watts": 70.5,
        "gpu_1_memory_usage_megabytes": 0.0,
    }


def test_gpus_that_cannot_be_asked_are_told_once(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(module, "SECONDS_PER_LOOK", 0.0)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setenv("PATH", str(tmp_path))
    node = NodeMonitor(tmp_path, 0)

    node.look(1)
    node.look(2)

    assert len(rows(tmp_path / "system-0.jsonl")) == 2
    assert caplog.text.count("no curves of the GPUs") == 1


def test_run_gets_what_workers_wrote_and_a_restart_adds_only_what_is_new(store):
    with open_run("mirror", "mirror") as run, mirror(store, run, steps=20):
        write(store, 10)
    with (store / HISTORY).open("a") as file:
        file.write('{"step": 20, "ti')
    with open_run("mirror", "mirror") as run, mirror(store, run, steps=20):
        pass
    assert steps_of(run, "train.l_rec") == [10]

    with open_run("mirror", "mirror") as run, mirror(store, run, steps=20):
        write(store, 20)

    (first, second) = _client(tracking_uri()).get_metric_history(run.run_id, "train.l_rec")
    assert (first.step, first.value, first.timestamp) == (10, 0.1, 10_000)
    assert (second.step, second.timestamp) == (20, 20_000)
    assert steps_of(run, "system/0/cpu_utilization_percentage") == [10, 20]
    assert grids_of(run) == [10, 20]


def test_run_is_followed_while_workers_work(store):
    with open_run("follow", "follow") as run, mirror(store, run, steps=20):
        write(store, 10)
        limit = time.monotonic() + 20
        while not (store / MIRRORED).exists() and time.monotonic() < limit:
            time.sleep(0.05)
        assert steps_of(run, "train.l_rec") == [10]


def test_driver_killed_before_it_noted_what_it_passed_on_doubles_nothing(store):
    for _ in range(2):
        with open_run("again", "again") as run, mirror(store, run, steps=20):
            if not (store / HISTORY).exists():
                write(store, 10)
                write(store, 20)
        (store / MIRRORED).unlink()

    assert steps_of(run, "train.l_rec") == [10, 20]
    assert grids_of(run) == [10, 20]


def test_what_a_failing_training_wrote_is_passed_on(store):
    run = open_run("fails", "fails")

    def diverge():
        with run, mirror(store, run, steps=20):
            write(store, 10)
            raise RuntimeError("diverged")

    with pytest.raises(RuntimeError, match="diverged"):
        diverge()

    assert steps_of(run, "train.l_rec") == [10]
    assert _client(tracking_uri()).get_run(run.run_id).info.status == "FAILED"


def test_training_without_a_server_is_mirrored_later(store, monkeypatch):
    alive = os.environ["MLFLOW_TRACKING_URI"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with open_run("later", "later") as run, mirror(store, run, steps=20):
        write(store, 10)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", alive)

    with open_run("later", "later") as run, mirror(store, run, steps=20):
        write(store, 20)

    assert steps_of(run, "train.l_rec") == [10, 20]
    assert grids_of(run) == [10, 20]
    assert not list((store.parent / BACKLOG).iterdir())


def test_a_new_run_gets_everything(store):
    with open_run("old", "replaced") as old, mirror(store, old, steps=20):
        write(store, 10)
    _client(tracking_uri()).delete_run(old.run_id)

    with open_run("new", "replaced") as new, mirror(store, new, steps=20):
        write(store, 20)

    assert new.run_id != old.run_id
    assert steps_of(new, "train.l_rec") == [10, 20]
    assert grids_of(new) == [10, 20]
