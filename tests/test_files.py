"""Files: what is written is read back, and nothing else lies beside it."""

import os
import subprocess
import sys

import pytest

from pipelines.files import (
    append_row,
    only_one,
    read_rows,
    read_table,
    replacing,
    write_table,
    write_text,
)


def test_text_is_replaced_byte_for_byte(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("old")

    write_text(path, "a,b\r\nü\n")

    assert path.read_bytes() == "a,b\r\nü\n".encode()
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_keeps_the_older_file(tmp_path):
    path = tmp_path / "note.txt"
    write_text(path, "old")

    with pytest.raises(UnicodeEncodeError):
        write_text(path, "new \ud800")

    assert path.read_text() == "old"


def test_table_is_read_back_with_its_facts(tmp_path):
    path = tmp_path / "scores.parquet"

    write_table(path, [{"pair": "a", "value": 1.5}, {"pair": "b", "value": None}], {"key": "k"})
    rows, facts = read_table(path)

    assert rows["pair"].tolist() == ["a", "b"]
    assert rows["value"].isna().tolist() == [False, True]
    assert facts == {"key": "k"}
    assert list(tmp_path.iterdir()) == [path]


def test_rows_come_back_from_where_the_reader_stopped(tmp_path):
    path = tmp_path / "rows.jsonl"
    append_row(path, {"step": 1, "name": "é\n"})
    first, end = read_rows(path)
    append_row(path, {"step": 2, "loss": float("inf")})

    assert first == [{"step": 1, "name": "é\n"}]
    assert read_rows(path, end) == ([{"step": 2, "loss": float("inf")}], path.stat().st_size)


def test_no_file_is_no_rows(tmp_path):
    assert read_rows(tmp_path / "rows.jsonl", 7) == ([], 7)


def test_half_a_line_is_not_read_and_goes_with_the_next_row(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"step": 1}\n{"st')

    assert read_rows(path) == ([{"step": 1}], 12)
    append_row(path, {"step": 2})
    assert read_rows(path, 12)[0] == [{"step": 2}]


@pytest.mark.parametrize("left", ["", '{"half'])
def test_first_row_of_a_file_that_was_only_begun(tmp_path, left):
    path = tmp_path / "rows.jsonl"
    path.write_text(left)

    append_row(path, {"step": 1})

    assert path.read_text() == '{"step": 1}\n'


def test_damaged_line_is_an_error_that_names_the_file(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"step": 1}\nnonsense\n')

    with pytest.raises(OSError, match=r"rows\.jsonl: a line after byte 0 is damaged, delete it"):
        read_rows(path)


def test_a_broken_write_leaves_nothing_behind(tmp_path):
    def write():
        with replacing(tmp_path / "sheet.png") as part:
            part.write_bytes(b"half")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write()

    assert list(tmp_path.iterdir()) == []


def test_a_folder_has_one_writer_until_it_dies(tmp_path):
    code = f"""
from pathlib import Path
from pipelines.files import only_one
with only_one(Path({str(tmp_path)!r})):
    print("in", flush=True)
    input()
"""
    other = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout.readline() == "in\n"

    with pytest.raises(BlockingIOError, match=rf"process {other.pid} on .* works there"), \
         only_one(tmp_path):  # fmt: skip
        pass
    other.kill()
    other.wait()
    with only_one(tmp_path):
        assert (tmp_path / "lock").read_text().startswith(f"{os.getpid()} on ")
