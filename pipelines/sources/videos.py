"""Address of a video → its pictures and sound as files, by yt-dlp, whole or not at all."""

import errno
import io
import json
import os
import re
import shutil
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from pipelines.files import require_writable, write_text
from pipelines.sources.breaker import Breaker
from pipelines.sources.collected import DownloadError
from pipelines.sources.harvest import is_offline
from pipelines.sources.ledger import FetchError, State

RECORD = "fetched.json"  # written last: whoever finds it finds everything
PAUSE = 1.0  # seconds between requests, and at least between downloads
COOKIES_BEGIN = r"#( Netscape)? HTTP Cookie File"
COOKIE = r"([^\t]*\t){4}([0-9]+(\.[0-9]+)?)?\t[^\t]*\t[^\t]*"
PLAYERS = ("deno", "node")  # run the program behind which YouTube hides its addresses
TIMEOUT = 30.0  # seconds of silence
LOWEST_SHARE = 0.5  # of the reference height; below, a clip would be mostly invented pixels

# What yt-dlp says, first match counts: state and whether it may be that of all other videos too.
MEANINGS: tuple[tuple[str, State, bool], ...] = (
    (r"private video|members-only|join this channel", State.GONE, False),  # "sign in if you …"
    (
        r"HTTP Error (408|429|5\d\d)|temporar|timed out|connection|"  # "503: … Unavailable"
        r"failed to resolve|unreachable|certificate|"
        r"not a bot|rate.?limit|try again later|captcha|player response",
        State.BLOCKED,
        False,
    ),
    (r"HTTP Error (401|403)", State.REFUSED, True),
    (r"sign in|log.?in required|confirm your age|age.restricted", State.REFUSED, False),
    (r"format is not available|no video formats|unsupported url|drm", State.FORMAT_MISSING, False),
    (
        r"private|unavailable|not available|no longer|removed|terminated|copyright|members|"
        r"does not exist|HTTP Error (404|410)|in your (country|location)",
        State.GONE,
        False,
    ),
    (r"more expected|content.?too.?short|incomplete|bytes read", State.CORRUPT, False),
)


class Fetched(NamedTuple):
    """Files of a source.

    Attributes:
        picture: with its sound, if `sound` is None.
        format: as the server names it, for instance "137+140".
        tool: that fetched them, with its version.
    """

    picture: Path
    sound: Path | None
    format: str
    tool: str


def fetch(url: str, folder: Path, height: int, breaker: Breaker) -> Fetched:
    """Fetch pictures and sound at the lowest height that is enough, else at the greatest there is.

    What a killed run left in `folder` is gone on with. An exact height is never asked for: servers
    drop renditions over the years.

    Args:
        url: of a page or file that yt-dlp understands.
        folder: of this source alone.
        height: pixels that the dataset's own boxes refer to.
        breaker: a download breaks off when it opens.

    Raises:
        FetchError: with the state that the source is in now.
        DownloadError: a program that all videos need is missing.
        OSError: `folder` cannot be written.
    """
    if (folder / RECORD).is_file():
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        sound = record["sound"] and folder / record["sound"]
        return Fetched(folder / record["picture"], sound, record["format"], record["tool"])
    if is_offline():
        raise FetchError(State.TODO, f"{url}: not fetched yet, and FIXTALK_OFFLINE is set")
    _require_player(url)
    require_writable(folder)
    files = _download(url, folder, height, breaker)
    tool = f"yt-dlp {version('yt-dlp')}"
    names = [Path(one["filepath"]).name for one in files]
    format_id = "+".join(str(one["format_id"]) for one in files)
    record = {"picture": names[0], "sound": names[1] if len(names) > 1 else None}
    write_text(folder / RECORD, json.dumps(record | {"format": format_id, "tool": tool}))
    return fetch(url, folder, height, breaker)


def _require_player(url: str) -> None:
    """Without one every video of YouTube would look as if it had no formats."""
    if "youtube.com" in url and not any(shutil.which(name) for name in PLAYERS):
        raise DownloadError(
            f"neither {' nor '.join(PLAYERS)} is installed: yt-dlp needs one to find YouTube's "
            "videos; install deno (docs/data.md)"
        )


def _download(url: str, folder: Path, height: int, breaker: Breaker) -> list[dict[str, Any]]:
    from yt_dlp import YoutubeDL
    from yt_dlp.utils import DownloadCancelled, YoutubeDLError

    def look_up(_: dict[str, Any]) -> None:
        if breaker.reason:
            raise DownloadCancelled(breaker.reason)

    options = {
        "format": lambda offered: _choose(offered["formats"], height),
        "outtmpl": {"default": f"{_literal(folder)}/%(format_id)s.%(ext)s"},
        "cookiefile": _cookies(),
        "progress_hooks": [look_up],
        "logger": _Silence(),
        "js_runtimes": {name: {} for name in PLAYERS},
        "socket_timeout": TIMEOUT,
        "sleep_interval": PAUSE,
        "max_sleep_interval": 5 * PAUSE,
        "sleep_interval_requests": PAUSE,
        "retries": 2,
        "fragment_retries": 2,
        "extractor_retries": 1,
        "noplaylist": True,
        "playlist_items": "0",  # none: a source is one video
        "noprogress": True,
        "cachedir": False,
        "fixup": "never",  # needs the ffmpeg program
    }
    try:
        with YoutubeDL(options) as ydl:
            return ydl.extract_info(url, download=True)["requested_downloads"]
    except DownloadCancelled as error:
        raise FetchError(State.TODO, str(error)) from None
    except KeyError:
        raise FetchError(State.FORMAT_MISSING, f"{url}: a list of videos, not one") from None
    except YoutubeDLError as error:
        if "No space left" in str(error):
            raise OSError(errno.ENOSPC, "disk full; make room, the same command goes on") from None
        raise _explained(url, str(error)) from None
    except (OSError, MemoryError):  # of this machine, not of the video
        raise
    except Exception as error:  # extractors stumble over pages that nobody has seen before
        raise FetchError(State.FAILED, f"{url}: {type(error).__name__}: {error}") from error


def _literal(folder: Path) -> str:
    """The folder in a template of yt-dlp, which replaces %(name)s, $NAME and a ~ at the begin."""
    # a field that no video has gives what stands after the bar
    return str(folder.absolute()).replace("%", "%%").replace("$", "%(no_field|$)s")


class _Silence:
    """Takes what yt-dlp would print; what matters comes as an exception."""

    def debug(self, message: str) -> None:
        """Nothing."""

    warning = error = info = debug


def _cookies() -> io.StringIO | None:
    """A copy of the user's cookies: yt-dlp writes changed ones back, which must not reach theirs.

    Raises:
        FileNotFoundError: FIXTALK_COOKIES names no file.
        DownloadError: a line of it is no cookie; yt-dlp would print that line.
    """
    name = os.environ.get("FIXTALK_COOKIES")
    if not name:
        return None
    if not Path(name).is_file():
        raise FileNotFoundError("FIXTALK_COOKIES names no file: export the browser's cookies to it")
    text = Path(name).read_text(encoding="utf-8-sig", errors="replace")
    lines = ["", *text.splitlines()] if re.match(COOKIES_BEGIN, text) else ["", "no first line"]
    for number, line in enumerate(lines):
        is_comment = not line.strip() or (line[0] == "#" and not line.startswith("#HttpOnly_"))
        if not is_comment and not re.fullmatch(COOKIE, line):
            raise DownloadError(
                f"FIXTALK_COOKIES: line {number} is not of Netscape's form ('# Netscape HTTP "
                "Cookie File', then 7 words a line with tabs between); export the cookies again"
            )
    return io.StringIO("\n".join(lines[1:]) + "\n")


def _explained(url: str, message: str) -> FetchError:
    text = re.sub(r"\x1b\[[0-9;]*m", "", message).removeprefix("ERROR: ").strip()
    text = re.sub(r"^\[[\w:]+\] [\w-]+: ", "", text)  # an id may look like a word
    for pattern, state, is_doubtful in MEANINGS:
        if re.search(pattern, text, re.IGNORECASE):
            return FetchError(state, f"{url}: {text}", is_doubtful=is_doubtful)
    return FetchError(State.FAILED, f"{url}: no usable answer: {text}")


def _choose(formats: list[dict[str, Any]], height: int) -> Iterator[dict[str, Any]]:
    """Pictures, then the best sound if they have none; nothing if all pictures are too small.

    Args:
        formats: worst first, as yt-dlp sorts them.
        height: pixels that are enough.
    """
    pictures = [one for one in formats if one.get("vcodec") != "none" and not _is_manifest(one)]
    enough = [one for one in pictures if (one.get("height") or height) >= height]
    if enough:
        best = min(reversed(enough), key=lambda one: one.get("height") or height)
    elif pictures:
        best = max(reversed(pictures), key=lambda one: one["height"])
    else:
        return
    if (best.get("height") or height) < LOWEST_SHARE * height:
        return
    yield best
    if best.get("acodec") == "none":
        sounds = [
            one
            for one in formats
            if one.get("vcodec") == "none" and one.get("acodec") != "none" and not _is_manifest(one)
        ]
        yield from sounds[-1:]


def _is_manifest(one: dict[str, Any]) -> bool:
    """Playlists of pieces would need the ffmpeg program to be put together."""
    return "m3u8" in (one.get("protocol") or "") or one.get("ext") == "mhtml"
