"""Picture sheets: sizes, order, labels and refusals."""

import numpy as np
import pytest

from fixtalk.sheet import enlarge, picture_sheet, read_picture, write_picture


def grey(value, side=16):
    return np.full((side, side, 3), value, np.uint8)


def test_pictures_stand_in_their_row_and_column():
    sheet = picture_sheet([[grey(1), grey(2)], [grey(3), grey(4)]], ["a", "b"], min_side=16)

    values = [sheet[row, column, 0] for row in (26, 44) for column in (10, 28)]
    assert sheet.shape == (18 + 2 * 18, 2 * 18 + 2, 3)
    assert values == [1, 2, 3, 4]


def test_labels_add_a_line_over_each_row():
    plain = picture_sheet([[grey(1)], [grey(2)]], ["a"])
    labelled = picture_sheet([[grey(1)], [grey(2)]], ["a"], ["first", "second"])

    assert labelled.shape[0] == plain.shape[0] + 2 * 18


def test_small_pictures_grow_by_whole_factors_and_large_ones_stay():
    film = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)

    grown = enlarge(film, 10)

    assert grown.shape == (2, 12, 12, 3)
    assert np.array_equal(grown[:, ::3, ::3], film)
    assert enlarge(film, 4) is film


def test_rows_of_another_length_are_refused():
    with pytest.raises(ValueError, match=r"2 titles for rows of \[1\] pictures"):
        picture_sheet([[grey(1)]], ["a", "b"])
    with pytest.raises(ValueError, match=r"1 titles for rows of \[\]"):
        picture_sheet([], ["a"])


def test_written_picture_is_read_back(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)

    write_picture(tmp_path / "new" / "picture.png", picture)

    assert np.array_equal(read_picture(tmp_path / "new" / "picture.png"), picture)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["picture.png"]
