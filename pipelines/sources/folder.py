"""A folder → rows of the videos in it, which stay where they are."""

import os
from collections import Counter
from pathlib import Path
from typing import Any

from pydantic import Field

from pipelines.cluster import map_parallel
from pipelines.listing import VIDEOS, visible_files
from pipelines.manifest import manifest_row, sha256_of
from pipelines.sources.collected import Collected, DownloadError, ListedConfig


class FolderConfig(ListedConfig):
    """A user's own videos."""

    path: str | None = Field(description="folder that is searched for videos; null: none")


def list_folder(config: FolderConfig, raw: Path) -> Collected:
    """Rows of the videos below the user's folder.

    Raises:
        DownloadError: no folder named, not a folder, or no video in it.
        OSError: a folder in it cannot be listed.
    """
    if config.path is None:
        raise DownloadError("download.folder.path in params.yaml is null: name your folder there")
    folder = Path(config.path).expanduser().resolve()
    if not folder.is_dir():
        raise DownloadError(f"download.folder.path: {folder} is not a folder")
    found: dict[str, Path] = {}  # a video that two links lead to counts once
    for path in sorted(visible_files(folder)):
        if _is_listed(path):
            found.setdefault(os.path.realpath(path), path)
    videos = list(found.values())
    if not videos:
        suffixes = ", ".join(sorted(VIDEOS))
        raise DownloadError(f"{folder}: no video found ({suffixes})")
    bare = [path.relative_to(folder).with_suffix("").as_posix() for path in videos]
    uses = Counter(bare)
    # a.mp4 beside a.mov: both keep their suffix in the name
    names = [
        name if uses[name] == 1 else path.relative_to(folder).as_posix()
        for name, path in zip(bare, videos, strict=True)
    ]
    items = list(zip(names, videos, strict=True))
    rows = list(map_parallel(_row_of_file, items, "inspect"))
    return Collected(rows, raw)


def _is_listed(path: Path) -> bool:
    """Whether it is a video, or a link that leads nowhere, or where nothing may be read."""
    try:
        return path.suffix.lower() in VIDEOS if path.is_file() else not path.exists()
    except OSError:
        return True


def _row_of_file(item: tuple[str, Path]) -> dict[str, Any]:
    name, video = item
    status, reason, digest, num_bytes = "ok", None, None, None
    from fixtalk.media import MediaError, probe

    try:
        if not video.exists():
            raise FileNotFoundError(f"{video}: a link that leads nowhere; mend or delete it")
        num_bytes = video.stat().st_size
        digest = sha256_of(video)
        if num_bytes == 0:
            status, reason = "empty", f"{video}: 0 bytes; copy the file again"
        else:
            probe(video)
    except (MediaError, OSError) as error:
        status, reason = "unreadable", str(error)
    return manifest_row(
        clip=name,
        video=str(video),
        person=name,
        split="test",
        licence="own",
        sha256=digest,
        bytes=num_bytes,
        status=status,
        reason=reason,
    )
