"""MEAD's actors, in folders or in one tar archive each → one row a take, with its sound joined."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from fixtalk.container import MediaError
from fixtalk.media import probe
from pipelines.cluster import map_parallel
from pipelines.files import only_one
from pipelines.sources.actors import Archive, rows_of_archives
from pipelines.sources.collected import Collected, DownloadError, ListedConfig, begin, keep_only
from pipelines.sources.cutting import join
from pipelines.sources.drive import list_drive_folder
from pipelines.sources.ledger import FetchError
from pipelines.sources.takes import (
    ACTOR,
    IN_VIEW,
    ODD_NAME,
    VIDEO,
    Take,
    facts_of,
    held,
    no_view,
    row_of_actor,
    row_of_take,
    take_of,
)

View = Literal["front", "left_30", "left_60", "right_30", "right_60", "top", "down"]


class MeadConfig(ListedConfig):
    """Actors with eight emotions, for training and evaluation."""

    path: str | None = Field(description="folder of actors' folders or tar archives; null: none")
    drive: dict[str, str] = Field(description="actor → id of the archive on Google Drive")
    folders: tuple[str, ...] = Field(description="ids of Drive folders that hold archives")
    url: str = Field(pattern=r"\{id\}", description="address of an archive, with {id}")
    sha256: dict[str, str] = Field(description="actor → digest of the archive, where it is known")
    view: View = Field(description="camera that is used")


def fetch_mead(config: MeadConfig, raw: Path) -> Collected:
    """Rows of all takes of the wanted view: local ones first, then those of Drive.

    Videos in a local folder stay where they are, unless their sound is a file of its own: then
    both are copied into one below `raw`, as they are.

    Raises:
        DownloadError: no actor is found, or one twice.
        BlockedError: Drive refuses everything.
        BlockingIOError: another process works on this dataset.
    """
    here = Path(config.path).expanduser().resolve() if config.path else None
    if here and not here.is_dir():
        raise DownloadError(f"download.mead.path: {here} is not a folder")
    if here and here.is_relative_to(raw.resolve()):
        raise DownloadError(
            f"download.mead.path: {here} lies in {raw}, where this stage deletes what it has not "
            "made; move it elsewhere"
        )
    folders = _local(here) if here else {}
    remote = {name: id_ for name, id_ in _remote(config).items() if name not in folders}
    if not folders and not remote:
        raise DownloadError(
            "download.mead: no actor: let `path` name a folder that holds M003, M003.tar and so "
            "on, or give ids of Google Drive in `drive` or `folders` (docs/data.md)"
        )
    archives = [
        Archive(actor, path, None, None, config.view)
        for actor, path in folders.items()
        if path.suffix == ".tar"
    ] + [
        Archive(actor, None, config.url.replace("{id}", id_), config.sha256.get(actor), config.view)
        for actor, id_ in remote.items()
    ]
    fetched = raw.with_name(f".{raw.name}.fetched")
    with only_one(fetched):
        begin(raw)
        rows = []
        for actor, path in folders.items():
            if path.is_dir():
                rows += _rows_of_folder(actor, path, raw, config.view)
        rows += rows_of_archives(archives, raw, fetched)
        keep_only(rows, raw)
    counts, unread = held(rows)
    listed = ", ".join(f"{actor} {count}" for actor, count in counts.items()) or "none"
    notes = (
        f"videos of {config.view}: {listed}",
        *(f"{actor} could not be read, counts as {n} videos" for actor, n in unread.items()),
    )
    # an actor's emotions take turns: clips that lie together are drawn together in training
    rows.sort(key=lambda row: (row["person"], row["clip"].rpartition("/")[2], row["clip"]))
    return Collected(rows, raw, notes, stands_for=unread)


def _local(here: Path) -> dict[str, Path]:
    """Actor → folder or archive; other files may lie beside them."""
    found: dict[str, Path] = {}
    for path in sorted(here.iterdir()):
        if ACTOR.fullmatch(path.stem) and (path.is_dir() or path.suffix == ".tar"):
            if path.stem in found:
                raise DownloadError(
                    f"download.mead.path: {found[path.stem]} and {path} are of one actor; move "
                    "one of the two elsewhere"
                )
            found[path.stem] = path
    return found


def _remote(config: MeadConfig) -> dict[str, str]:
    """Actor → id of its archive on Drive."""
    found = {}
    for folder in config.folders:
        try:
            files = list_drive_folder(folder)
        except FetchError as error:
            raise DownloadError(f"download.mead.folders: {error}") from None
        found |= {Path(name).stem: id_ for name, id_ in files.items() if name.endswith(".tar")}
    return {actor: id_ for actor, id_ in (found | config.drive).items() if ACTOR.fullmatch(actor)}


def _rows_of_folder(actor: str, folder: Path, raw: Path, view: str) -> list[dict[str, Any]]:
    items, odd = [], []
    for path in sorted((folder / "video" / view).rglob("*")):
        name = path.relative_to(folder).as_posix()
        take = take_of(actor, VIDEO, name)
        if take:
            sound = folder / f"audio{take.clip.removeprefix(actor)}.m4a"
            items.append((take, path, sound, raw))
        elif IN_VIEW.fullmatch(name):
            odd.append(row_of_actor(actor, ODD_NAME, name))
    if not items and not odd:
        views = [path.name for path in (folder / "video").glob("*")]
        return [row_of_actor(actor, no_view(view, views))]
    return [*map_parallel(_inspected, items, f"inspect {actor}"), *odd]


def _inspected(item: tuple[Take, Path, Path, Path]) -> dict[str, Any]:
    """Row of a take in a folder, after joining its sound if that is a file of its own."""
    take, video, sound, raw = item
    target = raw / f"{take.clip}.mp4"
    try:
        has_sound = probe(video).has_audio
        if has_sound or not sound.is_file():
            return row_of_take(take, str(video)) | facts_of(video, not has_sound)
        newest = max(video.stat().st_mtime, sound.stat().st_mtime)
        if not target.is_file() or target.stat().st_mtime < newest:
            join(video, sound, target)
    except (MediaError, OSError) as error:
        return row_of_take(take, f"{take.clip}.mp4") | {"status": "corrupt", "reason": str(error)}
    return row_of_take(take, f"{take.clip}.mp4") | facts_of(target, False)
