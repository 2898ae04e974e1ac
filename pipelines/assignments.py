"""A list of pairs, or a protocol that `generate` ran → the files that each pair gives a system."""

import csv
import io
import json
import shutil
import wave
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from unicodedata import normalize

from fixtalk.dataset import Row, read_clips
from fixtalk.media import SAMPLE_RATE, decode_frames
from fixtalk.sheet import write_picture
from pipelines.files import write_text

ROLES = ("source", "driving", "audio")
COLUMNS = ["clip", "person", "emotion", "video", "audio"]


class SystemsError(ValueError):
    """A system cannot be run or imported; the message names the cause and what to do."""


@dataclass(frozen=True)
class Assignment:
    """One video to make; a path is None where the list gives none."""

    pair: str
    source: Path | None
    driving: Path | None
    audio: Path | None


def read_assignments(path: Path) -> list[Assignment]:
    """Rows of a CSV file with the columns pair, source and, where needed, driving and audio.

    Relative paths start from the folder of the file.

    Raises:
        SystemsError: no such file, not UTF-8, no row, or a pair whose name is missing, listed twice
            or cannot be that of a file.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SystemsError(f"{path}: not a list of pairs in UTF-8: {error}") from None
    rows = csv.DictReader(io.StringIO(text, newline=""))
    found: dict[str, Assignment] = {}
    for row in rows:
        pair = normalize("NFC", (row.get("pair") or "").strip())
        if not pair.isprintable() or not pair or pair[0] == "." or "/" in pair or pair in found:
            raise SystemsError(
                f"{path}:{rows.line_num}: pair {pair!r}; write a name of its own that can be that "
                "of a file: no slash, no dot at its beginning"
            )
        cells = {role: (row.get(role) or "").strip() for role in ROLES}
        paths = {role: path.parent / cell if cell else None for role, cell in cells.items()}
        found[pair] = Assignment(pair, **paths)
    if not found:
        raise SystemsError(f"{path}: lists no pair; write pair,source,driving,audio and rows")
    return list(found.values())


def export_protocol(protocol: Path, clips: Path, out: Path) -> Path:
    """The pairs of a protocol as files that any system can read, and the true videos.

    Args:
        protocol: folder of one protocol below the videos that `generate` wrote.
        clips: the parent of the folders that `crop` wrote.
        out: gets pairs.csv, source/, driving/, audio/ if a driver has sound, and truth/ with
            labels.csv; what is there is replaced when all is written.

    Returns:
        The path of pairs.csv, which `read_assignments` reads.

    Raises:
        SystemsError: not a folder of a protocol, or its clips have changed.
    """
    listing, facts = (protocol.parent / name for name in ("pairs.csv", "system.json"))
    if not listing.is_file() or not facts.is_file():
        raise SystemsError(
            f"{protocol}: not one protocol of the generate stage (no {listing}); give a folder "
            "like results/fixtalk/videos/self, or a CSV file"
        )
    with listing.open(encoding="utf-8", newline="") as file:
        pairs = [row for row in csv.DictReader(file) if row["protocol"] == protocol.name]
    folder = clips / json.loads(facts.read_text(encoding="utf-8"))["dataset"]
    rows = {row["clip"]: row for row in read_clips(folder, "test", COLUMNS)}
    partial = out.with_name(f".{out.name}")
    shutil.rmtree(partial, ignore_errors=True)
    for name in ("source", "driving", "truth"):
        (partial / name).mkdir(parents=True)
    try:
        listed = [_export(pair, rows, partial) for pair in pairs]
    except KeyError as error:
        raise SystemsError(f"{folder}: no test clip {error}; run generate again") from None
    if not listed:
        raise SystemsError(f"{listing}: no pair of protocol {protocol.name!r}")
    inputs, labels = zip(*listed, strict=True)
    _write_csv(partial / "pairs.csv", ["pair", *ROLES], inputs)
    _write_csv(partial / "truth" / "labels.csv", ["clip", "emotion", "person"], labels)
    shutil.rmtree(out, ignore_errors=True)
    partial.replace(out)
    return out / "pairs.csv"


def _export(
    pair: dict[str, str], rows: dict[str, Row], folder: Path
) -> tuple[list[str], list[str]]:
    """Write the files of a pair; its row of pairs.csv, and its row of labels.csv."""
    name = pair["pair"]
    source, driver, truth = (rows[pair[f"{role}_clip"]] for role in ("source", "driver", "truth"))
    picture = decode_frames(source["video"], [int(pair["source_frame"])])[0]
    write_picture(folder / "source" / f"{name}.png", picture)
    (folder / "driving" / f"{name}.mp4").write_bytes(driver["video"])
    (folder / "truth" / f"{name}.mp4").write_bytes(truth["video"])
    if driver["audio"]:
        (folder / "audio").mkdir(exist_ok=True)
        with wave.open(str(folder / "audio" / f"{name}.wav"), "wb") as file:
            file.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
            file.writeframes(driver["audio"])
    sound = f"audio/{name}.wav" if driver["audio"] else ""
    return (
        [name, f"source/{name}.png", f"driving/{name}.mp4", sound],
        [name, driver["emotion"] or "", truth["person"]],
    )


def _write_csv(path: Path, heading: list[str], rows: Iterable[list[str]]) -> None:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([heading, *rows])
    write_text(path, buffer.getvalue())
