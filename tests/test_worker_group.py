"""The group of workers: which errors end a run at once, and which after several tries."""

import pytest
import torch

from pipelines.worker_group import FRUITLESS, ends_hopeless


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
