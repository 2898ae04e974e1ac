"""The published setting: it fits the same classes and changes what it says."""

import shutil
import sys
from pathlib import Path

import pytest
import yaml

from pipelines.config import load_config
from pipelines.crop import CropConfig
from pipelines.download import SOURCES, DownloadConfig
from pipelines.expert import ExpertConfig
from pipelines.generate import GenerateConfig
from pipelines.judge import JudgeConfig
from pipelines.leaderboard import LeaderboardConfig
from pipelines.localise import LocaliseConfig
from pipelines.recipe import TrainConfig
from pipelines.score import ScoreConfig
from tests.test_edi import FULL as FULL_EDI
from tests.test_emi import FULL as FULL_EMI

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

import paper  # noqa: E402 - lies beside the package, not in it


@pytest.fixture(scope="module")
def params(tmp_path_factory):
    path = tmp_path_factory.mktemp("paper") / "params.yaml"
    shutil.copy(ROOT / "params.yaml", path)
    paper.choose(path, ROOT / "params.paper.yaml")
    return path


@pytest.mark.parametrize(
    "cls",
    [
        DownloadConfig, CropConfig, JudgeConfig, ExpertConfig, TrainConfig, GenerateConfig,
        ScoreConfig, LocaliseConfig, LeaderboardConfig,
    ],
)  # fmt: skip
def test_every_section_fits_its_class(params, cls):
    load_config(cls, cls.__name__.removesuffix("Config").lower(), params)


def test_sizes_agree_and_datasets_are_known(params):
    train, crop = (
        load_config(TrainConfig, "train", params),
        load_config(CropConfig, "crop", params),
    )
    named = yaml.safe_load(params.read_text())

    assert train.model.resolution == crop.resolution == 512
    assert set(named["datasets"]) <= set(SOURCES)
    used = {named[stage]["dataset"] for stage in ("judge", "generate", "localise")}
    assert used | set(train.datasets) <= set(named["datasets"])
    assert train.datasets == ["vfhq", "mead"]
    assert train.emi == FULL_EMI
    assert train.edi == FULL_EDI


def test_it_adds_no_key_keeps_comments_and_can_be_repeated(params, tmp_path):
    def keys(value, above=""):
        if isinstance(value, dict):
            return {f"{above}.{k}" for k in value}.union(
                *(keys(inner, f"{above}.{k}") for k, inner in value.items())
            )
        return set()

    before = yaml.safe_load((ROOT / "params.yaml").read_text())
    after = yaml.safe_load(params.read_text())
    again = tmp_path / "params.yaml"
    shutil.copy(params, again)
    paper.choose(again, ROOT / "params.paper.yaml")

    assert keys(after) == keys(before)
    assert "# Catmull-Clark subdivisions" in params.read_text()
    assert again.read_text() == params.read_text()
    # DVC leaves these out of its hash
    assert not [key for key in keys(after) if key.endswith((".size", ".nfiles"))]
