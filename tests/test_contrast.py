"""Differences of two scored systems: paired by clip, clustered by person, honest about gaps."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from metrics import kernel_distance
from metrics.statistics import cluster_interval, holm, mcnemar, sign_flip
from pipelines.contrast import contrast, read_scores
from tests.scored_systems import CLIPS, PROTOCOL, spread, write_system

GROUPS = [f"P{n // CLIPS}" for n in range(12)]


@pytest.fixture
def compared(tmp_path):
    """Writes two systems by the values of each and returns their differences by metric."""

    def compare(before, after, effects=None, **options):
        both = options.pop("both", {})
        sides = [
            read_scores(write_system(tmp_path / name, values, **both, **options.get(name, {})))
            for name, values in (("baseline", before), ("current", after))
        ]
        return {d.metric: d for d in contrast(*sides, "self", effects)}

    return compare


def test_differences_are_paired_and_clustered(compared):
    before, after = spread(20.0), spread(20.1, seed=1)

    found = compared({"psnr": before, "ssim": spread(0.9)}, {"psnr": after, "ssim": spread(0.8)})

    psnr, changes = found["psnr"], after - before
    assert list(found) == ["psnr", "ssim"]
    assert psnr.delta == pytest.approx(changes.mean()) == pytest.approx(psnr.mean - psnr.baseline)
    assert (psnr.low, psnr.high) == pytest.approx(cluster_interval(changes, GROUPS))
    assert psnr.p == sign_flip(changes, GROUPS)
    assert (psnr.clips, psnr.people, psnr.missing) == (12, 6, 0)
    adjusted = holm({name: each.p for name, each in found.items()})
    assert {name: each.p_holm for name, each in found.items()} == adjusted


def test_pairing_makes_a_small_shift_certain(compared):
    before = np.linspace(10, 40, 12)

    found = compared({"psnr": before}, {"psnr": before + 0.1 + spread(0.01)})["psnr"]

    assert 0.1 < found.low < found.high < 0.13
    assert found.p == 2 / 2**6


def test_pooled_metrics_weigh_by_frames(compared):
    protocol = replace(PROTOCOL, pooled=("psnr",))

    found = compared({"psnr": [10.0] * 12}, {"psnr": spread(11.0)}, both={"protocol": protocol})

    assert found["psnr"].mean == pytest.approx(spread(11.0).mean())


def test_clips_that_lost_their_value_are_counted(compared):
    after = [None, *spread(20.0)[1:]]

    found = compared({"psnr": spread(20.0)}, {"psnr": after})["psnr"]

    assert (found.clips, found.missing, found.delta) == (11, 1, 0)
    assert compared({"psnr": after}, {"psnr": spread(20.0)})["psnr"].missing == 0


def test_perfect_clips_stay_out_unless_all_are(compared):
    perfect = np.full(12, np.inf)
    mixed = np.where(np.arange(12) < 2, np.inf, 20.0)

    better, worse = (
        compared({"psnr": a}, {"psnr": b})["psnr"]
        for a, b in ((np.full(12, 20.0), mixed), (mixed, np.full(12, 20.0)))
    )
    assert (better.clips, better.missing) == (10, 0)
    assert (worse.clips, worse.missing) == (10, 2)
    same = compared({"psnr": perfect}, {"psnr": perfect})["psnr"]
    assert (same.delta, same.low, same.high, same.p) == (0, 0, 0, 1)
    assert compared({"psnr": perfect}, {"psnr": np.full(12, 20.0)}) == {}


def test_where_zero_is_best_distances_from_it_are_compared(compared):
    before = np.tile([-1.0, 1.0], 6)

    found = compared({"sync_offset_local": before}, {"sync_offset_local": 3 * before})

    offset = found["sync_offset_local"]
    assert (offset.baseline, offset.mean, offset.delta) == (1, 3, 2)


def test_emotions_are_compared_by_mcnemar(compared):
    before, after = np.repeat([1.0, 0.0], 6), np.repeat([1.0, 0.0], [10, 2])

    found = compared({"acc_emo_local": before}, {"acc_emo_local": after})["acc_emo_local"]

    assert found.p == mcnemar(before > 0, after > 0) == 2 / 2**4
    assert found.delta == pytest.approx(4 / 12)


def test_needed_is_about_the_distance_from_what_may_be_lost(compared):
    values = {"psnr": spread(20.0)}, {"psnr": spread(20.0, seed=1)}
    delta = compared(*values)["psnr"].delta

    near, far = (compared(*values, {"psnr": loss - delta})["psnr"] for loss in (0.01, 0.1))

    assert near.needed == pytest.approx(100 * far.needed, rel=0.05)
    assert compared(*values)["psnr"].needed > 2
    assert compared(values[0], values[0])["psnr"].needed is None


def test_changes_that_cancel_but_for_rounding_need_nobody(compared):
    changes = np.repeat([0.1, 0.2, -0.3], 4)
    assert 0 < abs(changes.mean()) < 1e-15

    found = compared({"face_found": np.full(12, 0.5) + changes}, {"face_found": np.full(12, 0.5)})

    assert found["face_found"].needed is None


def test_one_person_has_no_interval(compared):
    found = compared({"psnr": [20.0, 21.0]}, {"psnr": [20.5, 21.5]})["psnr"]

    assert (found.low, found.high, found.needed, found.people) == (None, None, None, 1)


def test_sets_are_compared_with_a_person_deleted_in_turn(compared):
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(12, 5, 6)).astype("float32")
    near, far = (truth + np.float32(0.1) * rng.normal(1, 1, truth.shape).astype("float32") * k
                 for k in (1, 12))  # fmt: skip

    found = compared(
        {"psnr": spread(20.0)}, {"psnr": spread(20.0)},
        baseline={"features": (near, truth)}, current={"features": (far, truth)},
    )["kid_inception"]  # fmt: skip

    flat = [torch.from_numpy(part.reshape(60, 6)) for part in (near, far, truth)]
    assert found.baseline == pytest.approx(kernel_distance(flat[0], flat[2])[0], rel=1e-5)
    assert found.mean == pytest.approx(kernel_distance(flat[1], flat[2])[0], rel=1e-5)
    assert 0 < found.low < found.delta < found.high
    assert found.p < 0.05
    assert (found.clips, found.people, found.missing) == (12, 6, 0)


def test_sets_of_one_person_have_no_interval(compared):
    truth = np.random.default_rng(0).normal(size=(2, 5, 6)).astype("float32")
    sides = {name: {"features": (truth + np.float32(k), truth)}
             for name, k in (("baseline", 0), ("current", 1))}  # fmt: skip

    found = compared({"psnr": [20.0, 21.0]}, {"psnr": [20.0, 21.0]}, **sides)["kid_inception"]

    assert found.delta > 0
    assert (found.low, found.high, found.p, found.needed) == (None, None, 1, None)


def test_other_judge_is_not_compared(compared):
    values = {"psnr": spread(20.0), "csim_local": spread(0.5)}
    judges = [{"judges": {"local_identity": sha}} for sha in "ab"]

    found = compared(values, values, baseline=judges[0], current=judges[1])

    assert list(found) == ["psnr"]


def test_other_protocol_is_refused(compared):
    other = {"protocol": replace(PROTOCOL, inputs="1")}

    with pytest.raises(ValueError, match="only equal ids compare"):
        compared({"psnr": spread(20.0)}, {"psnr": spread(20.0)}, current=other)


@pytest.mark.parametrize("name", ["metrics.json", "scores.parquet", "features.safetensors"])
def test_missing_and_damaged_files_are_named(tmp_path, name):
    features = (np.ones((12, 2, 3), "float32"),) * 2
    folder = write_system(tmp_path / "a", {"psnr": spread(20.0)}, features=features)
    content = (folder / name).read_bytes()

    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=rf"{name}: damaged .*score a again"):
        contrast(*[read_scores(folder)] * 2, "self")
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{name}: missing; run score for a first"):
        contrast(*[read_scores(folder)] * 2, "self")
