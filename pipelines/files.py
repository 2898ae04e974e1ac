"""Text, tables and rows → files that survive the kill of their writer; folders of one writer."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pandas import DataFrame

FACTS = b"fixtalk"  # key of the table's metadata
FEATURES = "features.safetensors"  # beside the table: what distances of sets are compared by


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path whose file takes the place of `path` when the block ends well.

    Neither a kill nor a power cut leaves half a file.
    """
    temporary = path.with_name(f".{path.name}")
    try:
        yield temporary
        _flush(temporary)
        temporary.replace(path)
        _flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)  # half a file would fill a full disk for good


def _flush(path: Path) -> None:
    """See a file, or the names in a folder, safe on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def require_writable(folder: Path) -> None:
    """Make a folder if it is missing, and see that files can be made in it.

    Raises:
        OSError: they cannot; names the folder and the remedy.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(
            error.errno,
            f"{folder}: cannot be written ({error.strerror}); see that it is a folder of yours "
            "(ls -ld) on a disk that is neither full nor read-only",
        ) from None


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text with its line ends as they are, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def write_table(path: Path, rows: list[dict[str, Any]], facts: dict[str, Any]) -> None:
    """Write rows as Parquet with `facts` as its metadata, whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist(rows)
    table = table.replace_schema_metadata({FACTS: json.dumps(facts, sort_keys=True)})
    with replacing(path) as temporary:
        pq.write_table(table, temporary)


def read_table(path: Path) -> tuple["DataFrame", dict[str, Any]]:
    """Rows and facts that `write_table` wrote."""
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    return table.to_pandas(), json.loads(table.schema.metadata[FACTS])


def append_row(path: Path, row: dict[str, Any]) -> None:
    """Add a row; half a line that a killed writer left at the end goes first.

    Args:
        path: has one writer at a time, and any number of readers.
        row: what JSON can hold.
    """
    with path.open("a+b") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - 1))
        if file.read() not in (b"", b"\n"):
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
        file.write(json.dumps(row).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read_rows(path: Path, start: int = 0) -> tuple[list[dict[str, Any]], int]:
    """Complete rows from byte `start` on, and the byte where the next one will begin.

    Raises:
        OSError: a complete line is not JSON.
    """
    if not path.exists():
        return [], start
    with path.open("rb") as file:
        file.seek(start)
        rest = file.read()
    complete = rest[: rest.rfind(b"\n") + 1]
    try:
        return [json.loads(line) for line in complete.splitlines()], start + len(complete)
    except ValueError as error:
        raise OSError(f"{path}: a line after byte {start} is damaged, delete it: {error}") from None


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder, which is made if missing; death frees it.

    Raises:
        BlockingIOError: another process works there; names it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            raise BlockingIOError(f"{folder}: process {holder} works there; wait for it") from None
        lock.truncate(0)
        lock.write(f"{os.getpid()} on {os.uname().nodename}\n")
        lock.flush()
        yield
