"""Published test lists → splits in which nobody and no source video is on both sides."""

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def published(dataset: str) -> dict[str, Any]:
    """What splits.toml tells of a dataset."""
    return tomllib.loads(Path(__file__).with_name("splits.toml").read_text("utf-8"))[dataset]


def people_of(clips: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Name → person: names that share a source video count as one, called by the first of them.

    Args:
        clips: name and source video of each.
    """
    parent: dict[str, str] = {}

    def root(node: str) -> str:
        parent.setdefault(node, node)
        while parent[node] != node:
            node = parent[node]
        return node

    names = []
    for name, video in clips:
        names.append(name)
        # names sort before videos, which are marked
        low, high = sorted((root(name), root(f"\x7f{video}")))
        parent[high] = low
    return {name: root(name) for name in names}


def hold_out(people: Mapping[str, str], test: Iterable[str]) -> dict[str, str]:
    """Clip → split: everybody who occurs in a test clip is test in all clips.

    Args:
        people: clip → person.
        test: clips to test on; those that are not among `people` do not matter.
    """
    held = {people[clip] for clip in test if clip in people}
    return {clip: "test" if person in held else "train" for clip, person in people.items()}
