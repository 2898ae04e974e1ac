"""Folder → the files below it, those of linked folders too."""

import os
from collections.abc import Iterator
from pathlib import Path

VIDEOS = {".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v"}


def visible_files(folder: Path) -> Iterator[Path]:
    """What lies below a folder, without folders and without what begins with a dot.

    Linked folders are entered, but for one that leads back to where it lies. A link that leads
    nowhere counts as a file.

    Raises:
        OSError: a folder cannot be listed; names it and the remedy.
    """
    for place, folders, files in os.walk(folder, followlinks=True, onerror=_refuse):
        here = Path(place).absolute()
        above = {path.resolve() for path in (here, *here.parents)}
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and (here / name).resolve() not in above
        ]
        yield from (Path(place) / name for name in files if not name.startswith("."))


def _refuse(error: OSError) -> None:
    raise OSError(
        error.errno,
        f"{error.filename}: cannot be listed ({error.strerror}); see that you may read it (ls -ld)",
    ) from None
