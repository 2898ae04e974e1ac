"""Text and tables → files that are there whole or not at all; and folders of one writer."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pandas import DataFrame

FACTS = b"fixtalk"  # key of the table's metadata


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text with its line ends as they are, under a temporary name until complete."""
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(text, encoding="utf-8", newline="")
    temporary.replace(path)


def write_table(path: Path, rows: list[dict[str, Any]], facts: dict[str, Any]) -> None:
    """Write rows as Parquet with `facts` as its metadata, under a temporary name until complete."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist(rows)
    table = table.replace_schema_metadata({FACTS: json.dumps(facts, sort_keys=True)})
    temporary = path.with_name(f".{path.name}")
    pq.write_table(table, temporary)
    temporary.replace(path)


def read_table(path: Path) -> tuple["DataFrame", dict[str, Any]]:
    """Rows and facts that `write_table` wrote."""
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    return table.to_pandas(), json.loads(table.schema.metadata[FACTS])


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
