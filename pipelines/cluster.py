"""Work items → results in order on all cores; and the Ray session that training runs in."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

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
OBJECT_STORE_BYTES = 256 * 2**20


def cores() -> int:
    """Cores this process may use; FIXTALK_WORKERS lowers it.

    Raises:
        ValueError: FIXTALK_WORKERS is not a positive whole number.
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    wish = os.environ.get("FIXTALK_WORKERS", "")
    if not wish:
        return usable or 1
    if not wish.isdigit() or int(wish) < 1:
        raise ValueError(f"FIXTALK_WORKERS={wish!r}: write a whole number of at least 1")
    return min(int(wish), usable or 1)


def map_parallel(
    function: Callable[[Item], Result], items: Sequence[Item], description: str
) -> Iterator[Result]:
    """Results of `function` in the order of `items`, computed in one process per core.

    One worker needs no process of its own: it runs here.

    The first exception of an item ends the map: what has not started is cancelled.

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
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    try:
        futures = [pool.submit(function, item) for item in items]
        for future in track(futures, description=description):
            yield future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def start_ray() -> int:
    """Number of training workers, after joining RAY_ADDRESS or starting a local session.

    One worker per GPU of the cluster, or one per core where it has none. Nothing listens
    beyond loopback in a local session.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    import ray

    if os.environ.get("RAY_ADDRESS"):
        ray.init(log_to_driver=False, logging_level="warning")
    else:
        # one CPU more than cores: Ray Train's controller holds a slot, it does not compute
        ray.init(
            num_cpus=cores() + 1,
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            log_to_driver=False,
            logging_level="warning",
        )
    resources = ray.cluster_resources()
    gpus = int(resources.get("GPU", 0))
    limit = os.environ.get("FIXTALK_WORKERS")
    workers = gpus or max(1, int(resources.get("CPU", 1)) - 1)
    return min(workers, int(limit)) if limit else workers
