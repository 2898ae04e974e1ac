"""VFHQ's meta_info → source videos with their clips: one text file a clip, its name the address."""

import math
import re
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from pydantic import Field

from pipelines.sources.collected import Collected, DownloadError, ListedConfig
from pipelines.sources.cutting import Box
from pipelines.sources.reels import Cut, Reel, collect_reels

LICENCE = "research use; the videos belong to their uploaders (YouTube terms)"
NAME = re.compile(r"Clip\+(?P<id>[\w-]{11})\+P(?P<person>\d+)\+C\d+\+F(?P<first>\d+)-(?P<last>\d+)")
MOST_BYTES = 2**20  # of a text file of the zip


class VfhqConfig(ListedConfig):
    """Clips of interviews on YouTube, for training."""

    metadata: str | None = Field(description="folder or zip of meta_info's text files; null: none")
    url: str = Field(pattern=r"\{id\}", description="address of a source video, with {id}")
    min_seconds: float = Field(ge=0, description="shorter clips are left out")
    test_share: float = Field(ge=0, lt=1, description="of source videos, drawn by their ids")


class Entry(NamedTuple):
    """A clip as its text file tells it; the box is in pixels of width x height."""

    width: int
    height: int
    fps: float
    box: Box


def fetch_vfhq(config: VfhqConfig, raw: Path) -> Collected:
    """Fetch and cut all clips of the list.

    Raises:
        DownloadError: no list, or none of its files can be read.
        BlockedError: the server refuses everything.
    """
    reels, left_out = list_vfhq(config)
    return Collected(collect_reels(reels, raw, LICENCE), raw, left_out=left_out)


def list_vfhq(config: VfhqConfig) -> tuple[list[Reel], dict[str, str]]:
    """Source videos with their clips, and what is left out with the reason.

    All clips of a source video are in one split, drawn from its id: VFHQ's own test list has not
    been published with it.
    """
    cuts, left_out, seen = defaultdict(list), {}, set()
    for name, text in _texts(config.metadata):
        if name in seen:
            raise DownloadError(f"{config.metadata}: holds {name}.txt twice; delete one of the two")
        seen.add(name)
        match, entry = NAME.fullmatch(name), _entry(text)
        if match is None or entry is None:
            left_out[name] = (
                "not understood: expected Clip+ID+P0+C0+F1-99 and lines H, W, FPS, CROP"
            )
            continue
        first, last = int(match["first"]) + 1, int(match["last"]) - 1  # those around are not used
        seconds = (last + 1 - first) / entry.fps
        if seconds <= 0 or seconds < config.min_seconds:
            left_out[name] = f"{seconds:.2f} s, min_seconds is {config.min_seconds}"
            continue
        start, stop = first / entry.fps, (last + 1) / entry.fps
        video, pixels = match["id"], (entry.width, entry.height)
        person = f"{video}+P{match['person']}"
        split = split_of(video, config.test_share)
        cuts[video].append(Cut(name, person, split, start, stop, entry.box, pixels))
    if not cuts:
        raise DownloadError(
            f"{config.metadata}: no clip among {len(left_out)} text files: {list(left_out)[:3]}"
        )
    reels = [
        Reel(
            video,
            config.url.replace("{id}", video),
            max(cut.box_pixels[1] for cut in clips),
            (*clips,),
        )
        for video, clips in sorted(cuts.items())
    ]
    return reels, left_out


def split_of(video: str, test_share: float) -> str:
    """Split of a source video: the same wherever and whenever it is asked."""
    draw = int(sha256(video.encode()).hexdigest()[:8], 16) / 2**32
    return "test" if draw < test_share else "train"


def _texts(metadata: str | None) -> Iterator[tuple[str, str]]:
    """Names without suffix and contents of the text files, sorted by name."""
    if metadata is None:
        raise DownloadError(
            "download.vfhq.metadata in params.yaml is null: name the folder or the zip of "
            "meta_info (docs/data.md says where it is)"
        )
    path = Path(metadata).expanduser()
    if path.is_dir():
        for file in sorted(path.rglob("Clip+*.txt")):
            yield file.stem, file.read_text(encoding="utf-8-sig", errors="replace")
        return
    if not zipfile.is_zipfile(path):
        raise DownloadError(f"download.vfhq.metadata: {path} is neither a folder nor a zip")
    with zipfile.ZipFile(path) as archive:
        for member in sorted(archive.infolist(), key=lambda one: one.filename):
            name = Path(member.filename)
            if name.suffix == ".txt" and name.name.startswith("Clip+"):
                try:
                    with archive.open(member) as file:
                        content = file.read(MOST_BYTES)
                except (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError) as error:
                    raise DownloadError(f"{path}: {member.filename}: {error}") from None
                yield name.stem, content.decode("utf-8-sig", errors="replace")


def _entry(text: str) -> Entry | None:
    """Lines begin with a word and end with the value, whatever stands between."""
    lines = [line.split() for line in text.lstrip("\ufeff").splitlines() if line.strip()]
    try:
        fps, crop = (_line(lines, word) for word in ("FPS", "CROP"))
        width, height = (int(_line(lines, word)[-1]) for word in ("W", "H"))
        x0, y0, x1, y1 = (float(word) for word in crop[-4:])
        entry = Entry(width, height, float(fps[-1]), (x0, y0, x1, y1))
    except (KeyError, ValueError):
        return None
    is_box = x0 < x1 and y0 < y1 and all(map(math.isfinite, entry.box))
    return entry if is_box and min(width, height) > 0 and 1 <= entry.fps <= 240 else None


def _line(lines: list[list[str]], word: str) -> list[str]:
    """The line that begins with the word, or else with a longer one (H, Height)."""
    for line in sorted(lines, key=lambda line: len(line[0])):
        if line[0].startswith(word):
            return line
    raise KeyError(word)
