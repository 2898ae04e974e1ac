"""Journal: rows that survive the kill of their writer."""

import pytest

from pipelines.files import append_row, read_rows


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
