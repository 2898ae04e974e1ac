"""Gate: what it lets pass, what it blocks and why, by hand and on clips that were really harmed."""

import json
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.config import load_config
from pipelines.gate import GateConfig, gate
from tests.conftest import ROOT
from tests.scored_systems import PROTOCOL, spread, write_system

CONFIG = load_config(GateConfig, "gate", ROOT / "params.yaml")
VALUES = {"psnr": spread(25.0), "ssim": spread(0.8, seed=1), "csim_local": spread(0.6, seed=2)}


@pytest.fixture
def judged(tmp_path):
    """Writes a baseline and a current system, and gates them."""

    def judge(values=VALUES, baseline=VALUES, config=CONFIG, before=None, **after):
        write_system(tmp_path / "before", baseline, **(before or {}))
        write_system(tmp_path / "after", values, **after)
        return gate(config, tmp_path / "before", tmp_path / "after")

    return judge


def states(verdict):
    return {row.metric: row.state for row in verdict.rows}


def moved(metric, change):
    """The values with one metric moved alike in all clips."""
    return VALUES | {metric: VALUES[metric] + change}


def test_equal_values_pass_with_an_interval_of_no_width(judged):
    verdict = judged()

    assert verdict.state == "PASS"
    assert set(states(verdict)) == set(VALUES)
    assert all(row.difference.low == row.difference.high == 0 for row in verdict.rows)


def test_equal_values_of_one_person_pass(judged):
    one = {"psnr": [20.0, 21.0]}

    assert judged(one, one).state == "PASS"
    assert judged({"psnr": [19.9, 20.9]}, one).state == "INCONCLUSIVE"


@pytest.mark.parametrize(("change", "state"), [(-0.1, "PASS"), (-0.16, "FAIL"), (5.0, "PASS")])
def test_a_loss_up_to_the_margin_passes(judged, change, state):
    verdict = judged(moved("psnr", change))

    assert verdict.state == states(verdict)["psnr"] == state
    assert states(verdict)["ssim"] == "PASS"


def test_lower_is_better_is_turned_round(judged):
    lmd = {"m_lmd_local": spread(2.0)}

    assert judged({"m_lmd_local": lmd["m_lmd_local"] * 1.03}, lmd).state == "FAIL"
    assert judged({"m_lmd_local": lmd["m_lmd_local"] * 1.01}, lmd).state == "PASS"
    assert judged({"m_lmd_local": lmd["m_lmd_local"] * 0.5}, lmd).state == "PASS"


def test_where_zero_is_best_both_signs_are_worse(judged):
    near = {"sync_offset_local": [0.0] * 12}

    for late in (-3.0, 3.0):
        assert judged({"sync_offset_local": [late] * 12}, near).state == "FAIL"
    assert judged(near, {"sync_offset_local": [-3.0] * 12}).state == "PASS"


def test_doubt_is_inconclusive_and_says_how_many_people_would_decide(judged):
    verdict = judged(VALUES | {"psnr": VALUES["psnr"] + np.resize([-1.5, -1.5, 1, 1], 12)})

    (row,) = [row for row in verdict.rows if row.metric == "psnr"]
    assert verdict.state == row.state == "INCONCLUSIVE"
    assert row.note == f"about {row.difference.needed} people would decide"
    assert row.difference.needed > 100


def test_certain_loss_with_a_wide_interval_fails_by_p(judged):
    people = 12
    before = {"psnr": spread(25.0, people=people)}
    losses = np.repeat([0.02, *[0.16] * 10, 1.5], 2)

    verdict = judged({"psnr": before["psnr"] - losses}, before)

    (row,) = verdict.rows
    assert row.difference.high > -0.15
    assert row.difference.p_holm < 0.05
    assert verdict.state == "FAIL"


def test_margin_is_at_least_twice_the_deviation_of_reruns(judged):
    noisy = CONFIG.model_copy(update={"rerun_sigma": {"psnr": 0.2}})

    assert judged(moved("psnr", -0.3)).state == "FAIL"
    assert judged(moved("psnr", -0.3), config=noisy).state == "PASS"


def test_soft_metrics_warn_and_monitored_ones_are_only_shown(judged):
    more = VALUES | {"sync_conf_local": spread(3.0), "cpbd": spread(0.4)}

    soft = judged(more | {"sync_conf_local": spread(2.0)}, more)
    monitor = judged(more | {"cpbd": spread(0.1)}, more)

    assert (soft.state, states(soft)["sync_conf_local"]) == ("INCONCLUSIVE", "FAIL")
    assert (monitor.state, states(monitor)["cpbd"]) == ("PASS", "FAIL")


def test_kernel_distance_is_gated_and_frechet_distance_is_not(judged):
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(12, 5, 6)).astype("float32")

    verdict = judged(before={"features": (truth + np.float32(0.1), truth)},
                     features=(truth + np.float32(1), truth))  # fmt: skip

    assert [(row.metric, row.state) for row in verdict.rows if "inception" in row.metric] == [
        ("kid_inception", "FAIL")
    ]


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"split": "2"}, "split is 2, the baseline's 1"),
        ({"protocol": replace(PROTOCOL, max_shift=7)}, "max_shift 7 (baseline 15)"),
        ({"protocol": replace(PROTOCOL, name="cross")}, "self: no pairs, the baseline has 12"),
        ({"frames": 9}, "108 frames compared, 120 in the baseline: 10.0% lost"),
    ],
)
def test_what_does_not_compare_fails_with_the_reason(judged, facts, said):
    verdict = judged(before={"split": "1"}, **{"split": "1", **facts})

    assert verdict.state == "FAIL"
    assert said in verdict.text


def test_frames_that_show_no_face_any_more_are_lost(judged):
    cropped = replace(PROTOCOL, crop="eat128")

    verdict = judged(before={"protocol": cropped, "frames": 10},
                     protocol=cropped, frames=6, left_out=4)  # fmt: skip

    assert verdict.state == "FAIL"
    assert "72 frames compared, 120 in the baseline: 40.0% lost, most of 0;" in verdict.text


def test_other_device_fails(judged, monkeypatch, tmp_path):
    write_system(tmp_path / "before", VALUES)
    gpu = {"environment": {"device": "Some GPU"}}
    monkeypatch.setattr("tests.scored_systems.circumstances", lambda params: gpu)
    write_system(tmp_path / "after", VALUES)

    verdict = gate(CONFIG, tmp_path / "before", tmp_path / "after")

    assert verdict.state == "FAIL"
    assert "device is gpu, the baseline's cpu" in verdict.text


def test_changed_judge_fails_with_the_reason(judged):
    verdict = judged(before={"judges": {"local_identity": "a"}}, judges={"local_identity": "b"})

    assert states(verdict) == {"psnr": "PASS", "ssim": "PASS", "csim_local": "FAIL"}
    assert "its judge or version changed" in verdict.text


def test_lost_values_fail_by_coverage(judged):
    verdict = judged(VALUES | {"csim_local": [None, *VALUES["csim_local"][1:]]})

    assert states(verdict)["csim_local"] == verdict.state == "FAIL"
    assert "1 of 12 clips lost their value, 98% must keep it" in verdict.text
    gone = judged({"psnr": VALUES["psnr"], "ssim": VALUES["ssim"]})
    assert gone.state == "FAIL"
    assert "no value: no value here" in gone.text


def test_nan_fails(judged):
    verdict = judged(VALUES | {"ssim": [np.nan, *VALUES["ssim"][1:]]})

    assert states(verdict)["ssim"] == verdict.state == "FAIL"
    assert "NaN in 1 clips, first 0" in verdict.text


def test_metrics_without_a_margin_alone_are_refused(judged):
    with pytest.raises(ValueError, match="nothing to gate"):
        judged({"leak_pixels": spread(0.1)}, {"leak_pixels": spread(0.1)},
               CONFIG.model_copy(update={"margins": {}}))  # fmt: skip


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Runs `fixtalk gate` on two folders; the exit status and what it said."""
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)

    def run(*arguments):
        done = CliRunner().invoke(app, ["gate", *map(str, arguments)])
        return done.exit_code, done.output

    return run


def test_exit_status_tells_the_verdict(command, tmp_path):
    base = write_system(tmp_path / "base", VALUES)
    worse = write_system(tmp_path / "worse", moved("psnr", -1))
    unsure = VALUES | {"psnr": VALUES["psnr"] + np.resize([-1.5, -1.5, 1, 1], 12)}

    assert command(base, base)[0] == 0
    assert command(base, worse)[0] == 1
    assert command(base, write_system(tmp_path / "unsure", unsure))[0] == 3
    assert command(base)[0] == 2


def test_verdict_goes_to_a_file_and_to_the_job_summary(command, tmp_path, monkeypatch):
    base = write_system(tmp_path / "base", VALUES)
    (tmp_path / "summary.md").write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))

    command(base, write_system(tmp_path / "worse", moved("psnr", -1)), "--out", tmp_path / "v.md")

    text = (tmp_path / "v.md").read_text()
    assert text.startswith("## Gate: FAIL")
    assert "FAIL worse by 1.00" in text
    assert (tmp_path / "summary.md").read_text() == f"before\n{text}"


def test_unreadable_folders_are_named(command, tmp_path):
    base = write_system(tmp_path / "base", VALUES)
    torn = write_system(tmp_path / "torn", VALUES)
    text = (torn / "metrics.json").read_text()
    (torn / "metrics.json").write_text(text[: len(text) // 2])

    status, said = command(base, tmp_path / "none")
    assert status == 2
    assert "none/metrics.json: missing; run score for none first" in said
    status, said = command(base, torn)
    assert status == 2
    assert "torn/metrics.json: damaged" in said


def test_margin_is_absolute_or_relative(tmp_path):
    (tmp_path / "params.yaml").write_text(json.dumps({"gate": {
        "coverage": 0.9, "coverage_drop": 0.0, "rerun_sigma": {},
        "margins": {"psnr": {"tier": "hard", "absolute": 1.0, "relative": 0.1}},
    }}))  # fmt: skip

    with pytest.raises(ValueError, match=r"gate.margins.psnr: .*either absolute or relative"):
        load_config(GateConfig, "gate", tmp_path / "params.yaml")


@pytest.mark.parametrize("name", ["metrics", "model"])
def test_committed_baseline_passes_against_itself_and_gates_what_it_says(name):
    scores = ROOT / "baselines" / name / "scores"

    verdict = gate(CONFIG, scores, scores)

    hard = {row.metric for row in verdict.rows if row.tier == "hard"}
    assert verdict.state == "PASS"
    assert hard >= {"psnr", "ssim", "kd_efficientnet_lite0"}
    sizes = {path: path.stat().st_size for path in scores.parent.rglob("*") if path.is_file()}
    assert all(size <= 2**20 for size in sizes.values()), sizes


def test_other_name_of_the_same_clips_compares(judged):
    assert judged(before={"dataset": "d"}, dataset="e").state == "PASS"
