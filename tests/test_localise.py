"""Localise: which frames are paired, what probes read, what is decided, and what is written."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save

from fixtalk.checkpoint import save_checkpoint
from fixtalk.dataset import clip_schema, read_clips, to_blob
from fixtalk.media import encode_video
from fixtalk.model import FixTalk
from fixtalk.synthetic.head import __file__ as head_code
from metrics.local import LocalEmotion, LocalIdentity, LocalLandmarks, LocalSync
from pipelines.leak_pairs import NEAR, draw_pairs, hash_pairs
from pipelines.localise import LocaliseConfig, localise
from pipelines.probes import EXPRESSIONS, JAW_OPEN, Reading, motion_labels, probe_layers, read
from pipelines.verdict import MEASURES, decide, draw_people, interval
from tests.conftest import TINY, TINY_FIXTALK
from tests.discs import write_clips
from tests.drawn_faces import flat_face

CONFIG = LocaliseConfig(dataset="drawn", pairs=6, seed=4, resamples=20)
FRAMES = 12
JUDGES = {"identity": LocalIdentity, "landmarks": LocalLandmarks,
          "emotion": LocalEmotion, "sync": LocalSync}  # fmt: skip


def drawn_row(person, motion, number):
    chance = np.random.default_rng(number)
    pictures = [flat_face(60 + 50 * person, 0.4 + 0.1 * number, n % 6) for n in range(FRAMES)]
    return dict.fromkeys(clip_schema().names) | {
        "clip": f"{motion}/S{person}", "person": f"S{person}", "split": "test", "motion": motion,
        "frames": FRAMES, "video": encode_video(pictures, crf=0, gop=5), "audio": b"",
        "box": [0.0, 0.0, 64.0], "source_fps": 25.0, "face_probability": 1.0,
        "pose": to_blob(chance.normal(0, 0.1, (FRAMES, 6))),
        "arkit": to_blob(chance.uniform(0, 0.3, (FRAMES, 52))),
    }  # fmt: skip


def rows_of(folder, motions):
    """Clips of two people in a folder; `motions` tells the name of each person's n-th motion."""
    rows = [drawn_row(p, motions(p, n), n) for p in range(2) for n in range(3)]
    return read_clips(write_clips(folder, rows), "test")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Clips of drawn people, untrained judges, and two untrained models."""
    root = tmp_path_factory.mktemp("localise")
    rows_of(root / "clips", lambda person, number: f"m{number}")
    torch.manual_seed(3)
    save_checkpoint(FixTalk(TINY), root / "base", {})
    save_checkpoint(FixTalk(TINY_FIXTALK), root / "fixtalk", {})
    (root / "judges").mkdir()
    facts = {}
    for name, judge in JUDGES.items():
        content = save(judge.network_class().state_dict())
        (root / "judges" / f"{name}.safetensors").write_bytes(content)
        facts[name] = {"sha256": hashlib.sha256(content).hexdigest(), "accuracy": {"known": 1}}
    (root / "judges" / "judges.json").write_text(json.dumps({"dataset": "drawn", "judges": facts}))
    return root


@pytest.fixture(scope="module")
def out(folders):
    return run(folders, folders / "results")


def run(folders, out, config=CONFIG):
    inputs = (folders / name for name in ("clips", "judges", "base", "fixtalk"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folders}/mlflow.db")
        localise(config, *inputs, out)
    return out


def report_of(out):
    return json.loads((out / "localise.json").read_text())


def test_every_variant_has_a_row_for_every_layer(out):
    report = report_of(out)

    layers = {}
    for row in report["rows"]:
        layers.setdefault((row["model"], row["variant"]), []).append(row["layer"])
    assert layers == {
        ("base", "none"): [0],
        ("base", "A"): [64, 32, 16, 8],
        ("base", "A_rest"): [64, 32, 16, 8],
        ("base", "B"): [64, 32, 16, 8, 4],
        ("base", "D"): list(range(16)),
        ("base", "C"): ["64", "32", "16", "8", "4", "W", "alpha"],
        ("fixtalk", "none"): [0],
        ("fixtalk", "C"): ["64", "32", "16", "8", "4", "W", "z", "alpha"],
    }
    assert report["configured"] == 8
    assert report["chosen"] in (64, 32, 16, 8)
    assert report["control"] == "truth"
    assert report["pairs"] == {"cross": 6, "self": 6}
    assert report["judges"]["local_identity"]["accuracy"] == {"known": 1}


def test_every_interval_is_finite_and_in_order(out):
    rows = report_of(out)["rows"]

    intervals = [value for row in rows for value in row.values() if isinstance(value, list)]
    assert np.isfinite(intervals).all()
    assert all(low <= high for _, low, high in intervals)
    assert {"psnr_self" in row for row in rows if row["variant"] == "A"} == {True}


def test_the_figure_is_a_picture_of_its_size(out):
    with Image.open(out / "localise.png") as picture:
        assert picture.size == (1300, 800)
        assert len(set(picture.convert("L").resize((130, 80)).getdata())) > 20
    assert sorted(path.name for path in out.iterdir()) == ["localise.json", "localise.png"]


def test_equal_inputs_give_equal_reports_and_another_seed_other_pairs(folders, out, tmp_path):
    again = report_of(run(folders, tmp_path / "again"))
    rows = read_clips(folders / "clips", "test")
    same, other = (hash_pairs(draw_pairs(rows, CONFIG.pairs, seed)[0]) for seed in (CONFIG.seed, 5))

    assert again | {"seconds": 0} == report_of(out) | {"seconds": 0}
    assert again["sha256"]["pairs"] == same != other


def test_judges_of_other_people_are_not_asked(folders, tmp_path):
    config = CONFIG.model_copy(update={"dataset": "hdtf"})

    with pytest.raises(ValueError, match=r"'hdtf'.*know only people of 'drawn'"):
        run(folders, tmp_path, config)


def test_cross_pairs_name_the_source_person_in_the_drivers_frame_as_truth(tmp_path):
    rows = rows_of(tmp_path, lambda person, number: f"m{number}")

    pairs, control = draw_pairs(rows, 1000, seed=0)

    cross = [pair for pair in pairs if pair.kind == "cross"]
    assert control == "truth"
    assert len(cross) == 2 * 3 * FRAMES
    for pair in cross:
        (motion, person), frame = pair.driver[0].split("/"), pair.driver[1]
        assert pair.reference == (f"{motion}/{pair.person}", frame)
        assert person != pair.person
        assert pair.source[0].endswith(pair.person)
        assert not pair.source[0].startswith(motion)


def test_self_pairs_lie_half_a_clip_apart(tmp_path):
    rows = rows_of(tmp_path, lambda person, number: f"m{number}")

    pairs, _ = draw_pairs(rows, 1000, seed=0)

    own = [pair for pair in pairs if pair.kind == "self"]
    assert len(own) == 6 * FRAMES // 2
    assert all(pair.driver[1] - pair.source[1] >= FRAMES / 2 for pair in own)
    assert all(pair.driver == pair.reference for pair in own)
    assert all(pair.driver[0] == pair.source[0] for pair in own)


def test_without_a_shared_motion_pairs_match_in_pose_and_mouth_and_the_source_is_the_control(
    tmp_path,
):
    rows = rows_of(tmp_path, lambda person, number: f"p{person}m{number}")
    labels = {row["clip"]: motion_labels(row) for row in rows}

    pairs, control = draw_pairs(rows, 1000, seed=0)

    cross = [pair for pair in pairs if pair.kind == "cross"]
    assert control == "source"
    assert cross
    for pair in cross:
        difference = labels[pair.driver[0]][pair.driver[1]] - labels[pair.source[0]][0]
        assert (abs(difference[:4]) <= NEAR).all()
        assert pair.reference == pair.source
        assert not pair.driver[0].endswith(pair.person)


def test_a_draw_is_a_part_of_all_pairs_and_depends_on_the_seed_alone(tmp_path):
    rows = rows_of(tmp_path, lambda person, number: f"m{number}")
    everything, _ = draw_pairs(rows, 1000, seed=0)

    few, again, other = (draw_pairs(rows, 5, seed)[0] for seed in (1, 1, 2))

    assert len(few) == 10
    assert set(few) <= set(everything)
    assert hash_pairs(few) == hash_pairs(again) != hash_pairs(other)


def test_one_person_gives_no_cross_pair(tmp_path):
    rows = [row for row in rows_of(tmp_path, lambda p, n: f"m{n}") if row["person"] == "S0"]

    with pytest.raises(ValueError, match="no cross pair among 3 test clips"):
        draw_pairs(rows, 5, seed=0)


def test_coefficients_are_those_of_the_rendered_heads():
    names = np.load(Path(head_code).parent / "head_cc0.npz")["expr_names"].tolist()

    assert names[JAW_OPEN] == "jawOpen"
    assert [names[number] for number in EXPRESSIONS] == [
        "browInnerUp", "eyeBlinkLeft", "mouthFrownLeft", "mouthSmileLeft", "noseSneerLeft"
    ]  # fmt: skip


def test_probes_read_what_was_written_and_nothing_from_noise():
    chance = torch.Generator().manual_seed(0)
    people = torch.arange(4).repeat_interleave(100)
    motion = torch.randn(400, 9, generator=chance)
    is_train = torch.arange(400) % 2 == 0
    noise = torch.randn(400, 8, generator=chance)
    identity = torch.nn.functional.one_hot(people, 4)
    mixed = torch.cat([identity, motion], 1) @ torch.randn(13, 40, generator=chance)

    told, silent = (read(features, people, motion, is_train) for features in (mixed, noise))

    assert (told.hits / told.frames).tolist() == pytest.approx([1] * 4, abs=0.1)
    assert (told.errors.sum(0) / told.spreads.sum(0) < 0.1).all()
    assert silent.frames.tolist() == [50] * 4
    assert silent.hits.sum() / 200 < 0.4
    assert (silent.errors.sum(0) / silent.spreads.sum(0) > 0.9).all()


def test_a_person_of_one_clip_cannot_be_probed(tmp_path):
    rows = rows_of(tmp_path, lambda person, number: f"m{number}")[:4]

    with pytest.raises(ValueError, match="S1: a clip to learn from and none to test on"):
        probe_layers(FixTalk(TINY).eval(), rows, ["S0", "S1"])


def test_clips_without_labels_cannot_be_probed():
    row = {"clip": "real/1", "pose": None, "arkit": None}

    with pytest.raises(ValueError, match="clip real/1 has no pose or arkit labels"):
        motion_labels(row)


def test_people_are_drawn_not_frames():
    people = np.array([0, 0, 0, 1])
    values = np.array([1.0, 1.0, 1.0, 5.0])

    value, low, high = interval(draw_people(2, 4000, seed=0).mean(values, people))

    assert value == 2.0
    assert (low, high) == (1.0, 5.0)  # one of four draws is the same person twice


def planted(leaking, noise):
    """Observations and readings of ten people in which map `leaking` stands out by 1."""
    chance = np.random.default_rng(0)
    people = np.repeat(np.arange(10), 5)
    sides = (64, 32, 16, 8)

    def measures(li):
        values = {name: np.ones(len(people)) for name in MEASURES}
        values["li"] = li + noise * chance.normal(size=len(people))
        return np.stack([values[name] for name in MEASURES], 1)

    observed = {("none", 0): measures(0.0)}
    for side in sides:
        rank = 1.0 if side == leaking else 0.1 * sides.index(side)
        observed["A", side], observed["B", side] = measures(rank), measures(-rank)
    errors = {side: 0.1 if side == leaking else 0.9 - 0.1 * sides.index(side) for side in sides}
    readings = {
        str(side): Reading(
            np.full(10, 8.0), np.full(10, 10.0), np.full((10, 3), error), np.ones((10, 3))
        )
        for side, error in errors.items()
    }
    return observed, people, readings, draw_people(10, 200, seed=1)


@pytest.mark.parametrize("leaking", [64, 16])
def test_the_map_in_which_all_variants_see_the_leak_is_chosen(leaking):
    verdict = decide(*planted(leaking, noise=0.01), configured=8)

    assert verdict["chosen"] == leaking
    assert verdict["separable"]
    assert verdict["agreement"]
    assert verdict["named"] == {"A": leaking, "B": leaking, "C": leaking}
    assert verdict["rank_sums"][str(leaking)] == [12.0, 12.0, 12.0]


def test_the_configured_map_stays_where_noise_hides_the_leak():
    verdict = decide(*planted(16, noise=20.0), configured=8)

    assert not verdict["separable"]
    assert not verdict["agreement"]
    assert verdict["chosen"] == 8
