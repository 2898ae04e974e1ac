"""A function and a job → a group of Ray Train workers that survives the death of its members."""

import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pipelines.cluster import CPUS_PER_WORKER, enter, ray_session, wished_workers

Job = TypeVar("Job")

RESTARTS = 8  # after deaths, each from the last checkpoint


def run_workers(
    work: Callable[[Job], None], job: Job, folder: Path, limit: int, stop: Path
) -> None:
    """Run `work(job)` in a group of Ray Train workers until all have returned.

    A worker that dies takes the group with it, which starts again: `work` goes on from what it
    finds on disk. Its own exceptions, other than of a connection, end the run at once. On
    several nodes the group has as many workers as there is room for at each start.

    Args:
        work: what each of them does; importable by name.
        job: sent to each of them.
        folder: that all nodes see; Ray's own notes go there.
        limit: workers at most.
        stop: file that appears on SIGTERM, or when DVC has gone: `work` looks for it and returns.
    """
    stop.unlink(missing_ok=True)
    with ray_session() as session:
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer

        has_gpu, here = session.gpus > 0, Path.cwd()
        workers = min(session.workers(has_gpu), limit)
        # states lie in a store of ours, so Ray has nothing to resume: a half-written snapshot
        # of a killed session would only stop the next one
        shutil.rmtree(folder / "ray", ignore_errors=True)
        trainer = TorchTrainer(
            lambda loop: _work_in(here, work, loop["job"]),
            train_loop_config={"job": job},
            scaling_config=ScalingConfig(
                num_workers=workers
                if session.nodes == 1
                else (1, min(limit, wished_workers() or limit)),
                use_gpu=has_gpu,
                resources_per_worker={"CPU": CPUS_PER_WORKER} | ({"GPU": 1} if has_gpu else {}),
            ),
            torch_config=TorchConfig(backend="nccl" if has_gpu else "gloo"),
            run_config=RunConfig(
                name="ray",
                storage_path=str(folder),
                failure_config=FailureConfig(max_failures=RESTARTS),
                callbacks=[_end_at_own_error()],
            ),
        )
        interrupt = signal.getsignal(signal.SIGINT)
        try:
            with _touching(stop):
                trainer.fit()
        except SystemExit:  # Ray's own Ctrl-C handler leaves with 0, as if all were done
            raise KeyboardInterrupt from None
        except Exception as error:
            raise _reason(error) from None
        finally:
            signal.signal(signal.SIGINT, interrupt)


@contextmanager
def _touching(stop: Path) -> Iterator[None]:
    """Touch the file on SIGTERM, and where a stage of DVC has lost its parent."""
    before = signal.signal(signal.SIGTERM, lambda *_: stop.touch())
    done, parent = threading.Event(), os.getppid()

    def watch() -> None:
        while not done.wait(1.0):
            if os.getppid() != parent:
                stop.touch()

    if "DVC_STAGE" in os.environ:  # DVC dies of SIGTERM without a word to its stage
        threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        done.set()
        signal.signal(signal.SIGTERM, before)


def _work_in(folder: Path, work: Callable[[Job], None], job: Job) -> None:
    enter(folder)
    work(job)


def _end_at_own_error() -> Any:
    """A callback of Ray Train's controller: an error that would come again ends the run."""
    from ray.exceptions import RayError
    from ray.train import UserCallback

    class EndAtOwnError(UserCallback):
        def after_exception(
            self, run_context: Any, worker_exceptions: dict[int, Exception]
        ) -> None:
            for error in map(_reason, worker_exceptions.values()):
                is_of_ray = type(error).__module__.startswith("ray.")
                # a broken connection to another worker is a RuntimeError of torch
                if not (is_of_ray or isinstance(error, RayError | RuntimeError)):
                    raise error

    return EndAtOwnError()


def _reason(error: Exception) -> Exception:
    """The exception that was raised first, without Ray's wrapping."""
    inner = getattr(error, "controller_failure", None) or getattr(error, "cause", None)
    return _reason(inner) if isinstance(inner, Exception) else error
