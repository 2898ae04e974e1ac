"""Folders of videos, sounds and labels → clips that have one name in all of them."""

import csv
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from unicodedata import normalize

from pipelines.listing import VIDEOS, visible_files

SOUNDS = VIDEOS | {".wav", ".mp3", ".m4a", ".flac", ".ogg", ".aac"}


class CompareError(ValueError):
    """Nothing can be compared; the message names the folder and what to do."""


@dataclass(frozen=True)
class Matches:
    """Clips of one name, and the others.

    Attributes:
        both: clip → its generated and its true video.
        without_reference: clips that were generated only.
        not_generated: clips of the references only → their true videos.
    """

    both: dict[str, tuple[Path, Path]]
    without_reference: list[str]
    not_generated: dict[str, Path]

    @property
    def wanted(self) -> dict[str, tuple[Path | None, Path]]:
        """Every clip of the references, by name → its generated video, if any, and its true one."""
        lacking = {clip: (None, true) for clip, true in self.not_generated.items()}
        return dict(sorted({**self.both, **lacking}.items()))


def match(generated: Path, reference: Path) -> Matches:
    """Clips of two folders by name without suffix.

    Raises:
        CompareError: a folder twice, missing or empty, or no common name.
    """
    if generated.resolve() == reference.resolve():
        raise CompareError(
            f"{generated}: the same folder twice; name the system's and the true one"
        )
    made, true = by_name(generated, VIDEOS), by_name(reference, VIDEOS)
    both = sorted(made.keys() & true.keys())
    if not both:
        raise CompareError(
            f"no video of {generated} has the name of one in {reference}: found "
            f"{', '.join(sorted(made)[:3])} and {', '.join(sorted(true)[:3])}; names must be equal "
            "but for the suffix"
        )
    return Matches(
        {clip: (made[clip], true[clip]) for clip in both},
        sorted(made.keys() - true.keys()),
        {clip: true[clip] for clip in sorted(true.keys() - made.keys())},
    )


def by_name(folder: Path, suffixes: set[str]) -> dict[str, Path]:
    """Files below a folder by their path in it without suffix; what begins with a dot is hidden.

    Linked folders are entered, but for one that leads back to where it lies.

    Raises:
        CompareError: no folder, no such file in it, two of one name, or a name that is no text.
    """
    if not folder.is_dir():
        raise CompareError(f"{folder}: not a folder")
    files: dict[str, Path] = {}
    for path in sorted(visible_files(folder)):
        if path.suffix.lower() not in suffixes or not path.is_file():
            continue
        name = normalize("NFC", path.relative_to(folder).with_suffix("").as_posix())
        if not name.isprintable():
            raise CompareError(f"{str(path)!r}: not a readable name; rename the file")
        if name in files:
            raise CompareError(f"{files[name]} and {path.name} have one name: keep one of them")
        files[name] = path
    if not files:
        raise CompareError(f"{folder}: no file ({', '.join(sorted(suffixes))}) in it")
    return files


def read_labels(path: Path) -> dict[str, dict[str, str]]:
    """Clip → its row of the label file; none without the file.

    Raises:
        CompareError: not UTF-8, no column of clips, a row without one, or a clip twice.
    """
    if not path.is_file():
        return {}
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise CompareError(f"{path}: not UTF-8 ({error.reason}); save it as UTF-8") from None
    rows = csv.DictReader(StringIO(text, newline=""))
    if "clip" not in (rows.fieldnames or []):
        raise CompareError(f"{path}: no column 'clip'; write clip,emotion and optionally person")
    labels: dict[str, dict[str, str]] = {}
    for row in rows:
        clip = normalize("NFC", (row["clip"] or "").strip())
        if not clip or clip in labels:
            what = f"clip {clip!r} is listed twice" if clip else "a row without a clip"
            raise CompareError(f"{path}:{rows.line_num}: {what}; mend the row")
        labels[clip] = {
            "emotion": (row.get("emotion") or "").strip().lower(),
            "person": (row.get("person") or "").strip(),
        }
    return labels
