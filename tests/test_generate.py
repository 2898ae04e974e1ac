"""Generate: pairs of both protocols, resume, and what must be refused."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from fixtalk.checkpoint import save_checkpoint
from fixtalk.dataset import read_clips
from fixtalk.media import encode_video, read_video
from fixtalk.model import FixTalk
from fixtalk.speech import SpeechConfig
from pipelines.files import append_row
from pipelines.generate import (
    GenerateConfig,
    Job,
    _choose,
    _fingerprint,
    _renderer,
    _run_key,
    generate,
)
from pipelines.protocols import Pair, audio_pairs, cross_pairs, self_pairs
from pipelines.speed import Stopwatch
from tests.conftest import TINY
from tests.discs import clip_row, disc, write_clips

COPY_SOURCE = Path(__file__).parent.parent / "models" / "copy_source"
CONFIG = GenerateConfig(
    dataset="discs", protocols=["self", "cross"], max_pairs=8, batch=4, gains={}
)


def listed(videos):
    with (videos / "pairs.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Three people who show two motions, one clip of its own each, and one training clip."""
    rows = [
        clip_row(f"cross/{m}/S{p:03d}", p, m, frames=5 + n)
        for p in range(3)
        for n, m in enumerate(["m0", "m1"])
    ]
    rows += [clip_row(f"S{p:03d}/still", p, None, moving=False) for p in range(3)]
    rows.append(clip_row("S009/train", 1, "m0", split="train"))
    return write_clips(tmp_path_factory.mktemp("generate") / "clips", rows)


@pytest.fixture(scope="module")
def videos(clips):
    folder = clips.parent / "results" / "copy_source" / "videos"
    generate(CONFIG, clips, COPY_SOURCE, folder)
    return folder


@pytest.fixture(scope="module")
def unshared(tmp_path_factory):
    """Videos of clips without a shared motion, begun on the leftovers of another model's run."""
    folder = tmp_path_factory.mktemp("unshared")
    clips = write_clips(folder / "clips", [clip_row("a", 0, None), clip_row("b", 1, "m1")])
    (folder / "videos" / "self").mkdir(parents=True)
    (folder / "videos" / "self" / "000-a.mkv").write_bytes(b"")
    interrupt(folder / "videos", stamp="of another model")
    generate(CONFIG, clips, COPY_SOURCE, folder / "videos")
    return folder / "videos"


def test_copy_source_repeats_the_source_frame_without_loss(clips, videos):
    rows = {r["clip"]: r for r in pq.read_table(clips / "shards").to_pylist()}

    pairs = listed(videos)

    assert {pair["protocol"] for pair in pairs} == {"self", "cross"}
    for pair in pairs:
        made = read_video(videos / pair["protocol"] / f"{pair['pair']}.mkv")
        source = read_video(rows[pair["source_clip"]]["video"])[0]
        assert len(made) == int(pair["frames"]) == rows[pair["driver_clip"]]["frames"]
        assert np.array_equal(made, np.broadcast_to(source, made.shape))


def test_cross_pairs_have_another_driver_another_motion_and_the_truth(clips, videos):
    rows = {r["clip"]: r for r in pq.read_table(clips / "shards").to_pylist()}

    cross = [pair for pair in listed(videos) if pair["protocol"] == "cross"]

    assert len(cross) == 6
    for pair in cross:
        source, driver, truth = (rows[pair[f"{r}_clip"]] for r in ("source", "driver", "truth"))
        assert source["person"] == truth["person"] == pair["person"] != driver["person"]
        assert driver["motion"] == truth["motion"] != source["motion"]


def test_pairs_cut_short_are_spread_over_people(clips):
    rows = pq.read_table(clips / "shards").to_pylist()
    rows = [row for row in rows if row["split"] == "test"]

    for pairs in (self_pairs(rows), cross_pairs(rows)[0]):
        assert [pair.person for pair in pairs[:6]] == ["S000", "S001", "S002"] * 2
        assert len({pair.pair for pair in pairs}) == len(pairs)


def test_audio_pairs_take_their_source_from_another_clip_of_the_session_and_list_the_silent():
    rows = [
        {**clip_row(f"S{p:03d}/{n}", p, None, frames=2), "audio": b"said", "session": "one"}
        for p in range(2)
        for n in range(2)
    ]
    rows.append({**clip_row("S000/later", 0, None, frames=2), "audio": b"said", "session": "two"})
    rows.append(clip_row("S001/silent", 1, None, frames=2))

    pairs, skipped = audio_pairs(rows)

    sources = {pair.truth_clip: pair.source_clip for pair in pairs}
    assert sources == {
        "S000/0": "S000/1", "S000/1": "S000/0", "S001/0": "S001/1", "S001/1": "S001/0",
        "S000/later": "S000/later",  # alone in its session
    }  # fmt: skip
    assert all(pair.driver_clip == pair.truth_clip for pair in pairs)
    assert {pair.person for pair in pairs[:2]} == {"S000", "S001"}
    assert [one["truth"] for one in skipped] == ["S001/silent"]


def test_one_voice_alone_cannot_be_shuffled():
    rows = [{**clip_row("S000/a", 0, None, frames=8), "audio": bytes(8 * 1280)}]
    config = CONFIG.model_copy(update={"protocols": ["audio"]})

    own, coverage = _choose(config, rows, "hears", True)
    shuffled, lonely = _choose(config, rows, "shuffled", True)

    assert (len(own), coverage["audio"]["pairs"]) == (1, 1)
    assert not shuffled
    assert lonely["audio"]["skipped"][0]["reason"] == "no voice but that of S000/a"


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """Videos of a model that hears, of the same with shuffled voices, and with none."""
    folder = tmp_path_factory.mktemp("spoken")
    rng = np.random.default_rng(0)
    rows = [
        {
            **clip_row(f"S{p:03d}/a", p, None, frames=8, resolution=64),
            "audio": rng.normal(0, 3000, 8 * 640).astype("<i2").tobytes(),
            "emotion": "happy" if p else None,
            "level": 3 if p else None,
        }
        for p in range(2)
    ]
    clips = write_clips(folder / "clips", rows)
    torch.manual_seed(0)
    network = FixTalk(replace(TINY, speech=SpeechConfig(width=0.1, hidden=8, memory=2)))
    torch.nn.init.normal_(network.speech._lip.weight)
    for stage in network.backbone.generator.stages:  # at first no motion moves anything
        torch.nn.init.normal_(stage.warp.conv.weight)
    save_checkpoint(network, folder / "model", {})
    config = CONFIG.model_copy(update={"protocols": ["self", "audio"]})
    for system in ("hears", "shuffled", "silent"):
        generate(config, clips, folder / "model", folder / system / "videos")
    for name, system, gains in (
        ("shut", "hears", {"lip": 0.0}), ("wide", "hears", {"lip": 2.0}),
        ("shut", "shuffled", {"lip": 0.0}), ("calm", "silent", {"expression": 0.0}),
        ("moody", "silent", {"expression": 2.0}),
    ):  # fmt: skip
        told = config.model_copy(update={"gains": gains})
        generate(told, clips, folder / "model", folder / name / system / "videos")
    return folder


def frames_of(folder, system, protocol="audio"):
    videos = sorted((folder / system / "videos" / protocol).glob("*.mkv"))
    return [read_video(video) for video in videos]


def test_speech_moves_lips_and_its_controls_have_no_other_protocol(spoken):
    own, shuffled, silent = (frames_of(spoken, name) for name in ("hears", "shuffled", "silent"))

    assert [len(clip) for clip in own] == [8, 8]
    for one, other, none in zip(own, shuffled, silent, strict=True):
        assert not np.array_equal(one, other)
        assert not np.array_equal(one, none)
    kept = {name: set(listed_protocols(spoken / name / "videos")) for name in ("hears", "silent")}
    assert kept == {"hears": {"self", "audio"}, "silent": {"audio"}}
    coverage = json.loads((spoken / "silent/videos/coverage.json").read_text())
    assert coverage["self"]["reason"] == "a control of the audio protocol"


def test_gain_of_heard_lips_goes_from_silence_to_exaggeration(spoken):
    names = ("silent", "shut/hears", "shut/shuffled", "hears", "wide/hears")
    made = [np.stack(frames_of(spoken, name)).astype(float) for name in names]
    silent, shut, shuffled, own, wide = made

    assert np.array_equal(shut, silent)
    assert np.array_equal(shuffled, silent)
    assert abs(wide - silent).mean() > 1.2 * abs(own - silent).mean()


def test_expression_grows_with_its_gain_told_or_heard(spoken):
    names = ("calm/silent", "silent", "moody/silent")
    calm, plain, moody = (np.stack(frames_of(spoken, name)).astype(float) for name in names)

    for clip in range(2):  # one has no label
        assert abs(moody - calm)[clip].mean() > 1.2 * abs(plain - calm)[clip].mean() > 0


def test_gain_of_heard_lips_leaves_the_other_protocols_alone(spoken):
    plain, wide = (frames_of(spoken, name, "self") for name in ("hears", "wide/hears"))

    assert len(plain) == 2
    assert all(map(np.array_equal, plain, wide))


def test_a_model_that_does_not_hear_says_so(tmp_path):
    clips = write_clips(tmp_path / "clips", [clip_row("a", 0, None, resolution=64)])
    save_checkpoint(FixTalk(TINY), tmp_path / "model", {})
    config = CONFIG.model_copy(update={"protocols": ["self", "audio"]})

    generate(config, clips, tmp_path / "model", tmp_path / "out" / "videos")

    coverage = json.loads((tmp_path / "out/videos/coverage.json").read_text())
    assert coverage["audio"]["reason"] == "this model has no audio encoder"


def listed_protocols(videos):
    return [pair["protocol"] for pair in listed(videos)]


def test_only_held_out_clips_are_generated(videos):
    assert not any("S009" in pair["driver_clip"] for pair in listed(videos))


def test_folder_is_complete_or_absent_and_names_the_system(videos):
    beside = [path.name for path in videos.parent.iterdir() if path.name != "videos"]

    system = json.loads((videos / "system.json").read_text())
    coverage = json.loads((videos / "coverage.json").read_text())

    assert beside == ["speed.json"]
    assert system == {"system": "copy_source", "dataset": "discs", "key": "copy_source:discs"}
    assert coverage["cross"] == {"pairs": 6, "possible": 6, "skipped": []}
    assert coverage["self"]["possible"] == 9
    assert coverage["self"]["pairs"] == 8


def test_run_of_the_training_takes_the_numbers_of_its_own_dataset_only():
    described = {"inputs": "hash", "dataset": "synthetic"}

    assert _run_key(described, "edtalk", "edtalk", "synthetic") == "hash"
    assert _run_key(described, "edtalk", "edtalk", "folder") == "hash:folder"
    assert _run_key(described, "silent", "fixtalk", "synthetic") == "hash:silent"


def test_truth_and_driver_of_unequal_length_are_left_out_with_a_reason():
    pairs, skipped = cross_pairs(
        takes(("a", "S000", "m0", 5), ("b", "S001", "m0", 6), ("c", "S000", "m1", 5),
              ("d", "S001", "m1", 5))
    )  # fmt: skip

    assert {pair.truth_clip for pair in pairs} == {"c", "d"}
    assert {entry["truth"] for entry in skipped} == {"a", "b"}
    assert "not aligned: truth 5, driver 6 frames" in skipped[0]["reason"]


def test_piece_of_a_shared_motion_that_only_one_person_shows_is_listed():
    shown = takes(("a", "S000", "m0", 5), ("b", "S001", "m0", 5), ("c", "S000", "m1", 5),
                  ("d", "S001", "m1@8", 5), ("e", "S000", "m2", 5), ("f", "S001", "m2", 5),
                  ("g", "S000", "alone@8", 5))  # fmt: skip

    pairs, skipped = cross_pairs(shown)

    assert {pair.truth_clip for pair in pairs} == {"a", "b", "e", "f"}
    assert [(entry["truth"], entry["driver"]) for entry in skipped] == [("c", ""), ("d", "")]
    assert skipped[1]["reason"] == ("motion m1@8: only S001 shows this piece of a shared motion")


def takes(*values):
    return [dict(zip(("clip", "person", "motion", "frames"), row, strict=True)) for row in values]


def test_no_pair_at_all_is_an_error(tmp_path):
    clips = write_clips(tmp_path / "clips", [clip_row("a", 0, None, split="train")])

    with pytest.raises(ValueError, match="no test clip"):
        generate(CONFIG, clips, COPY_SOURCE, tmp_path / "videos")


def test_missing_model_names_the_remedy(clips, tmp_path):
    with pytest.raises(FileNotFoundError, match="train a model first"):
        generate(CONFIG, clips, tmp_path / "nobody", tmp_path / "videos")


def test_without_shared_motion_there_is_no_cross_and_it_says_why(unshared):
    coverage = json.loads((unshared / "coverage.json").read_text())

    assert coverage["cross"]["pairs"] == 0
    assert "no motion is shown by two people" in coverage["cross"]["reason"]
    assert {pair["protocol"] for pair in listed(unshared)} == {"self"}


def test_leftovers_of_other_inputs_are_made_again(unshared):
    made = [read_video(video) for video in sorted((unshared / "self").iterdir())]

    assert [len(frames) for frames in made] == [6, 6]


def trained(folder, broken=False):
    """A tiny model of 64 px; a broken one has learnt NaN."""
    model = FixTalk(TINY)
    if broken:
        with torch.no_grad():
            next(model.backbone.generator.parameters()).fill_(torch.nan)
    save_checkpoint(model, folder, {"inputs": "hash of the training"})
    return folder


def animated(model, frames=5, resolution=64):
    """Frames that the model makes of a disc driven by a moving one."""
    driver = np.stack([disc(1, step, resolution) for step in range(frames)])
    pair = Pair("self", "000-pair", "clip A", 0, "clip B", "clip B", frames, "S001")
    job = Job(pair, model, 2, b"", b"", None, Path("unused.mkv"))
    render, device = _renderer(model)
    return np.stack(list(render(driver[:1], driver, job, Stopwatch(device))))


def test_trained_model_gives_one_frame_per_driver_frame_whatever_the_batch(tmp_path):
    frames = animated(trained(tmp_path / "edtalk"))

    assert frames.shape == (5, 64, 64, 3)
    assert frames.dtype == np.uint8
    assert frames.std() > 0


def test_speed_of_a_model_is_measured_clip_by_clip(tmp_path):
    rows = [clip_row(str(person), person, None) for person in range(2)]
    for row in rows:
        row["video"] = encode_video([disc(1, step, 64) for step in range(6)], crf=0, gop=5)
    clips = write_clips(tmp_path / "clips", rows)

    generate(CONFIG, clips, trained(tmp_path / "edtalk"), tmp_path / "videos")

    speed = json.loads((tmp_path / "speed.json").read_text())
    assert (speed["clips"], speed["frames"], speed["batch"]) == (2, 12, 4)
    assert speed["fps_model"] > speed["fps"] > 0
    assert 0 < speed["latency_ms_p50"] <= speed["latency_ms_p99"]
    assert speed["memory_mb"] > 0


def test_clips_of_another_resolution_name_both_and_the_remedy(tmp_path):
    with pytest.raises(ValueError, match=r"clip A has 32x32 .* needs 64x64: set crop\.resolution"):
        animated(trained(tmp_path / "edtalk"), resolution=32)


def test_nan_of_the_model_names_the_pair(tmp_path):
    with pytest.raises(ValueError, match=r"pair 000-pair: .* gave NaN in frames 0 to 1"):
        animated(trained(tmp_path / "edtalk", broken=True))


def test_interrupted_run_keeps_its_finished_videos(unshared):
    clips = unshared.parent / "clips"
    rows = {row["clip"]: row for row in read_clips(clips, "test")}
    pairs = self_pairs(list(rows.values()))
    first = interrupt(
        unshared, _fingerprint(CONFIG, COPY_SOURCE, unshared.parent.name, pairs, rows)
    )
    timed = {"frames": 6, "seconds": 0.5, "laps": [], "memory": 2**20, "device": "Abacus"}
    append_row(unshared.parent / ".videos.partial" / "speed.jsonl", timed)

    generate(CONFIG, clips, COPY_SOURCE, unshared)

    assert (unshared / "self" / first).read_bytes() == b"finished before"
    beside = sorted(path.name for path in unshared.parent.iterdir())
    assert beside == ["clips", "speed.json", "videos"]
    assert json.loads((unshared.parent / "speed.json").read_text())["fps"] == 12.0


def test_only_config_and_weights_of_the_model_decide_the_videos(tmp_path):
    model = tmp_path / "edtalk"
    (model / "notes").mkdir(parents=True)
    (model / "config.json").write_text("{}")

    plain = _fingerprint(CONFIG, model, "system", [], {})
    (model / "picture.png").write_bytes(b"seen")
    described = _fingerprint(CONFIG, model, "system", [], {})
    (model / "model.safetensors").write_bytes(b"learnt")

    assert described == plain
    assert _fingerprint(CONFIG, model, "system", [], {}) != plain


def test_lips_of_another_gain_are_other_videos(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    wide = CONFIG.model_copy(update={"gains": {"lip": 1.3}})

    stamps = [_fingerprint(config, tmp_path, "system", [], {}) for config in (CONFIG, wide)]

    assert stamps[0] != stamps[1]


def interrupt(videos, stamp):
    """Leave what a killed run leaves: videos, half-written ones, the stamp of its inputs."""
    partial = videos.parent / ".videos.partial"
    partial.mkdir()
    (partial / "inputs.sha256").write_text(stamp)
    videos.replace(partial / "videos")
    (partial / "videos" / "self" / ".half.mkv.x").mkdir()
    first = min((partial / "videos" / "self").glob("*.mkv"))
    first.write_bytes(b"finished before")
    (partial / "videos" / "self" / ".half.mkv").write_bytes(b"half")
    return first.name
