"""Held-out clips → which frame moves by which, and the frame that the result should show."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from pipelines.probes import motion_labels
from pipelines.protocols import cross_pairs, self_pairs

# largest differences of a matched pair in yaw, pitch, roll (radians) and ARKit's jawOpen
NEAR = np.array([*np.radians([5, 5, 5]), 0.1])

Place = tuple[str, int]  # clip and frame


class FramePair(NamedTuple):
    """One frame to make.

    Attributes:
        kind: "cross" for another person's driver, "self" for the source's own.
        person: of the source.
        source: whose picture moves.
        driver: how.
        reference: what it should look like: the true frame, or the source for want of one.
    """

    kind: str
    person: str
    source: Place
    driver: Place
    reference: Place


def draw_pairs(
    rows: Sequence[Mapping[str, Any]], count: int, seed: int
) -> tuple[list[FramePair], str]:
    """At most `count` pairs of each kind, and what leakage is compared with: truth or source.

    Self pairs lie half a clip apart or more. Cross pairs are those of the `cross` protocol where
    the corpus shows a motion on several people. Where it does not, the source is compared with,
    and source and driver look the same way with the mouth equally open.

    Args:
        rows: clips with person, motion and frames; pose and arkit where no motion is shared.
        count: wanted of each kind.
        seed: of the draw.

    Raises:
        ValueError: no pair of a kind; tells what is missing.
    """
    chance = np.random.default_rng(seed)
    true, control = _cross_pairs_with_truth(rows), "truth"
    if not true:
        true, control = _matched_pairs(rows), "source"
    own = [
        FramePair("self", pair.person, (pair.source_clip, 0), *[(pair.driver_clip, frame)] * 2)
        for pair in self_pairs(rows)
        for frame in range(-(-pair.frames // 2), pair.frames)
    ]
    for kind, found in (("cross", true), ("self", own)):
        if not found:
            raise ValueError(
                f"no {kind} pair among {len(rows)} test clips: localise needs two held-out people "
                "who show one motion, or the same pose and mouth"
            )
    return [*_some(true, count, chance), *_some(own, count, chance)], control


def hash_pairs(pairs: Iterable[FramePair]) -> str:
    """SHA-256 of the list: equal numbers come from equal pairs."""
    return hashlib.sha256(json.dumps(list(pairs)).encode()).hexdigest()


def _cross_pairs_with_truth(rows: Sequence[Mapping[str, Any]]) -> list[FramePair]:
    pairs, _ = cross_pairs(rows)
    return [
        FramePair(
            "cross", pair.person, (pair.source_clip, pair.source_frame),
            (pair.driver_clip, frame), (pair.truth_clip, frame),
        )
        for pair in pairs
        for frame in range(pair.frames)
    ]  # fmt: skip


def _matched_pairs(rows: Sequence[Mapping[str, Any]]) -> list[FramePair]:
    """First frames of all clips, each with other people's frames of like pose and mouth."""
    people = {row["clip"]: row["person"] for row in rows}
    labels = {row["clip"]: motion_labels(row)[:, : len(NEAR)] for row in rows}
    return [
        FramePair("cross", people[clip], (clip, 0), (other, frame), (clip, 0))
        for clip, other in product(labels, labels)
        if people[clip] != people[other]
        for frame in np.flatnonzero((abs(labels[other] - labels[clip][0]) <= NEAR).all(1)).tolist()
    ]


def _some(pairs: list[FramePair], count: int, chance: np.random.Generator) -> list[FramePair]:
    """So many of them in their order, or all where there are fewer."""
    kept = np.sort(chance.permutation(len(pairs))[:count])
    return [pairs[number] for number in kept]
