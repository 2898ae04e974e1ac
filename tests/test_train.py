"""The train stage with real Ray workers: it goes on after a kill and never mixes inputs."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml

import fixtalk
from fixtalk.dataset import clip_schema
from fixtalk.media import encode_video
from pipelines.config import load_config
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
    values["phases"] = values["phases"][:1]
    values["phases"][0] |= {"steps": STEPS}
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump({"train": values}))
    return path


def history(tmp_path):
    found = list((tmp_path / "checkpoints").glob("*/history.jsonl"))
    return [json.loads(line) for line in found[0].read_text().splitlines()] if found else []


def test_killed_training_goes_on_where_it_was(tmp_path, clips, params):
    environment = os.environ | {"FIXTALK_WORKERS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pipelines.train", "clips", "checkpoints", "models/tiny"]
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
    model = fixtalk.load_checkpoint(tmp_path / "models" / "tiny")
    assert model.config.width == 0.03125
    config = json.loads((tmp_path / "models" / "tiny" / "config.json").read_text())
    store = next((tmp_path / "checkpoints").iterdir())
    assert config["inputs"] == store.name

    # whatever lies in the state is what the next run goes on with: here, nothing is left to do
    state = torch.load(store / "state.pt", weights_only=True)
    assert state["step"] == STEPS
    state["average"]["generator.constant"].fill_(7)
    torch.save(state, store / "state.pt")
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    exported = fixtalk.load_checkpoint(tmp_path / "models" / "tiny")
    assert (exported.generator.constant == 7).all()


def test_other_inputs_have_another_hash(clips, params):
    config = load_config(TrainConfig, "train", params)
    faster = config.model_copy(update={"batch": 4})

    assert inputs_hash(config, clips) == inputs_hash(config, clips)
    before = inputs_hash(config, clips)
    assert inputs_hash(faster, clips) != before
    (clips / "shards" / "1.parquet").write_bytes(b"more")
    assert inputs_hash(config, clips) != before


def test_impossible_settings_are_named_before_workers_start(tmp_path, clips, params):
    config = load_config(TrainConfig, "train", params)
    places = (clips, tmp_path / "checkpoints", tmp_path / "models" / "tiny")
    large = config.model_copy(
        update={"model": fixtalk.ModelConfig(**{**vars(config.model), "resolution": 128})}
    )
    lonely = config.model_copy(update={"validation_people": 3})

    with pytest.raises(ValueError, match=r"64 px clips, train.model.resolution is 128"):
        train(large, *places)
    with pytest.raises(ValueError, match=r"4 people .* 3 of them for validation"):
        train(lonely, *places)
    with pytest.raises(FileNotFoundError, match="run the crop stage first"):
        train(config, tmp_path / "nothing", *places[1:])
