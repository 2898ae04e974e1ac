"""params.yaml: every mistake names the key by its full path."""

from pathlib import Path

import pytest
import yaml

from pipelines.config import ConfigError, load_config
from pipelines.recipe import TrainConfig

ROOT = Path(__file__).parent.parent


def write(tmp_path, change):
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    change(params["train"])
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(params))
    return path


def test_default_params_load():
    config = load_config(TrainConfig, "train", ROOT / "params.yaml")

    assert config.steps("base") == sum(s.steps for s in config.schedule("base"))
    names = [stretch.name for stretch in config.schedule("fixtalk")]
    assert names == ["warmup", "motion", "detail", "joint", "hear", "articulate"]
    with pytest.raises(ValueError, match="frozen"):
        config.batch = 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.update(bach=3), "train.bach: unknown key"),
        (lambda t: t.pop("batch"), "train.batch: missing key"),
        (lambda t: t.update(batch="many"), "train.batch: .* found 'many'"),
        (lambda t: t.update(batch=1), "train.batch: .* found 1"),
        (lambda t: t.update(batch=8.0), "train.batch: .* found 8.0"),
        (lambda t: t.update(average_decay=float("nan")), "train.average_decay"),
        (lambda t: t["model"].update(chanels=3), "train.model.chanels: "),
        (lambda t: t["model"].update(resolution=100), "train.model.*resolution 100"),
        (lambda t: t["model"].update(latent=8), "train.model.*latent 8 holds fewer"),
        (
            lambda t: t["phases"]["warp"].update(learning_rate=["1e-4", 1e-4]),
            "phases.warp.learning_rate.*1.0e-4",
        ),
        (lambda t: t["phases"]["warp"]["weights"].update(lpips=1.0), "phases.warp.*unknown loss"),
        (lambda t: t["edi"].update(heads=3), "edi.heads 3: choose a divisor of 128"),
        (lambda t: t["speech"].update(memory=5), "speech.memory 5: at most 4"),
        (lambda t: t["speech"].update(width=0.0), "speech.width 0.0"),
        (lambda t: t["model"].update(speech=t["speech"]), "model holds none of speech, emi and"),
        (lambda t: t.update(variants={}), "variants needs base"),
    ],
)
def test_mistake_is_named_by_its_path(tmp_path, change, message):
    path = write(tmp_path, change)

    with pytest.raises(ConfigError, match=message):
        load_config(TrainConfig, "train", path)


def test_missing_section_and_file(tmp_path):
    path = tmp_path / "params.yaml"

    with pytest.raises(ConfigError, match="not found"):
        load_config(TrainConfig, "train", path)
    path.write_text("crop: {}")
    with pytest.raises(ConfigError, match="section 'train' is missing"):
        load_config(TrainConfig, "train", path)
    path.write_text("train: [")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config(TrainConfig, "train", path)
