"""Folders of videos, sounds and labels → clips that have one name in all of them."""

import csv
from pathlib import Path

VIDEOS = {".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v"}
SOUNDS = VIDEOS | {".wav", ".mp3", ".m4a", ".flac", ".ogg", ".aac"}


class CompareError(ValueError):
    """Nothing can be compared; the message names the folder and what to do."""


def match(generated: Path, reference: Path) -> tuple[dict[str, tuple[Path, Path]], list[str]]:
    """Clip → its two videos; and what is in one folder only."""
    made, true = by_name(generated, VIDEOS), by_name(reference, VIDEOS)
    both = sorted(made.keys() & true.keys())
    if not both:
        raise CompareError(
            f"no video of {generated} has the name of one in {reference}: found "
            f"{', '.join(sorted(made)[:3])} and {', '.join(sorted(true)[:3])}; names must be equal "
            "but for the suffix"
        )
    alone = [f"{generated.name}/{clip}: no reference" for clip in sorted(made.keys() - true.keys())]
    alone += [
        f"{reference.name}/{clip}: not generated" for clip in sorted(true.keys() - made.keys())
    ]
    return {clip: (made[clip], true[clip]) for clip in both}, alone


def by_name(folder: Path, suffixes: set[str]) -> dict[str, Path]:
    """Files below a folder by their path in it without suffix."""
    if not folder.is_dir():
        raise CompareError(f"{folder}: not a folder")
    files: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in suffixes and path.is_file() and not path.name.startswith("."):
            name = path.relative_to(folder).with_suffix("").as_posix()
            if name in files:
                raise CompareError(f"{files[name]} and {path.name} have one name: keep one of them")
            files[name] = path
    if not files:
        raise CompareError(f"{folder}: no file ({', '.join(sorted(suffixes))}) in it")
    return files


def read_labels(path: Path) -> dict[str, dict[str, str]]:
    """Clip → its row of the label file; none without the file."""
    if not path.is_file():
        return {}
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise CompareError(f"{path}: not UTF-8 ({error.reason}); save it as UTF-8") from None
    rows = csv.DictReader(lines)
    if "clip" not in (rows.fieldnames or []):
        raise CompareError(f"{path}: no column 'clip'; write clip,emotion and optionally person")
    labels: dict[str, dict[str, str]] = {}
    for row in rows:
        if row["clip"] in labels:
            raise CompareError(f"{path}: clip {row['clip']!r} is listed twice; keep one row")
        labels[row["clip"]] = row
    return labels
