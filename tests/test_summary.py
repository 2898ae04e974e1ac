"""Summary: intervals, pooled means, distances of sets, ids, and what the files say."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open

from metrics import METRICS, Protocol, frechet_distance, kernel_distance, wilson_interval
from metrics.catalogue import is_column
from metrics.statistics import cluster_interval
from pipelines.files import FEATURES, read_table
from pipelines.measure import ClipScores
from pipelines.summary import Totals, write_scores

PROTOCOL = Protocol(name="self", resolution="8x8", codec="lossless", detector="none", inputs="0")


def scores(values, frames=5, features=None, judges=None):
    rows = [
        {"metric": name, "value": values.get(name), "truth": None, "frames": frames,
         "left_out": 1, "reason": None if name in values else "no reason to"}
        for name, metric in METRICS.items() if metric.per != "set"
    ]  # fmt: skip
    return ClipScores(rows, features or {}, {"fid_inception": "no weights"}, judges or {})


def totals(*clips, protocol=PROTOCOL):
    total = Totals()
    for number, clip in enumerate(clips):
        total.add({"pair": str(number), "person": f"P{number}", "protocol": "self"}, clip)
    total.protocol = protocol
    return total


def test_every_metric_has_an_interval_over_people_not_clips():
    total = Totals()
    for number in range(12):
        clip = scores({"psnr": 20.0 + number // 6, "cpbd": 0.5})
        total.add({"pair": str(number), "person": f"P{number // 6}", "protocol": "self"}, clip)
    total.protocol = PROTOCOL

    means = total.means()

    low, high = cluster_interval([20.0, 21.0], ["P0", "P1"])
    assert (means["psnr_low"], means["psnr_high"]) == pytest.approx((low, high), abs=1e-6)
    assert (means["cpbd_low"], means["cpbd_high"]) == (0.5, 0.5)


def test_mean_is_over_clips_unless_the_protocol_pools_frames():
    clips = scores({"psnr": 10.0, "cpbd": 0.1}, frames=1), scores({"psnr": 20.0, "cpbd": 0.3}, 9)

    by_clip = totals(*clips).means()
    by_frame = totals(*clips, protocol=replace(PROTOCOL, pooled=("psnr",))).means()

    assert by_clip["psnr"] == 15.0
    assert by_frame["psnr"] == 19.0
    assert by_clip["cpbd"] == by_frame["cpbd"] == 0.2
    assert by_clip["protocol_id"] != by_frame["protocol_id"]


def test_infinite_and_missing_values_stay_out_and_are_counted():
    means = totals(scores({"psnr": torch.inf}), scores({"psnr": 20.0}), scores({})).means()

    assert (means["psnr"], means["psnr_n"], means["psnr_left_out"]) == (20.0, 1, 3)
    assert means["psnr_low"] is None
    assert means["cpbd"] is None
    assert means["reasons"]["cpbd"] == "no reason to"
    assert means["reasons"]["fid_inception"] == "no weights"


def test_clips_that_were_lost_count_without_a_value_and_hide_no_other_reason():
    total = totals(scores({"psnr": 20.0, "acc_emo_local": 1.0}), scores({"ssim": 0.9}),
                   protocol=replace(PROTOCOL, pooled=("psnr",)))  # fmt: skip
    for pair in "xyz":
        total.lose({"pair": pair, "person": "P0", "protocol": "self"}, f"{pair}.mp4 is broken")

    means = total.means()

    assert (means["pairs"], means["people"], means["frames"]) == (5, 2, 10)
    assert (means["psnr"], means["psnr_n"], means["psnr_left_out"]) == (20.0, 1, 2)
    assert means["acc_emo_local_low"] == pytest.approx(wilson_interval(1, 1)[0], abs=1e-6)
    assert means["reasons"]["cpbd"] == "no reason to"
    assert means["warnings"] == [
        "3 of 5 clips without any value, the first x: x.mp4 is broken",
        "ssim, psnr, acc_emo_local: 1 of 5 clips without a value (no reason to)",
    ]


def test_emotion_has_a_wilson_interval():
    means = totals(*(scores({"acc_emo_local": float(n > 0)}) for n in range(10))).means()

    low, high = wilson_interval(9, 10)
    assert means["acc_emo_local"] == 0.9
    assert (means["acc_emo_local_low"], means["acc_emo_local_high"]) == (
        pytest.approx(low, abs=1e-6), pytest.approx(high, abs=1e-6)
    )  # fmt: skip


def test_distances_are_those_of_all_features_together_and_say_how_many():
    rng = np.random.default_rng(0)
    parts = [(rng.normal(1, 1, (40, 6)), rng.normal(0, 2, (40, 6))) for _ in range(5)]
    clips = [scores({}, features={"efficientnet_lite0": part}) for part in parts]

    means = totals(*clips).means()

    fake, real = (torch.from_numpy(np.concatenate(side)) for side in zip(*parts, strict=True))
    assert means["fd_efficientnet_lite0@200"] == pytest.approx(frechet_distance(fake, real))
    assert means["kd_efficientnet_lite0@200"] == pytest.approx(kernel_distance(fake, real)[0])
    assert "fd_infinity_efficientnet_lite0@200" in means
    assert any("200 frames; below 2048" in warning for warning in means["warnings"])


def test_features_are_kept_with_their_frames_and_people(tmp_path):
    rng = np.random.default_rng(0)
    parts = [tuple(rng.normal(size=(2, 3, 6)).astype("float32")) for _ in range(2)]
    total = totals(*(scores({"psnr": 9.0}, features={"inception": part}) for part in parts))

    write_scores(tmp_path, {"self": total}, {"system": "s"}, {"self": 2}, {})

    with safe_open(tmp_path / FEATURES, "np") as file:
        rows = json.loads(file.metadata()["rows"])["self.inception"]
        features = file.get_tensor("self.inception")
    place = rows["names"].index("1@2")
    assert sorted(rows["names"]) == [f"{pair}@{n}" for pair in range(2) for n in range(3)]
    assert rows["people"] == [f"P{name[0]}" for name in rows["names"]]
    assert features[place].tolist() == [*parts[1][0][2], *parts[1][1][2]]


def test_too_few_features_have_no_distance_but_a_warning():
    one = {"efficientnet_lite0": (np.zeros((1, 6)), np.ones((1, 6)))}

    means = totals(scores({}, features=one)).means()

    assert not any("@" in name for name in means)
    assert any("fd_efficientnet_lite0" in warning for warning in means["warnings"])


def test_id_of_a_number_follows_its_judge_and_no_other():
    ids = [
        totals(scores({"psnr": 1.0, "csim_local": 0.5}, judges={"local_identity": sha})).means()
        for sha in ("1", "2")
    ]

    assert ids[0]["ids"]["csim_local"] != ids[1]["ids"]["csim_local"]
    assert ids[0]["ids"]["psnr"] == ids[1]["ids"]["psnr"]
    assert ids[0]["protocol_id"] == ids[1]["protocol_id"]


def test_files_hold_every_number_and_its_id(tmp_path):
    total = totals(scores({"psnr": 10.0}), scores({"psnr": 20.0}))

    write_scores(
        tmp_path, {"self": total}, {"system": "s"}, {"self": 4, "cross": 0}, {"cross": "no"}
    )

    table, facts = read_table(tmp_path / "scores.parquet")
    means = json.loads((tmp_path / "metrics.json").read_text())
    assert set(table.number_id[table.metric == "psnr"]) == {means["self"]["ids"]["psnr"]}
    assert table.number_id.nunique() == table.metric.nunique()
    assert facts["protocols"]["self"]["resolution"] == "8x8"
    assert means["self"]["possible"] == 4
    assert means["cross"] == {"pairs": 0, "reason": "no", "possible": 0}


def test_only_values_count_as_values():
    names = ["psnr", "psnr_low", "psnr_n", "fd_efficientnet_lite0@12", "ids",
             "kd_efficientnet_lite0@12_std", "pairs"]  # fmt: skip

    assert list(filter(is_column, names)) == ["psnr", "fd_efficientnet_lite0@12"]
