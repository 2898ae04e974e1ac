"""Leaderboard: tables by protocol id, intervals, contact sheet, and rows in MLflow."""

import json

import numpy as np
import pandas as pd
import pytest

from fixtalk.media import write_video
from fixtalk.sheet import read_picture, write_picture
from metrics import METRICS, Protocol
from pipelines.leaderboard import LeaderboardConfig, leaderboard
from pipelines.measure import ClipScores
from pipelines.summary import Totals, write_scores
from pipelines.tracking import _client

CONFIG = LeaderboardConfig(sheet_rows=4)
PEOPLE = ("S000", "S001", "S002")
POSSIBLE = {"self": 3, "cross": 3}
JUDGES = {"identity": {"sha256": "f" * 64, "accuracy": {"verification_auc": 0.987, "people": 8}}}


def protocol(name, inputs):
    return Protocol(
        name=name, resolution="32x32", codec="lossless", detector="mtcnn", inputs=inputs
    )


def clip_scores(psnr, judges):
    """PSNR and what follows from it; no other metric has a value."""
    known = {"psnr": (psnr, None), "ssim": (psnr / 40, None), "leak_pixels": (0.5, None)}
    known["csim_local"] = (psnr / 30, None)
    known["acc_emo_local"] = (float(psnr > 23), 1.0)
    rows = []
    for name, metric in METRICS.items():
        if metric.per != "set":
            value, truth = known.get(name, (None, None))
            reason = None if name in known else "not measured here"
            rows.append({"metric": name, "value": value, "truth": truth, "frames": 5,
                         "left_out": 0, "reason": reason})  # fmt: skip
    features = np.random.default_rng(round(psnr)).normal(psnr, 1, (20, 4))
    sets = {"efficientnet_lite0": (features, features - 1)}
    return ClipScores(rows, sets, {"fid_inception": "no weights"}, judges)


def results(root, system, psnr, shade, ids=("aaa", "bbb"), possible=POSSIBLE, empty=None, sha="1"):
    """A scored folder whose psnr are `psnr`, one a person, and whose generated frames are grey."""
    folder, totals = root / system, {}
    for name, inputs in zip(("self", "cross"), ids, strict=True):
        if name in (empty or {}):
            continue
        totals[name] = Totals()
        for number, person in enumerate(PEOPLE):
            pair = f"{number:03d}-{person}"
            facts = {"system": system, "protocol": name, "pair": pair, "person": person}
            totals[name].add(facts, clip_scores(psnr[number], {"local_identity": sha}))
            tiles = [np.full((32, 32, 3), c, np.uint8) for c in (10, 20 + number, shade, 200)]
            write_picture(folder / "preview" / name / f"{pair}.png", np.hstack(tiles))
        totals[name].protocol = protocol(name, inputs)
        film = folder / "preview" / name / f"000-{PEOPLE[0]}.mp4"
        write_video(film, [np.full((32, 32, 3), shade, np.uint8)] * 3)
    facts = {"system": system, "dataset": "discs", "key": f"key of {system}", "judges": JUDGES}
    write_scores(folder, totals, facts, possible, empty or {})
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
    assert len(floor) == len(trained) == 2 * 3  # protocols and groups of metrics
    assert "| 19.00 [18.00, 20.00] | +0.00 |" in floor[0]
    assert "| **24.00** [22.00, 26.00] | +5.00 |" in trained[0]
    assert "**0.600**" in trained[0]
    assert trained[0].endswith("| 3 | 3 |")
    assert "**0.500**" not in trained[0]
    assert "the work goes on" in caplog.text.lower()


def test_every_missing_metric_is_explained(two_systems, tmp_path, offline):
    leaderboard(CONFIG, two_systems, tmp_path)

    text = (tmp_path / "leaderboard.md").read_text()
    assert not any("csim_facenet" in line for line in lines_of(tmp_path, "| system"))
    assert any(
        "`csim_facenet`" in line and line.endswith("in `self`: not measured here.")
        for line in lines_of(tmp_path, "- No")
    )
    assert "- No `fid_inception` in `cross`: no weights." in text


def test_truth_row_shows_the_ceiling_and_is_never_best(two_systems, tmp_path, offline):
    leaderboard(CONFIG, two_systems, tmp_path)

    truth = lines_of(tmp_path, "| truth")
    assert truth[2] == "| truth | 1.000 | 3 | 3 |"
    assert lines_of(tmp_path, "| edtalk")[2] == "| edtalk | **0.667** | 3 | 3 |"
    assert set(pd.read_csv(tmp_path / "leaderboard.csv").system) == {"copy_source", "edtalk"}


def test_set_distances_carry_their_number_of_frames_and_a_warning(two_systems, tmp_path, offline):
    leaderboard(CONFIG, two_systems, tmp_path)

    assert "fd_efficientnet_lite0@60 ↓" in lines_of(tmp_path, "| system")[0]
    assert any("60 frames; below 2048" in line for line in lines_of(tmp_path, "- In `self`"))


def test_footer_shows_how_good_the_judges_are(two_systems, tmp_path, offline):
    leaderboard(CONFIG, two_systems, tmp_path)

    expected = "- Judge `local_identity` on held-out people: people 8, verification_auc 0.987"
    assert len(lines_of(tmp_path, expected)) == 1


def test_different_protocol_ids_never_share_a_table(tmp_path, offline):
    folders = [
        results(tmp_path, "copy_source", [18.0, 19.0, 20.0], 10),
        results(tmp_path, "edtalk", [22.0, 24.0, 26.0], 100, ids=("ccc", "bbb")),
    ]

    leaderboard(CONFIG, folders, tmp_path)

    headings = lines_of(tmp_path, "## ")
    places = [("self", "aaa"), ("self", "ccc"), ("cross", "bbb")]
    assert headings[:3] == [f"## {n} (protocol {protocol(n, i).id})" for n, i in places]
    assert "Δ" not in lines_of(tmp_path, "| system")[3]
    table = pd.read_csv(tmp_path / "leaderboard.csv").set_index(["system", "protocol"])
    assert np.isnan(table.loc[("edtalk", "self"), "psnr_over_floor"])
    assert table.loc[("edtalk", "cross"), "psnr_over_floor"] == 5.0


def test_numbers_of_different_judges_stand_in_different_columns(tmp_path, offline):
    folders = [
        results(tmp_path, "copy_source", [18.0, 19.0, 20.0], 10),
        results(tmp_path, "edtalk", [22.0, 24.0, 26.0], 100, sha="2"),
    ]

    leaderboard(CONFIG, folders, tmp_path)

    heads = lines_of(tmp_path, "| system")
    assert heads[1].count("csim_local") == 2
    assert heads[0].count("psnr") == 1
    assert "| 0.800 |" in lines_of(tmp_path, "| edtalk")[1]
    assert "**" not in lines_of(tmp_path, "| edtalk")[1]


def test_a_protocol_without_pairs_says_why(tmp_path, offline):
    folder = results(
        tmp_path, "edtalk", [22.0, 24.0, 26.0], 100, empty={"cross": "no shared motion"}
    )

    leaderboard(CONFIG, [folder], tmp_path)

    text = (tmp_path / "leaderboard.md").read_text()
    assert "- No `cross` pairs for `edtalk`: no shared motion." in text
    assert len(lines_of(tmp_path, "| edtalk")) == 3


def test_pairs_left_out_by_max_pairs_are_told(tmp_path, offline):
    possible = {"self": 3, "cross": 180}
    folder = results(tmp_path, "edtalk", [22.0, 24.0, 26.0], 100, possible=possible)

    leaderboard(CONFIG, [folder], tmp_path)

    text = (tmp_path / "leaderboard.md").read_text()
    assert "- `cross` shows 3 of 180 possible pairs, spread over people." in text
    assert "`self` shows" not in text


def test_gain_over_a_floor_without_a_value_is_a_dash(tmp_path, offline):
    folders = [
        results(tmp_path, "copy_source", [18.0, 19.0, 20.0], 10),
        results(tmp_path, "edtalk", [22.0, 24.0, 26.0], 100),
    ]
    numbers = json.loads((folders[0] / "metrics.json").read_text())
    for of_protocol in numbers.values():
        of_protocol |= {"psnr": None, "psnr_low": None, "psnr_high": None}
    (folders[0] / "metrics.json").write_text(json.dumps(numbers))

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
