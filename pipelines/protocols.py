"""Held-out clips → the pairs of each protocol: whose picture moves, who drives, what is true."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

PIECE = "@"  # crop marks the motion of a piece that starts later than its clip: m0@8


@dataclass(frozen=True)
class Pair:
    """One video to make: the person of the source frame in the motion of the driver clip."""

    protocol: str
    pair: str
    source_clip: str
    source_frame: int
    driver_clip: str
    truth_clip: str
    frames: int
    person: str


def self_pairs(rows: Sequence[Mapping[str, Any]]) -> list[Pair]:
    """Every clip driven by itself: source its frame 0, truth the clip; people alternate."""
    people = _by(rows, "person")
    turns = [_rotated(people[person], turn) for turn, person in enumerate(people)]
    return [
        Pair("self", _name(n, row["clip"]), row["clip"], 0, row["clip"], row["clip"],
             row["frames"], row["person"])
        for n, row in enumerate(_alternate(turns))
    ]  # fmt: skip


def cross_pairs(rows: Sequence[Mapping[str, Any]]) -> tuple[list[Pair], list[dict[str, str]]]:
    """Pairs whose driver is another person, with a true video; and what was left out, and why.

    A motion that several people show gives the truth. The source is frame 0 of another such
    motion of the same person, since those were taken in the same light. Drivers take turns.
    """
    takes = _by([row for row in rows if row["motion"]], "motion")
    shared = {
        motion: {row["person"]: row for row in group}
        for motion, group in takes.items()
        if len({row["person"] for row in group}) > 1
    }
    people = sorted({person for group in shared.values() for person in group})
    found, skipped = defaultdict(list), _lone_pieces(takes, shared)
    for turn, person in enumerate(people):
        motions = [motion for motion in shared if person in shared[motion]]
        for number, motion in enumerate(_rotated(motions, turn)):
            truth = shared[motion][person]
            others = [other for other in people if other in shared[motion] and other != person]
            driver = shared[motion][others[(turn + number) % len(others)]]
            if len(motions) < 2:
                reason = f"{person} shows no second shared motion to take a source frame from"
            elif truth["frames"] != driver["frames"]:
                reason = f"not aligned: truth {truth['frames']}, driver {driver['frames']} frames"
            else:
                source = shared[motions[(motions.index(motion) + 1) % len(motions)]][person]
                found[person].append((source, driver, truth))
                continue
            skipped.append({"truth": truth["clip"], "driver": driver["clip"], "reason": reason})
    pairs = [
        Pair("cross", _name(n, f"{truth['clip']}-by-{driver['person']}"), source["clip"], 0,
             driver["clip"], truth["clip"], truth["frames"], truth["person"])
        for n, (source, driver, truth) in enumerate(_alternate(found.values()))
    ]  # fmt: skip
    return pairs, skipped


def audio_pairs(
    rows: Sequence[Mapping[str, Any]],
) -> tuple[list[Pair], list[dict[str, str]]]:
    """Every clip with sound, made from its speech and the pose it shows; and what was left out.

    The source is frame 0 of the person's next clip of the same session, taken in the same light:
    neither its lips nor its expression are those of the speech. Where there is no other clip it is
    frame 0 of the clip itself, as the published comparisons take it. People alternate.
    """
    heard = [row for row in rows if row["audio"]]
    skipped = [
        {"truth": row["clip"], "driver": row["clip"], "reason": f"{row['clip']} has no sound"}
        for row in rows
        if not row["audio"]
    ]
    people = _by([{**row, "session": row["session"] or ""} for row in heard], "person")
    turns = [_rotated(_with_next(people[person]), turn) for turn, person in enumerate(people)]
    return [
        Pair("audio", _name(n, truth["clip"]), source["clip"], 0, truth["clip"], truth["clip"],
             truth["frames"], truth["person"])
        for n, (source, truth) in enumerate(_alternate(turns))
    ], skipped  # fmt: skip


def _with_next(rows: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], ...]]:
    """Each clip behind the next of its session, the first behind the last."""
    return [
        (clips[(n + 1) % len(clips)], clip)
        for clips in _by(rows, "session").values()
        for n, clip in enumerate(clips)
    ]


def _lone_pieces(
    takes: Mapping[str, Sequence[Mapping[str, Any]]], shared: Mapping[str, Any]
) -> list[dict[str, str]]:
    """Clips that have lost their partners, since a shared motion was cut in another place."""
    people = defaultdict(set)
    for motion, group in takes.items():
        people[motion.partition(PIECE)[0]] |= {row["person"] for row in group}
    return [
        {
            "truth": row["clip"],
            "driver": "",
            "reason": f"motion {motion}: only {row['person']} shows this piece of a shared motion",
        }
        for motion, group in takes.items()
        if motion not in shared and len(people[motion.partition(PIECE)[0]]) > 1
        for row in group
    ]


def _name(number: int, text: str) -> str:
    """File name of a pair: the number makes it unique, the text readable."""
    return f"{number:03d}-{re.sub(r'[^A-Za-z0-9.]+', '-', text).strip('-.')[:80]}"


def _by(rows: Iterable[Mapping[str, Any]], column: str) -> dict[str, list[Mapping[str, Any]]]:
    groups = defaultdict(list)
    for row in sorted(rows, key=lambda row: (row[column], row["clip"])):
        groups[row[column]].append(row)
    return dict(groups)


def _rotated(values: Sequence[Any], turn: int) -> list[Any]:
    """The list begun at another place, so that people do not all start with the same motion."""
    start = turn % len(values) if values else 0
    return [*values[start:], *values[:start]]


def _alternate(groups: Iterable[Sequence[Any]]) -> list[Any]:
    """First of every group, second of every group, …: any beginning is spread evenly."""
    turns = zip_longest(*groups)
    return [value for turn in turns for value in turn if value is not None]
