"""Monitor: which steps are logged, what a restart keeps, and log calls that went missing."""

import json

import pytest

from pipelines.monitor import Monitor, progress
from pipelines.tracking import Run

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def no_retries(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def watch(monitor, state, last):
    for step in range(1, last + 1):
        state.step = step
        monitor.look(state, {"l_rec": 1 / step})


def rows(history):
    return [json.loads(line) for line in history.read_text().splitlines()]


def test_every_tenth_every_sampled_and_the_last_step_are_logged(tmp_path, tiny_state, batch):
    history = tmp_path / "history.jsonl"
    monitor = Monitor(history, Run(NOWHERE, None), batch, sample_every=15, steps=23)

    watch(monitor, tiny_state, 23)

    assert [row["step"] for row in rows(history)] == [10, 15, 20, 23]
    sampled = [row["step"] for row in rows(history) if "validation_psnr" in row]
    assert sampled == [15, 23]


def test_restart_drops_half_a_line_and_logs_no_step_twice(tmp_path, tiny_state):
    history = tmp_path / "history.jsonl"
    history.write_text('{"step": 10}\n{"step": 20}\n{"step": 3')

    monitor = Monitor(history, Run(NOWHERE, None), None, sample_every=10, steps=40)
    watch(monitor, tiny_state, 40)

    assert [row["step"] for row in rows(history)] == [10, 20, 30, 40]
    assert list(tmp_path.iterdir()) == [history]


def test_what_a_worker_could_not_log_reaches_the_run_of_the_driver(tmp_path, tiny_state, caplog):
    history = tmp_path / "history.jsonl"
    driver, worker = Run(NOWHERE, "0" * 32), Run(NOWHERE, "0" * 32)

    with progress(history, 30, driver):
        watch(Monitor(history, worker, None, sample_every=10, steps=30), tiny_state, 30)
    caplog.clear()
    driver.finish()

    assert [row["dropped"] for row in rows(history)] == [1, 1, 1]
    assert "incomplete: 3 log calls" in caplog.text
