"""The train stage with real Ray workers: it goes on after a kill and never mixes inputs."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml

import fixtalk
from fixtalk.checkpoint import save_checkpoint
from fixtalk.dataset import clip_schema
from fixtalk.media import encode_video
from fixtalk.training import start
from pipelines.config import ConfigError, load_config
from pipelines.train import TrainConfig, inputs_hash, train

ROOT = Path(__file__).parent.parent
STEPS = 120  # many more than are done before a kill arrives
FRAMES = 12


def moving_square(person, shift):
    """A coloured square that wanders over a plain wall."""
    frames = np.full((FRAMES, 64, 64, 3), 40 * (person + 1), np.uint8)
    for index in range(FRAMES):
        left = 8 + (3 * index + shift) % 30
        frames[index, 20:44, left : left + 24] = (250 - 50 * person, 90, 60 * person)
    return frames


@pytest.fixture
def clips(tmp_path):
    schema = clip_schema()
    empty = dict.fromkeys(schema.names)
    rows = [
        empty | {
            "clip": f"P{person}/{clip}", "person": f"P{person}", "split": "train",
            "frames": FRAMES, "audio": b"", "source_fps": 25.0, "face_probability": 1.0,
            "box": [0.0, 0.0, 64.0],
            "video": encode_video(moving_square(person, 5 * clip), crf=14, gop=5),
        }
        for person in range(4) for clip in range(2)
    ]  # fmt: skip
    folder = tmp_path / "clips"
    (folder / "shards").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, schema), folder / "shards" / "0.parquet")
    return folder


@pytest.fixture
def params(tmp_path):
    """A tiny schedule, in a params.yaml of its own."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text())["train"]
    values["model"] |= {"width": 0.03125, "widest": 16}
    values |= {"batch": 2, "validation_people": 1, "checkpoint_every": 10, "sample_every": 10}
    values["variants"] = {
        "base": {"indicators": [], "steps": [{"warp": STEPS}]},
        "fixtalk": {"indicators": ["emi", "edi"], "steps": [{"warmup": 3}, {"joint": 7}]},
    }
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump({"train": values}, sort_keys=False))
    return path


def history(tmp_path):
    found = list((tmp_path / "checkpoints").glob("*/history.jsonl"))
    return [json.loads(line) for line in found[0].read_text().splitlines()] if found else []


def test_killed_training_goes_on_where_it_was(tmp_path, clips, params):
    environment = os.environ | {"FIXTALK_WORKERS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pipelines.train", "clips", "weights", "checkpoints",
               "models/base"]  # fmt: skip
    first = subprocess.Popen(command, cwd=tmp_path, env=environment, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while not list((tmp_path / "checkpoints").glob("*/state.pt")):
            assert first.poll() is None, "training ended before its first checkpoint"
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert not (tmp_path / "models").exists()
    before = history(tmp_path)
    reached = torch.load(next((tmp_path / "checkpoints").glob("*/state.pt")), weights_only=True)
    assert 0 < reached["step"] < STEPS

    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    steps = [row["step"] for row in history(tmp_path)]
    assert steps == list(range(10, STEPS + 1, 10))
    assert history(tmp_path)[: len(before)] == before
    model = fixtalk.load_checkpoint(tmp_path / "models" / "base")
    assert model.config.width == 0.03125
    config = json.loads((tmp_path / "models" / "base" / "config.json").read_text())
    store = next((tmp_path / "checkpoints").iterdir())
    assert config["inputs"] == store.name

    # whatever lies in the state is what the next run goes on with: here, nothing is left to do
    state = torch.load(store / "state.pt", weights_only=True)
    assert state["step"] == STEPS
    state["average"]["backbone.generator.constant"].fill_(7)
    torch.save(state, store / "state.pt")
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    exported = fixtalk.load_checkpoint(tmp_path / "models" / "base")
    assert (exported.backbone.generator.constant == 7).all()


def test_variant_goes_on_from_the_base(tmp_path, clips, params):
    config = load_config(TrainConfig, "train", params)
    places = (clips, tmp_path / "weights", tmp_path / "checkpoints")
    base, model = tmp_path / "models" / "base", tmp_path / "models" / "fixtalk"
    state = start(config.model, config.betas, seed=5)
    save_checkpoint(state.average, base, {}, state.discriminator)

    train(config, *places, model, base)

    trained, begun = fixtalk.load_checkpoint(model), fixtalk.load_checkpoint(base)
    assert trained.config == config.architecture("fixtalk")
    for ours, theirs in zip(
        trained.backbone.encoder.parameters(), begun.backbone.encoder.parameters(), strict=True
    ):
        assert torch.equal(ours, theirs)  # no phase of it trains the encoder
    rows = history(tmp_path)
    assert [row["step"] for row in rows] == [10]
    assert {"l_rec", "l_per", "l_adv", "l_dis", "l_d_mem", "l_align"} <= set(rows[0])
    assert {"code_cosine", "slot_entropy", "dead_slots"} <= set(rows[0])


def test_other_inputs_have_another_hash(tmp_path, clips, params):
    config = load_config(TrainConfig, "train", params)
    faster = config.model_copy(update={"batch": 4})
    larger = config.model_copy(update={"edi": replace(config.edi, slots=9)})
    base = tmp_path / "base"
    base.mkdir()

    before = inputs_hash(config, "fixtalk", clips, base)

    assert inputs_hash(config, "fixtalk", clips, base) == before
    assert inputs_hash(faster, "fixtalk", clips, base) != before
    assert inputs_hash(config, "base", clips, None) != before
    assert inputs_hash(larger, "fixtalk", clips, base) != before
    assert inputs_hash(larger, "base", clips, None) == inputs_hash(config, "base", clips, None)
    (base / "model.safetensors").write_bytes(b"other weights")
    assert inputs_hash(config, "fixtalk", clips, base) != before
    (clips / "shards" / "1.parquet").write_bytes(b"more")
    assert inputs_hash(config, "base", clips, None) != before


def test_order_of_phases_makes_another_hash(clips, params):
    values = yaml.safe_load(params.read_text())
    values["train"]["variants"]["fixtalk"]["steps"].reverse()
    before = inputs_hash(load_config(TrainConfig, "train", params), "fixtalk", clips, None)
    params.write_text(yaml.safe_dump(values, sort_keys=False))

    after = inputs_hash(load_config(TrainConfig, "train", params), "fixtalk", clips, None)

    assert after != before


@pytest.mark.parametrize("value", [".nan", ".inf", "-1.0e-3"])
def test_rates_that_are_no_rates_are_refused(params, value):
    text = params.read_text().replace("- 0.003", f"- {value}", 1)
    assert value in text
    params.write_text(text)

    with pytest.raises(ConfigError, match=r"learning_rate|finite"):
        load_config(TrainConfig, "train", params)


def test_swaps_without_landmarks_are_refused_before_workers_start(tmp_path, clips, params):
    values = yaml.safe_load(params.read_text())
    values["train"]["variants"]["base"]["steps"] = [{"warp": 5}, {"decouple": 5}]
    params.write_text(yaml.safe_dump(values, sort_keys=False))
    config = load_config(TrainConfig, "train", params)

    with pytest.raises(ValueError, match="no landmarks to swap mouths by: leave phases"):
        train(config, clips, tmp_path / "weights", tmp_path / "checkpoints", tmp_path / "base")


def test_impossible_settings_are_named_before_workers_start(tmp_path, clips, params):
    config = load_config(TrainConfig, "train", params)
    places = (clips, tmp_path / "weights", tmp_path / "checkpoints", tmp_path / "models" / "base")
    large = config.model_copy(update={"model": replace(config.model, resolution=128)})
    lonely = config.model_copy(update={"validation_people": 3})

    with pytest.raises(ValueError, match=r"64 px clips, train.model.resolution is 128"):
        train(large, *places)
    with pytest.raises(ValueError, match=r"4 people .* 3 of them for validation"):
        train(lonely, *places)
    with pytest.raises(FileNotFoundError, match="run the crop stage first"):
        train(config, tmp_path / "nothing", *places[1:])
    with pytest.raises(ValueError, match=r"train.variants has no 'other', only base, fixtalk"):
        train(config, *places[:3], tmp_path / "models" / "other")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fixtalk": {"indicators": [], "steps": [{"nap": 1}]}}, "fixtalk: unknown phase nap"),
        ({"fixtalk": {"indicators": [], "steps": [{"joint": 0}]}}, "at least one step"),
        ({"fixtalk": {"indicators": [], "steps": [{"joint": 9, "warp": 1}]}}, "write steps as"),
        ({"fixtalk": {"indicators": ["edi"], "steps": [{"warmup": 10}]}}, "warmup trains no part"),
        ({"emi": {"indicators": ["emi"], "steps": [{"joint": 9}]}}, "equal steps of all others"),
        ({"base": {"indicators": ["emi"], "steps": [{"warp": 9}]}}, "its indicators would not be"),
    ],
)
def test_variants_that_do_not_compare_are_refused(params, change, message):
    values = yaml.safe_load(params.read_text())
    values["train"]["variants"] |= change
    params.write_text(yaml.safe_dump(values, sort_keys=False))

    with pytest.raises(ConfigError, match=message):
        load_config(TrainConfig, "train", params)
