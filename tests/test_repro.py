"""The whole pipeline with tiny parameters in a temporary copy; a second run does nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

import smoke  # noqa: E402 - lies beside the package, not in it


def test_smoke_run_ends_with_a_leaderboard_and_the_next_runs_nothing(tmp_path, monkeypatch):
    monkeypatch.delenv("FIXTALK_WORKERS", raising=False)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    smoke.copy_checkout(tmp_path)
    smoke.shrink_params(tmp_path / "params.yaml")

    smoke.run(tmp_path)

    results = tmp_path / "results"
    board = pd.read_csv(results / "leaderboard.csv")
    assert set(board["system"]) == {"copy_source", "edtalk"}
    assert set(board["protocol"]) == {"self", "cross"}
    assert board["psnr"].between(3, 60).all()
    assert (results / "contact_sheet.png").is_file()
    metrics = json.loads((results / "edtalk" / "metrics.json").read_text())
    assert metrics["self"]["pairs"] == 4
    assert (tmp_path / "mlflow.db").is_file()

    command = [sys.executable, "-m", "dvc", "repro"]
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "Running stage" not in again.stdout
    assert "up to date" in again.stdout
