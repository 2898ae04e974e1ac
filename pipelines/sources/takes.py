"""Names of MEAD's files ↔ takes of its actors, and their rows."""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from pipelines.manifest import manifest_row, sha256_of
from pipelines.sources.splits import published

LICENCE = "MEAD: non-commercial research, no redistribution or hosting of any part"
EMOTIONS = (
    "angry", "contempt", "disgusted", "fear", "happy", "neutral", "sad", "surprised",
)  # fmt: skip
ACTOR = re.compile(r"[MW]\d{3}")
TAKE = rf"(?P<emotion>{'|'.join(EMOTIONS)})/level_(?P<level>[1-3])/(?P<number>[0-9]{{3}})"
VIDEO = re.compile(rf"(?:^|/)video/(?P<view>\w+)/{TAKE}\.mp4\Z")
IN_VIEW = re.compile(r"(?s:.*/)?video/(?P<view>\w+)/(?:[^/]+/)*[^/.][^/]*\.(?i:mp4)")
ODD_NAME = "name not understood: expected angry/level_1/001.mp4 below the view"
SOUND = re.compile(rf"(?:^|/)audio/{TAKE}\.m4a\Z")


class Take(NamedTuple):
    """A sentence of an actor. Numbers are not the same sentence in another emotion."""

    actor: str
    emotion: str
    level: int
    number: str

    @property
    def clip(self) -> str:
        """Id of the clip, and path of its video without suffix."""
        return f"{self.actor}/{self.emotion}/level_{self.level}/{self.number}"


def take_of(actor: str, pattern: re.Pattern[str], name: str) -> Take | None:
    """The take whose video (VIDEO) or sound (SOUND) has this name; None: something else."""
    match = pattern.search(name)
    return match and Take(actor, match["emotion"], int(match["level"]), match["number"])


def row_of_take(take: Take, video: str) -> dict[str, Any]:
    """What its name tells of a take."""
    return manifest_row(
        clip=take.clip,
        video=video,
        person=take.actor,
        split=_split(take.actor),
        session=take.actor,
        emotion=take.emotion,
        level=take.level,
        sentence=f"{take.emotion}/{take.number}",
        source=take.actor,
        licence=LICENCE,
    )


def row_of_actor(actor: str, reason: str, file: str | None = None) -> dict[str, Any]:
    """Row that stands for an actor without takes, or for a file that is no take."""
    clip = f"{actor}:{file}" if file else actor
    return manifest_row(
        clip=clip,
        video=f"{clip}.mp4",
        person=actor,
        split=_split(actor),
        source=actor,
        licence=LICENCE,
        status="unusable",
        reason=reason,
    )


def no_view(view: str, views: Iterable[str]) -> str:
    """Why an actor has no takes."""
    return f"no view {view}, only {', '.join(sorted(views)) or 'none'}"


def held(rows: list[dict[str, Any]]) -> tuple[dict[str, int], dict[str, int]]:
    """Actor → videos of the view that there were; unread actor → as many as another had, usually.

    An archive that cannot be had or read is one row, in place of hundreds.
    """
    counts = Counter(row["person"] for row in rows if row["clip"] != row["person"])
    usual = round(median(counts.values())) if counts else 1
    alone = [row for row in rows if row["clip"] == row["person"]]
    unread = [row["clip"] for row in alone if row["status"] != "unusable"]
    return dict(sorted(counts.items())), dict.fromkeys(unread, usual)


def _split(actor: str) -> str:
    return "test" if actor in published("mead")["test"] else "train"


def facts_of(video: Path, is_silent: bool) -> dict[str, Any]:
    """What a finished video adds to the row of its take."""
    return {
        "sha256": sha256_of(video),
        "bytes": video.stat().st_size,
        "status": "ok",
        "reason": "no sound" if is_silent else None,
    }
