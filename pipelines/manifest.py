"""manifest.jsonl of a raw folder → its checked entries: one a video, no person in two splits."""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

REQUIRED = {"clip", "video", "person", "split", "status"}


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
    lines = path.read_text(encoding="utf-8").splitlines()
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


def _entry(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except json.JSONDecodeError as error:
        raise ManifestError(f"{path}:{number}: not JSON ({error}); run download again") from None
    missing = REQUIRED - set(entry)
    if missing:
        raise ManifestError(f"{path}:{number}: misses {', '.join(sorted(missing))}")
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
