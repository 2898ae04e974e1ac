"""The group of workers: which errors end a run at once, and which after several tries."""

import pytest
import torch
from ray.exceptions import ActorDiedError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

from pipelines.worker_group import FRUITLESS, _settle_device, ends_hopeless


def test_own_error_ends_the_run_at_once():
    with pytest.raises(FloatingPointError, match="step 3"):
        ends_hopeless(lambda: 0).after_exception(None, {0: FloatingPointError("step 3")})


def test_full_gpu_memory_ends_the_run_and_names_the_remedy():
    full = torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(MemoryError, match="out of memory; lower train"):
        ends_hopeless(lambda: 0).after_exception(None, {0: full})


def test_broken_connections_end_the_run_only_without_progress():
    steps = iter([10, 20, 20, 20])
    group, broken = ends_hopeless(lambda: next(steps)), RuntimeError("connection reset")

    for _ in range(FRUITLESS):
        group.after_exception(None, {0: broken})
    with pytest.raises(RuntimeError, match="connection reset"):
        group.after_exception(None, {0: broken})


def test_lost_nodes_are_told_of_again_and_again_and_end_no_run():
    class TakenError(ActorDiedError):
        preempted = True

    taken = TakenError()
    group = ends_hopeless(lambda: 0)

    for _ in range(2 * FRUITLESS):
        group.after_exception(None, {1: WorkerHealthCheckFailedError("", taken)})

    with pytest.raises(FloatingPointError):
        group.after_exception(None, {0: FloatingPointError("NaN"), 1: taken})


def test_run_that_was_trained_on_gpus_does_not_go_on_without(tmp_path, caplog):
    note = tmp_path / "device"
    _settle_device(note, "GPU", is_cluster=True)
    assert not caplog.records

    with pytest.raises(RuntimeError, match=r"on GPUs so far.* or remove .*device to go on on CPUs"):
        _settle_device(note, "CPU", is_cluster=True)

    note.unlink()
    _settle_device(note, "CPU", is_cluster=True)
    assert "no node has a GPU" in caplog.text
    _settle_device(note, "GPU", is_cluster=True)  # the other way round nothing is lost
