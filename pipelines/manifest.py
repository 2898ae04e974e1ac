"""Rows of raw videos ↔ manifest.jsonl, checked: one a video, no person in two splits."""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipelines.files import write_text

NAME = "manifest.jsonl"
KEYS = (
    "clip", "video", "person", "split", "session", "box", "motion", "emotion", "level", "sentence",
    "labels", "identity_seed", "source", "start", "stop", "format", "tool", "licence", "sha256",
    "bytes", "status", "reason",
)  # fmt: skip
REQUIRED = ("clip", "video", "person", "split", "status")
TEXTS = ("session", "motion", "emotion", "sentence", "labels")
NUMBERS = ("level", "identity_seed")
SPLITS = ("train", "test")


class ManifestError(ValueError):
    """The list of raw videos cannot be used; the message names the line or the person."""


def read_manifest(path: Path) -> list[dict[str, Any]]:
    """Entries of a manifest in file order: clip ids unique, each person in one split only.

    Raises:
        ManifestError: missing, empty or not JSON lines, a box that is none, or one of the two
            rules is broken.
    """
    if not path.is_file():
        raise ManifestError(f"{path}: not found; run the download stage first")
    lines = path.read_text(encoding="utf-8").split("\n")  # reasons may hold other line ends
    entries = [_entry(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not entries:
        raise ManifestError(f"{path}: lists no video; run the download stage again")
    counts = Counter(entry["clip"] for entry in entries)
    twice = [clip for clip, count in counts.items() if count > 1]
    if twice:
        raise ManifestError(f"{path}: listed twice: {', '.join(twice[:5])}; clip ids are unique")
    splits: dict[str, set[str]] = {}
    for entry in entries:
        splits.setdefault(entry["person"], set()).add(entry["split"])
    leaking = sorted(person for person, seen in splits.items() if len(seen) > 1)
    if leaking:
        raise ManifestError(
            f"{path}: in both train and test: {', '.join(leaking)}; "
            "scores on a person seen in training mean nothing: give each person one split"
        )
    return entries


def manifest_row(**facts: Any) -> dict[str, Any]:
    """A row with all keys in order; what is not given is null.

    Besides what the crop stage reads, a row tells where a video comes from: `source` (id or
    address), `start` and `stop` (seconds in the source), `format` and `tool` that fetched it.

    Raises:
        TypeError: a key that no row has.
    """
    unknown = set(facts) - set(KEYS)
    if unknown:
        raise TypeError(f"no key of a manifest: {', '.join(sorted(unknown))}")
    return dict.fromkeys(KEYS) | facts


def write_manifest(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write rows as JSON lines, whole or not at all."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def split_hash(rows: Iterable[dict[str, Any]]) -> str:
    """16 hex digits for which videos of which people are in which split, in any order.

    The crop stage takes it of the usable rows and leaves it in coverage.json; card, run and
    leaderboard row show that one.
    """
    lines = sorted(f"{row['clip']}\t{row['person']}\t{row['split']}\n" for row in rows)
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]


def sha256_of(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _entry(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except json.JSONDecodeError as error:
        raise ManifestError(f"{path}:{number}: not JSON ({error}); run download again") from None
    missing = set(REQUIRED) - set(entry) if isinstance(entry, dict) else REQUIRED
    if missing:
        raise ManifestError(f"{path}:{number}: misses {', '.join(sorted(missing))}")
    for name in (*REQUIRED, *TEXTS, *NUMBERS):
        kind = int if name in NUMBERS else str
        value = entry.get(name)
        if type(value) is not kind and (name in REQUIRED or value is not None):
            wanted = {int: "a whole number", str: "text"}[kind]
            raise ManifestError(f"{path}:{number}: {name} is {value!r}; write {wanted}")
    if entry["split"] not in SPLITS:
        raise ManifestError(f"{path}:{number}: split is {entry['split']!r}; write train or test")
    if not _is_box(entry.get("box")):
        raise ManifestError(
            f"{path}:{number}: box is {entry['box']!r}; write null or [x0, y0, side] in pixels, "
            "a side of at least 1"
        )
    return entry


def _is_box(box: Any) -> bool:
    if box is None:
        return True
    if not isinstance(box, list) or len(box) != 3:
        return False
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in box):
        return False
    return all(math.isfinite(value) for value in box) and box[2] >= 1
