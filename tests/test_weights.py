"""Weights of official networks: the registry's facts, and downloads that go wrong in every way."""

import hashlib
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import prod
from pathlib import Path
from threading import Thread

import pytest
import torch
from typer.testing import CliRunner

from metrics import registry
from metrics.registry import OFFICIAL, Weights, check_layout, layout
from pipelines.cli import app
from pipelines.weights import WeightsError, WeightsMissingError, fetch, read, verify

CLOSED = "http://127.0.0.1:9/tiny.pt"


@pytest.fixture
def server(monkeypatch):
    """Starts a server whose requests a function answers; gives the address of its file."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    running = []

    def start(answer):
        silent = {"do_GET": answer, "log_message": lambda *_: None}
        handler = type("Handler", (BaseHTTPRequestHandler,), silent)
        running.append(ThreadingHTTPServer(("127.0.0.1", 0), handler))
        Thread(target=running[-1].serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{running[-1].server_port}/tiny.pt"

    yield start
    for one in running:
        one.shutdown()
        one.server_close()


@pytest.fixture
def content(tmp_path):
    """Bytes of the published file of the network "tiny"."""
    return saved(torch.nn.Linear(40, 30).state_dict(), tmp_path / "published.pt")


@pytest.fixture
def publish(monkeypatch, content):
    """Makes the registry hold one network, "tiny", with the facts given."""
    right = hashlib.sha256(content).hexdigest()

    def enter(url=CLOSED, **facts):
        tiny = Weights(
            name="tiny", file="tiny.pt", url=url, sha256=right, num_bytes=None, licence="CC0",
            purpose="tests", build=lambda: torch.nn.Linear(40, 30),
        )  # fmt: skip
        monkeypatch.setattr(registry, "OFFICIAL", {"tiny": replace(tiny, **facts)})

    return enter


def saved(checkpoint, path):
    torch.save(checkpoint, path)
    return path.read_bytes()


def send(request, body, status=200, kind="application/octet-stream", length=None, **headers):
    request.send_response(status)
    request.send_header("Content-Type", kind)
    request.send_header("Content-Length", str(length or len(body)))
    for name, value in headers.items():
        request.send_header(name.replace("_", "-"), value)
    request.end_headers()
    request.wfile.write(body)


def start_of(request):
    return int(request.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))


@pytest.mark.parametrize("name", OFFICIAL)
def test_registry_states_what_a_user_must_know(name):
    facts = OFFICIAL[name]
    num_bytes = 4 * sum(prod(shape) for shape in layout(name).values())

    assert facts.name == name
    assert facts.url.startswith("https://")
    assert facts.licence
    assert facts.purpose
    assert set(facts.sha256 or "") <= set("0123456789abcdef")
    # the tensors make up the file, but for a little around them
    assert facts.num_bytes is None or 0 <= facts.num_bytes - num_bytes < 20_000


def test_file_arrives_whole_from_a_slow_server(server, publish, content, tmp_path):
    def answer(request):
        send(request, b"", length=len(content))
        for start in range(0, len(content), 1000):
            request.wfile.write(content[start : start + 1000])
            time.sleep(0.01)

    publish(server(answer))

    row = fetch("tiny", tmp_path / "weights", accept_licence=True)
    state, sha256 = read("tiny", tmp_path / "weights")

    assert row.status == "ok"
    assert [path.name for path in (tmp_path / "weights").iterdir()] == ["tiny.pt"]
    assert sha256 == row.sha256 == hashlib.sha256(content).hexdigest()
    assert set(state) == {"weight", "bias"}


def test_broken_download_goes_on_where_it_stopped(server, publish, content, tmp_path):
    asked = []

    def answer(request):
        start = start_of(request)
        asked.append(start)
        if start:
            send(request, content[start:], 206)
        else:
            send(request, content[:2000], length=len(content))

    publish(server(answer))

    with pytest.raises(WeightsError, match=f"broke off after 2000 of {len(content)} bytes"):
        fetch("tiny", tmp_path, accept_licence=True)
    kept = sorted(path.name for path in tmp_path.glob("tiny*"))
    row = fetch("tiny", tmp_path, accept_licence=True)

    assert kept == ["tiny.pt.part"]
    assert asked == [0, 2000]
    assert row.is_good
    assert (tmp_path / "tiny.pt").read_bytes() == content


def test_server_without_ranges_sends_everything_again(server, publish, content, tmp_path):
    publish(server(lambda request: send(request, content)))
    (tmp_path / "tiny.pt.part").write_bytes(b"x" * 500)

    fetch("tiny", tmp_path, accept_licence=True)

    assert (tmp_path / "tiny.pt").read_bytes() == content


def test_complete_part_is_taken_and_one_too_long_is_dropped(server, publish, content, tmp_path):
    whole, long = tmp_path / "whole", tmp_path / "long"
    for folder, body in ((whole, content), (long, content + b"more")):
        folder.mkdir()
        (folder / "tiny.pt.part").write_bytes(body)
    end = {"Content_Range": f"bytes */{len(content)}"}
    publish(server(lambda request: send(request, b"", 416, **end)))

    row = fetch("tiny", whole, accept_licence=True)
    with pytest.raises(WeightsError, match="HTTP 416"):
        fetch("tiny", long, accept_licence=True)

    assert row.is_good
    assert list(long.iterdir()) == []


@pytest.mark.parametrize(
    ("status", "kind", "reason"),
    [(404, "text/plain", "HTTP 404"), (200, "text/html; charset=utf-8", "a web page came")],
)
def test_what_is_no_file_is_refused_with_a_remedy(server, publish, tmp_path, status, kind, reason):
    url = server(lambda request: send(request, b"<html>", status, kind))
    publish(url)

    with pytest.raises(WeightsError, match=reason) as refusal:
        fetch("tiny", tmp_path / "weights", accept_licence=True)

    assert url in str(refusal.value)
    assert "tiny.pt" in str(refusal.value)
    assert "--from FILE" in str(refusal.value)
    assert list((tmp_path / "weights").iterdir()) == []


def test_unreachable_server_is_told_with_a_remedy(publish, tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    publish(CLOSED)

    with pytest.raises(WeightsError, match=r"refused(.|\n)*--from FILE"):
        fetch("tiny", tmp_path, accept_licence=True)


def test_other_length_than_published_is_refused_before_the_download(
    server, publish, content, tmp_path
):
    publish(server(lambda request: send(request, content)), num_bytes=17)

    with pytest.raises(WeightsError, match=f"has {len(content)} bytes, published are 17"):
        fetch("tiny", tmp_path / "weights", accept_licence=True)

    assert list((tmp_path / "weights").iterdir()) == []


def test_wrong_checksum_never_gets_the_name(server, publish, content, tmp_path):
    publish(server(lambda request: send(request, content)), sha256="0123abcd")

    with pytest.raises(WeightsError, match="published is 0123abcd"):
        fetch("tiny", tmp_path / "weights", accept_licence=True)

    assert list((tmp_path / "weights").iterdir()) == []


def test_full_disk_never_gets_the_name(server, publish, content, tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    publish(server(lambda request: send(request, content)))
    (tmp_path / "tiny.pt.part").symlink_to("/dev/full")

    with pytest.raises(WeightsError, match="No space left"):
        fetch("tiny", tmp_path, accept_licence=True)

    assert not (tmp_path / "tiny.pt").exists()


def test_beginning_of_a_checksum_is_enough_and_its_absence_is_told(
    server, publish, content, tmp_path
):
    sha256 = hashlib.sha256(content).hexdigest()
    url = server(lambda request: send(request, content))

    publish(url, sha256=sha256[:8])
    with_prefix = fetch("tiny", tmp_path / "prefix", accept_licence=True)
    publish(url, sha256=None)
    without = fetch("tiny", tmp_path / "none", accept_licence=True)

    assert with_prefix.status == "ok"
    assert without.status == "ok, no published checksum"
    assert without.sha256 == sha256


def test_other_network_is_refused(publish, tmp_path):
    saved(torch.nn.Linear(2, 3, bias=False).state_dict() | {"extra": torch.ones(1)}, tmp_path / "a")
    publish(sha256=None)

    with pytest.raises(WeightsError) as refusal:
        fetch("tiny", tmp_path / "weights", accept_licence=True, source=tmp_path / "a")

    for problem in ("1 missing: bias", "1 unknown: extra", "weight (3, 2) instead of (30, 40)"):
        assert problem in str(refusal.value)
    assert list((tmp_path / "weights").iterdir()) == []


def touch(path):
    Path(path).touch()


class Intruder:
    """Runs `touch` where a pickle of it is loaded without care."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return touch, (str(self.path),)


def test_file_that_runs_code_is_not_loaded(publish, tmp_path):
    saved({"weight": Intruder(tmp_path / "ran")}, tmp_path / "evil.pt")
    publish(sha256=None)

    with pytest.raises(WeightsError, match="not a file of plain tensors"):
        fetch("tiny", tmp_path / "weights", accept_licence=True, source=tmp_path / "evil.pt")

    assert not (tmp_path / "ran").exists()
    assert list((tmp_path / "weights").iterdir()) == []


@pytest.mark.parametrize("checkpoint", [[1, 2], {}, {"state_dict": {"epoch": 3}}])
def test_file_without_a_table_of_tensors_is_refused(publish, tmp_path, checkpoint):
    saved(checkpoint, tmp_path / "odd.pt")
    publish(sha256=None)

    with pytest.raises(WeightsError, match="expected a table of tensors"):
        fetch("tiny", tmp_path / "weights", accept_licence=True, source=tmp_path / "odd.pt")


def test_training_checkpoint_is_imported_without_its_wrapping(publish, tmp_path):
    state = torch.nn.Linear(40, 30).state_dict()
    wrapped = {"epoch": 61, "state_dict": {f"module.{key}": value for key, value in state.items()}}
    saved(wrapped, tmp_path / "fan")
    publish(sha256=None)

    fetch("tiny", tmp_path / "weights", accept_licence=True, source=tmp_path / "fan")
    read_back, _ = read("tiny", tmp_path / "weights")

    assert set(read_back) == set(state)
    assert all(torch.equal(read_back[key], state[key]) for key in state)


def test_damaged_file_is_found_and_replaced(server, publish, content, tmp_path):
    publish(server(lambda request: send(request, content)))
    (tmp_path / "tiny.pt").write_bytes(content[:-1])

    damaged = verify(tmp_path)
    with pytest.raises(WeightsError, match="published is"):
        read("tiny", tmp_path)
    fetch("tiny", tmp_path, accept_licence=True)

    assert [row.is_good for row in damaged] == [False]
    assert [row.status for row in verify(tmp_path)] == ["ok"]


def test_good_file_is_not_fetched_twice(publish, content, tmp_path):
    publish(CLOSED)
    (tmp_path / "tiny.pt").write_bytes(content)

    row = fetch("tiny", tmp_path, accept_licence=True)

    assert row.is_good


def test_missing_weights_name_the_command(tmp_path):
    with pytest.raises(
        WeightsMissingError,
        match=r"unavailable: vgg19 is not in .*; fixtalk weights fetch vgg19 --accept-licence",
    ):
        read("vgg19", tmp_path)
    with pytest.raises(WeightsError, match="unknown weights 'nope': known are syncnet"):
        read("nope", tmp_path)
    with pytest.raises(WeightsError, match="gone: no such file"):
        fetch("vgg19", tmp_path, accept_licence=True, source=tmp_path / "gone")


def test_older_checkpoints_may_lack_batch_counters():
    state = {key: torch.empty(shape, device="meta") for key, shape in layout("syncnet").items()}
    older = {key: value for key, value in state.items() if not key.endswith("batches_tracked")}
    other = {key: value for key, value in older.items() if "netfclip" not in key}

    check_layout("syncnet", older)

    assert len(older) < len(state)
    with pytest.raises(ValueError, match=r"syncnet: 8 missing: netfclip\.0\.weight, .*, …"):
        check_layout("syncnet", other)


def test_command_line_asks_for_the_licence_and_imports(publish, content, tmp_path):
    publish(licence="a licence of its own")
    (tmp_path / "mine").write_bytes(content)
    folder = ["--folder", str(tmp_path / "weights")]
    copy = ["--accept-licence", "--from", str(tmp_path / "mine")]

    refused = CliRunner().invoke(app, ["weights", "fetch", "tiny", *folder])
    fetched = CliRunner().invoke(app, ["weights", "fetch", "tiny", *folder, *copy])
    listed = CliRunner().invoke(app, ["weights", "list", *folder])
    checked = CliRunner().invoke(app, ["weights", "verify", *folder])
    (tmp_path / "weights" / "tiny.pt").write_bytes(b"broken")
    broken = CliRunner().invoke(app, ["weights", "verify", *folder])

    assert refused.exit_code == 1
    assert "a licence of its own" in refused.output
    assert CLOSED in refused.output
    assert fetched.exit_code == 0, fetched.output
    assert hashlib.sha256(content).hexdigest() in fetched.output
    assert "tiny: here" in listed.output
    assert checked.exit_code == 0
    assert broken.exit_code == 1
