"""Work items → results in order, on all cores or on all nodes of a Ray session."""

import os
import pickle
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import psutil

Item = TypeVar("Item")
Result = TypeVar("Result")

QUIET = {
    "OMP_NUM_THREADS": "1",  # two threads on busy cores stall: measured up to 38 times slower
    "OPENCV_FOR_THREADS_NUM": "1",  # else each worker's resizing uses the cores of all others
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # warns of constructor arguments of Ray Data's own actors
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_STATE_ACTOR_RECONCILIATION": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "1",
}
LOOPBACK = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # else 127.0.0.1 becomes the outer address
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "GLOO_SOCKET_IFNAME": "lo",
    "NCCL_SOCKET_IFNAME": "lo",
}
SHARED_MEMORY = 2 * 2**30  # bytes of the object store at most
RETRIES = 2  # of an item whose process died
TURN = 0.05  # seconds that a turn of Ray Data's loop waits
STARTS = 3  # of a session, if the machine is too busy for the first


class Cluster(NamedTuple):
    """What a Ray session offers."""

    cpus: int
    gpus: int  # that have a CPU beside them
    is_elastic: bool  # nodes may leave and join

    def workers(self, on_gpu: bool) -> int:
        """One per GPU or per CPU; FIXTALK_WORKERS lowers that.

        Raises:
            RuntimeError: there is room for none.
        """
        most = self.gpus if on_gpu else self.cpus
        if not most:
            raise RuntimeError(f"{self}: no room for a worker, which needs a CPU on its node")
        return min(most, worker_limit() or most)


def cores() -> int:
    """Cores this process may use; FIXTALK_WORKERS lowers it."""
    return min(all_cores(), worker_limit() or all_cores())


def all_cores() -> int:
    """Cores this process may use."""
    return len(psutil.Process().cpu_affinity()) if psutil.LINUX else psutil.cpu_count()


def worker_limit() -> int | None:
    """FIXTALK_WORKERS, where it is set."""
    text = os.environ.get("FIXTALK_WORKERS", "")
    if not text:
        return None
    if not text.isdigit() or int(text) < 1:
        raise ValueError(f"FIXTALK_WORKERS={text!r}: write a whole number of at least 1")
    return int(text)


@contextmanager
def ray_session() -> Iterator[Cluster]:
    """Join RAY_ADDRESS, or start a session on this machine that listens on loopback only."""
    address = os.environ.get("RAY_ADDRESS")
    is_loopback = not address or address.startswith("127.")
    for name, value in (QUIET | (LOOPBACK if is_loopback else {})).items():
        os.environ.setdefault(name, value)
    import ray

    if os.environ.get("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER") == "0":  # read when Ray is imported
        ray._private.ray_constants.ENABLE_RAY_CLUSTER = False
    quiet = {"log_to_driver": False, "logging_level": "error"}
    if address:
        ray.init(**quiet)
    else:
        _start_here(
            address="local",
            num_cpus=cores(),
            include_dashboard=False,
            object_store_memory=min(SHARED_MEMORY, psutil.virtual_memory().available // 4),
            _node_ip_address="127.0.0.1",
            **quiet,
        )
    try:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        cpus = [int(node.get("CPU", 0)) for node in nodes]
        gpus = [min(int(node.get("GPU", 0)), n) for node, n in zip(nodes, cpus, strict=True)]
        yield Cluster(sum(cpus), sum(gpus), len(nodes) > 1 or not is_loopback)
    finally:
        ray.shutdown()


def _start_here(**options: Any) -> None:
    """Start Ray; on a busy machine it may not be up within the 30 seconds that it gives itself.

    Ray leaves the processes of a start that failed until this one ends.
    """
    import ray

    here = psutil.Process()
    for left in reversed(range(STARTS)):
        before = set(here.children(recursive=True))
        try:
            ray.init(**options)
            return
        except Exception as error:  # Ray raises no narrower one
            if not left or "timed out" not in str(error):
                raise
            for process in set(here.children(recursive=True)) - before:
                with suppress(psutil.NoSuchProcess):
                    process.kill()


def map_parallel(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    description: str,
    on_gpu: bool = False,
) -> Iterator[Result]:
    """Results of `function` in the order of `items`, from a pool of Ray actors.

    What the function caches, such as a model, is loaded once an actor. One worker on one machine
    needs no session: it runs here.

    The first exception of an item ends the map. A killed actor is replaced and its items are
    done again, a few times. Actors end with this process, even if it is killed: a run that
    resumes never races with them.

    Args:
        function: importable by name.
        items: picklable work; paths are relative to the current folder, which all nodes see.
        description: word shown before the progress bar.
        on_gpu: give each actor a GPU, where there are any.
    """
    from rich.progress import track

    if not items:
        return
    if not os.environ.get("RAY_ADDRESS") and min(cores(), len(items)) == 1:
        os.environ["OMP_NUM_THREADS"] = "1"
        yield from track(map(function, items), description=description, total=len(items))
        return
    with ray_session() as session:
        gpus = int(on_gpu and session.gpus > 0)
        workers = min(session.workers(bool(gpus)), len(items))
        # the stream ends before the session, whatever happens: else both wait for each other
        with closing(_stream(function, items, workers, gpus)) as outcomes:
            for outcome in track(outcomes, description=description, total=len(items)):
                if isinstance(outcome, _Failure):
                    raise outcome.error
                yield outcome


class _Failure(NamedTuple):
    error: Exception


def portable(error: Exception) -> Exception:
    """The exception with its traceback as a note, fit to be sent to another process."""
    error.add_note(traceback.format_exc())
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # one with arguments of its own
        return RuntimeError(f"{type(error).__name__}: {error}\n{traceback.format_exc()}")
    return error


class _Actor:
    """Calls the function on one pickled item after the other."""

    def __init__(self, function: Callable[[Item], Result], folder: Path) -> None:
        enter(folder)
        self.function = function

    def __call__(self, row: dict[str, bytes]) -> dict[str, bytes]:
        from ray import cloudpickle

        try:
            outcome = self.function(pickle.loads(row["item"]))
        except Exception as error:
            outcome = _Failure(portable(error))
        return {"outcome": cloudpickle.dumps(outcome)}


def _stream(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int, gpus: int
) -> Iterator[Result | _Failure]:
    import ray
    from ray import cloudpickle
    from ray.exceptions import RayError

    quiet_data()
    rows = [{"item": cloudpickle.dumps(item)} for item in items]
    outcomes = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
        _Actor,
        fn_constructor_args=(function, Path.cwd()),
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_cpus=1,
        num_gpus=gpus or None,
        max_task_retries=RETRIES,
    )
    done = 0
    try:
        for row in outcomes.iter_rows():
            yield pickle.loads(row["outcome"])
            done += 1
    except RayError as error:
        at = ", ".join(repr(item)[:200] for item in items[done : done + 2 * workers])
        raise RuntimeError(
            f"a process died {RETRIES + 1} times at one of these items, out of memory or by a "
            f"crash: {at}"
        ) from error


def quiet_data() -> None:
    """Let Ray Data keep the order of what it is given, and be quiet about it.

    Its loop runs without a pause while results wait for a slower consumer, in a thread of that very
    consumer: a training step took twice the time. So each turn of the loop waits.
    """
    import logging

    from ray.data import DataContext
    from ray.data._internal.execution.execution_callback import ExecutionCallback

    class Patience(ExecutionCallback):
        def on_execution_step(self, executor: object) -> None:
            time.sleep(TURN)

    context = DataContext.get_current()
    context.custom_execution_callback_classes = [Patience]
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    # the number of retries has no named parameter yet
    warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated")


def enter(folder: Path) -> None:
    """Work in the folder that the driver works in.

    Raises:
        FileNotFoundError: this node does not see it; names the node and the remedy.
    """
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} is not seen by node {os.uname().nodename}: put the project on storage that "
            "all nodes share, under one path (docs/cluster.md)"
        )
    os.chdir(folder)
