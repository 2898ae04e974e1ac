"""The train stage: what a variant starts from and exports, which inputs make it another run."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import yaml
from mlflow import MlflowClient

import fixtalk
from fixtalk.checkpoint import save_checkpoint
from fixtalk.training import start
from pipelines import worker
from pipelines.checkpoints import Checkpoints
from pipelines.config import ConfigError, load_config
from pipelines.recipe import TrainConfig
from pipelines.train import _reached, inputs_hash, train
from tests.training_runs import write_clips, write_no_expert, write_params


@pytest.fixture
def clips(tmp_path):
    return write_clips(tmp_path / "clips")


@pytest.fixture
def expert(tmp_path):
    return write_no_expert(tmp_path / "expert")


@pytest.fixture
def params(tmp_path):
    """A tiny schedule, in a params.yaml of its own."""
    return write_params(tmp_path / "params.yaml", [{"warp": 10}])


def test_variant_goes_on_from_the_base_and_from_its_states(
    tmp_path, clips, expert, params, monkeypatch
):
    monkeypatch.setenv("FIXTALK_CHECKPOINTS", f"{tmp_path}/states/")
    config = load_config(TrainConfig, "train", params)
    places = (clips, tmp_path / "weights", expert, tmp_path / "checkpoints")
    base, model = tmp_path / "models" / "base", tmp_path / "models" / "fixtalk"
    state = start(config.architecture("base"), config.betas, seed=5)
    save_checkpoint(state.average, base, {}, state.discriminator)

    train(config, *places, model, base)

    trained, begun = fixtalk.load_checkpoint(model), fixtalk.load_checkpoint(base)
    assert trained.config == config.architecture("fixtalk")
    for ours, theirs in zip(
        trained.backbone.encoder.parameters(), begun.backbone.encoder.parameters(), strict=True
    ):
        assert torch.equal(ours, theirs)  # no phase of it trains the encoder
    key = inputs_hash(config, "fixtalk", clips, expert, base)
    assert json.loads((model / "config.json").read_text())["inputs"] == key
    journal = tmp_path / "checkpoints" / key / "history.jsonl"
    (row,) = map(json.loads, journal.read_text().splitlines())
    assert row["step"] == 10
    assert {"l_rec", "l_per", "l_adv", "l_dis", "l_d_mem", "l_align"} <= set(row)
    assert {"code_cosine", "slot_entropy", "dead_slots", "validation_psnr"} <= set(row)

    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("fixtalk").experiment_id
    (run,) = client.search_runs([experiment])
    assert run.data.tags["l_sync"] == "off: no clip with sound"
    assert run.data.tags["l_mouth"] == "off: 21 of 21 clips have no landmarks"

    # whatever lies in the newest state is gone on with, in another storage as well: here,
    # nothing is left to do
    states = Checkpoints(f"{tmp_path}/states/fixtalk/{key}")
    newest, state = states.newest()
    assert newest.step == state["step"] == 10
    state["average"]["backbone.generator.constant"].fill_(7)
    states.save(state, 10)
    states.flush()
    monkeypatch.setenv("FIXTALK_CHECKPOINTS", f"{tmp_path}/elsewhere")
    train(config, *places, model, base)
    assert Checkpoints(f"{tmp_path}/elsewhere/fixtalk/{key}").newest()[0].step == 10
    assert (fixtalk.load_checkpoint(model).backbone.generator.constant == 7).all()
    assert len(journal.read_text().splitlines()) == 1


def test_other_inputs_have_another_hash(tmp_path, clips, expert, params):
    config = load_config(TrainConfig, "train", params)
    wider = config.model_copy(update={"batch": 4})
    larger = config.model_copy(update={"edi": replace(config.edi, slots=9)})
    base = tmp_path / "base"
    base.mkdir()

    before = inputs_hash(config, "fixtalk", clips, expert, base)

    assert inputs_hash(config, "fixtalk", clips, expert, base) == before
    assert inputs_hash(wider, "fixtalk", clips, expert, base) != before
    assert inputs_hash(config, "base", clips, expert, None) != before
    assert inputs_hash(larger, "fixtalk", clips, expert, base) != before
    of_base = inputs_hash(config, "base", clips, expert, None)
    assert inputs_hash(larger, "base", clips, expert, None) == of_base
    (base / "model.safetensors").write_bytes(b"other weights")
    assert inputs_hash(config, "fixtalk", clips, expert, base) != before
    before = inputs_hash(config, "base", clips, expert, None)
    (expert / "expert.json").write_text('{"sha256": "of other weights"}')
    assert inputs_hash(config, "base", clips, expert, None) != before
    before = inputs_hash(config, "base", clips, expert, None)
    (clips / "synthetic" / "shards" / "1.parquet").write_bytes(b"more")
    assert inputs_hash(config, "base", clips, expert, None) != before


def test_a_second_dataset_makes_another_hash(clips, expert, params):
    config = load_config(TrainConfig, "train", params)
    both = config.model_copy(update={"datasets": ["synthetic", "others"]})
    shards = write_clips(clips, "others") / "others" / "shards"

    before = inputs_hash(both, "base", clips, expert, None)

    assert before != inputs_hash(config, "base", clips, expert, None)
    (shards / "1.parquet").write_bytes(b"more")
    assert inputs_hash(both, "base", clips, expert, None) != before


def test_order_of_phases_makes_another_hash(clips, expert, params):
    values = yaml.safe_load(params.read_text())
    values["train"]["variants"]["fixtalk"]["steps"].reverse()
    before = inputs_hash(load_config(TrainConfig, "train", params), "fixtalk", clips, expert, None)
    params.write_text(yaml.safe_dump(values, sort_keys=False))

    after = inputs_hash(load_config(TrainConfig, "train", params), "fixtalk", clips, expert, None)

    assert after != before


@pytest.mark.parametrize("datasets", [[], ["a", "b", "c"]])
def test_no_more_datasets_than_dvc_watches(params, datasets):
    """dvc.yaml can name the first and the last of a list, not all."""
    values = yaml.safe_load(params.read_text())
    values["train"]["datasets"] = datasets
    params.write_text(yaml.safe_dump(values, sort_keys=False))

    with pytest.raises(ConfigError, match="datasets"):
        load_config(TrainConfig, "train", params)


@pytest.mark.parametrize("value", [".nan", ".inf", "-1.0e-3"])
def test_rates_that_are_no_rates_are_refused(params, value):
    text = params.read_text().replace("- 0.003", f"- {value}", 1)
    assert value in text
    params.write_text(text)

    with pytest.raises(ConfigError, match=r"learning_rate|finite"):
        load_config(TrainConfig, "train", params)


def test_swaps_without_landmarks_are_refused_before_workers_start(tmp_path, clips, expert, params):
    values = yaml.safe_load(params.read_text())
    values["train"]["variants"]["base"]["steps"] = [{"warp": 5}, {"decouple": 5}]
    params.write_text(yaml.safe_dump(values, sort_keys=False))
    config = load_config(TrainConfig, "train", params)

    with pytest.raises(ValueError, match="no landmarks to swap mouths by: leave phases"):
        train(config, clips, tmp_path, expert, tmp_path / "checkpoints", tmp_path / "base")


def test_impossible_settings_are_named_before_workers_start(tmp_path, clips, expert, params):
    config = load_config(TrainConfig, "train", params)
    model = tmp_path / "models" / "base"
    places = (clips, tmp_path / "weights", expert, tmp_path / "checkpoints", model)

    with pytest.raises(FileNotFoundError, match="run the crop stage first"):
        train(config, tmp_path / "nothing", *places[1:])
    with pytest.raises(FileNotFoundError, match=r"expert.json: not found; run the expert stage"):
        train(config, clips, tmp_path, tmp_path / "nothing", *places[3:])
    with pytest.raises(ValueError, match=r"train.variants has no 'other', only base, fixtalk"):
        train(config, *places[:4], tmp_path / "models" / "other")


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


@pytest.mark.parametrize("step", [10, 30])
def test_newest_state_of_both_places_is_gone_on_with(tmp_path, step):
    here, there = (Checkpoints(f"{tmp_path}/{name}") for name in ("here", "there"))
    here.save({"of": "here"}, 20)
    there.save({"of": "there"}, step)
    here.flush()
    there.flush()
    (tmp_path / "place").write_text(f"{there.place}\n")
    job = SimpleNamespace(folder=tmp_path, place=here.place, state=lambda saved: saved)

    reached = _reached(job, here)

    assert reached == {"of": "there" if step > 20 else "here"}
    assert here.newest()[0].step == max(20, step)
    assert (tmp_path / "place").read_text() == f"{here.place}\n"


def test_states_in_a_place_that_cannot_be_read_are_not_forgotten(tmp_path):
    (tmp_path / "place").write_text("no://run\n")
    job = SimpleNamespace(folder=tmp_path, place=f"{tmp_path}/here", state=lambda saved: saved)

    with pytest.raises(OSError, match=r"no://run: holds this run's states .* or remove .*place"):
        _reached(job, Checkpoints(job.place))

    assert (tmp_path / "place").read_text() == "no://run\n"


@pytest.mark.parametrize(("seconds", "saved"), [(600.0, [4, 8]), (0.0, [1, 2, 3, 4, 5, 6, 7, 8])])
def test_no_more_than_ten_minutes_of_work_are_at_risk(monkeypatch, seconds, saved):
    monkeypatch.setattr(worker, "SECONDS_AT_RISK", seconds)
    monkeypatch.setattr(worker, "validation_pairs", lambda config, corpus: None)
    monkeypatch.setattr(worker, "Monitor", lambda *_: SimpleNamespace(look=lambda *_: {}))
    steps, states = [], SimpleNamespace(save=lambda state, step, score: steps.append(step))
    config = SimpleNamespace(sample_every=50, checkpoint_every=4)
    job = SimpleNamespace(config=config, corpus=None, folder=None, steps=100)
    scribe = worker._Scribe(job, states)

    for step in range(1, 9):
        scribe.write(SimpleNamespace(step=step, state_dict=dict), {}, is_urgent=False)

    assert steps == saved
