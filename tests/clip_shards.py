"""Clip rows as the crop stage leaves them: a shard on disk, a few rows in each row group."""

import pyarrow as pa
import pyarrow.parquet as pq

from fixtalk.dataset import ARRAYS, clip_schema, to_blob


def write_shard(clips, rows, group=8, name="00000"):
    """Rows → <clips>/shards/<name>.parquet; columns that they lack are null.

    What sounds is speech, unless a row says otherwise.
    """
    schema = clip_schema()
    empty = dict.fromkeys(schema.names) | {"split": "train", "box": [0.0, 0.0, 64.0]}
    rows = [
        empty
        | {"speech": float(bool(row.get("audio")))}
        | row
        | {label: to_blob(row[label]) for label in ARRAYS if label in row}
        for row in rows
    ]
    shards = clips / "shards"
    shards.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(rows, schema)
    pq.write_table(table, shards / f"{name}.parquet", row_group_size=group, compression="none")
    return clips
