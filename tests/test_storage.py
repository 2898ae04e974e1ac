"""Training states in a bucket: what lies there is what the same command goes on from."""

import os
import signal
import time

import pytest

from pipelines.checkpoints import Checkpoints
from tests.test_checkpoints import bucket  # noqa: F401 - a fixture
from tests.training_runs import TinyTraining

STEPS = 60  # many more than are done before the kill arrives


def states(place, training):
    """What the bucket holds of a training."""
    return Checkpoints(f"{place}/base/{training.store.name}").kept() if training.store else []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_training_goes_on_from_a_bucket(tmp_path, bucket):  # noqa: F811
    training = TinyTraining(tmp_path / "run", [{"warp": STEPS}], workers=1)
    first = training.start(FIXTALK_CHECKPOINTS=bucket)
    try:
        deadline = time.monotonic() + 300
        while not states(bucket, training):
            assert first.poll() is None, f"ended before its first state:\n{training.said()}"
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
    newest = states(bucket, training)[-1]
    assert 0 < newest.step < STEPS

    assert training.run(FIXTALK_CHECKPOINTS=bucket) == 0, training.said()

    assert states(bucket, training)[-1].step == STEPS
    assert [row["step"] for row in training.rows()] == list(range(10, STEPS + 1, 10))
    assert not list(training.store.glob("step-*")), "states lie beside the journal"
    assert training.untracked() == []
