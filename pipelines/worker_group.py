"""A function and a job → a group of Ray Train workers that survives the death of its members."""

import logging
import os
import shutil
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import distributed

from pipelines.cluster import Cluster, enter, portable, ray_session, worker_limit
from pipelines.files import write_text

Job = TypeVar("Job")

_log = logging.getLogger("fixtalk.train")

FRUITLESS = 3  # deaths in a row without progress end the run
PARENT = os.getppid()  # of the stage, from its very start


def run_workers(
    work: Callable[[Job], None],
    job: Job,
    folder: Path,
    limit: int,
    stop: Path,
    progress: Callable[[], object],
) -> None:
    """Run `work(job)` in a group of Ray Train workers until all have returned.

    A worker that dies takes the group with it, which starts again: `work` goes on from what it
    finds on disk. Its own exceptions end the run at once, but for RuntimeErrors, which broken
    connections raise; these and deaths end it where several come without progress. On a
    cluster the group has as many workers as there is room for at each start.

    Args:
        work: what each of them does; importable by name.
        job: sent to each of them.
        folder: that all nodes see; Ray's own notes go there.
        limit: workers at most.
        stop: file that appears on SIGTERM, or when DVC has gone: `work` looks for it and returns.
            A second SIGTERM ends the run as it is.
        progress: differs after each checkpoint.

    Raises:
        RuntimeError: begun on GPUs, of which there are none now.
    """
    with ray_session() as session:
        from ray.train import FailureConfig, RunConfig
        from ray.train.torch import TorchTrainer

        here, scaling = Path.cwd(), _scaling(session, limit, folder / "device")
        # states lie in a store of ours, so Ray has nothing to resume: a half-written snapshot
        # of a killed session would only stop the next one
        shutil.rmtree(folder / "ray", ignore_errors=True)
        trainer = TorchTrainer(
            lambda loop: _work_in(here, work, loop["job"]),
            train_loop_config={"job": job},
            scaling_config=scaling,
            torch_config=_no_process_group(),
            run_config=RunConfig(
                name="ray",
                storage_path=str(folder),
                failure_config=FailureConfig(max_failures=-1),
                callbacks=[ends_hopeless(progress)],
            ),
        )
        interrupt = signal.getsignal(signal.SIGINT)
        try:
            with _touching(stop):
                trainer.fit()
        except SystemExit:  # Ray's own Ctrl-C handler leaves with 0, as if all were done
            raise KeyboardInterrupt from None
        except Exception as error:
            if not stop.exists():  # a signal to the whole process group ends Ray as well
                raise _reason(error) from None
        finally:
            signal.signal(signal.SIGINT, interrupt)


def _scaling(session: Cluster, limit: int, note: Path) -> Any:
    """How many workers there are, each with a GPU where the session has some."""
    from ray.train import ScalingConfig

    has_gpu = session.gpus > 0
    _settle_device(note, "GPU" if has_gpu else "CPU", session.is_elastic)
    room, most = session.workers(has_gpu), min(limit, worker_limit() or limit)
    return ScalingConfig(
        num_workers=(1, most) if session.is_elastic else min(room, most),
        use_gpu=has_gpu,
        resources_per_worker={"CPU": 1} | ({"GPU": 1} if has_gpu else {}),
    )


def _settle_device(note: Path, found: str, is_cluster: bool) -> None:
    """Note what a run is trained on, so that lost GPUs do not go unnoticed."""
    if found == "CPU":
        if note.exists() and note.read_text(encoding="utf-8") == "GPU\n":
            raise RuntimeError(
                f"{note.parent}: trained on GPUs so far, and none is here: start nodes that have "
                f"one, or remove {note} to go on on CPUs"
            )
        if is_cluster:
            _log.warning("%s: no node has a GPU: training on CPUs, to the end", note.parent)
    write_text(note, found + "\n")


@contextmanager
def _touching(stop: Path) -> Iterator[None]:
    """Touch the file on SIGTERM, and where a stage of DVC has lost its parent."""

    def ask(*_: object) -> None:
        stop.touch()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def watch() -> None:
        while not done.wait(1.0):
            if os.getppid() != PARENT:
                stop.touch()

    before, done = signal.signal(signal.SIGTERM, ask), threading.Event()

    if "DVC_STAGE" in os.environ:  # DVC dies of SIGTERM without a word to its stage
        threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        done.set()
        signal.signal(signal.SIGTERM, before)


def _work_in(folder: Path, work: Callable[[Job], None], job: Job) -> None:
    enter(folder)
    try:
        _join()
        work(job)
    except Exception as error:
        raise portable(error) from None
    distributed.destroy_process_group()


def _join() -> None:
    """Make a process group of all workers, who meet at the address of the first one's node.

    The store that torch makes by itself listens on all addresses of that node.
    """
    import ray
    from ray.train.collective import broadcast_from_rank_zero
    from ray.train.torch import get_device

    if ray.get_gpu_ids() and not torch.cuda.is_available():
        raise ValueError(
            f"Ray sees a GPU that torch {torch.__version__} cannot use: install a CUDA build, or "
            "hide it by CUDA_VISIBLE_DEVICES="
        )
    context, listener = ray.train.get_context(), None
    rank, workers = context.get_world_rank(), context.get_world_size()
    if rank == 0:
        listener = socket.create_server((ray.util.get_node_ip_address(), 0))
    host, port = broadcast_from_rank_zero(listener and listener.getsockname())
    store = distributed.TCPStore(
        host, port, workers, rank == 0, master_listen_fd=listener and listener.detach()
    )
    backend = "nccl" if get_device().type == "cuda" else "gloo"
    distributed.init_process_group(backend, store=store, rank=rank, world_size=workers)


def _no_process_group() -> Any:
    """A configuration that keeps Ray Train from making the process group."""
    from ray.train.backend import Backend
    from ray.train.torch import TorchConfig

    class Apart(Backend):
        share_cuda_visible_devices = True  # NCCL copies between the cards of a node

    class NoProcessGroup(TorchConfig):
        backend_cls = Apart

    return NoProcessGroup()


def ends_hopeless(progress: Callable[[], object]) -> Any:
    """A callback of Ray Train's controller: it ends a run that would fail again and again."""
    from ray.exceptions import RayError
    from ray.train import UserCallback

    class EndsHopeless(UserCallback):
        reached, fruitless = None, 0

        def after_exception(self, run_context: Any, worker_exceptions: dict) -> None:
            for error in map(_reason, worker_exceptions.values()):
                if isinstance(error, torch.OutOfMemoryError):
                    raise MemoryError(f"{error}; lower train.microbatch") from error
                is_of_ray = type(error).__module__.startswith("ray.")
                if not (is_of_ray or isinstance(error, RayError | RuntimeError)):
                    raise error
            if any(map(_is_of_a_lost_node, worker_exceptions.values())):
                return  # told once a second until the node's time is up
            before, self.reached = self.reached, progress()
            self.fruitless = 1 if self.reached != before else self.fruitless + 1
            if self.fruitless >= FRUITLESS:
                raise _reason(next(iter(worker_exceptions.values())))

    return EndsHopeless()


def _is_of_a_lost_node(error: Exception) -> bool:
    """Whether a worker died as its node was taken away with notice."""
    return getattr(getattr(error, "health_check_failure", error), "preempted", False)


def _reason(error: Exception) -> Exception:
    """The exception that was raised first, without Ray's wrapping."""
    inner = getattr(error, "controller_failure", None) or getattr(error, "cause", None)
    return _reason(inner) if isinstance(inner, Exception) else error
