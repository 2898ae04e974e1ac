"""Leaderboard: tables by protocol id, intervals, contact sheet, and rows in MLflow."""

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from fixtalk.media import write_video
from fixtalk.sheet import read_picture, write_picture
from metrics import METRICS, Protocol
from pipelines.contrast import read_scores
from pipelines.leaderboard import LeaderboardConfig, _rows, leaderboard
from pipelines.measure import ClipScores
from pipelines.page import page
from pipelines.speed import summarise
from pipelines.summary import Totals, write_scores
from pipelines.tracking import _client
from tests.scored_systems import PROTOCOL, spread, write_system

CONFIG = LeaderboardConfig(sheet_rows=4, against="edtalk", imported=[])
PEOPLE = ("S000", "S001", "S002")
POSSIBLE = {"self": 3, "cross": 3}
MANY = [f"S{number:03d}" for number in range(12)]  # enough to tell systems apart
SPLIT = "0123456789abcdef"
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


def results(root, system, psnr, shade, ids=("aaa", "bbb"), possible=POSSIBLE, empty=None, sha="1",
            people=PEOPLE):  # fmt: skip
    """A scored folder whose psnr are `psnr`, one a person, and whose generated frames are grey."""
    folder, totals = root / system, {}
    for name, inputs in zip(("self", "cross"), ids, strict=True):
        if name in (empty or {}):
            continue
        totals[name] = Totals()
        for number, person in enumerate(people):
            pair = f"{number:03d}-{person}"
            facts = {"system": system, "protocol": name, "pair": pair, "person": person,
                     "yaw": 20.0 * number, "expression": float(number)}  # fmt: skip
            totals[name].add(facts, clip_scores(psnr[number], {"local_identity": sha}))
            tiles = [np.full((32, 32, 3), c, np.uint8) for c in (10, 20 + number, shade, 200)]
            write_picture(folder / "preview" / name / f"{pair}.png", np.hstack(tiles))
        totals[name].protocol = protocol(name, inputs)
        film = folder / "preview" / name / f"000-{people[0]}.mp4"
        write_video(film, [np.full((32, 32, 3), shade, np.uint8)] * 3)
    facts = {"system": system, "dataset": "discs", "key": f"key of {system}", "judges": JUDGES,
             "split": SPLIT}  # fmt: skip
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


def test_rows_hold_means_intervals_and_the_gain_over_the_floor_ties_are_alike(
    two_systems, tmp_path, offline, caplog
):
    leaderboard(CONFIG, two_systems, tmp_path)

    floor, trained = lines_of(tmp_path, "| copy_source"), lines_of(tmp_path, "| edtalk")
    assert floor[0].startswith("| copy_source | 19.00 ≈ [")
    assert "| +0.00 |" in floor[0]
    assert trained[0].startswith("| edtalk | 24.00 ≈ [")
    assert "| +5.00 |" in trained[0]
    assert trained[0].endswith("| 100 % | 3 | 3 |")
    assert "the work goes on" in caplog.text.lower()


@pytest.fixture
def many_people(tmp_path):
    """Three systems and twelve people: one far above the floor, and one that is hardly better."""
    rises = np.linspace(-1, 1, 12)
    nearly = 24 + rises + np.where(np.arange(12) % 2, 0.3, -0.25)
    return [
        results(tmp_path, "copy_source", 19 + rises, shade=10, people=MANY),
        results(tmp_path, "edtalk", 24 + rises, shade=100, people=MANY),
        results(tmp_path, "emi", nearly, shade=120, people=MANY),
    ]


def test_bold_only_where_the_best_is_told_from_all_others(many_people, tmp_path, offline):
    leaderboard(CONFIG, many_people, tmp_path)
    tied = [lines_of(tmp_path, f"| {name} |")[0].split(" | ")[1] for name in ("edtalk", "emi")]
    leaderboard(CONFIG, many_people[:2], tmp_path)
    alone = lines_of(tmp_path, "| edtalk |")[0].split(" | ")[1]

    assert all("≈" in cell and "**" not in cell for cell in tied)
    assert alone.startswith("**24.00** [")
    assert "≈" not in lines_of(tmp_path, "| copy_source |")[0].split(" | ")[1]


def test_differences_from_the_chosen_row_have_interval_p_and_verdict(
    many_people, tmp_path, offline
):
    leaderboard(CONFIG, many_people, tmp_path)

    assert lines_of(tmp_path, "### Against")[0] == "### Against `edtalk`, clip by clip"
    psnr = lines_of(tmp_path, "| psnr ↑ (dB) |")[0].strip("| ").split(" | ")
    assert psnr[1] == "-5.00 [-5.00, -5.00] **worse** (p 0.002)"  # 4 metrics · 2 / 2¹²
    match = re.fullmatch(r"\+0\.03 \[-0\.\d+, 0\.\d+\] tie \(p 1; (\d+) people decide\)", psnr[2])
    assert int(match[1]) > 1000
    assert psnr[3:] == ["12", "12"]
    leak = lines_of(tmp_path, "| leak_pixels →0 |")[0].strip("| ").split(" | ")
    assert leak[1] == "0.000 [0.000, 0.000] tie (p 1)"


def test_row_to_compare_with_must_be_there(two_systems, tmp_path):
    config = CONFIG.model_copy(update={"against": "emi"})

    with pytest.raises(ValueError, match=r"leaderboard\.against: 'emi' is none of"):
        leaderboard(config, two_systems, tmp_path)


def test_slices_hold_the_clips_of_their_yaw_and_third(many_people, tmp_path, offline):
    leaderboard(CONFIG, many_people, tmp_path)

    counts = lines_of(tmp_path, "| clips / people |")
    assert counts[0].startswith("| clips / people | 1 / 1 | 1 / 1 | 10 / 10 |")
    assert counts[1].startswith("| clips / people | 4 / 4 | 4 / 4 | 4 / 4 |")
    of_yaw = next(row for row in lines_of(tmp_path, "| copy_source |") if "| 18.00 |" in row)
    assert of_yaw.startswith("| copy_source | 18.00 | 18.18 | 19.18 [")


def test_speed_has_a_table_of_its_own(two_systems, tmp_path, offline):
    stopped = {
        "frames": 8,
        "seconds": 0.5,
        "laps": [(8, 0.25)],
        "memory": 2**20,
        "device": "Abacus",
    }
    speed = summarise([stopped], batch=8)
    (two_systems[1] / "speed.json").write_text(json.dumps(speed))

    leaderboard(CONFIG, two_systems, tmp_path)

    row = "| edtalk | Abacus | 32 | 16 | 250 | 250 | 1 | 8 | 1 |"
    assert lines_of(tmp_path, "| edtalk | Abacus") == [row]
    assert len(lines_of(tmp_path, "## Speed")) == 1


def test_published_rows_stand_apart(two_systems, tmp_path, offline):
    leaderboard(CONFIG, two_systems, tmp_path)

    text = (tmp_path / "leaderboard.md").read_text()
    measured, published = text.split("## Published, other protocol: not comparable")
    assert "LivePortrait" not in measured
    assert "| LivePortrait | 27.054 |" in published
    assert "LivePortrait" not in (tmp_path / "leaderboard.csv").read_text()


def test_imported_system_of_another_protocol_has_its_own_table(two_systems, tmp_path, offline):
    total = Totals()
    about = {"system": "theirs", "protocol": "full", "pair": "a", "person": "a"}
    total.add(about, clip_scores(21.0, {}))
    total.protocol = replace(protocol("full", "ddd"), codec="h264")
    folder = tmp_path / "theirs"
    folder.mkdir()
    facts = {"system": "theirs", "dataset": "real", "key": "theirs", "judges": {}}
    write_scores(folder, {"full": total}, facts, {"full": 2}, {})
    config = CONFIG.model_copy(update={"imported": [str(folder)]})

    leaderboard(config, two_systems, tmp_path)

    assert f"## full (protocol {total.protocol.id})" in lines_of(tmp_path, "## ")
    rows = pd.read_csv(tmp_path / "leaderboard.csv").set_index("system")
    assert (rows.loc[["copy_source", "edtalk"], "split"] == SPLIT).all()
    assert pd.isna(rows.at["theirs", "split"])
    assert [line.partition(":")[0] for line in lines_of(tmp_path, "- Split")] == [
        f"- Split `{SPLIT}`, of `copy_source`, `edtalk`"
    ]
    assert [row.count("| 21.00 |") for row in lines_of(tmp_path, "| theirs |")] == [1, 0]
    assert "- `full` shows 1 of 2 possible pairs, spread over people." in lines_of(tmp_path, "- `f")


def test_frames_that_a_system_did_not_make_lower_its_coverage_and_are_told(
    two_systems, tmp_path, offline
):
    imported = []
    for name, covered in (("whole", (1.0, 1.0)), ("short", (0.14, 1.0))):
        total = Totals()
        for pair, share in zip("ab", covered, strict=True):
            about = {"system": name, "protocol": "full", "pair": pair, "person": pair}
            total.add({**about, "covered": share}, clip_scores(21.0, {}))
        total.protocol = protocol("full", "ddd")
        total.cautions += ["each clip counts", *(["5 of 8 frames"] if name == "short" else [])]
        imported.append(str(tmp_path / name))
        (tmp_path / name).mkdir()
        facts = {"system": name, "dataset": "real", "key": name, "judges": {}}
        write_scores(tmp_path / name, {"full": total}, facts, {"full": 2}, {})

    leaderboard(CONFIG.model_copy(update={"imported": imported}), two_systems, tmp_path)

    assert lines_of(tmp_path, "| whole |")[0].endswith("| 100 % | 2 | 2 |")
    assert lines_of(tmp_path, "| short |")[0].endswith("| 57 % | 2 | 2 |")
    assert lines_of(tmp_path, "| edtalk |")[0].endswith("| 100 % | 3 | 3 |")
    notes = lines_of(tmp_path, "- In `full`")
    assert "- In `full`, of `short`: 5 of 8 frames." in notes
    assert "- In `full`: each clip counts." in notes
    assert "short: 5 of 8 frames." in (tmp_path / "report" / "index.html").read_text()


def test_frames_are_called_identical_only_where_no_other_lacks_a_psnr(tmp_path):
    systems = [
        read_scores(write_system(tmp_path / name, {"psnr": spread(20.0)}, name=name, left_out=1,
                                 protocol=replace(PROTOCOL, name=name, crop=crop)))
        for name, crop in (("full", "none"), ("eat128", "eat128"))
    ]  # fmt: skip
    rows = pd.DataFrame([row for system in systems for row in _rows(system)])

    text = page(systems, rows.assign(psnr_over_floor=np.nan), {}, "none")

    note = "`psnr` of `{0}` in `{0}` leaves out 12 frames"
    assert f"- {note.format('full')} identical to the truth." in text
    assert f"- {note.format('eat128')} that lack it." in text


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
    assert truth[0].endswith("| 1.000 | – | 3 | 3 |")
    assert "≈" not in truth[0]
    assert "**" not in truth[0]
    assert set(pd.read_csv(tmp_path / "leaderboard.csv").system) == {"copy_source", "edtalk"}


def test_set_distances_carry_their_number_of_frames_and_a_warning(two_systems, tmp_path, offline):
    leaderboard(CONFIG, two_systems, tmp_path)

    assert "fd_efficientnet_lite0@60 ↓" in lines_of(tmp_path, "| system")[0]
    assert "kd_efficientnet_lite0@60 ↓" in lines_of(tmp_path, "| system")[1]
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
    assert heads[0].count("csim_local") == 2
    assert heads[0].count("psnr") == 1
    columns = [n for n, head in enumerate(heads[0].split(" | ")) if "csim_local" in head]
    cells = [lines_of(tmp_path, "| edtalk")[0].split(" | ")[column] for column in columns]
    assert cells[0] == "–"
    assert cells[1].startswith("0.800 [")


def test_a_protocol_without_pairs_says_why(tmp_path, offline):
    folder = results(
        tmp_path, "edtalk", [22.0, 24.0, 26.0], 100, empty={"cross": "no shared motion"}
    )

    leaderboard(CONFIG, [folder], tmp_path)

    text = (tmp_path / "leaderboard.md").read_text()
    assert "- No `cross` pairs for `edtalk`: no shared motion." in text
    assert len([row for row in lines_of(tmp_path, "## ") if "(protocol " in row]) == 1


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
    assert re.search(r"\| 24\.00 \[\S+ \S+\] \| – \|", lines_of(tmp_path, "| edtalk")[0])


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
    assert trained.data.metrics["self.psnr_lo"] < 24.0 < trained.data.metrics["self.psnr_hi"]
    assert trained.data.metrics["self.psnr_n"] == 3
    assert trained.data.tags["protocol_id.self"] == protocol("self", "aaa").id
    assert "| psnr ↑ (dB) | 24.00 | [" in trained.data.tags["mlflow.note.content"]
    assert {"git_sha", "dirty"} <= set(trained.data.tags)
    assert trained.data.tags["split"] == SPLIT
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
