"""Address of a big file, on Google Drive for instance → the file, resumed where it broke off."""

import hashlib
import threading
from pathlib import Path

from pipelines.files import require_writable
from pipelines.sources.breaker import Breaker
from pipelines.sources.harvest import is_offline
from pipelines.sources.ledger import FetchError, State

TIMEOUT = 60.0  # seconds of silence
TRIES = 3  # of a download whose connection ends early


def fetch_file(url: str, path: Path, sha256: str | None, breaker: Breaker) -> None:
    """Fetch a file by gdown; what a killed run left beside `path` is gone on with.

    Args:
        url: one of Drive, or a plain address.
        path: the file has this name only when complete.
        sha256: of the file, where its provider tells it.
        breaker: the download breaks off when it opens.

    Raises:
        FetchError: with the state that the file is in now.
        OSError: its folder cannot be written.
    """
    if not path.is_file():
        if is_offline():
            raise FetchError(State.TODO, f"{url}: not fetched yet, and FIXTALK_OFFLINE is set")
        require_writable(path.parent)
        for left in reversed(range(TRIES)):
            try:
                _download(url, path, breaker)
                break
            except _EndedEarlyError as error:
                if not left:
                    raise FetchError(State.CORRUPT, f"{url}: {error}") from None
    if sha256:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256:
            path.unlink()
            raise FetchError(State.CORRUPT, f"{url}: sha256 is {found}, expected {sha256}")


class _EndedEarlyError(Exception):
    """The connection did; what came is kept."""


def _download(url: str, path: Path, breaker: Breaker) -> None:
    from gdown import download
    from gdown.exceptions import DownloadCancelled, DownloadError, FileURLRetrievalError
    from requests import HTTPError, RequestException

    cancel = threading.Event()

    def look_up(*_: int | None) -> None:
        if breaker.reason:
            cancel.set()

    try:
        download(
            url, str(path), quiet=True, use_cookies=False, resume=True, progress=look_up,
            timeout=TIMEOUT, cancel=cancel,
        )  # fmt: skip
    except DownloadCancelled:
        raise FetchError(State.TODO, breaker.reason or "stopped") from None
    except HTTPError as error:
        status = error.response.status_code
        is_own = status in (401, 403)
        state = State.GONE if status in (404, 410) else State.REFUSED if is_own else State.BLOCKED
        raise FetchError(state, f"{url}: HTTP {status}", is_doubtful=is_own) from None
    except FileURLRetrievalError as error:
        # Drive says the same of too many readers of this file today and of one that is not shared
        raise FetchError(State.REFUSED, f"{url}: {' '.join(str(error).split())}") from None
    except DownloadError as error:
        if "announced" in str(error) and "exceeds" not in str(error):
            raise _EndedEarlyError(str(error)) from None
        _drop_parts(path)  # what is there cannot be gone on with
        raise FetchError(State.CORRUPT, f"{url}: {error}") from None
    except RequestException as error:
        raise FetchError(State.BLOCKED, f"{url}: no answer: {error}") from None


def _drop_parts(path: Path) -> None:
    for part in path.parent.glob(f"{path.name}*.part"):
        part.unlink()


def list_drive_folder(folder: str) -> dict[str, str]:
    """Name → id of the files of a public folder of Drive.

    Raises:
        FetchError: it cannot be listed.
    """
    from gdown import download_folder
    from gdown.exceptions import DownloadError
    from requests import RequestException

    if is_offline():
        raise FetchError(State.TODO, f"{folder} cannot be listed: FIXTALK_OFFLINE is set")
    try:
        found = download_folder(id=folder, skip_download=True, quiet=True, use_cookies=False)
    except (DownloadError, RequestException) as error:
        raise FetchError(State.BLOCKED, f"Drive folder {folder}: {error}") from None
    return {Path(one.path).name: one.id for one in found}
