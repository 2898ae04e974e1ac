"""Tracking: one run per row, on a database in a temporary folder."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import ENDPOINT_NOT_FOUND
from PIL import Image

from pipelines import run as run_module
from pipelines.tracking import (
    BACKLOG,
    KEY_TAG,
    RUN_FILE,
    _client,
    open_run,
    project_root,
    provenance,
    tracking_uri,
)

ROOT = Path(__file__).parent.parent
DEAD = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def database_folder(tmp_path_factory):
    """One migrated database for the module: migrations cost seconds."""
    return tmp_path_factory.mktemp("tracking")


@pytest.fixture
def database(database_folder, monkeypatch, tmp_path):
    """A server that answers, and a project of this test's own."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database_folder}/mlflow.db")
    monkeypatch.setattr(run_module, "SECONDS_BEFORE_RETRY", 0.0)
    monkeypatch.chdir(tmp_path)
    return database_folder


@pytest.fixture
def dead(database, monkeypatch):
    """A server that does not answer; calling the value brings one that does."""
    alive = os.environ["MLFLOW_TRACKING_URI"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", DEAD)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    return lambda: monkeypatch.setenv("MLFLOW_TRACKING_URI", alive)


def client():
    return _client(tracking_uri())


def record(run):
    return client().get_run(run.run_id)


def record_of(key):
    """Of the only run that carries a key."""
    experiment = client().get_experiment_by_name("fixtalk").experiment_id
    (found,) = client().search_runs([experiment], f"tags.`{KEY_TAG}` = '{key}'")
    return found


def curve(run_id, name):
    return [(p.step, p.value, p.timestamp) for p in client().get_metric_history(run_id, name)]


def models(run_id):
    experiment = client().get_run(run_id).info.experiment_id
    return client().search_logged_models([experiment], f"source_run_id = '{run_id}'")


def picture(path):
    Image.new("RGB", (300, 300), (9, 99, 199)).save(path)
    return path


def waiting():
    return sorted(p.name for p in Path(BACKLOG).iterdir()) if Path(BACKLOG).exists() else []


def test_default_database_lies_in_the_project(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)

    assert tracking_uri() == f"sqlite:///{tmp_path}/mlflow.db"


@pytest.mark.parametrize("where", [".", "pipelines"])
def test_experiments_of_dvc_log_into_the_database_of_the_project(tmp_path, monkeypatch, where):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    copy = tmp_path / ".dvc" / "tmp" / "exps" / "tmpabc" / where
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)

    assert project_root() == tmp_path
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
    history = client().get_metric_history(first.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(1, 1.0), (2, 0.5)]


def test_artifacts_lie_beside_the_database(database, tmp_path):
    path = tmp_path / "note.txt"
    path.write_text("hello", encoding="utf-8")

    with open_run("files", "files") as run:
        run.log_file(path, "notes")
        run.log_image(picture(tmp_path / "a.png"), "grid", 3, time_ms=5)
        run.log_image(picture(tmp_path / "b.png"), "grid", 3, time_ms=5)

    folder = database / "mlartifacts" / run.run_id / "artifacts"
    assert (folder / "notes" / "note.txt").read_text(encoding="utf-8") == "hello"
    grids = sorted(p.name for p in (folder / "images").iterdir())
    assert [name[:26] for name in grids] == ["grid+step+3+timestamp+5+" + grids[0][24:26]] * 2
    assert {Path(name).suffix for name in grids} == {".png", ".webp"}
    assert record(run).data.tags["mlflow.loggedImages"] == "True"


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
    stored = client().load_table(experiment, "leaderboard.json", [run.run_id])
    pd.testing.assert_frame_equal(stored, table)


def test_none_is_not_a_point_of_a_curve(database):
    with open_run("none", "none") as run:
        run.log_metrics({"psnr": 20.0, "csim": None})

    assert record(run).data.metrics == {"psnr": 20.0}


def log_everything(run, folder):
    """One call of each kind."""
    note = folder / "note.txt"
    note.write_text("hello", encoding="utf-8")
    run.log_params({"train": {"steps": 3}})
    run.log_rows([(1, 1000, {"loss": 3.0}), (2, 2000, {"loss": 2.0})])
    run.log_file(note, "notes")
    run.log_image(picture(folder / "grid.png"), "grid", 2, time_ms=2000)
    run.log_table(pd.DataFrame({"psnr": [1.5]}), "board")
    run.log_model("step-1", 1, {"validation_psnr": 20.0}, "/x/1", {"kept": "last"})
    run.log_model("step-2", 2, {"validation_psnr": 21.0}, "/x/2")
    run.forget_model("step-1")
    note.unlink()


def check_everything(database, found):
    """What `log_everything` leaves on the server, once."""
    run_id, data = found.info.run_id, found.data
    assert found.info.status == "FINISHED"
    assert data.params == {"train.steps": "3"}
    assert curve(run_id, "loss") == [(1, 3.0, 1000), (2, 2.0, 2000)]
    assert data.tags["stage"] == "train"
    assert [model.name for model in models(run_id)] == ["step-2"]
    folder = database / "mlartifacts" / run_id / "artifacts"
    assert (folder / "notes" / "note.txt").read_text(encoding="utf-8") == "hello"
    assert len(list((folder / "images").iterdir())) == 2
    assert client().load_table(found.info.experiment_id, "board.json", [run_id]).psnr[0] == 1.5


def test_without_trouble_nothing_waits(database, tmp_path):
    with open_run("live", "live", {"stage": "train"}) as run:
        log_everything(run, tmp_path)

    check_everything(database, record(run))
    assert waiting() == []


def test_what_a_dead_server_missed_is_sent_by_any_later_stage(dead, database, tmp_path, caplog):
    with open_run("row", "missed", {"stage": "train"}) as run:
        log_everything(run, tmp_path)
    assert run.run_id is None
    assert "missed.jsonl" in waiting()
    begun = time.time() * 1000

    dead()
    with open_run("another", "any later stage"):
        pass

    found = record_of("missed")
    check_everything(database, found)
    assert found.info.run_name == "row"
    assert found.info.start_time <= found.info.end_time <= begun
    assert waiting() == []


def test_dead_server_warns_once_and_once_more_at_the_end(dead, caplog):
    with open_run("down", "down") as run:
        for step in range(5):
            run.log_metrics({"loss": 1.0}, step)
        (first,) = caplog.records
    first, last = (each.getMessage() for each in caplog.records)

    assert DEAD in first
    assert "MLFLOW_TRACKING_URI" in first
    assert "7 calls of run 'down' wait" in last
    assert "any later stage sends them" in last
    assert f"{BACKLOG}/down.jsonl" in last


def test_passwords_in_the_address_are_not_told(dead, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")

    with open_run("down", "password"):
        pass

    assert "secret" not in caplog.text
    assert "127.0.0.1:9" in caplog.text


def test_dead_server_is_not_asked_again_for_a_while(dead, monkeypatch):
    monkeypatch.setattr(run_module, "SECONDS_BEFORE_RETRY", 60.0)
    run = open_run("down", "patience")
    asked = []
    monkeypatch.setattr(run.server, "send", asked.append)

    run.log_metrics({"loss": 1.0}, 1)

    assert asked == []
    assert Path(BACKLOG, "patience.jsonl").read_text().count("\n") == 2


def test_server_lost_in_the_middle_gets_all_when_it_is_back(database, monkeypatch):
    run = open_run("lost", "lost")
    run.log_rows([(1, 10, {"loss": 1.0})])
    alive, run.server.uri = run.server.uri, DEAD
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    run.log_rows([(2, 20, {"loss": 2.0})])
    run.log_rows([(3, 30, {"loss": 3.0})])
    run.server.uri = alive
    run.log_rows([(4, 40, {"loss": 4.0})])
    run.finish()

    steps = [(step, float(step), 10 * step) for step in range(1, 5)]
    assert curve(record_of("lost").info.run_id, "loss") == steps
    assert waiting() == []


def test_sender_that_was_killed_before_it_could_clear_up_sends_nothing_twice(
    dead, database, tmp_path
):
    with open_run("twice", "twice", {"stage": "train"}) as run:
        log_everything(run, tmp_path)
    saved = {path: path.read_bytes() for path in Path(BACKLOG).rglob("*") if path.is_file()}
    dead()

    for _ in range(2):
        for path, content in saved.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        with open_run("later", "later"):
            pass

    check_everything(database, record_of("twice"))


@pytest.mark.slow
def test_killed_process_leaves_what_it_logged(dead, tmp_path):
    code = (
        "import os, signal; from pipelines.tracking import open_run; run = open_run('k', 'killed');"
        "run.log_rows([(1, 10, {'loss': 1.5})]); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == -signal.SIGKILL
    with Path(BACKLOG, "killed.jsonl").open("a") as file:
        file.write('{"kind": "metr')
    dead()

    with open_run("later", "later"):
        pass

    assert curve(record_of("killed").info.run_id, "loss") == [(1, 1.5, 10)]
    assert waiting() == []


def test_what_a_server_refuses_does_not_hold_up_the_rest(dead, caplog):
    with open_run("refused", "refused") as run:
        run.log_metrics({"no*star": 1.0}, 1)
        run.log_metrics({"no*star": 1.0}, 2)
        run.log_rows([(2, 20, {"loss": 2.0})])
    dead()
    caplog.clear()

    with open_run("later", "later"):
        pass

    assert curve(record_of("refused").info.run_id, "loss") == [(2, 2.0, 20)]
    assert caplog.text.count("refuses metrics of run key 'refused'") == 1
    assert waiting() == []


def no_endpoint(*_, **__):
    raise MlflowException("404 for /logged-models/search", ENDPOINT_NOT_FOUND)


def no_credentials(*_, **__):
    raise RuntimeError("Unable to locate credentials")


def test_a_picture_that_cannot_be_delivered_holds_up_nothing_else(
    database, tmp_path, monkeypatch, caplog
):
    with monkeypatch.context() as patch, open_run("store", "store") as run:
        patch.setattr(MlflowClient, "log_image", no_credentials)
        for step in (1, 2):
            run.log_image(picture(tmp_path / "grid.png"), "samples", step, time_ms=step)
        log_everything(run, tmp_path)

    found = record_of("store")
    assert found.info.status == "FINISHED"
    assert curve(found.info.run_id, "loss") == [(1, 3.0, 1000), (2, 2.0, 2000)]
    assert [model.name for model in models(found.info.run_id)] == ["step-2"]
    waits = Path(BACKLOG, "store.jsonl").read_text().splitlines()
    assert [json.loads(call)["kind"] for call in waits] == ["image"] * 3
    assert len(list(Path(BACKLOG, "store").iterdir())) == 3
    first, last = (each.getMessage() for each in caplog.records)
    assert "could not deliver 'image' (Unable to locate credentials)" in first
    assert "check its artifact store" in first
    assert "3 calls of run 'store' wait" in last

    with open_run("later", "later"):
        pass

    grids = [file.path for file in client().list_artifacts(found.info.run_id, "images")]
    assert len(grids) == 2 * 3
    assert curve(found.info.run_id, "loss") == [(1, 3.0, 1000), (2, 2.0, 2000)]
    assert record_of("store").info.status == "FINISHED"
    assert waiting() == []


def test_pictures_are_not_tried_again_for_a_while_and_curves_go_on(database, tmp_path, monkeypatch):
    run, asked = open_run("store", "patient store"), []

    def send(call):
        asked.append((call["kind"], call.get("step")))
        if call["kind"] == "image":
            raise ConnectionError("away")

    monkeypatch.setattr(run_module, "SECONDS_BEFORE_RETRY", 60.0)
    monkeypatch.setattr(run.server, "send", send)
    for step in (1, 2):
        run.log_image(picture(tmp_path / "grid.png"), "samples", step)
        run.log_metrics({"loss": 1.0}, step)
    run.finish()

    images = [("image", 1), ("image", 2)]
    assert asked == [images[0], ("metrics", None), ("metrics", None), *images, ("status", None)]


def test_what_an_older_server_has_no_endpoint_for_is_left_out(
    database, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(MlflowClient, "search_logged_models", no_endpoint)

    with open_run("older", "older") as run:
        log_everything(run, tmp_path)

    assert record(run).info.status == "FINISHED"
    assert curve(run.run_id, "loss") == [(1, 3.0, 1000), (2, 2.0, 2000)]
    folder = database / "mlartifacts" / run.run_id / "artifacts"
    assert sorted(path.name for path in folder.iterdir()) == ["board.json", "images", "notes"]
    assert waiting() == []
    (warning,) = caplog.records
    assert "refuses model of run key 'older', they are left out" in warning.getMessage()
    assert "update the server to MLflow 3" in warning.getMessage()


@pytest.mark.parametrize("unknown", [["log_batch"], ["search_logged_models", "get_run"]])
def test_endpoints_that_a_proxy_without_its_server_does_not_know_lose_nothing(
    database, tmp_path, monkeypatch, unknown
):
    key = f"proxy {unknown[0]}"
    with monkeypatch.context() as patch, open_run("proxy", key, {"stage": "train"}) as run:
        for name in unknown:
            patch.setattr(MlflowClient, name, no_endpoint)
        log_everything(run, tmp_path)

    with open_run("later", "later"):
        pass

    check_everything(database, record_of(key))
    assert waiting() == []


def test_damaged_backlog_is_named_and_ends_no_work(database, caplog):
    Path(BACKLOG).mkdir()
    Path(BACKLOG, "damaged.jsonl").write_text("not json\n")

    with open_run("damaged", "damaged") as run:
        run.log_metrics({"loss": 1.0}, 1)

    assert f"{BACKLOG}/damaged.jsonl: a line after byte 0 is damaged, delete it" in caplog.text
    assert "4 calls of run 'damaged' wait" in caplog.text


def test_a_missing_file_of_ours_is_no_trouble_of_the_server(database):
    run = open_run("missing", "missing")

    with pytest.raises(FileNotFoundError, match=r"nothing\.md: missing"):
        run.log_file(Path("nothing.md"))


def test_run_is_found_by_the_note_beside_its_checkpoints(database, tmp_path):
    beside = tmp_path / "checkpoints"
    beside.mkdir()
    with open_run("beside", "beside", beside=beside) as first:
        pass
    client().delete_tag(first.run_id, KEY_TAG)

    second = open_run("beside", "beside", beside=beside)

    note = json.loads((beside / RUN_FILE).read_text())
    assert note == {"uri": tracking_uri(), "run_id": first.run_id}
    assert second.run_id == first.run_id


@pytest.mark.parametrize("noted", ["of another server", "deleted"])
def test_note_of_a_run_that_is_gone_gives_way(database, tmp_path, noted):
    old = open_run("gone", f"gone {noted}", beside=tmp_path)
    if noted == "deleted":
        client().delete_run(old.run_id)
    else:
        (tmp_path / RUN_FILE).write_text('{"uri": "http://other", "run_id": "%s"}\n' % ("0" * 32))

    new = open_run("gone", f"gone {noted}", beside=tmp_path)

    assert (new.run_id == old.run_id) == (noted != "deleted")
    assert json.loads((tmp_path / RUN_FILE).read_text())["run_id"] == new.run_id


def test_kept_checkpoint_is_one_model_however_often_it_is_logged(database):
    with open_run("models", "models") as run:
        for score in (20.0, 30.0):
            run.log_model("step-10", 10, {"validation_psnr": score}, "/store/10", {"best": score})

    (model,) = models(run.run_id)
    assert (model.name, model.status) == ("step-10", "READY")
    assert model.tags["fixtalk.location"] == "/store/10"
    assert model.tags["best"] == "30.0"
    assert [(m.key, m.value, m.step) for m in model.metrics] == [("validation_psnr", 20.0, 10)]
    assert [m.step for m in client().get_metric_history(run.run_id, "validation_psnr")] == [10]
    assert [(o.model_id, o.step) for o in record(run).outputs.model_outputs] == [
        (model.model_id, 10)
    ]


def test_pruned_checkpoint_is_no_model_any_more_and_forgetting_it_twice_does_no_harm(database):
    with open_run("pruned", "pruned") as run:
        run.log_model("step-10", 10, {}, "/store/10")
        (model,) = models(run.run_id)
        run.forget_model("step-10")
        run.forget_model("step-10")

    assert models(run.run_id) == []
    with pytest.raises(MlflowException, match="not found"):
        client().get_logged_model(model.model_id)


@pytest.mark.slow
def test_backlog_reaches_a_server_that_was_started_later(dead, tmp_path, monkeypatch):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    run = open_run("http", "http")
    log_everything(run, tmp_path)
    assert run.run_id is None
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--backend-store-uri", f"sqlite:///{tmp_path}/server.db"]
    command += ["--artifacts-destination", str(tmp_path / "artifacts")]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (tmp_path / "server.log").open("w") as log:
        server = subprocess.Popen(
            command, env=os.environ | quiet, stdout=log, stderr=log, start_new_session=True
        )
    try:
        until_healthy(f"http://127.0.0.1:{port}/health")
        run.finish()

        found = record_of("http")
        assert found.info.status == "FINISHED"
        assert curve(found.info.run_id, "loss") == [(1, 3.0, 1000), (2, 2.0, 2000)]
        assert [model.name for model in models(found.info.run_id)] == ["step-2"]
        grids = client().list_artifacts(found.info.run_id, "images")
        assert sorted(Path(file.path).suffix for file in grids) == [".png", ".webp"]
        assert waiting() == []
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def until_healthy(address):
    for _ in range(240):
        try:
            with urllib.request.urlopen(address, timeout=1):
                return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"{address} does not answer")


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
