"""Name and key → one MLflow run per leaderboard row, kept across restarts."""

import hashlib
import json
import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pipelines.backlog import Backlog, Call, send_waiting
from pipelines.files import read_rows, write_text
from pipelines.revision import git
from pipelines.run import Run

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel

EXPERIMENT = "fixtalk"
KEY_TAG = "fixtalk.key"
TABLES_TAG = "mlflow.loggedArtifacts"  # where the MLflow UI looks for tables
OF_MLFLOW_3 = {"model", "forget"}  # calls that older servers know no endpoint for
PER_BATCH = {"metrics": 1000, "params": 100, "tags": 100}  # MLflow's limits
LOG = logging.getLogger("fixtalk.tracking")
BACKLOG = "mlflow_backlog"  # folder of calls that wait for the server
RUN_FILE = "mlflow_run.json"  # beside the checkpoints of a run
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # the default waits minutes for a dead server
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


def open_run(
    name: str, key: str, tags: Mapping[str, str] | None = None, beside: Path | None = None
) -> Run:
    """The run of the experiment that carries `key`, reopened; a new one where there is none.

    Calls of other runs that wait in the backlog are sent as well.

    Args:
        name: shown in the UI, the leaderboard row.
        key: identity of the row, such as the hash of the inputs of a training.
        tags: set on the run, over older values.
        beside: folder, such as the one of the checkpoints, that keeps the run's id: the run is
            found again even where its key was taken off.
    """
    if "'" in key:
        raise ValueError(f"key {key!r}: a run key must not hold a quote")
    server, folder = Server(tracking_uri()), project_root() / BACKLOG
    backlog = Backlog(folder / f"{quote(key, safe='')}.jsonl")
    run = Run(server, backlog, name, key, tags or {}, beside)
    if run.run_id:
        for path, error in send_waiting(folder, server.send, backlog.path).items():
            LOG.warning("MLflow at %s: %s; it waits in %s", server.address, error, path)
    return run


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, or mlflow.db in the project; paths absolute, as workers move."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    scheme, slashes, database = uri.partition(":///")
    if slashes and scheme.startswith("sqlite"):
        return f"{scheme}:///{project_root() / database}"
    path = uri.removeprefix("file:")
    is_relative = ":" not in path and not path.startswith(("/", "databricks"))
    return str(project_root() / path) if is_relative else uri


def project_root() -> Path:
    """The current folder; the project itself where DVC runs an experiment in a copy of it."""
    here = Path.cwd()
    copies = [p for p in here.parents if p.parts[-3:] == (".dvc", "tmp", "exps")]
    return copies[0].parents[2] if copies else here


def provenance(stage: str) -> dict[str, str]:
    """Tags that lead from a number to the code and inputs of the stage that made it."""
    lock = Path("dvc.lock")
    digest = hashlib.sha256(lock.read_bytes()).hexdigest() if lock.is_file() else "none"
    status = git("status", "--porcelain", "--untracked-files=no")
    return {
        f"{stage}.git_commit": git("rev-parse", "HEAD") or "unknown",
        f"{stage}.git_dirty": "unknown" if status is None else str(bool(status)).lower(),
        f"{stage}.dvc_lock_sha256": digest,
    }


class Server:
    """An MLflow server or database, and the calls that it takes; each may come twice."""

    def __init__(self, uri: str) -> None:
        self.uri, self.address = uri, _without_password(uri)
        self.run_ids: dict[str, str] = {}
        self._refused: set[str] = set()
        for name, value in QUIET.items():  # which mlflow reads when it is imported
            os.environ.setdefault(name, value)
        logging.getLogger("alembic").setLevel(logging.WARNING)

    def send(self, call: Call) -> None:
        """Deliver a call to its run, which is created where there is none.

        What the server understands and refuses is left out with a warning: it would again.

        Raises:
            ConnectionError: the server does not answer, or not as MLflow does.
        """
        from mlflow.exceptions import MlflowException

        kind, key = call["kind"], call["run"]["key"]
        try:
            client = _client(self.uri)
            if key not in self.run_ids:
                self.run_ids[key] = _find_run(client, self, call)
            try:
                SENDERS[kind](client, self.run_ids[key], call)
            except (MlflowException, FileNotFoundError) as error:
                code = getattr(error, "error_code", "INVALID_PARAMETER_VALUE")
                is_old = code == "ENDPOINT_NOT_FOUND" and kind in OF_MLFLOW_3
                if is_old:
                    client.get_run(self.run_ids[key])  # raises where a proxy said so, no server
                elif code != "INVALID_PARAMETER_VALUE":
                    raise
                if _reason(error) not in self._refused:
                    message = "MLflow at %s refuses %s of run key '%s', they are left out: %s%s"
                    remedy = "; update the server to MLflow 3" if is_old else ""
                    LOG.warning(message, self.address, kind, key, _reason(error), remedy)
                self._refused.add(_reason(error))
        except Exception as error:  # databases and artifact stores have their own kinds
            self.run_ids.pop(key, None)  # may be another server when it is back
            raise ConnectionError(f"could not deliver '{kind}' ({_reason(error)})") from error


def _find_run(client: "MlflowClient", server: Server, call: Call) -> str:
    """Identifier of a call's run: noted beside the checkpoints, found by its key, or new."""
    key, beside = call["run"]["key"], call["run"]["beside"]
    note = Path(beside) / RUN_FILE if beside else None
    experiment = _experiment(client, server.uri)
    run_id = _noted_run(client, note) if note else None
    if run_id is None:
        found = client.search_runs([experiment], f"tags.`{KEY_TAG}` = '{key}'", max_results=1)
        run = found[0] if found else client.create_run(
            experiment, call["time"], {KEY_TAG: key}, run_name=call["run"]["name"]
        )  # fmt: skip
        run_id = run.info.run_id
    if note and note.parent.is_dir():
        write_text(note, json.dumps({"uri": server.address, "run_id": run_id}) + "\n")
    return run_id


def _noted_run(client: "MlflowClient", note: Path) -> str | None:
    """The run that a file names, if this server has it."""
    from mlflow.exceptions import MlflowException

    for row in read_rows(note)[0]:
        try:
            info = client.get_run(row["run_id"]).info
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
        else:
            return info.run_id if info.lifecycle_stage == "active" else None
    return None


def _open(client: "MlflowClient", run_id: str, call: Call) -> None:
    client.update_run(run_id, status="RUNNING", name=call["run"]["name"])
    _send_batches(client, run_id, "tags", call["tags"].items())


def _send_params(client: "MlflowClient", run_id: str, call: Call) -> None:
    params, known = call["params"], client.get_run(run_id).data.params
    for key, value in params.items():
        if known.get(key, value) != value:
            LOG.warning("run %s keeps %s=%s, not %s", run_id, key, known[key], value)
    new = [item for item in params.items() if item[0] not in known]
    _send_batches(client, run_id, "params", new)


def _send_batches(
    client: "MlflowClient", run_id: str, kind: str, items: Iterable[Sequence[Any]]
) -> None:
    """Log metrics, params or tags, each given by the arguments of its MLflow class."""
    from mlflow.entities import Metric, Param, RunTag

    entity = {"metrics": Metric, "params": Param, "tags": RunTag}[kind]
    entities = [entity(*item) for item in items]
    for start in range(0, len(entities), PER_BATCH[kind]):
        client.log_batch(run_id, **{kind: entities[start : start + PER_BATCH[kind]]})


def _send_image(client: "MlflowClient", run_id: str, call: Call) -> None:
    from mlflow.artifacts import list_artifacts
    from PIL import Image

    name, step, time = call["name"], call["step"], call["time"]
    last = re.compile(rf"images/{re.escape(name)}\+step\+{step}\+timestamp\+{time}\+.*\.webp")
    folder = f"{client.get_run(run_id).info.artifact_uri}/images"
    # by its address, since a run's own would ask for models that older servers do not know
    there = list_artifacts(artifact_uri=folder, tracking_uri=client.tracking_uri)
    if not any(last.fullmatch(file.path) for file in there):
        with Image.open(call["file"]) as image:
            client.log_image(run_id, image, None, name, step, time, synchronous=True)


def _send_table(client: "MlflowClient", run_id: str, call: Call) -> None:
    client.log_text(run_id, call["text"], call["path"])
    entries = json.loads(client.get_run(run_id).data.tags.get(TABLES_TAG, "[]"))
    entry = {"path": call["path"], "type": "table"}
    if entry not in entries:
        client.set_tag(run_id, TABLES_TAG, json.dumps([*entries, entry]))


def _send_model(client: "MlflowClient", run_id: str, call: Call) -> None:
    from mlflow.entities import LoggedModelOutput

    run, models = client.get_run(run_id), _models(client, run_id, call["name"])
    model = models[0] if models else client.create_logged_model(
        run.info.experiment_id, call["name"], run_id
    )  # fmt: skip
    client.set_logged_model_tags(model.model_id, call["tags"])
    if model.status == "READY":
        return
    if model.model_id not in [output.model_id for output in run.outputs.model_outputs]:
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, call["step"])])
    place = call["time"], call["step"], model.model_id
    _send_batches(client, run_id, "metrics", [(*m, *place) for m in call["metrics"].items()])
    client.finalize_logged_model(model.model_id, "READY")


def _forget_model(client: "MlflowClient", run_id: str, call: Call) -> None:
    for model in _models(client, run_id, call["name"]):
        client.delete_logged_model(model.model_id)


def _models(client: "MlflowClient", run_id: str, name: str) -> "list[LoggedModel]":
    experiment = client.get_run(run_id).info.experiment_id
    query = f"name = '{name}' AND source_run_id = '{run_id}'"
    return client.search_logged_models([experiment], query)


SENDERS: "dict[str, Callable[[MlflowClient, str, Call], None]]" = {
    "open": _open,
    "metrics": lambda client, run, call: _send_batches(client, run, "metrics", call["points"]),
    "params": _send_params,
    "image": _send_image,
    "file": lambda client, run, call: client.log_artifact(run, call["file"], call["folder"]),
    "table": _send_table,
    "model": _send_model,
    "forget": _forget_model,
    "status": lambda client, run, call: client.set_terminated(run, call["status"], call["time"]),
}


@cache
def _client(uri: str) -> "MlflowClient":
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def _experiment(client: "MlflowClient", uri: str) -> str:
    """Identifier of the experiment; two processes may create it at the same time."""
    from mlflow.exceptions import MlflowException

    known = client.get_experiment_by_name(EXPERIMENT)
    if known:
        return known.experiment_id
    database = Path(uri.removeprefix("sqlite:///")).resolve()
    beside = (database.parent / "mlartifacts").as_uri()
    artifacts = beside if uri.startswith("sqlite:///") else None
    try:
        return client.create_experiment(EXPERIMENT, artifact_location=artifacts)
    except MlflowException:
        known = client.get_experiment_by_name(EXPERIMENT)
        if known is None:
            raise
        return known.experiment_id


def _reason(error: Exception) -> str:
    return _without_password(str(error).strip().partition("\n")[0]) or type(error).__name__


def _without_password(text: str) -> str:
    return re.sub(r"//[^/\s]*@", "//", text)
