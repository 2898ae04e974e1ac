"""Source videos with the clips wanted of each → clips and manifest rows; fetch once, cut many."""

import re
import shutil
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from fixtalk.container import MediaError
from pipelines.files import only_one
from pipelines.manifest import manifest_row, sha256_of
from pipelines.sources.breaker import Breaker
from pipelines.sources.collected import begin, is_there, keep_only
from pipelines.sources.cutting import AROUND, CRF, Box, cut, picture_size, region_around, square_in
from pipelines.sources.harvest import Job, harvest
from pipelines.sources.ledger import FetchError, Ledger, State
from pipelines.sources.videos import Fetched, fetch

UNUSABLE = "unusable"  # status of a clip that its video cannot give, however often it is fetched


class Cut(NamedTuple):
    """A clip to make.

    Attributes:
        start: seconds in the source.
        stop: seconds in the source, of the first frame that is left out.
        box: of the face, in pixels of a picture of `box_pixels`; None: unknown.
        box_pixels: width (None: whatever the height makes it) and height.
    """

    clip: str
    person: str
    split: str
    start: float
    stop: float
    box: Box | None
    box_pixels: tuple[int | None, int]


class Reel(NamedTuple):
    """A source video: its id, where it is, the height in pixels that is enough, what to cut."""

    source: str
    url: str
    height: int
    cuts: tuple[Cut, ...]


def collect_reels(reels: Sequence[Reel], raw: Path, licence: str) -> list[dict[str, Any]]:
    """Rows of all clips, after fetching and cutting those that are not there yet.

    Beside `raw` lie a ledger, which stays, and the fetched videos, each until its clips are made.

    Raises:
        BlockedError: the server refuses everything.
        BlockingIOError: another process works on this dataset.
        OSError: a folder cannot be written.
    """
    fetched = raw.with_name(f".{raw.name}.fetched")
    path = raw.with_name(f".{raw.name}.ledger.sqlite")
    with only_one(fetched), closing(Ledger(path)) as ledger:
        begin(raw)
        jobs = [
            Job(reel.source, partial(_make_clips, reel, raw, _home(fetched, reel), ledger, licence))
            for reel in reels
            if _pending(reel, raw, ledger)
        ]
        harvest(jobs, ledger)
        waiting = {_home(fetched, reel) for reel in reels if _pending(reel, raw, ledger)}
        for home in fetched.glob("v_*"):
            if home not in waiting or not any(home.iterdir()):
                shutil.rmtree(home)  # a killed run may have left a video that nobody needs
        rows = [_row(reel, cut, raw, ledger, licence) for reel in reels for cut in reel.cuts]
        keep_only(rows, raw)
    return rows


def _home(fetched: Path, reel: Reel) -> Path:
    # ids may begin with a dash, addresses hold anything
    name = reel.source if re.fullmatch(r"[\w-]+", reel.source) else _digest(reel.source)
    return fetched / f"v_{name}"


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:16]


def _plan(reel: Reel, cut: Cut) -> list[Any]:
    """What decides a clip's bytes; person and split may change without another download."""
    return [reel.source, cut.start, cut.stop, cut.box, cut.box_pixels, CRF, AROUND]


def _pending(reel: Reel, raw: Path, ledger: Ledger) -> list[Cut]:
    """Clips of a source that are neither made nor known to be unusable."""
    return [cut for cut in reel.cuts if _done(reel, cut, raw, ledger) is None]


def _done(reel: Reel, cut: Cut, raw: Path, ledger: Ledger) -> dict[str, Any] | None:
    """Row of a clip whose file is there, or of one that is unusable."""
    row = ledger.row(cut.clip, _plan(reel, cut))
    is_lost = row and row["status"] == "ok" and not is_there(row, raw)
    return None if is_lost else row


def _make_clips(
    reel: Reel, raw: Path, home: Path, ledger: Ledger, licence: str, breaker: Breaker
) -> None:
    """Fetch a source, cut all that is pending, delete the source.

    Raises:
        FetchError: it cannot be had, or what came is damaged.
    """
    found, damages = fetch(reel.url, home, reel.height, breaker), []
    try:
        pixels = picture_size(found.picture)
        for wanted in _pending(reel, raw, ledger):
            row = _facts(reel, wanted, licence) | {
                "format": f"{found.format} {pixels[0]}x{pixels[1]}",
                "tool": found.tool,
            }
            try:
                row |= _made(wanted, found, pixels, raw / row["video"])
                ledger.add(wanted.clip, _plan(reel, wanted), row)
            except MediaError as error:
                damages.append(error)  # the other clips may lie in sound parts
            if breaker.reason:
                raise FetchError(State.TODO, breaker.reason)
    except MediaError as error:
        damages.append(error)
    shutil.rmtree(home)
    if damages:
        raise FetchError(State.CORRUPT, str(damages[0]))


def _made(wanted: Cut, found: Fetched, pixels: tuple[int, int], clip: Path) -> dict[str, Any]:
    """What a row tells of a clip once it is cut, or why it cannot be.

    Raises:
        MediaError: the source is damaged.
    """
    facts = {}
    try:
        box, region = _scaled(wanted, pixels), None
        if box:
            region = region_around(box, *pixels)
            facts["box"] = square_in(box, region)
        made = cut(found.picture, found.sound, wanted.start, wanted.stop, region, clip)
    except MediaError as error:
        if error.reason not in ("too early an end", "box outside"):
            raise
        return facts | {"status": UNUSABLE, "reason": str(error)}
    return facts | {
        "sha256": sha256_of(clip),
        "bytes": clip.stat().st_size,
        "status": "ok",
        "reason": None if made.has_audio else "no sound in the source",
    }


def _scaled(cut: Cut, pixels: tuple[int, int]) -> Box | None:
    """The box in pixels of the picture that came."""
    if cut.box is None:
        return None
    of_width, of_height = cut.box_pixels
    tall = pixels[1] / of_height
    wide = tall if of_width is None else pixels[0] / of_width
    x0, y0, x1, y1 = cut.box
    return x0 * wide, y0 * tall, x1 * wide, y1 * tall


def _facts(reel: Reel, cut: Cut, licence: str) -> dict[str, Any]:
    return manifest_row(
        clip=cut.clip,
        video=f"{cut.clip}.mp4",
        person=cut.person,
        split=cut.split,
        session=reel.source,
        source=reel.source,
        start=round(cut.start, 4),
        stop=round(cut.stop, 4),
        licence=licence,
    )


def _row(reel: Reel, cut: Cut, raw: Path, ledger: Ledger, licence: str) -> dict[str, Any]:
    """Row of the manifest: of a finished clip, or with the state of its source."""
    row = _done(reel, cut, raw, ledger)
    if row:
        return row | {"person": cut.person, "split": cut.split}
    state, reason = ledger.state(reel.source)
    return _facts(reel, cut, licence) | {"status": state.value, "reason": reason or "not tried yet"}
