"""Health checks against real files, sockets and processes: each one's good and bad case."""

import hashlib
import json
import os
import socket
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import psutil
import pytest
from typer.testing import CliRunner

from metrics.registry import OFFICIAL
from pipelines import doctor
from pipelines.cli import app
from pipelines.panel import LOCAL

# listens on an address, then says so; its name is given by the arguments behind
LISTENER = """
import socket, sys, time
listener = socket.create_server((sys.argv[1], 0), family=socket.AF_INET)
print("ready", flush=True)
time.sleep(60)
"""
RAYLET = "/python/site-packages/ray/core/src/ray/raylet/raylet"


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch, tmp_path):
    """No variable of the caller decides; the current folder is empty."""
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH",
                 "FIXTALK_WORKERS", "FIXTALK_CHECKPOINTS", "MLFLOW_TRACKING_URI"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    monkeypatch.chdir(workspace)


@pytest.fixture
def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture
def listen():
    """Starts a process of the given arguments that listens on an address."""
    running = []

    def start(address, *arguments, **environment):
        command = [sys.executable, "-c", LISTENER, address, *arguments]
        child = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=os.environ | environment
        )
        running.append(child)
        assert child.stdout.readline() == "ready\n"
        return psutil.Process(child.pid)

    yield start
    for child in running:
        child.kill()
        child.wait()


def install(folder, name, version):
    """What importlib.metadata reads of an installed package."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def test_installed_versions_are_good_and_old_or_missing_ones_named():
    good = doctor.versions()
    bad = doctor.versions({"torch": "99.1", "numpy": "2", "not-there": "0"})

    assert good.state == "OK", good
    assert bad.state == "FAIL"
    assert "torch ≥ 99.1, not-there ≥ 0" in bad.remedy
    assert "numpy ≥" not in bad.remedy


def test_versions_compare_as_numbers(monkeypatch, tmp_path):
    install(tmp_path, "tenth", "2.10.0+cpu")
    monkeypatch.syspath_prepend(tmp_path)

    assert doctor.versions({"tenth": "2.9"}).state == "OK"
    assert doctor.versions({"tenth": "2.11"}).state == "FAIL"


def test_second_opencv_is_found(monkeypatch, tmp_path):
    install(tmp_path, "opencv-contrib-python", "4.10.0.84")
    monkeypatch.syspath_prepend(tmp_path)

    finding = doctor.versions()

    assert finding.state == "FAIL"
    assert "one opencv wheel" in finding.remedy
    assert "opencv-contrib-python 4.10.0.84" in finding.found


def test_worker_limit_is_checked(monkeypatch):
    monkeypatch.setenv("FIXTALK_WORKERS", "1")
    good = doctor.device()
    monkeypatch.setenv("FIXTALK_WORKERS", "none")
    bad = doctor.device()

    assert good.state == "OK"
    assert "1 core" in good.found
    assert bad.state == "FAIL"
    assert "FIXTALK_WORKERS='none'" in bad.found


@pytest.mark.parametrize(("free", "state"), [(6e9, "OK"), (3e9, "WARN"), (5e8, "FAIL")])
def test_free_space_is_judged(free, state):
    assert doctor.disk(free).state == state


def test_shared_memory_is_judged(tmp_path):
    assert doctor.shared_memory(tmp_path, little=1).state == "OK"
    assert doctor.shared_memory(tmp_path, little=1e18).state == "WARN"
    assert doctor.shared_memory(tmp_path / "none", little=1e18).state == "OK"


@pytest.mark.parametrize("place", ["checkpoints", "{tmp}/new/folder", "file://{tmp}", "memory://x"])
def test_storage_is_tried_and_left_as_it_was(place, tmp_path):
    before = sorted(tmp_path.rglob("*"))

    finding = doctor.storage("checkpoints", place.format(tmp=tmp_path))

    assert finding.state in ("OK", "WARN"), finding  # a temporary folder may lie in memory
    assert sorted(tmp_path.rglob("*")) == before


def test_storage_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").write_text("no folder")

    blocked = doctor.storage("checkpoints", str(tmp_path / "file"))
    unknown = doctor.storage("checkpoints", "nowhere://bucket")

    assert blocked.state == unknown.state == "FAIL"
    assert str(tmp_path / "file") in blocked.found
    assert "nowhere" in unknown.found
    assert "FIXTALK_CHECKPOINTS" in unknown.remedy


def test_storage_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr(doctor, "SECONDS_FOR_STORAGE", 0.05)
    monkeypatch.setattr(doctor, "_write_and_read", lambda place: time.sleep(1))

    finding = doctor.storage("checkpoints", "/hanging")

    assert finding.state == "FAIL"
    assert finding.found == "/hanging does not answer"


@pytest.mark.parametrize(
    ("kind", "address", "state"),
    [
        ("ext4", "", "OK"),
        ("tmpfs", "", "WARN"),
        ("ext4", "10.0.0.1:6379", "WARN"),
        ("nfs4", "10.0.0.1:6379", "OK"),
        ("s3://", "10.0.0.1:6379", "OK"),
    ],
)
def test_storage_must_outlive_a_boot_and_be_seen_by_a_cluster(monkeypatch, kind, address, state):
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr(doctor, "_write_and_read", lambda place: kind)

    assert doctor.storage("checkpoints", "somewhere").state == state


def test_folder_in_memory_is_recognised():
    if not os.path.ismount("/dev/shm"):
        pytest.skip("no /dev/shm on this system")

    finding = doctor.storage("checkpoints", "/dev/shm/fixtalk")

    assert finding.state == "WARN"
    assert "tmpfs" in finding.found


def test_missing_weights_warn_and_damaged_ones_fail(tmp_path):
    missing = doctor.weights(tmp_path)
    (tmp_path / OFFICIAL["vgg19"].file).write_bytes(b"damaged")
    damaged = doctor.weights(tmp_path)

    assert missing.state == "WARN"
    assert "facenet: missing" in missing.found
    assert damaged.state == "FAIL"
    assert "sha256" in damaged.found
    assert "fixtalk weights fetch" in damaged.remedy


def test_own_judges_are_compared_with_their_list(tmp_path):
    folder = tmp_path / "judges"
    absent = doctor.judges(folder)
    folder.mkdir()
    facts = {"dataset": "synthetic", "judges": {}}
    for name in LOCAL:
        (folder / f"{name}.safetensors").write_text(name)
        facts["judges"][name] = {"sha256": hashlib.sha256(name.encode()).hexdigest()}
    (folder / "judges.json").write_text(json.dumps(facts))
    good = doctor.judges(folder)
    (folder / "sync.safetensors").write_text("another")
    changed = doctor.judges(folder)
    (folder / "judges.json").unlink()
    unlisted = doctor.judges(folder)

    assert (absent.state, good.state) == ("WARN", "OK")
    assert (changed.state, unlisted.state) == ("FAIL", "FAIL")
    assert "sync.safetensors" in changed.found
    assert "judges.json" in unlisted.found


def test_ports_beyond_loopback_need_a_token(listen):
    inner = listen("127.0.0.1", RAYLET)
    other = listen("0.0.0.0", "some other program")
    outer = listen("0.0.0.0", RAYLET)
    guarded = listen("0.0.0.0", RAYLET, RAY_AUTH_MODE="token")

    assert doctor.ports([inner, other]).state == "OK"
    assert doctor.ports([guarded]).state == "OK"
    assert "token needed" in doctor.ports([guarded]).found
    finding = doctor.ports([inner, guarded, outer])
    assert finding.state == "FAIL"
    assert "Ray on 0.0.0.0 port" in finding.found
    assert "RAY_AUTH_MODE=token" in finding.remedy


def test_mlflow_beyond_loopback_is_found_with_or_without_a_token(listen):
    inner = listen("127.0.0.1", "mlflow", "server")
    outer = listen("0.0.0.0", "mlflow", "server", RAY_AUTH_MODE="token")

    assert doctor.ports([inner]).state == "OK"
    assert doctor.ports([inner, outer]).state == "FAIL"
    assert "--host 127.0.0.1" in doctor.ports([outer]).remedy


def test_process_that_has_ended_is_passed_over(listen):
    process = listen("0.0.0.0", RAYLET)
    process.kill()
    process.wait()

    assert doctor.ports([process]).state == "OK"


def test_head_of_the_cluster_must_answer(monkeypatch, free_port):
    alone = doctor.cluster()
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free_port}")
    silent = doctor.cluster()
    with socket.create_server(("127.0.0.1", free_port)):
        answering = doctor.cluster()
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    unclear = doctor.cluster()

    assert (alone.state, answering.state) == ("OK", "OK")
    assert silent.state == "FAIL"
    assert str(free_port) in silent.found
    assert unclear.state == "WARN"


def test_cluster_needs_a_token_that_nobody_else_reads(monkeypatch, tmp_path):
    path = tmp_path / "token"
    alone = doctor.token()
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    without = doctor.token()
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    absent = doctor.token()
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(path))
    path.write_text("secret")
    path.chmod(0o644)
    readable = doctor.token()
    path.chmod(0o600)
    private = doctor.token()

    assert (alone.state, private.state) == ("OK", "OK")
    assert (without.state, readable.state) == ("WARN", "WARN")
    assert absent.state == "FAIL"
    assert ".ray/auth_token" in absent.found
    assert readable.remedy == f"chmod 600 {path}"


def test_tracking_database_needs_a_folder(monkeypatch, tmp_path):
    good = doctor.tracking(tmp_path / "backlog")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/gone/mlflow.db")
    bad = doctor.tracking(tmp_path / "backlog")

    assert good.state == "OK"
    assert bad.state == "FAIL"
    assert f"{tmp_path}/gone" in bad.found


def test_tracking_server_is_asked(monkeypatch, free_port, tmp_path):
    class Healthy(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, *_):
            pass

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port}")
    down = doctor.tracking(tmp_path)
    with HTTPServer(("127.0.0.1", free_port), Healthy) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        up = doctor.tracking(tmp_path)
        server.shutdown()

    assert down.state == "WARN"
    assert "MLFLOW_TRACKING_URI" in down.remedy
    assert up.state == "OK"


def test_waiting_log_calls_are_counted(tmp_path):
    (tmp_path / "one.jsonl").write_text("{}\n{}\n")
    (tmp_path / "other.jsonl").write_text("{}\n")

    finding = doctor.tracking(tmp_path)

    assert finding.state == "WARN"
    assert "3 log calls" in finding.found


def test_command_shows_what_to_do_and_fails_only_where_something_must_change(
    monkeypatch, free_port
):
    monkeypatch.setattr(doctor.psutil, "process_iter", list)  # others' ports are not ours to judge
    healthy = CliRunner().invoke(app, ["doctor"])
    left = list(Path.cwd().iterdir())
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free_port}")
    broken = CliRunner().invoke(app, ["doctor"])

    assert healthy.exit_code == 0, healthy.output
    assert "WARN" in healthy.output  # no weights here
    assert "FAIL" not in healthy.output
    for name in ("torch", "speech engine", "MTCNN", "disk", "device"):
        assert name in healthy.output
    assert broken.exit_code == 1
    assert "FAIL" in broken.output
    assert "unset" in broken.output
    assert left == []
