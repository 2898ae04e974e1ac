"""Sources to fetch → their states in the ledger, by a few workers that back off together."""

import os
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from pipelines.sources.breaker import BlockedError, Breaker
from pipelines.sources.ledger import FetchError, Ledger, State

ROUNDS = 3  # a blocked or corrupt source is tried in one run
MOST_WORKERS = 4  # more than that from one address earns a block
AGAIN = {State.TODO, State.BLOCKED, State.CORRUPT}  # within a run
TRIED_LAST = {State.BLOCKED, State.REFUSED, State.FAILED}  # they may say nothing of the others


class Job(NamedTuple):
    """A source, and the function that fetches it and makes its clips, or raises FetchError."""

    source: str
    work: Callable[[Breaker], None]


def num_workers() -> int:
    """FIXTALK_DOWNLOADS, from 1 (where it is not set) to 4.

    Raises:
        ValueError: another value.
    """
    text = os.environ.get("FIXTALK_DOWNLOADS", "1")
    if not text.isdigit() or not 1 <= int(text) <= MOST_WORKERS:
        raise ValueError(
            f"FIXTALK_DOWNLOADS={text!r}: write 1 to {MOST_WORKERS}; more earn a block"
        )
    return int(text)


def is_offline() -> bool:
    """FIXTALK_OFFLINE=1: only what is on the disk already is used."""
    return os.environ.get("FIXTALK_OFFLINE", "") not in ("", "0")


def harvest(jobs: Sequence[Job], ledger: Ledger, again: Collection[State] = AGAIN) -> None:
    """Work on every source that is not gone; in the ledger stands what became of it.

    Args:
        jobs: in the order of work; what was refused in an earlier run comes last.
        ledger: of all runs.
        again: states of sources that are tried three times in one run.

    Raises:
        BlockedError: the server refused too often in a row; the same command goes on later. Not
            when only what had been refused before is refused again: coverage decides on that.
    """
    breaker = Breaker()
    waiting = [job for job in jobs if ledger.state(job.source)[0] != State.GONE]
    waiting.sort(key=lambda job: ledger.state(job.source)[0] in TRIED_LAST)
    for number in range(1 if is_offline() else ROUNDS):
        if not waiting:
            return
        _one_round(waiting, ledger, breaker)
        if breaker.reason and number:
            return
        if breaker.reason:
            raise BlockedError(_explain(breaker.reason, jobs, ledger))
        waiting = [job for job in waiting if ledger.state(job.source)[0] in again]


def _one_round(jobs: Sequence[Job], ledger: Ledger, breaker: Breaker) -> None:
    from rich.progress import track

    with ThreadPoolExecutor(num_workers()) as pool:
        results = pool.map(lambda job: _attempt(job, ledger, breaker), jobs)
        try:
            for _ in track(results, description="fetch", total=len(jobs)):
                pass
        except BaseException:  # Ctrl-C or a full disk: the workers must not go on for hours
            breaker.stop("interrupted")
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _attempt(job: Job, ledger: Ledger, breaker: Breaker) -> None:
    if not breaker.wait():
        return
    try:
        job.work(breaker)
    except FetchError as error:
        state = _proven(error, job.source, ledger)
        ledger.enter(job.source, state, str(error))
        if state == State.BLOCKED:
            breaker.refused(f"{job.source}: {error}")
        elif state not in TRIED_LAST:  # those tell nothing of the server
            breaker.answered()
        return
    ledger.enter(job.source, State.OK)
    breaker.answered()


def _proven(error: FetchError, source: str, ledger: Ledger) -> State:
    """A doubtful refusal is the source's own once it comes again, from a server that serves."""
    was_refused = ledger.state(source)[0] in (State.BLOCKED, State.REFUSED)
    if error.is_doubtful and not (was_refused and ledger.knows_server()):
        return State.BLOCKED
    return error.state


def _explain(reason: str, jobs: Sequence[Job], ledger: Ledger) -> str:
    states = Counter(ledger.state(job.source)[0].value for job in jobs)
    counts = ", ".join(f"{count} {state}" for state, count in states.most_common())
    return (
        f"stopped: {reason}\nof {len(jobs)} sources: {counts}. Wait some hours, then run the same "
        "command: it goes on here. Fewer workers (FIXTALK_DOWNLOADS=1), cookies of a signed-in "
        "browser (FIXTALK_COOKIES=file) or a newer yt-dlp may help (docs/data.md)"
    )
