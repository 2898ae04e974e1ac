"""Work items → results in order on all cores; and the Ray session that training runs in."""

import os
import shutil
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import NamedTuple, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

QUIET = {
    "OMP_NUM_THREADS": "1",  # two threads on busy cores stall: measured up to 38 times slower
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_AUTH_MODE": "disabled",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_ENABLE_STATE_ACTOR_RECONCILIATION": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
}
# Without this Ray replaces a node address of 127.0.0.1 by the machine's outer one.
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
OBJECT_STORE_BYTES = 256 * 2**20
RESTARTS = 3  # of the worker group on a cluster, each from its last checkpoint


def cores() -> int:
    """Cores this process may use; FIXTALK_WORKERS lowers it."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(usable or 1, _wish() or usable or 1)


def _wish() -> int | None:
    """FIXTALK_WORKERS, where it is set."""
    text = os.environ.get("FIXTALK_WORKERS", "")
    if not text:
        return None
    if not text.isdigit() or int(text) < 1:
        raise ValueError(f"FIXTALK_WORKERS={text!r}: write a whole number of at least 1")
    return int(text)


def map_parallel(
    function: Callable[[Item], Result], items: Sequence[Item], description: str
) -> Iterator[Result]:
    """Results of `function` in the order of `items`, computed in one process per core.

    One worker needs no process of its own: it runs here.

    The first exception of an item ends the map: what has not started is cancelled. Workers end
    with this process, even if it is killed: a run that resumes never races with them.

    Args:
        function: importable by name (it is sent to fresh processes).
        items: picklable work.
        description: word shown before the progress bar.
    """
    from rich.progress import track

    if not items:
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    workers = min(cores(), len(items))
    if workers == 1:
        yield from track(map(function, items), description=description, total=len(items))
        return
    pool = ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_end_with_parent
    )
    try:
        futures = deque(pool.submit(function, item) for item in items)
        for _ in track(range(len(items)), description=description):
            yield futures.popleft().result()  # a result is not kept once it is handed on
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _end_with_parent() -> None:
    Thread(target=_await_parent, daemon=True).start()


def _await_parent() -> None:
    parent_process().join()
    os._exit(1)


class Cluster(NamedTuple):
    """What a Ray session offers to training."""

    workers: int
    has_gpu: bool
    is_local: bool  # started here, to end with this process


def start_ray() -> Cluster:
    """Join RAY_ADDRESS, or start a session on this machine that listens on loopback only.

    One worker per GPU, or one per core where there is none; FIXTALK_WORKERS lowers that.
    """
    is_local = not os.environ.get("RAY_ADDRESS")
    for name, value in (QUIET | (LOOPBACK if is_local else {})).items():
        os.environ.setdefault(name, value)
    import ray

    if is_local:
        ray.init(
            address="local",
            num_cpus=cores(),
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            log_to_driver=False,
            logging_level="warning",
            _node_ip_address="127.0.0.1",
        )
    else:
        ray.init(log_to_driver=False, logging_level="warning")
    resources = ray.cluster_resources()
    gpus = int(resources.get("GPU", 0))
    workers = gpus or max(1, int(resources.get("CPU", 1)))
    return Cluster(min(workers, _wish() or workers), gpus > 0, is_local)


def run_workers(work: Callable[[Item], None], job: Item, store: Path, shares: int) -> None:
    """Run `work(job)` in a group of Ray Train workers until all have returned.

    Args:
        work: what each of them does; it goes on from what lies in `store`.
        job: sent to each of them.
        store: folder that all nodes see.
        shares: number that the workers must divide, such as the size of a batch.
    """
    session = start_ray()
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    workers = max(n for n in range(1, session.workers + 1) if shares % n == 0)
    interrupt = signal.getsignal(signal.SIGINT)
    # the state lies in the store, so Ray has nothing to resume: a half-written snapshot of a
    # killed session would only stop the next one
    shutil.rmtree(store / "ray", ignore_errors=True)
    trainer = TorchTrainer(
        lambda loop: work(loop["job"]),
        train_loop_config={"job": job},
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=session.has_gpu),
        torch_config=TorchConfig(backend="nccl" if session.has_gpu else "gloo"),
        run_config=RunConfig(
            name="ray",
            storage_path=str(store),
            failure_config=FailureConfig(max_failures=0 if session.is_local else RESTARTS),
        ),
    )
    try:
        trainer.fit()
    except SystemExit:  # Ray's own Ctrl-C handler leaves with 0, as if all were done
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGINT, interrupt)
        ray.shutdown()
