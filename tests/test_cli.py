"""The `fixtalk` command: the leaderboard on screen."""

from typer.testing import CliRunner

from pipelines.cli import app


def test_leaderboard_is_shown_or_says_how_to_make_it(tmp_path):
    missing = CliRunner().invoke(app, ["leaderboard", str(tmp_path)])
    (tmp_path / "leaderboard.md").write_text("| system |\n| --- |\n| edtalk |\n")
    shown = CliRunner().invoke(app, ["leaderboard", str(tmp_path)])

    assert missing.exit_code == 1
    assert "make repro" in missing.output
    assert shown.exit_code == 0
    assert "edtalk" in shown.output
