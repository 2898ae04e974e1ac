"""Leaderboard: tables by protocol id, intervals, contact sheet, and rows in MLflow."""

import json

import numpy as np
import pandas as pd
import pytest

from fixtalk.media import write_video
from fixtalk.sheet import read_picture, write_picture
from metrics import METRICS
from pipelines.files import write_table
from pipelines.leaderboard import LeaderboardConfig, leaderboard, person_interval
from pipelines.score import _write_means
from pipelines.tracking import _client

CONFIG = LeaderboardConfig(sheet_rows=4)
PEOPLE = ("S000", "S001", "S002")
PROTOCOLS = {
    name: {"protocol": name, "resolution": 32, "colour": "rgb", "codec": "lossless",
           "detector": "mtcnn", "detect_every": 5, "aggregation": "frame->pair->mean"}
    for name in ("self", "cross")
}  # fmt: skip


WHOLE = {name: {"pairs": 3, "possible": 3} for name in ("self", "cross")}


def results(root, system, psnr, shade, ids=("aaa", "bbb"), coverage=WHOLE):
    """A scored folder whose psnr are `psnr`, one a person, and whose generated frames are grey."""
    folder = root / system
    rows = []
    for protocol, protocol_id in zip(("self", "cross"), ids, strict=True):
        if not coverage[protocol]["pairs"]:
            continue
        for number, person in enumerate(PEOPLE):
            pair = f"{number:03d}-{person}"
            facts = {"system": system, "protocol": protocol, "protocol_id": protocol_id,
                     "pair": pair, "person": person, "left_out": 0, "frames": 5}  # fmt: skip
            for metric in METRICS:
                value = {"psnr": psnr[number], "ssim": psnr[number] / 40, "leak_pixels": 0.5}
                reason = None if metric in value else "not measured here"
                rows.append({**facts, "metric": metric, "value": value.get(metric),
                             "reason": reason})  # fmt: skip
            tiles = [np.full((32, 32, 3), c, np.uint8) for c in (10, 20 + number, shade, 200)]
            write_picture(folder / "preview" / protocol / f"{pair}.png", np.hstack(tiles))
        film = folder / "preview" / protocol / f"000-{PEOPLE[0]}.mp4"
        write_video(film, [np.full((32, 32, 3), shade, np.uint8)] * 3)
    facts = {"system": system, "dataset": "discs", "key": f"key of {system}",
             "protocols": PROTOCOLS}  # fmt: skip
    write_table(folder / "scores.parquet", rows, facts)
    _write_means(folder / "metrics.json", rows, coverage)
    return folder


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


@pytest.fixture
def two_systems(tmp_path):
    return [
        results(tmp_path, "copy_source", [18.0, 19.0, 20.0], shade=10),
        results(tmp_path, "edtalk", [22.0, 24.0, 26.0], shade=100),
    ]


def lines_of(out, start):
    text = (out / "leaderboard.md").read_text()
    return [line for line in text.splitlines() if line.startswith(start)]


def test_rows_hold_means_the_best_in_bold_and_the_gain_over_the_floor(
    two_systems, tmp_path, offline, caplog
):
    leaderboard(CONFIG, two_systems, tmp_path)

    floor, trained = lines_of(tmp_path, "| copy_source"), lines_of(tmp_path, "| edtalk")
    assert len(floor) == len(trained) == 2
    assert "| 19.00 [18.00, 20.00] | +0.00 |" in floor[0]
    assert "| **24.00** [22.00, 26.00] | +5.00 |" in trained[0]
    assert "**0.600**" in trained[0]
    assert trained[0].endswith("| 3 | 3 |")
    assert "**0.500**" not in trained[0]
    assert "the work goes on" in caplog.text.lower()


def test_every_missing_metric_is_explained(two_systems, tmp_path, offline):
    leaderboard(CONFIG, two_systems, tmp_path)

    text = (tmp_path / "leaderboard.md").read_text()
    assert "csim_facenet" not in lines_of(tmp_path, "| system")[0]
    assert "- No `csim_facenet` in `self`: not measured here." in text


def test_different_protocol_ids_never_share_a_table(tmp_path, offline):
    folders = [
        results(tmp_path, "copy_source", [18.0, 19.0, 20.0], 10),
        results(tmp_path, "edtalk", [22.0, 24.0, 26.0], 100, ids=("ccc", "bbb")),
    ]

    leaderboard(CONFIG, folders, tmp_path)

    headings = lines_of(tmp_path, "## ")
    assert headings[:3] == [
        "## self (protocol aaa)", "## self (protocol ccc)", "## cross (protocol bbb)"
    ]  # fmt: skip
    assert "Δ" not in lines_of(tmp_path, "| system")[1]
    table = pd.read_csv(tmp_path / "leaderboard.csv").set_index(["system", "protocol"])
    assert np.isnan(table.loc[("edtalk", "self"), "psnr_over_floor"])
    assert table.loc[("edtalk", "cross"), "psnr_over_floor"] == 5.0


def test_a_protocol_without_pairs_says_why(tmp_path, offline):
    none = {"pairs": 0, "possible": 0, "reason": "no shared motion"}
    coverage = WHOLE | {"cross": none}
    folder = results(tmp_path, "edtalk", [22.0, 24.0, 26.0], 100, coverage=coverage)

    leaderboard(CONFIG, [folder], tmp_path)

    text = (tmp_path / "leaderboard.md").read_text()
    assert "- No `cross` pairs for `edtalk`: no shared motion." in text
    assert len(lines_of(tmp_path, "| edtalk")) == 1


def test_pairs_left_out_by_max_pairs_are_told(tmp_path, offline):
    coverage = WHOLE | {"cross": {"pairs": 3, "possible": 180}}
    folder = results(tmp_path, "edtalk", [22.0, 24.0, 26.0], 100, coverage=coverage)

    leaderboard(CONFIG, [folder], tmp_path)

    text = (tmp_path / "leaderboard.md").read_text()
    assert "- `cross` shows 3 of 180 possible pairs, spread over people." in text
    assert "`self` shows" not in text


def test_gain_over_a_floor_without_a_value_is_a_dash(tmp_path, offline):
    folders = [
        results(tmp_path, "copy_source", [np.inf] * 3, 10),
        results(tmp_path, "edtalk", [22.0, 24.0, 26.0], 100),
    ]

    leaderboard(CONFIG, folders, tmp_path)

    assert "nan" not in (tmp_path / "leaderboard.md").read_text()
    assert "| 24.00 [22.00, 26.00] | – |" in lines_of(tmp_path, "| edtalk")[0]


def test_contact_sheet_has_a_row_per_person_and_no_copied_source(two_systems, tmp_path, offline):
    leaderboard(CONFIG, two_systems, tmp_path)

    sheet = read_picture(tmp_path / "contact_sheet.png")
    assert sheet.shape[1] == 4 * 128 + 5 * 2
    assert sheet.shape[0] > 3 * 128
    generated = sheet[:, 2 * 130 + 66]
    assert (generated == 100).all(axis=1).sum() == 3 * 128


def test_each_system_is_one_run_with_metrics_table_and_media(two_systems, tmp_path, monkeypatch):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)

    leaderboard(CONFIG, two_systems, tmp_path)
    leaderboard(CONFIG, two_systems, tmp_path)

    client = _client(uri)
    runs = client.search_runs([client.get_experiment_by_name("fixtalk").experiment_id])
    assert {run.info.run_name for run in runs} == {"copy_source", "edtalk"}
    assert len(runs) == 2
    trained = next(run for run in runs if run.info.run_name == "edtalk")
    assert trained.data.metrics["self.psnr"] == 24.0
    assert trained.data.tags["fixtalk.key"] == "key of edtalk"
    assert trained.data.tags["dataset"] == "discs"
    assert trained.info.status == "FINISHED"
    paths = {file.path for file in client.list_artifacts(trained.info.run_id)}
    assert {"leaderboard.json", "contact_sheet.png", "videos"} <= paths
    assert client.list_artifacts(trained.info.run_id, "videos/cross")


def test_unscored_folder_and_repeated_systems_are_named(two_systems, tmp_path):
    (tmp_path / "empty").mkdir()

    with pytest.raises(FileNotFoundError, match=r"empty/metrics\.json: missing; run score"):
        leaderboard(CONFIG, [tmp_path / "empty"], tmp_path)
    with pytest.raises(ValueError, match=r"\['edtalk', 'edtalk'\]"):
        leaderboard(CONFIG, [two_systems[1]] * 2, tmp_path)


def test_interval_draws_people_not_clips():
    alike = pd.DataFrame({"person": ["a"] * 50 + ["b"] * 50, "value": [10.0] * 50 + [20.0] * 50})

    low, high = person_interval(alike)

    assert (low, high) == (10.0, 20.0)
    assert person_interval(alike) == (low, high)


def test_one_person_has_no_interval():
    assert person_interval(pd.DataFrame({"person": ["a", "a"], "value": [1.0, 2.0]})) is None


def test_interval_narrows_with_more_people():
    values = np.random.default_rng(0).normal(25, 1, 64)
    people = pd.DataFrame({"person": [str(n) for n in range(64)], "value": values})

    wide, narrow = person_interval(people[:8]), person_interval(people)

    assert narrow[1] - narrow[0] < wide[1] - wide[0]
    assert narrow[0] < values.mean() < narrow[1]


def test_means_of_the_summary_are_those_of_the_table(two_systems):
    means = json.loads((two_systems[1] / "metrics.json").read_text())

    assert means["self"]["psnr"] == 24.0
    assert means["self"]["psnr_n"] == 3
