"""Row groups of clip shards → pages that training reads one by one, and their random order."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fixtalk.dataset import Row, check_columns, check_footer, decode_labels, find_shards, naming

COLUMNS = ["person", "split", "frames", "speech"]  # what decides which rows are used
ORDER = 2**32 - 1  # stream of draws of the order: no lane has this number


class Page(NamedTuple):
    """What is used of a row group: the least that can be read of a shard at once."""

    shard: Path
    group: int  # of the shard
    rows: tuple[int, ...]  # of the group
    people: tuple[str, ...]  # of each of those rows
    speaks: tuple[bool, ...] = ()  # each of those rows, by what crop measured


class Item(NamedTuple):
    """A clip whose turn it is."""

    epoch: int
    page: int
    row: int  # index into the page's rows
    companion: int  # page to draw another person from


def find_pages(clips: Path, split: str, keep: Callable[[str], bool] | None = None) -> list[Page]:
    """Pages of all shards in file order: rows of a split that hold two frames or more.

    Args:
        clips: folder written by the crop stage.
        split: "train" or "test".
        keep: whether to use a person; None for all.

    Raises:
        FileNotFoundError: no shard below `clips`.
        ShardError: a shard that cannot be read.
    """
    pages = []
    for shard in find_shards(clips):
        with _open(shard) as file:
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, columns=COLUMNS)
                used = [
                    (index, row["person"], (row["speech"] or 0) > 0)
                    for index, row in enumerate(table.to_pylist())
                    if row["split"] == split and row["frames"] >= 2
                    if keep is None or keep(row["person"])
                ]
                if used:
                    pages.append(Page(shard, group, *zip(*used, strict=True)))
    return pages


def read_page(page: Page) -> list[Row]:
    """The used rows of a page, as `fixtalk.dataset.read_clips` gives them.

    Raises:
        ShardError: a shard that cannot be read.
    """
    with _open(page.shard) as file:
        rows = file.read_row_group(page.group).take(page.rows).to_pylist()
        return [decode_labels(row) for row in rows]


def missing_labels(pages: Sequence[Page], columns: Sequence[str]) -> dict[str, int]:
    """How many used rows lack a value, column by column; reads what the footers leave open.

    Raises:
        ShardError: a shard that cannot be read.
    """
    missing = dict.fromkeys(columns, 0)
    for shard, of_shard in groupby(pages, key=lambda page: page.shard):
        with _open(shard) as file:
            for page in of_shard:
                for column in columns:
                    missing[column] += _missing(file, page, column)
    return missing


def _missing(file: Any, page: Page, column: str) -> int:
    group = file.metadata.row_group(page.group)
    chunks = (group.column(index) for index in range(group.num_columns))
    chunk = next(c for c in chunks if c.path_in_schema.split(".")[0] == column)
    known = chunk.statistics
    if known is not None and known.has_null_count and known.null_count in (0, chunk.num_values):
        return len(page.rows) if known.null_count else 0
    return file.read_row_group(page.group, columns=[column])[column].take(page.rows).null_count


@contextmanager
def _open(shard: Path) -> Iterator[Any]:
    """A shard as a pyarrow ParquetFile; what is wrong with it comes with its name."""
    import pyarrow.parquet as pq

    with naming(shard):
        check_footer(shard)
        with pq.ParquetFile(shard, page_checksum_verification=True) as file:
            check_columns(file.schema_arrow.names)
            yield file


class Order:
    """Which clip each lane of the batch visits at a step: a pure function of seed, step and lane.

    In an epoch pages follow each other in random order, and so do the visits to the clips of a
    page. Each lane walks along its stretch of that sequence, so that it needs one page at a time.
    Stretches are equally long: the last ones go on at the sequence's start, by less than a clip
    a lane in all.

    Args:
        pages: all that is trained on.
        seed: of the order.
        lanes: items of a batch.
        visits: to each clip in an epoch.

    Raises:
        ValueError: no pages.
    """

    def __init__(self, pages: Sequence[Page], *, seed: int, lanes: int, visits: int) -> None:
        if not pages:
            raise ValueError("no clip holds two frames or more: nothing to train on")
        self.pages, self.seed, self.visits = pages, seed, visits
        self.people = [set(page.people) for page in pages]
        self.alone = len(set().union(*self.people)) == 1
        self.length = visits * sum(len(page.rows) for page in pages)
        self.epoch_steps = -(-self.length // lanes)
        self._drawn: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}

    def __call__(self, step: int, lane: int) -> Item:
        """The clip of a lane at a step, counted over all epochs."""
        epoch, along = divmod(step, self.epoch_steps)
        order, turns, rows = self._epoch(epoch)
        index = (lane * self.epoch_steps + along) % self.length
        turn, row = int(turns[index]), int(rows[index])
        page = int(order[turn])
        person = self.pages[page].people[row]
        return Item(epoch, page, row, page if self.alone else self._companion(order, turn, person))

    def _companion(self, order: np.ndarray, turn: int, person: str) -> int:
        """The last page up to this turn that holds another person: a lane has just read it."""
        around = (int(order[turn - back]) for back in range(len(order)))
        return next(page for page in around if self.people[page] - {person})

    def _epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Pages in their order; then, visit by visit, whose turn it is in that, and the row."""
        if epoch not in self._drawn:
            last = list(self._drawn.items())[-1:]
            self._drawn = dict([*last, (epoch, self._draw(epoch))])
        return self._drawn[epoch]

    def _draw(self, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rng = np.random.default_rng([self.seed, epoch, ORDER])
        order = rng.permutation(len(self.pages))
        visits = [self.visits * len(self.pages[page].rows) for page in order]
        rows = [rng.permutation(count) // self.visits for count in visits]
        return order, np.repeat(np.arange(len(order)), visits), np.concatenate(rows)
