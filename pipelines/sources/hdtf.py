"""HDTF's annotation files → source videos with their clips; nobody is in both splits."""

import re
from collections import defaultdict
from collections.abc import Iterator
from hashlib import sha256
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen

from pydantic import Field

from pipelines.files import write_text
from pipelines.sources.collected import Collected, DownloadError, ListedConfig
from pipelines.sources.cutting import Box
from pipelines.sources.harvest import is_offline
from pipelines.sources.reels import Cut, Reel, collect_reels
from pipelines.sources.splits import hold_out, people_of, published

LICENCE = "annotations CC BY 4.0; the videos belong to their uploaders (YouTube terms)"
SUBSETS = ("RD", "WDA", "WRA")
URLS, RANGES, CROPS, HEIGHTS = "video_url", "annotion_time", "crop_wh", "resolution"  # as published
USUAL_HEIGHT = 720  # pixels, where the list names none
TIMEOUT = 30.0  # seconds
YOUTUBE = re.compile(
    r"https?://(?:(?:www\.|m\.)?youtube\.com/(?:watch\?(?:[^#]*&)?v=|shorts/|live/|embed/)"
    r"|youtu\.be/)(?P<id>[\w-]{11})(?![\w-])",
    re.ASCII,
)


class HdtfConfig(ListedConfig):
    """Speakers on YouTube, for evaluation."""

    metadata: str | None = Field(
        description="folder or https address of the text files; null: none"
    )


class Annotated(NamedTuple):
    """A clip of the lists, before it has a split."""

    clip: str
    speaker: str
    source: str
    start: float
    stop: float
    box: Box | None
    height: int


def fetch_hdtf(config: HdtfConfig, raw: Path) -> Collected:
    """Fetch and cut all clips of the lists.

    Raises:
        DownloadError: a list cannot be had.
        BlockedError: the server refuses everything.
    """
    if config.metadata is None:
        raise DownloadError(
            "download.hdtf.metadata in params.yaml is null: name the folder HDTF_dataset of a "
            "clone of github.com/MRzzm/HDTF, or the https address of its raw files"
        )
    folder = _local(config.metadata, raw.with_name(f".{raw.name}.metadata"))
    reels, left_out, notes = list_hdtf(folder)
    rows = collect_reels(reels, raw, LICENCE)
    return Collected(rows, raw, notes, left_out)


def list_hdtf(folder: Path) -> tuple[list[Reel], dict[str, str], tuple[str, ...]]:
    """Source videos with their clips, what is left out with the reason, and notes for the user.

    Raises:
        DownloadError: a file is missing; crops and heights may be.
    """
    annotated, left_out = [], {}
    for subset in SUBSETS:
        annotated += _clips_of(folder, subset, left_out)
    if not annotated:
        raise DownloadError(f"{folder}: the lists hold no clip; get them again")
    lists = published("hdtf")
    speakers = people_of((one.speaker, one.source) for one in annotated)
    people = {one.clip: speakers[one.speaker] for one in annotated}
    splits = hold_out(people, lists["test"])
    moved = [clip for clip in lists["train"] if splits.get(clip) == "test"]
    boxless = [one.clip for one in annotated if one.box is None]
    notes = (
        f"split of {lists['source']}: {len(moved)} of its training clips show people or videos of "
        "its test clips and were moved to test",
        f"{len(boxless)} clips without a published box: {', '.join(boxless[:20]) or 'none'}",
    )
    grouped = defaultdict(list)
    for one in annotated:
        cut = Cut(
            one.clip, people[one.clip], splits[one.clip], one.start, one.stop, one.box,
            (None, one.height),
        )  # fmt: skip
        grouped[one.source].append(cut)
    reels = [
        Reel(source, address_of(source), max(cut.box_pixels[1] for cut in cuts), (*cuts,))
        for source, cuts in grouped.items()
    ]
    return reels, left_out, notes


def source_of(url: str) -> str | None:
    """YouTube's id, without what else the address says; None: not a video of YouTube."""
    match = YOUTUBE.match(url.strip())
    return match and match["id"]


def address_of(source: str) -> str:
    """Where YouTube has the video of an id."""
    return f"https://www.youtube.com/watch?v={source}"


def _clips_of(folder: Path, subset: str, left_out: dict[str, str]) -> Iterator[Annotated]:
    urls, ranges = _table(folder, subset, URLS), _table(folder, subset, RANGES)
    crops, heights = (
        _table(folder, subset, name) if _path(folder, subset, name).is_file() else {}
        for name in (CROPS, HEIGHTS)
    )
    for name in sorted(urls.keys() | ranges.keys()):
        times = ranges.get(name, [])
        if not re.fullmatch(r"[\w-]+", name):  # becomes a path
            left_out[f"{subset}_{name}"] = f"name {name!r} not understood"
            continue
        if name not in urls or not times:
            lacks = "no time range" if name in urls else "no address"
            left_out[f"{subset}_{name}"] = f"{lacks} in the lists of {subset}"
            continue
        source = source_of(urls[name][0])
        if source is None:
            left_out[f"{subset}_{name}"] = f"refused: {urls[name][0]!r} is not a video of YouTube"
            continue
        told = heights.get(name, [""])[0]
        height = int(told) if re.fullmatch("[0-9]{1,5}", told) and int(told) else None
        for index, span in enumerate(times):
            clip, seconds = f"{subset}_{name}_{index:03d}", _seconds(span)
            if seconds is None:
                left_out[clip] = f"time range {span!r} not understood"
                continue
            box = _box(crops.get(f"{name}_{index}", [])) if height else None
            speaker = _speaker(subset, name)
            yield Annotated(clip, speaker, source, *seconds, box, height or USUAL_HEIGHT)


def _speaker(subset: str, name: str) -> str:
    """Numbers count videos of one politician; each of RD is taken for another person, unproven."""
    return f"{subset}_{name}" if subset == "RD" else re.sub(r"\d+$", "", name)


def _seconds(span: str) -> tuple[float, float] | None:
    """Start and stop of mm:ss-mm:ss or h:mm:ss-h:mm:ss."""
    match = re.fullmatch(r"((?:\d+:)?\d+:\d+)-((?:\d+:)?\d+:\d+)", span)
    if not match:
        return None
    start, stop = (
        sum(float(part) * 60**power for power, part in enumerate(reversed(text.split(":"))))
        for text in match.groups()
    )
    return (start, stop) if start < stop else None


def _box(words: list[str]) -> Box | None:
    """Published as x, width, y, height."""
    if len(words) != 4 or not all(re.fullmatch("[0-9]{1,5}", word) for word in words):
        return None
    x, width, y, height = map(float, words)
    return (x, y, x + width, y + height) if min(width, height) > 0 else None


def _path(folder: Path, subset: str, name: str) -> Path:
    return folder / f"{subset}_{name}.txt"


def _table(folder: Path, subset: str, name: str) -> dict[str, list[str]]:
    """First word of each line, without .mp4 → the others. One file has a byte order mark."""
    path = _path(folder, subset, name)
    if not path.is_file():
        raise DownloadError(
            f"{path}: not found; download.hdtf.metadata must hold HDTF's text files"
        )
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DownloadError(f"{path}: not UTF-8 ({error}); get it again") from None
    words = [line.split() for line in lines if line.strip()]
    return {first.removesuffix(".mp4"): rest for first, *rest in words if rest}


def _local(metadata: str, copies: Path) -> Path:
    """The folder of the text files, after copying them from an address."""
    if "://" not in metadata:
        return Path(metadata).expanduser()
    if not re.match(r"https://|http://127\.0\.0\.1[:/]", metadata):
        raise DownloadError(f"download.hdtf.metadata: {metadata} is not an https address")
    copies /= sha256(metadata.encode()).hexdigest()[:16]  # of another address: other lists
    copies.mkdir(parents=True, exist_ok=True)
    for subset in SUBSETS:
        for name in (URLS, RANGES, CROPS, HEIGHTS):
            path = _path(copies, subset, name)
            if path.is_file() or is_offline():
                continue
            address = f"{metadata.rstrip('/')}/{path.name}"
            try:
                with urlopen(address, timeout=TIMEOUT) as answer:
                    text = answer.read().decode("utf-8")
            except (OSError, HTTPException, UnicodeDecodeError) as error:
                raise DownloadError(
                    f"{address}: {error}; or clone HDTF and name its folder"
                ) from None
            if text.lstrip().startswith("<"):
                raise DownloadError(f"{address}: a web page, not a list; name the raw files")
            write_text(path, text)
    return copies
