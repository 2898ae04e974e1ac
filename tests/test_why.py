"""Why: each cause is told by its own difference, and metrics move beside it."""

import json

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.files import FACTS
from pipelines.why import why
from tests.scored_systems import PROTOCOL, spread, write_system

VALUES = {"psnr": spread(20.0), "csim_local": spread(0.5)}
JUDGE = {"local_identity": "1"}


@pytest.fixture
def before(tmp_path):
    return write_system(tmp_path / "before", VALUES, judges=JUDGE, split="a")


def changed(folder, change):
    """The folder with its facts passed through `change`."""
    path = folder / "scores.parquet"
    table = pq.read_table(path)
    facts = json.loads(table.schema.metadata[FACTS])
    change(facts)
    pq.write_table(table.replace_schema_metadata({FACTS: json.dumps(facts)}), path)
    return folder


def test_nothing_differs_between_equal_runs(tmp_path, before):
    text = why(before, write_system(tmp_path / "after", VALUES, judges=JUDGE, split="a"))

    assert "Nothing that is recorded differs" in text
    assert "| psnr ↑ (dB) |" in text
    assert "+" not in text


@pytest.mark.parametrize(
    ("cause", "line", "change"),
    [
        ("Data", "`split`: a → b", lambda facts: facts.update(split="b")),
        ("Model", "`key of its training`: s → t", lambda facts: facts.update(key="t")),
        ("Code", "`fixtalk/edi.py`: ", lambda facts: facts["provenance"]["code"].update(
            {"fixtalk/edi.py": "new"})),
        ("Parameters", "`train.new`: absent → 7", lambda facts: facts["provenance"]["params"]
            .setdefault("train", {}).update(new=7)),
        ("Environment", "`torch`: ", lambda facts: facts["provenance"]["environment"].update(
            torch="0.1")),
    ],
)  # fmt: skip
def test_each_cause_is_named_with_both_of_its_values(tmp_path, before, cause, line, change):
    values = {**VALUES, "psnr": VALUES["psnr"] + 1}
    after = changed(write_system(tmp_path / "after", values, judges=JUDGE, split="a"), change)

    text = why(before, after)

    assert f"One cause differs, {cause.lower()}" in text
    assert f"## {cause}\n\n- {line}" in text
    row = next(row for row in text.splitlines() if row.startswith("| psnr ↑ (dB) |"))
    assert "| +1.00 [1.00, 1.00] tie (p 0.062; " in row  # 2 metrics · 2 / 2⁶
    assert row.endswith("| 12 | 6 |")


def test_another_judge_is_told_and_its_metric_not_compared(tmp_path, before):
    judges = {"local_identity": "2"}

    text = why(before, write_system(tmp_path / "after", VALUES, judges=judges, split="a"))

    assert "One cause differs, judges and versions of metrics" in text
    assert "- `self.csim_local`: " in text
    assert "| csim_local ↑ |" not in text
    assert "| psnr ↑ (dB) |" in text


def test_other_protocols_do_not_compare_and_several_causes_are_counted(tmp_path, before):
    from dataclasses import replace

    protocol = replace(PROTOCOL, resolution="16x16", inputs="1")

    text = why(before, write_system(tmp_path / "after", VALUES, protocol=protocol, split="a"))

    assert "2 causes at once (data, protocol)" in text
    assert "- `self.resolution`: 8x8 → 16x16" in text
    assert "- `compared clips.self`: 0 → 1" in text
    assert "the numbers do not compare" in text
    assert "| psnr" not in text


def test_fewer_frames_are_told(tmp_path, before):
    text = why(before, write_system(tmp_path / "after", VALUES, judges=JUDGE, split="a", frames=3))

    assert "Means are of 120 true frames before, of 36 after." in text
    assert "Means are of" not in why(before, before)


def test_command_shows_it_and_names_what_is_missing(tmp_path, before):
    shown = CliRunner().invoke(app, ["why", str(before), str(before)])
    missing = CliRunner().invoke(app, ["why", str(before), str(tmp_path / "none")])

    assert shown.exit_code == 0
    assert "Nothing that is recorded differs" in shown.output
    assert missing.exit_code == 1
    assert "run score" in missing.output
