"""Provenance: code by content, parameters of the stage, git where there is one."""

import subprocess
import sys
from datetime import date

import torch

from pipelines.config import read_params
from pipelines.provenance import circumstances, git


def test_code_is_told_by_content_and_parameters_by_the_stage(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("score:\n  detect_every: 5\n")
    without = circumstances()
    made = circumstances(read_params())

    assert without["params"] == {}
    assert made["params"] == {"score": {"detect_every": 5}}
    assert made["code"] == without["code"]
    assert {path.split("/")[0] for path in made["code"]} == {"fixtalk", "metrics", "pipelines"}
    assert made["environment"]["torch"].startswith(torch.__version__.partition("+")[0])
    assert made["environment"]["python"] == sys.version.split()[0]


def test_parameters_of_every_type_can_be_kept():
    made = circumstances({"download": {"since": date(2026, 11, 28), "steps": {1: 2}}})

    assert made["params"] == {"download": {"since": "2026-11-28", "steps": {"1": 2}}}


def test_git_speaks_of_the_folder_asked_about(tmp_path):
    subprocess.run(["git", "init", "-q", tmp_path / "a"], check=True)
    name = ["-c", "user.name=nobody", "-c", "user.email=nobody@localhost"]
    commit = ["commit", "-q", "--allow-empty", "-m", "first"]
    subprocess.run(["git", "-C", tmp_path / "a", *name, *commit], check=True)

    assert len(git("rev-parse", "HEAD", folder=tmp_path / "a")) == 40
    assert git("rev-parse", "HEAD", folder=tmp_path) is None
