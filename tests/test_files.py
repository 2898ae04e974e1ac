"""Files: what is written is read back, and nothing else lies beside it."""

import pytest

from pipelines.files import read_table, write_table, write_text


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
