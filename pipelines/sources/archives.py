"""Tar archives → their regular files, one after the other, never unpacked as a whole."""

import errno
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from pipelines.files import replacing

BLOCK = 512  # bytes; two of zeros end an archive
MOST_BYTES = 4 * 2**30  # of a member
MOST_MEMBERS = 100_000
MOST_AT_ONCE = 2**24  # bytes: a damaged header may ask for all of the file at once
DEPTH = 2  # archives within archives


class ArchiveError(ValueError):
    """An archive is damaged; the message names it and the remedy."""


class Member(NamedTuple):
    """A regular file of an archive.

    Attributes:
        name: inside the archive, that of an inner archive before it; never used as a path.
        refusal: why it must not be read; None: it may.
        content: open for reading until the next member is asked for.
    """

    name: PurePosixPath
    refusal: str | None
    content: IO[bytes]


def members(path: Path) -> Iterator[Member]:
    """All regular files of a tar archive and of the tar archives in it.

    Links, devices, names that lead out of the archive and members above 4 GiB come with a refusal.

    Raises:
        ArchiveError: not a tar archive, damaged, or cut off.
    """
    with path.open("rb") as file:
        yield from _walk(file, str(path), PurePosixPath(), DEPTH)


def save(member: Member, path: Path) -> None:
    """Write a member's content to `path`, whole or not at all.

    Raises:
        ArchiveError: the archive ends before the member does.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _told(str(member.name)), replacing(path) as part, part.open("wb") as file:
        shutil.copyfileobj(member.content, file, 2**20)


def _walk(file: IO[bytes], name: str, above: PurePosixPath, depth: int) -> Iterator[Member]:
    with _told(name), tarfile.open(fileobj=_Sparing(file), mode="r:") as archive:
        for info in _headers(archive, name):
            if info.isdir():
                continue
            path = above / info.name
            refusal = _refusal(info)
            content = None if refusal else archive.extractfile(info)
            if content is None:
                yield Member(path, refusal or "not a file", file)
            elif path.suffix == ".tar" and depth > 1:
                yield from _walk(content, f"{name}:{info.name}", path.with_suffix(""), depth - 1)
            else:
                yield Member(path, None, content)
        _require_end(file, archive.offset, name)


class _Sparing:
    """A file that refuses to be read in huge pieces."""

    def __init__(self, file: IO[bytes]) -> None:
        self.seek, self.tell, self._read = file.seek, file.tell, file.read
        self.seekable = file.seekable

    def read(self, count: int) -> bytes:
        """At most `count` bytes.

        Raises:
            ArchiveError: that is more than any sound header asks for.
        """
        if not 0 <= count <= MOST_AT_ONCE:
            raise ArchiveError(f"damaged: a header of {count} bytes")
        return self._read(count)


def _headers(archive: tarfile.TarFile, name: str) -> Iterator[tarfile.TarInfo]:
    """Headers one by one; a damaged length may point backwards and would be read for ever."""
    last = -1
    for _ in range(MOST_MEMBERS):
        info = archive.next()
        if info is None:
            return
        archive.members = []  # the library keeps all
        if info.offset <= last or info.size < 0:
            raise ArchiveError(f"{name}: damaged at byte {last}; fetch it again")
        last = info.offset
        yield info
    raise ArchiveError(f"{name}: more than {MOST_MEMBERS} members; not an archive of this dataset")


def _refusal(info: tarfile.TarInfo) -> str | None:
    path = PurePosixPath(info.name)
    if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or info.issparse():
        return "not a regular file"
    if path.is_absolute() or ".." in path.parts or "\0" in info.name or "\\" in info.name:
        return "its name leads out of the archive"
    if info.size > MOST_BYTES:
        return f"{info.size} bytes, at most {MOST_BYTES} are read"
    return None


def _require_end(file: IO[bytes], offset: int, name: str) -> None:
    """The library takes a cut-off archive, and a damaged header, for the end."""
    file.seek(offset)
    mark = file.read(BLOCK)
    if len(mark) < BLOCK:
        raise ArchiveError(f"{name}: cut off at byte {offset + len(mark)}; fetch it again")
    if mark.strip(b"\0"):
        raise ArchiveError(f"{name}: damaged at byte {offset}; fetch it again")


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Whatever the library says of damaged bytes, as one kind of error."""
    try:
        yield
    except tarfile.TarError as error:
        raise ArchiveError(f"{name}: damaged or cut off ({error}); fetch it again") from None
    except (ValueError, OverflowError, EOFError, RecursionError) as error:
        if isinstance(error, ArchiveError) and str(error).startswith(name):
            raise
        raise ArchiveError(f"{name}: damaged ({error}); fetch it again") from None
    except OSError as error:
        if error.errno != errno.EINVAL:  # of a place that no file has
            raise
        raise ArchiveError(f"{name}: damaged ({error}); fetch it again") from None
