"""Name and key → one MLflow run per leaderboard row, kept across restarts."""

import hashlib
import json
import logging
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

if TYPE_CHECKING:
    import numpy as np
    from mlflow import MlflowClient
    from pandas import DataFrame

EXPERIMENT = "fixtalk"
KEY_TAG = "fixtalk.key"
TABLES_TAG = "mlflow.loggedArtifacts"  # where the MLflow UI looks for tables
PARAMS_PER_BATCH = 100  # MLflow's limit
LONGEST_VALUE = 6000  # characters, MLflow's limit
SECONDS_BEFORE_RETRY = 60.0
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # the default waits minutes for a dead server
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}

Status = Literal["FINISHED", "FAILED", "KILLED"]


@dataclass
class Health:
    """Trouble of one run in one process: what could not be logged, and when to try again."""

    dropped: int = 0
    retry_at: float = 0.0


@dataclass(frozen=True)
class Run:
    """Handle of one MLflow run; `Run(uri, run_id)` opens it again in any process.

    Tracking trouble never ends the work it describes: what cannot be logged is counted, one
    warning says so, and logging goes on when the server answers again. As a context manager
    the run ends FINISHED, FAILED on an exception, KILLED on Ctrl-C or SystemExit.

    Attributes:
        uri: MLflow tracking URI.
        run_id: None when the server could not be reached: nothing is logged.
    """

    uri: str
    run_id: str | None
    health: Health = field(default_factory=Health, compare=False, repr=False)

    def log_metrics(self, values: Mapping[str, float | None], step: int = 0) -> None:
        """Append one point to the curve of each named value; None is left out."""
        stamp = int(time.time() * 1000)

        def send(client: "MlflowClient", run_id: str) -> None:
            from mlflow.entities import Metric

            points = [Metric(k, float(v), stamp, step) for k, v in values.items() if v is not None]
            client.log_batch(run_id, metrics=points)

        self._send(send, f"metrics of step {step}")

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Add a nested dictionary as keys like `train.model.width` and `train.phases.0.steps`.

        Long values are cut and say so. MLflow parameters cannot change: a value that differs
        from the logged one stays as it is, with a warning.
        """

        def send(client: "MlflowClient", run_id: str) -> None:
            from mlflow.entities import Param

            known = client.get_run(run_id).data.params
            new = [Param(k, v) for k, v in _flatten(params) if k not in known]
            for key, value in _flatten(params):
                if known.get(key, value) != value:
                    _log().warning("run %s keeps %s=%s, not %s", run_id, key, known[key], value)
            for start in range(0, len(new), PARAMS_PER_BATCH):
                client.log_batch(run_id, params=new[start : start + PARAMS_PER_BATCH])

        self._send(send, "parameters")

    def log_image(self, image: "np.ndarray", name: str, step: int | None = None) -> None:
        """Add a uint8 (height, width, 3) picture: to the image grid at `step`, or as a file."""

        def send(client: "MlflowClient", run_id: str) -> None:
            if step is None:
                client.log_image(run_id, image, artifact_file=f"{name}.png")
            else:
                client.log_image(run_id, image, key=name, step=step, synchronous=True)

        self._send(send, f"image {name}")

    def log_file(self, path: Path, folder: str | None = None) -> None:
        """Copy a file into the run's artifacts, over one of its name; a missing file raises."""
        if not path.is_file():
            raise FileNotFoundError(f"{path}: missing, it cannot be logged to MLflow")
        self._send(lambda client, run: client.log_artifact(run, str(path), folder), str(path))

    def log_table(self, table: "DataFrame", name: str) -> None:
        """Store a table that the UI shows; a table of the same name is replaced, not extended."""
        path = f"{name}.json"

        def send(client: "MlflowClient", run_id: str) -> None:
            client.log_text(run_id, table.to_json(orient="split", index=False), path)
            tags = client.get_run(run_id).data.tags
            entries = json.loads(tags.get(TABLES_TAG, "[]"))
            entry = {"path": path, "type": "table"}
            if entry not in entries:
                client.set_tag(run_id, TABLES_TAG, json.dumps([*entries, entry]))

        self._send(send, f"table {name}")

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set or overwrite tags."""

        def send(client: "MlflowClient", run_id: str) -> None:
            from mlflow.entities import RunTag

            client.log_batch(run_id, tags=[RunTag(key, str(tag)) for key, tag in tags.items()])

        self._send(send, "tags")

    def finish(self, status: Status = "FINISHED") -> None:
        """Close the run; says once more if anything is missing from it."""
        if self.health.dropped:
            _log().warning(
                "MLflow run %s is incomplete: %d log calls did not arrive at %s",
                self.run_id, self.health.dropped, self.uri,
            )  # fmt: skip
            self.health.retry_at = 0.0
            self.set_tags({"fixtalk.dropped_log_calls": str(self.health.dropped)})
        self._send(lambda client, run: client.set_terminated(run, status), f"status {status}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.finish("FINISHED")
        else:
            self.finish("KILLED" if issubclass(kind, KeyboardInterrupt | SystemExit) else "FAILED")

    def _send(self, action: "Callable[[MlflowClient, str], None]", what: str) -> None:
        if self.run_id is None:
            return
        if time.monotonic() < self.health.retry_at:
            self.health.dropped += 1
            return
        try:
            action(_client(self.uri), self.run_id)
        except _troubles() as error:
            if not self.health.dropped:
                _warn(self.uri, f"could not log {what}", error)
            self.health.dropped += 1
            self.health.retry_at = time.monotonic() + SECONDS_BEFORE_RETRY


def open_run(name: str, key: str, tags: Mapping[str, str] | None = None) -> Run:
    """The run of the experiment that carries `key`, reopened; a new one where there is none.

    Args:
        name: shown in the UI, the leaderboard row.
        key: identity of the row, such as the hash of the inputs of a training.
        tags: set on the run, over older values.
    """
    if "'" in key:
        raise ValueError(f"key {key!r}: a run key must not hold a quote")
    uri = tracking_uri()
    try:
        client = _client(uri)
        experiment = _experiment(client, uri)
        query = f"tags.`{KEY_TAG}` = '{key}'"
        found = client.search_runs([experiment], query, max_results=1)
        if found:
            run_id = found[0].info.run_id
            client.update_run(run_id, status="RUNNING", name=name)
        else:
            run_id = client.create_run(experiment, tags={KEY_TAG: key}, run_name=name).info.run_id
    except _troubles() as error:
        _warn(uri, f"could not open run '{name}'; this row is not logged", error)
        return Run(uri, None)
    run = Run(uri, run_id)
    if tags:
        run.set_tags(tags)
    return run


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, or mlflow.db in the current folder; paths absolute, as workers move."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    scheme, slashes, database = uri.partition(":///")
    if slashes and scheme.startswith("sqlite"):
        return f"{scheme}:///{Path.cwd() / database}"
    path = uri.removeprefix("file:")
    is_relative = ":" not in path and not path.startswith(("/", "databricks"))
    return str(Path.cwd() / path) if is_relative else uri


def provenance(stage: str) -> dict[str, str]:
    """Tags that lead from a number to the code and inputs of the stage that made it."""
    lock = Path("dvc.lock")
    digest = hashlib.sha256(lock.read_bytes()).hexdigest() if lock.is_file() else "none"
    status = _git("status", "--porcelain", "--untracked-files=no")
    return {
        f"{stage}.git_commit": _git("rev-parse", "HEAD") or "unknown",
        f"{stage}.git_dirty": "unknown" if status is None else str(bool(status)).lower(),
        f"{stage}.dvc_lock_sha256": digest,
    }


def _git(*arguments: str) -> str | None:
    try:
        command = ["git", *arguments]
        result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()


@cache
def _client(uri: str) -> "MlflowClient":
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def _experiment(client: "MlflowClient", uri: str) -> str:
    """Identifier of the experiment; two processes may create it at the same time."""
    from mlflow.exceptions import MlflowException

    known = client.get_experiment_by_name(EXPERIMENT)
    if known:
        return known.experiment_id
    artifacts = None
    if uri.startswith("sqlite:///"):
        database = Path(uri.removeprefix("sqlite:///")).resolve()
        artifacts = (database.parent / "mlartifacts").as_uri()
    try:
        return client.create_experiment(EXPERIMENT, artifact_location=artifacts)
    except MlflowException:
        known = client.get_experiment_by_name(EXPERIMENT)
        if known is None:
            raise
        return known.experiment_id


def _troubles() -> tuple[type[Exception], ...]:
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, SQLAlchemyError, OSError


def _flatten(params: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in params.items():
        if isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
            value = dict(enumerate(value))
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            text = str(value)
            mark = f"… ({len(text)} characters)"
            is_long = len(text) > LONGEST_VALUE
            yield f"{prefix}{key}", text[: LONGEST_VALUE - len(mark)] + mark if is_long else text


def _log() -> logging.Logger:
    return logging.getLogger("fixtalk.tracking")


def _warn(uri: str, what: str, error: Exception) -> None:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    _log().warning(
        "MLflow at %s: %s (%s). The work goes on; check the server or MLFLOW_TRACKING_URI",
        uri, what, reason,
    )  # fmt: skip
