"""The `fixtalk` command: health of the installation, and the leaderboard on screen."""

from typer.testing import CliRunner

from pipelines.cli import app


def test_doctor_finds_this_installation_healthy():
    result = CliRunner().invoke(app, ["doctor"])

    assert result.exit_code == 0, result.output
    assert "FAIL" not in result.output
    for name in ("torch", "speech engine", "MTCNN", "disk", "device"):
        assert name in result.output


def test_leaderboard_is_shown_or_says_how_to_make_it(tmp_path):
    missing = CliRunner().invoke(app, ["leaderboard", str(tmp_path)])
    (tmp_path / "leaderboard.md").write_text("| system |\n| --- |\n| edtalk |\n")
    shown = CliRunner().invoke(app, ["leaderboard", str(tmp_path)])

    assert missing.exit_code == 1
    assert "make repro" in missing.output
    assert shown.exit_code == 0
    assert "edtalk" in shown.output
