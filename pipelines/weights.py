"""Names of official networks → their files in models/weights, whole, checked and read safely."""

import hashlib
import re
import shutil
from collections.abc import Iterator
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import metrics.registry as registry
from metrics.registry import Weights

if TYPE_CHECKING:
    from torch import Tensor

SECONDS_OF_SILENCE = 60  # after which a server counts as gone
CHUNK = 2**18  # bytes
RANGE_NOT_SATISFIABLE = 416


class WeightsError(RuntimeError):
    """Weights cannot be had or are not the published ones; the message says what to do."""


class WeightsMissingError(WeightsError, FileNotFoundError):
    """Weights were never fetched."""


class Verified(NamedTuple):
    """What lies in the folder for one network.

    Attributes:
        is_good: there, and the published file as far as anybody can tell.
        status: "ok", "ok, no published checksum", "missing", or what is wrong with the file.
        sha256: of a good file.
    """

    name: str
    is_good: bool
    status: str
    sha256: str | None
    path: Path


def fetch(name: str, folder: Path, accept_licence: bool, source: Path | None = None) -> Verified:
    """Put the weights of a network into `folder`, under their name only when they are right.

    Good weights that are there already stay. A download that breaks off goes on where it stopped
    at the next call.

    Args:
        name: a key of `metrics.registry.OFFICIAL`.
        folder: of all weights.
        accept_licence: whoever calls has read the licence and agrees.
        source: file got some other way, to be copied instead of downloaded.

    Raises:
        WeightsError: unknown name, licence not accepted, no such file, no connection, or weights
            that are not the published ones.
    """
    weights = _known(name)
    if not accept_licence:
        raise WeightsError(
            f"{name}: {weights.licence}\n{weights.url}\n"
            f"to accept: fixtalk weights fetch {name} --accept-licence"
        )
    path = folder / weights.file
    present = _verified(weights, path)
    if present.is_good:
        return present
    folder.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    if source is None:
        _download(weights, part)
    else:
        _copy(source, part)
    arrived = _verified(weights, part)
    if not arrived.is_good:
        part.unlink()
        raise WeightsError(arrived.status)
    part.replace(path)
    return arrived._replace(path=path)


def verify(folder: Path) -> list[Verified]:
    """State of the weights of every official network."""
    return [_verified(weights, folder / weights.file) for weights in registry.OFFICIAL.values()]


def read(name: str, folder: Path) -> tuple[dict[str, "Tensor"], str]:
    """Tensors of a network by name, and the checksum of the file they come from.

    Raises:
        WeightsMissingError: they were never fetched.
        WeightsError: unknown name, or not the published weights.
    """
    weights = _known(name)
    return _checked(weights, folder / weights.file)


def _known(name: str) -> Weights:
    if name not in registry.OFFICIAL:
        names = ", ".join(registry.OFFICIAL)
        raise WeightsError(f"unknown weights '{name}': known are {names}")
    return registry.OFFICIAL[name]


def _verified(weights: Weights, path: Path) -> Verified:
    try:
        _, sha256 = _checked(weights, path)
    except WeightsMissingError:
        return Verified(weights.name, False, "missing", None, path)
    except (WeightsError, OSError) as error:
        return Verified(weights.name, False, str(error), None, path)
    status = "ok" if weights.sha256 else "ok, no published checksum"
    return Verified(weights.name, True, status, sha256, path)


def _checked(weights: Weights, path: Path) -> tuple[dict[str, "Tensor"], str]:
    """Tensors and checksum of a file that is what the registry says, read without running code."""
    import torch

    command = f"fixtalk weights fetch {weights.name} --accept-licence"
    if not path.is_file():
        raise WeightsMissingError(f"unavailable: {weights.name} is not in {path.parent}; {command}")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if weights.sha256 and not found.startswith(weights.sha256):
        raise WeightsError(
            f"{path}: sha256 is {found}, published is {weights.sha256}; once more: {command}"
        )
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch's own message recommends weights_only=False, which would run the file's code
        raise WeightsError(
            f"{path}: not a file of plain tensors ({type(error).__name__}); it was not loaded, as "
            f"it may run code. Once more: {command}"
        ) from error
    try:
        state = registry.plain_state_dict(checkpoint)
        registry.check_layout(weights.name, state)
    except ValueError as error:
        raise WeightsError(f"{path}: {error}") from error
    return state, found


def _copy(source: Path, part: Path) -> None:
    if not source.is_file():
        raise WeightsError(f"{source}: no such file; name one with --from")
    shutil.copyfile(source, part)


def _download(weights: Weights, part: Path) -> None:
    """Fills `part`, going on after what it holds already."""
    have = part.stat().st_size if part.is_file() else 0
    request = Request(weights.url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urlopen(request, timeout=SECONDS_OF_SILENCE) as answer:
            _refuse_pages(weights, answer)
            start = have if answer.status == 206 else 0
            total = _total(weights, answer, start)
            _write(weights, answer, part, start, total)
    except HTTPError as error:
        if error.code == RANGE_NOT_SATISFIABLE and _is_whole(error, have):
            return
        if error.code == RANGE_NOT_SATISFIABLE:
            part.unlink()
        raise WeightsError(_failure(weights, f"HTTP {error.code} {error.reason}")) from error
    except (OSError, HTTPException) as error:
        raise WeightsError(_failure(weights, str(error) or type(error).__name__)) from error
    if total is not None and part.stat().st_size != total:
        got = part.stat().st_size
        reason = f"broke off after {got} of {total} bytes; the same command goes on from there"
        raise WeightsError(_failure(weights, reason))


def _refuse_pages(weights: Weights, answer: HTTPResponse) -> None:
    """Pages of consent or error arrive with status 200; so may a redirect away from TLS."""
    if answer.headers.get_content_type() == "text/html":
        raise WeightsError(_failure(weights, "a web page came instead of a file"))
    if weights.url.startswith("https:") and not answer.url.startswith("https:"):
        raise WeightsError(_failure(weights, f"led to {answer.url}, which is not encrypted"))


def _total(weights: Weights, answer: HTTPResponse, start: int) -> int | None:
    """Bytes of the whole file as the server says; None if it does not."""
    rest = answer.headers.get("Content-Length")
    total = None if rest is None else start + int(rest)
    if None not in (total, weights.num_bytes) and total != weights.num_bytes:
        reason = f"the file has {total} bytes, published are {weights.num_bytes}"
        raise WeightsError(_failure(weights, reason))
    return total


def _write(
    weights: Weights, answer: HTTPResponse, part: Path, start: int, total: int | None
) -> None:
    from rich.progress import DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns) as progress, part.open("ab" if start else "wb") as file:
        task = progress.add_task(weights.name, total=total, completed=start)
        for chunk in _chunks(answer):
            file.write(chunk)
            progress.advance(task, len(chunk))


def _chunks(answer: HTTPResponse) -> Iterator[bytes]:
    while chunk := answer.read(CHUNK):
        yield chunk


def _is_whole(error: HTTPError, have: int) -> bool:
    """A server asked for what comes after the end names the length of the file."""
    return re.fullmatch(rf"bytes \*/{have}", error.headers.get("Content-Range", "")) is not None


def _failure(weights: Weights, reason: str) -> str:
    remedy = weights.note or (
        f"download it with a browser, then fixtalk weights fetch {weights.name} "
        "--accept-licence --from FILE"
    )
    return f"{weights.file}: {reason}\n{weights.url}\n{remedy}"
