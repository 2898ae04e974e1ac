"""Shards: bounded in bytes, read in small groups, checked when read."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fixtalk.dataset import FOOTERS, ShardError, clip_schema, find_shards, read_clips
from fixtalk.pages import find_pages, read_page
from fixtalk.shards import ROW_GROUP_BYTES, ShardWriter

EMPTY = dict.fromkeys(clip_schema().names) | {"box": [0.0, 0.0, 64.0]}


def written(folder, sizes, megabytes):
    """Clips with videos of these sizes, added one by one."""
    (folder / "shards").mkdir(parents=True)
    writer = ShardWriter(folder / "shards", megabytes)
    for number, num_bytes in enumerate(sizes):
        row = EMPTY | {
            "clip": str(number), "person": "P", "split": "train", "frames": 2,
            "video": bytes([number % 256]) * num_bytes, "audio": b"",
        }  # fmt: skip
        writer.add(pa.RecordBatch.from_pylist([row], clip_schema()))
    return writer.close()


def groups(folder):
    """Numbers of rows and bytes of every row group of every shard."""
    files = [pq.ParquetFile(shard).metadata for shard in find_shards(folder)]
    parts = [file.row_group(n) for file in files for n in range(file.num_row_groups)]
    return [(part.num_rows, part.total_byte_size) for part in parts]


def test_files_and_row_groups_are_bounded_in_bytes(tmp_path):
    index = written(tmp_path, [3 * 2**20] * 20, megabytes=33.0)

    sizes = [shard.stat().st_size for shard in find_shards(tmp_path)]
    assert max(sizes) <= 33.1 * 2**20
    assert [rows for rows, _ in groups(tmp_path)] == [5, 5, 5, 5]
    assert max(num_bytes for _, num_bytes in groups(tmp_path)) <= ROW_GROUP_BYTES
    assert index["shard"].value_counts().to_dict() == {"00000.parquet": 10, "00001.parquet": 10}
    for one in index.itertuples():
        table = pq.read_table(tmp_path / "shards" / one.shard, columns=["clip"])
        assert table["clip"][one.row].as_py() == one.clip


def test_small_clips_go_by_eight_and_large_ones_alone(tmp_path):
    written(tmp_path, [10] * 9 + [20 * 2**20] * 2 + [10], megabytes=1.0)

    assert [rows for rows, _ in groups(tmp_path)] == [8, 1, 1, 1, 1]


def test_every_column_is_plain_and_has_a_checksum(tmp_path):
    written(tmp_path, [1000] * 3, megabytes=1.0)
    shard = find_shards(tmp_path)[0]

    columns = pq.ParquetFile(shard).metadata.row_group(0)
    for number in range(columns.num_columns):
        assert columns.column(number).compression == "UNCOMPRESSED"
        assert not columns.column(number).has_dictionary_page
    good = shard.read_bytes()
    place = good.index(bytes([1]) * 1000) + 500  # a bit of a video that any decoder would take
    shard.write_bytes(good[:place] + b"\x03" + good[place + 1 :])
    page = find_pages(tmp_path, "train")[0]
    for read in (lambda: read_clips(tmp_path), lambda: read_page(page)):
        with pytest.raises(
            ShardError, match=r"00000.parquet cannot be read .*: run the crop stage"
        ):
            read()


@pytest.mark.parametrize("known", ["[]", "null", "{", "{}", '{"00000.parquet": 1}'])
def test_footers_that_do_not_match_are_named(tmp_path, known):
    written(tmp_path, [1000], megabytes=1.0)
    (tmp_path / "shards" / FOOTERS).write_text(known)

    with pytest.raises(ShardError, match=r"00000.parquet cannot be read"):
        read_clips(tmp_path)


def test_labels_of_a_wrong_length_are_named(tmp_path):
    written(tmp_path, [1000], megabytes=1.0)
    shard = find_shards(tmp_path)[0]
    shard.with_name(FOOTERS).unlink()
    row = pq.read_table(shard).to_pylist()[0] | {"pose": b"abc"}
    pq.write_table(pa.Table.from_pylist([row], clip_schema()), shard)

    for read in (read_clips, lambda clips: read_page(find_pages(clips, "train")[0])):
        with pytest.raises(ShardError, match=r"00000.parquet cannot be read"):
            read(tmp_path)


@pytest.mark.parametrize(
    "columns", [["points", "head_pose", "mouth", "face_pixels", "sharpness", "speech"], ["video"]]
)
def test_shards_without_all_columns_are_refused(tmp_path, columns):
    written(tmp_path, [1000] * 3, megabytes=1.0)
    shard = find_shards(tmp_path)[0]
    shard.with_name(FOOTERS).unlink()
    pq.write_table(pq.read_table(shard).drop_columns(columns), shard)

    for read in (read_clips, lambda clips: find_pages(clips, "train")):
        with pytest.raises(ShardError, match=f"lacks the columns .*{columns[-1]}.*: run the crop"):
            read(tmp_path)
