"""Backlog: calls wait in order, go once they are taken, and processes may share them."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pipelines import backlog as module
from pipelines.backlog import AsideError, Backlog, send_waiting
from pipelines.files import append_row

ROOT = Path(__file__).parent.parent


@pytest.fixture
def backlog(tmp_path):
    return Backlog(tmp_path / "backlog" / "a.b.jsonl")


def numbers(backlog):
    """What waits, sent."""
    taken = []
    backlog.send(lambda call: taken.append(call["number"]))
    return taken


def python(code, *arguments):
    prelude = "import sys; from pathlib import Path; from pipelines.backlog import Backlog\n"
    command = [sys.executable, "-c", prelude + code, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_calls_are_sent_in_order_and_leave_nothing(backlog):
    for number in range(3):
        backlog.add({"number": number})
    assert len(backlog) == 3

    assert numbers(backlog) == [0, 1, 2]
    assert len(backlog) == 0
    assert list(backlog.path.parent.iterdir()) == []


def test_files_wait_as_copies_under_their_name(backlog, tmp_path):
    for content in ("one", "two"):
        (tmp_path / "note.txt").write_text(content)
        backlog.add({"file": str(tmp_path / "note.txt")})
    (tmp_path / "note.txt").unlink()
    seen = []

    backlog.send(lambda c: seen.append((Path(c["file"]).name, Path(c["file"]).read_text())))

    assert seen == [("note.txt", "one"), ("note.txt", "two")]
    assert list(backlog.path.parent.iterdir()) == []


def test_a_call_that_fails_stays_with_all_behind_it(backlog, tmp_path):
    (tmp_path / "note.txt").write_text("hello")
    for number in range(4):
        backlog.add({"number": number, "file": str(tmp_path / "note.txt")})
    taken = []

    def take(call):
        if call["number"] == 2:
            raise ConnectionError("away")
        taken.append(call["number"])

    with pytest.raises(ConnectionError, match="away"):
        backlog.send(take)
    backlog.send(lambda call: taken.append(Path(call["file"]).read_text()))

    assert taken == [0, 1, "hello", "hello"]


def failing(taken, *numbers):
    """An action that does not take these."""

    def take(call):
        if call["number"] in numbers:
            raise ConnectionError(f"not {call['number']}")
        taken.append(call["number"])

    return take


def test_a_call_that_no_other_builds_on_is_passed_over(backlog):
    image = {"kind": "image", "name": "grid"}
    calls = [
        {"kind": "open"},
        image | {"step": 1},
        {"kind": "metrics"},
        image | {"step": 2},
        {"kind": "model", "name": "step-1"},
        {"kind": "forget", "name": "step-1"},
        {"kind": "model", "name": "step-2"},
        {"kind": "table", "path": "board.json"},
        {"kind": "status"},
    ]
    for number, call in enumerate(calls):
        backlog.add(call | {"number": number})
    taken = []

    with pytest.raises(AsideError, match="not 1"):
        backlog.send(failing(taken, 1, 4))

    assert taken == [0, 2, 3, 6, 7, 8]
    assert numbers(backlog) == [1, 4, 5]  # a model is not forgotten before it is listed


def test_calls_that_others_build_on_stop_it_and_the_order_stays(backlog):
    for number, kind in enumerate(["image", "metrics", "params", "file", "metrics"]):
        backlog.add({"kind": kind, "number": number, "name": kind})
    taken = []

    with pytest.raises(ConnectionError, match="not 2") as error:
        backlog.send(failing(taken, 0, 2))

    assert not isinstance(error.value, AsideError)
    assert taken == [1]
    assert numbers(backlog) == [0, 2, 3, 4]


def test_calls_that_no_other_builds_on_may_be_left_for_later(backlog):
    for number, kind in enumerate(["image", "metrics", "file"]):
        backlog.add({"kind": kind, "number": number, "name": kind})
    taken = []

    backlog.send(failing(taken), with_aside=False)

    assert taken == [1]
    assert numbers(backlog) == [0, 2]


def test_a_store_that_fails_slowly_is_not_asked_for_everything(backlog, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    for number, kind in enumerate(["image", "image", "table", "metrics"]):
        backlog.add({"kind": kind, "number": number, "name": str(number)})
    asked = []

    def take(call):
        asked.append(call["number"])
        failing([], 0)(call)

    with pytest.raises(AsideError):
        backlog.send(take)

    assert asked == [0, 3]
    assert numbers(backlog) == [0, 1, 2]


def test_files_of_calls_that_were_sent_go_though_others_wait(backlog, tmp_path):
    (tmp_path / "note.txt").write_text("hello")
    for number in range(3):
        path = str(tmp_path / "note.txt")
        backlog.add({"kind": "image", "number": number, "name": str(number), "file": path})
    (backlog.files / "of a killed process").mkdir()

    with pytest.raises(AsideError):
        backlog.send(failing([], 1))

    (copy,) = backlog.files.iterdir()
    seen = []
    backlog.send(lambda call: seen.append((call["number"], call["file"])))
    assert seen == [(1, str(copy / "note.txt"))]
    assert list(backlog.path.parent.iterdir()) == []


def test_file_that_comes_while_sent_ones_are_deleted_stays(backlog, tmp_path, monkeypatch):
    (tmp_path / "note.txt").write_text("hello")
    backlog.add({"number": 0, "file": str(tmp_path / "note.txt")})
    remove = shutil.rmtree

    def meanwhile(path, **options):
        backlog.add({"number": 1, "file": str(tmp_path / "note.txt")})
        remove(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", meanwhile)
        assert numbers(backlog) == [0]
    seen = []
    backlog.send(lambda call: seen.append(Path(call["file"]).read_text()))

    assert seen == ["hello"]


def test_processes_that_share_a_backlog_lose_and_double_nothing(backlog):
    add = "for n in range(1000): Backlog(Path(sys.argv[1])).add({'number': [int(sys.argv[2]), n]})"
    writers = [python(add, backlog.path, writer) for writer in range(2)]
    taken = []
    while any(writer.poll() is None for writer in writers):
        taken += numbers(backlog)
    taken += numbers(backlog)

    for writer in range(2):
        assert [n for w, n in taken if w == writer] == list(range(1000))
    assert len(taken) == 2000


def test_who_waited_for_a_file_that_was_sent_waits_for_its_successor_too(backlog):
    backlog.add({"number": 0})
    with backlog.path.open("a") as sent:
        fcntl.flock(sent, fcntl.LOCK_EX)
        writer = threading.Thread(target=backlog.add, args=[{"number": 2}], daemon=True)
        writer.start()
        time.sleep(0.1)
        backlog.path.unlink()
        append_row(backlog.path, {"number": 1})
        successor = backlog.path.open("a")
        fcntl.flock(successor, fcntl.LOCK_EX)
    writer.join(0.2)
    assert len(backlog) == 1

    successor.close()
    writer.join(10)

    assert numbers(backlog) == [1, 2]


def test_what_another_process_is_sending_is_left_to_it(backlog):
    backlog.add({"number": 1})
    other = Backlog(backlog.path.with_name("other.jsonl"))
    other.add({"number": 2})
    hold = (
        "Backlog(Path(sys.argv[1])).send(lambda call: (print('sending', flush=True),"
        " sys.stdin.readline()) and sys.exit(1))"
    )
    command = [sys.executable, "-c", "import sys; from pathlib import Path\n"
               f"from pipelines.backlog import Backlog\n{hold}", str(backlog.path)]  # fmt: skip
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    taken = []
    with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as sender:
        assert sender.stdout.readline() == "sending\n"
        send_waiting(backlog.path.parent, lambda call: taken.append(call["number"]))
        with pytest.raises(BlockingIOError):
            backlog.send(taken.append, wait=False)
        sender.stdin.write("go on\n")

    assert taken == [2]
    assert numbers(backlog) == [1]


@pytest.mark.parametrize("line", ["", '{"number": 9'])
def test_killed_sender_leaves_its_calls_and_no_lock(backlog, line):
    for number in range(2):
        backlog.add({"number": number})
    kill = "import os\nBacklog(Path(sys.argv[1])).send(lambda call: os.kill(os.getpid(), 9))"
    sender = python(kill, backlog.path)
    assert sender.wait() == -signal.SIGKILL
    with backlog.path.open("a") as file:
        file.write(line)

    backlog.add({"number": 2})

    assert numbers(backlog) == [0, 1, 2]


def test_killed_sender_leaves_what_it_passed_over_in_its_place(backlog):
    for number, kind in enumerate(["open", "image", "metrics", "metrics"]):
        backlog.add({"kind": kind, "number": number, "name": kind})
    code = (
        "import os\n"
        "def take(call):\n"
        "    if call['kind'] == 'image': raise ConnectionError\n"
        "    if call['number'] == 3: os.kill(os.getpid(), 9)\n"
        "Backlog(Path(sys.argv[1])).send(take)"
    )
    assert python(code, backlog.path).wait() == -signal.SIGKILL

    assert numbers(backlog) == [0, 1, 2, 3]


def test_damaged_calls_stay_and_their_file_is_named(backlog):
    backlog.path.parent.mkdir()
    append_row(backlog.path, {"number": 0})
    with backlog.path.open("a") as file:
        file.write("damage" + os.linesep)

    with pytest.raises(OSError, match=r"a\.b\.jsonl: a line after byte 0 is damaged"):
        numbers(backlog)
    assert len(backlog) == 2
