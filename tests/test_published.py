"""Published rows: all systems and columns of the paper, each with its source and open points."""

from pipelines.published import COLUMNS, published_lines, read_published

SYSTEMS = {"DPE", "EmoPortraits", "EDTalk", "LivePortrait", "X-Portrait", "Follow-Your-Emoji",
           "SadTalker", "AniTalker", "Hallo", "FixTalk"}  # fmt: skip


def test_all_ten_systems_and_every_number_parses():
    rows = read_published()

    assert set(rows["system"]) == SYSTEMS
    assert set(rows) == {"task", "system", *COLUMNS, "source", "unknown"}
    numbers = rows[list(COLUMNS)].to_numpy().ravel()
    assert len([float(number) for number in numbers if number]) == 7 * 6 + 5 * 6 + 3 + 2


def test_every_row_names_its_source_and_what_is_not_known():
    rows = read_published()

    assert rows["source"].str.contains("arXiv:2507.01390").all()
    assert rows["unknown"].str.len().gt(0).all()
    assert (rows.groupby("task")["unknown"].nunique() == 1).all()


def test_the_paper_wins_and_loses_where_it_says():
    rows = read_published().set_index(["task", "system"])

    def ranked(task, column):
        return rows.loc[task][column].astype(float).sort_values()

    assert ranked("HDTF, video-driven", "psnr").index[-1] == "FixTalk"
    assert ranked("MEAD, audio-driven", "sync_conf").index[-1] == "EDTalk"


def test_tables_show_only_their_columns_and_their_source():
    text = "\n".join(published_lines())

    video, audio = text.split("### MEAD, audio-driven")
    assert "FID" in video
    assert "SSIM" not in video.split("### ")[1]
    assert "| FixTalk | 22.382 | 0.743 |" in audio
    assert text.count("Source: arXiv:2507.01390") == 4
    assert text.count("Not known: ") == 4
    assert "not comparable" in text.splitlines()[0]
