"""What a stage has to tell → calls for a tracking server, which wait on disk while it is away."""

import logging
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

from pipelines.backlog import ASIDE, AsideError, Backlog, Call

if TYPE_CHECKING:
    from pandas import DataFrame

LONGEST_VALUE = 6000  # characters of a parameter, MLflow's limit
SECONDS_BEFORE_RETRY = 60.0
REMEDIES = {  # by whether only calls of ASIDE are not taken
    False: "The work goes on and what it logs waits in %s; check the server or MLFLOW_TRACKING_URI",
    True: "Curves go on; pictures, files, tables and models that it does not take wait in %s; "
    "check its artifact store, and that this machine may write to it",
}

Status = Literal["FINISHED", "FAILED", "KILLED"]
Row = tuple[int, int, Mapping[str, float | None]]  # step, time in ms since 1970, values


class Server(Protocol):
    """Where calls go."""

    address: str
    run_ids: dict[str, str]  # of the keys it has met

    def send(self, call: Call) -> None:
        """Deliver a call; ConnectionError where the server does not answer."""


class Run:
    """One run of the tracking server, open from its creation on.

    Server trouble never ends the work that a run describes: calls wait in the backlog until the
    server answers again, in this process or in a later one. Pictures, files, tables and models
    that it does not take hold up nothing else. As a context manager the run ends FINISHED, FAILED
    on an exception, KILLED on Ctrl-C or SystemExit. Threads may share it.

    Args:
        server: where the calls go.
        backlog: where they wait.
        name: shown in the UI, the leaderboard row.
        key: identity of the row, such as the hash of the inputs of a training.
        tags: set on the run, over older values.
        beside: folder to keep the run's id in.
    """

    def __init__(
        self,
        server: Server,
        backlog: Backlog,
        name: str,
        key: str,
        tags: Mapping[str, str],
        beside: Path | None,
    ) -> None:
        self.server, self.backlog, self.key = server, backlog, key
        self._address = {"name": name, "key": key, "beside": beside and str(beside.resolve())}
        self._lock = threading.Lock()
        self._retry_at = {False: 0.0, True: 0.0}  # by whether a call is of ASIDE
        self._told: set[bool] = set()  # of which trouble
        self._log("open", tags={key: str(value) for key, value in tags.items()})

    @property
    def run_id(self) -> str | None:
        """Identifier on the server; None while it is not known."""
        return self.server.run_ids.get(self.key)

    def log_metrics(self, values: Mapping[str, float | None], step: int = 0) -> None:
        """Append one point to the curve of each named value; None is left out."""
        self.log_rows([(step, _now(), values)])

    def log_rows(self, rows: Iterable[Row]) -> None:
        """Append many points in one go; those that are there already do not come twice."""
        points = [
            [name, float(value), time_ms, step]
            for step, time_ms, values in rows
            for name, value in values.items()
            if value is not None
        ]
        self._log("metrics", points=points)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Add a nested dictionary as keys like `train.model.width` and `train.phases.0.steps`.

        Long values are cut and say so. MLflow parameters cannot change: a value that differs
        from the logged one stays as it is, with a warning.
        """
        self._log("params", params=dict(_flatten(params)))

    def log_image(self, path: Path, name: str, step: int, time_ms: int | None = None) -> None:
        """Add a PNG file to the UI's image grid `name`; a missing file raises."""
        self._log("image", file=_present(path), name=name, step=step, time=time_ms or _now())

    def log_file(self, path: Path, folder: str | None = None) -> None:
        """Copy a file into the run's artifacts, over one of its name; a missing file raises."""
        self._log("file", file=_present(path), folder=folder)

    def log_table(self, table: "DataFrame", name: str) -> None:
        """Store a table that the UI shows; a table of the same name is replaced, not extended."""
        self._log("table", path=f"{name}.json", text=table.to_json(orient="split", index=False))

    def log_model(
        self,
        name: str,
        step: int,
        metrics: Mapping[str, float],
        location: str,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """List a kept checkpoint among the run's models; a second time only changes its tags.

        Args:
            name: unique within the run; no slash, colon, dot, percent sign or quote.
            step: of the training.
            metrics: of the checkpoint; they show as curves of the run too.
            location: path or URL of the checkpoint, which itself is not uploaded.
            tags: further ones.
        """
        tags = {key: str(value) for key, value in (tags or {}).items()}
        tags["fixtalk.location"] = location
        self._log("model", name=name, step=step, metrics=dict(metrics), tags=tags)

    def forget_model(self, name: str) -> None:
        """Take a checkpoint that is kept no longer off the list, where it is on it."""
        self._log("forget", name=name)

    def finish(self, status: Status = "FINISHED") -> None:
        """Close the run; says once more if anything waits."""
        self._retry_at = {False: 0.0, True: 0.0}
        self._log("status", status=status)
        if waiting := len(self.backlog):
            _warn(
                "MLflow at %s: %d calls of run '%s' wait in %s; any later stage sends them",
                self.server.address, waiting, self._address["name"], self.backlog.path,
            )  # fmt: skip

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

    def _log(self, kind: str, **details: Any) -> None:
        call = {"kind": kind, "run": self._address, "time": _now(), **details}
        with self._lock:
            if not self._deliver(call):
                self.backlog.add(call)

    def _deliver(self, call: Call) -> bool:
        """Send what waits and then the call; says whether it went out."""
        is_aside = call["kind"] in ASIDE
        if not self._is_due(False) or (is_aside and not self._is_due(True)):
            return False
        if not self._send_waiting(is_aside):
            return False
        try:
            self.server.send(call)
        except OSError as error:
            self._put_off(error, is_aside)
            return False
        self._told.discard(is_aside)
        return True

    def _send_waiting(self, is_aside: bool) -> bool:
        """Send what waits and is due; says whether a call, which may be of ASIDE, can follow."""
        tries_aside = self._is_due(True)
        try:
            self.backlog.send(self.server.send, with_aside=tries_aside)
        except AsideError as error:
            self._put_off(error, True)
            return not is_aside
        except OSError as error:
            self._put_off(error, False)
            return False
        if tries_aside:
            self._told.discard(True)
        return True

    def _is_due(self, is_aside: bool) -> bool:
        return time.monotonic() >= self._retry_at[is_aside]

    def _put_off(self, error: OSError, is_aside: bool) -> None:
        """Try nothing of its kind for a while; tell of the first trouble in a row."""
        self._retry_at[is_aside] = time.monotonic() + SECONDS_BEFORE_RETRY
        if is_aside not in self._told:
            message = f"MLflow at %s: %s. {REMEDIES[is_aside]}"
            _warn(message, self.server.address, error, self.backlog.path)
        self._told.add(is_aside)


def _present(path: Path) -> str:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: missing, it cannot be logged to MLflow")
    return str(path)


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


def _now() -> int:
    return int(time.time() * 1000)


def _warn(message: str, *values: object) -> None:
    logging.getLogger("fixtalk.tracking").warning(message, *values)
