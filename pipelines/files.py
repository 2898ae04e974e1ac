"""Text and tables → files that are there whole or not at all."""

import json
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
