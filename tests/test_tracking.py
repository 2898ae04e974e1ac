"""Tracking: one run per row, on a database in a temporary folder."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipelines.tracking import Run, _client, open_run, provenance, tracking_uri


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """One migrated database for the module: migrations cost seconds."""
    folder = tmp_path_factory.mktemp("tracking")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        yield folder


def record(run):
    return _client(run.uri).get_run(run.run_id)


def test_default_database_lies_in_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)

    assert tracking_uri() == f"sqlite:///{tmp_path}/mlflow.db"


@pytest.mark.parametrize(
    ("given", "absolute"),
    [
        ("sqlite:///mlflow.db", "sqlite:///{here}/mlflow.db"),
        ("sqlite:////srv/mlflow.db", "sqlite:////srv/mlflow.db"),
        ("runs", "{here}/runs"),
        ("file:runs", "{here}/runs"),
        ("file:///srv/runs", "file:///srv/runs"),
        ("/srv/runs", "/srv/runs"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("postgresql://host/runs", "postgresql://host/runs"),
        ("databricks", "databricks"),
    ],
)
def test_relative_paths_become_absolute_since_workers_have_other_folders(
    tmp_path, monkeypatch, given, absolute
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", given)

    assert tracking_uri() == absolute.format(here=tmp_path)


def test_same_key_gives_the_same_run_and_another_key_another(database):
    with open_run("edtalk", "key-1") as first:
        first.log_metrics({"loss": 1.0}, step=1)
    with open_run("edtalk again", "key-1", {"stage": "leaderboard"}) as second:
        second.log_metrics({"loss": 0.5}, step=2)
    other = open_run("copy_source", "key-2")

    assert second.run_id == first.run_id
    assert other.run_id != first.run_id
    assert record(first).info.run_name == "edtalk again"
    assert record(first).data.tags["stage"] == "leaderboard"
    history = _client(first.uri).get_metric_history(first.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(1, 1.0), (2, 0.5)]


def test_artifacts_lie_beside_the_database(database, tmp_path):
    path = tmp_path / "note.txt"
    path.write_text("hello", encoding="utf-8")

    with open_run("files", "files") as run:
        run.log_file(path, "notes")
        run.log_image(np.zeros((8, 8, 3), np.uint8), "sheet")
        run.log_image(np.zeros((8, 8, 3), np.uint8), "grid", step=3)

    stored = {p.name for p in (database / "mlartifacts").rglob("*") if p.is_file()}
    assert {"note.txt", "sheet.png"} <= stored
    assert any(name.startswith("grid") and name.endswith(".png") for name in stored)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, "FINISHED"),
        (ValueError, "FAILED"),
        (KeyboardInterrupt, "KILLED"),
        (SystemExit, "KILLED"),
    ],
)
def test_run_ends_with_the_status_of_its_block(database, error, status):
    run = open_run("status", f"status-{error and error.__name__}")

    if error is None:
        with run:
            pass
    else:
        with pytest.raises(error), run:
            raise error

    assert record(run).info.status == status


def test_reopened_run_is_running_until_it_ends_again(database):
    with open_run("again", "again"):
        pass

    run = open_run("again", "again")

    assert record(run).info.status == "RUNNING"
    run.finish()


def test_params_are_flat_cut_with_a_mark_and_may_be_logged_again(database, caplog):
    train = {"model": {"width": 0.5}, "steps": 3, "phases": [{"steps": 1}, {"steps": 2}]}
    params = {"train": train, "datasets": ["a"], "none": [], "long": "x" * 9000}

    with open_run("params", "params") as run:
        run.log_params(params)
        run.log_params(params)
        quiet = caplog.text
        run.log_params({"train": {"steps": 4}})

    stored = record(run).data.params
    assert stored["train.model.width"] == "0.5"
    assert stored["train.steps"] == "3"
    assert stored["datasets"] == "['a']"
    assert (stored["train.phases.0.steps"], stored["train.phases.1.steps"]) == ("1", "2")
    assert stored["none"] == "[]"
    assert stored["long"].endswith("x… (9000 characters)")
    assert len(stored["long"]) == 6000
    assert "train.steps" not in quiet
    assert "keeps train.steps=3, not 4" in caplog.text


def test_more_params_than_one_batch_holds(database):
    with open_run("many", "many") as run:
        run.log_params({f"p{index}": index for index in range(250)})

    assert len(record(run).data.params) == 250


def test_table_is_replaced_not_extended(database):
    table = pd.DataFrame({"system": ["a", "b"], "psnr": [1.5, 2.5]})

    with open_run("table", "table") as run:
        run.log_table(table, "leaderboard")
        run.log_table(table, "leaderboard")

    tags = json.loads(record(run).data.tags["mlflow.loggedArtifacts"])
    assert tags == [{"path": "leaderboard.json", "type": "table"}]
    experiment = record(run).info.experiment_id
    stored = _client(run.uri).load_table(experiment, "leaderboard.json", [run.run_id])
    pd.testing.assert_frame_equal(stored, table)


def test_another_process_logs_into_the_run_by_its_id(database):
    run = open_run("workers", "workers")
    code = f"from pipelines.tracking import Run; Run({run.uri!r}, {run.run_id!r}).log_metrics"

    subprocess.run([sys.executable, "-c", code + "({'loss': 0.25}, step=7)"], check=True)

    assert record(run).data.metrics["loss"] == 0.25
    run.finish()


def test_none_is_not_a_point_of_a_curve(database):
    with open_run("none", "none") as run:
        run.log_metrics({"psnr": 20.0, "csim": None})

    assert record(run).data.metrics == {"psnr": 20.0}


def test_unreachable_server_warns_once_and_work_goes_on(monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")

    with open_run("down", "down") as run:
        for step in range(5):
            run.log_metrics({"loss": 1.0}, step)

    assert run.run_id is None
    assert len(caplog.records) == 1
    assert "http://127.0.0.1:9" in caplog.text
    assert "MLFLOW_TRACKING_URI" in caplog.text


def test_server_lost_during_a_run_warns_counts_and_tells_at_the_end(monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    run = Run("http://127.0.0.1:9", "0" * 32)

    for step in range(5):
        run.log_metrics({"loss": 1.0}, step)
    run.finish()

    assert run.health.dropped >= 5
    assert "could not log metrics of step 0" in caplog.text
    assert "incomplete: 5 log calls" in caplog.text


def test_a_missing_file_of_ours_is_no_trouble_of_the_server():
    run = Run("http://127.0.0.1:9", None)

    with pytest.raises(FileNotFoundError, match=r"nothing\.md: missing"):
        run.log_file(Path("nothing.md"))


def test_a_quote_in_a_key_is_refused():
    with pytest.raises(ValueError, match="quote"):
        open_run("name", "it's")


def test_provenance_names_commit_and_lock(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.lock").write_text("schema: '2.0'\n", encoding="utf-8")

    tags = provenance("train")

    assert set(tags) == {"train.git_commit", "train.git_dirty", "train.dvc_lock_sha256"}
    assert len(tags["train.dvc_lock_sha256"]) == 64
    assert tags["train.git_commit"] == "unknown"
