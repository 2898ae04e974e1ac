"""Rows of JSON, one a line → files that survive the kill of their writer."""

import json
import os
from pathlib import Path
from typing import Any


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
