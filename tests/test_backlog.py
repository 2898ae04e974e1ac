"""Backlog: calls wait in order, go once they are taken, and processes may share them."""

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pipelines.backlog import Backlog, send_waiting
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


def test_damaged_calls_stay_and_their_file_is_named(backlog):
    backlog.path.parent.mkdir()
    append_row(backlog.path, {"number": 0})
    with backlog.path.open("a") as file:
        file.write("damage" + os.linesep)

    with pytest.raises(OSError, match=r"a\.b\.jsonl: a line after byte 0 is damaged"):
        numbers(backlog)
    assert len(backlog) == 2
