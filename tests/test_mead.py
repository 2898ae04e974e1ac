"""MEAD from folders, archives and Drive; archives that are mutated, cut off or malicious."""

import hashlib
import io
import json
import random
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from fixtalk.media import probe, read_audio
from pipelines.config import load_config
from pipelines.download import DownloadConfig, DownloadError, download
from pipelines.files import only_one
from pipelines.manifest import read_manifest
from pipelines.sources import archives, breaker
from pipelines.sources.archives import ArchiveError, members, save
from pipelines.sources.breaker import BlockedError
from pipelines.sources.mead import MeadConfig
from tests.fake_server import fake_server, killed
from tests.fake_videos import film, numbers_of

ROOT = Path(__file__).parent.parent
TAKES = ("angry/level_1/001", "neutral/level_1/002")


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """Bytes of a silent video and of its sound."""
    folder = tmp_path_factory.mktemp("material")
    film(folder / "video.mp4", seconds=0.5, fps=30, width=64, height=48, has_sound=False)
    film(folder / "sound.mp4", seconds=0.5, fps=30, width=64, height=48)
    return (folder / "video.mp4").read_bytes(), (folder / "sound.mp4").read_bytes()


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(breaker, "FIRST_PAUSE", 0.01)


def actor_folder(folder, actor, material, views=("front", "left_30"), takes=TAKES):
    video, sound = material
    for take in takes:
        for view in views:
            path = folder / actor / "video" / view / f"{take}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(video)
        path = folder / actor / "audio" / f"{take}.m4a"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(sound)


def actor_tar(folder, actor, material, views=("front", "left_30")):
    """As published: the videos, and the sounds in an archive of their own."""
    actor_folder(folder / "tree", actor, material, views)
    tree = folder / "tree" / actor
    with tarfile.open(tree / "audio.tar", "w") as inner:
        inner.add(tree / "audio", "audio")
    with tarfile.open(folder / f"{actor}.tar", "w") as outer:
        outer.add(tree / "video", f"{actor}/video")
        outer.add(tree / "audio.tar", f"{actor}/audio.tar")
    shutil.rmtree(folder / "tree")
    return folder / f"{actor}.tar"


def config_of(min_coverage=0.0, **changes):
    config = load_config(DownloadConfig, "download", ROOT / "params.yaml")
    mead = MeadConfig.model_validate(config.mead.model_dump() | changes)
    changed = {"mead": mead, "min_coverage": min_coverage, "accept_terms": ("mead",)}
    return config.model_copy(update=changed)


def rows_by_clip(raw):
    return {row["clip"]: row for row in read_manifest(raw / "manifest.jsonl")}


@pytest.fixture
def local(tmp_path, material):
    """A folder with an actor unpacked, one packed, and one who was filmed from below only."""
    folder = tmp_path / "MEAD"
    actor_folder(folder, "M005", material)
    actor_folder(folder, "W017", material, views=("down",))
    actor_tar(folder, "M003", material)
    return folder


def test_local_actors(local, tmp_path):
    raw = tmp_path / "raw" / "mead"

    download(config_of(path=str(local)), "mead", raw)

    rows = rows_by_clip(raw)
    clips = {f"{actor}/{take}" for actor in ("M003", "M005") for take in TAKES}
    assert set(rows) == clips | {"W017"}
    assert rows["W017"]["status"] == "unusable"
    assert rows["W017"]["reason"] == "no view front, only down"
    for clip in clips:
        row = rows[clip]
        actor, emotion, _, number = clip.split("/")
        assert (row["status"], row["reason"], row["person"]) == ("ok", None, actor)
        assert row["split"] == ("test" if actor == "M003" else "train")
        assert (row["emotion"], row["level"]) == (emotion, 1)
        assert row["sentence"] == f"{emotion}/{number}"
        assert numbers_of(raw / row["video"]) == list(range(15))
        assert probe(raw / row["video"]).fps == 30  # asked, not assumed
        assert abs(read_audio(raw / row["video"], 12)).max() > 4000
    assert (local / "M003.tar").is_file()
    assert sorted(path.name for path in raw.iterdir()) == [
        "M003", "M005", "coverage.json", "manifest.jsonl"
    ]  # fmt: skip
    assert [path.name for path in raw.with_name(".mead.fetched").iterdir()] == ["lock"]


def test_emotions_of_an_actor_take_turns(tmp_path, material):
    takes = [f"{emotion}/level_1/{n}" for emotion in ("angry", "happy") for n in ("001", "002")]
    actor_folder(tmp_path / "MEAD", "M003", material, takes=takes)

    download(config_of(path=str(tmp_path / "MEAD")), "mead", tmp_path / "raw")

    emotions = [row["emotion"] for row in read_manifest(tmp_path / "raw" / "manifest.jsonl")]
    assert emotions == ["angry", "happy", "angry", "happy"]


def test_second_run_changes_nothing_and_mends_what_is_lost(local, tmp_path):
    raw = tmp_path / "raw" / "mead"
    download(config_of(path=str(local)), "mead", raw)
    first = rows_by_clip(raw)
    kept, lost = raw / f"M003/{TAKES[0]}.mp4", raw / f"M005/{TAKES[0]}.mp4"
    time = kept.stat().st_mtime_ns
    lost.unlink()
    (raw / "M005" / ".x.mp4.part").touch()

    download(config_of(path=str(local)), "mead", raw)

    assert rows_by_clip(raw) == first
    assert kept.stat().st_mtime_ns == time
    assert lost.is_file()
    assert not list(raw.rglob("*.part"))


def test_videos_with_their_own_sound_stay_where_they_are(local, tmp_path, material):
    shutil.rmtree(local / "M005" / "audio")
    (local / f"M005/video/front/{TAKES[0]}.mp4").write_bytes(material[1])
    raw = tmp_path / "raw" / "mead"

    download(config_of(path=str(local)), "mead", raw)

    rows = rows_by_clip(raw)
    spoken, silent = (rows[f"M005/{take}"] for take in TAKES)
    assert spoken["video"] == str(local / f"M005/video/front/{TAKES[0]}.mp4")
    assert (spoken["reason"], silent["reason"]) == (None, "no sound")
    assert not (raw / "M005").exists()


def test_cut_off_archive_is_told_and_nothing_of_it_is_used(local, tmp_path):
    archive = local / "M003.tar"
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    raw = tmp_path / "raw" / "mead"

    download(config_of(path=str(local)), "mead", raw)

    row = rows_by_clip(raw)["M003"]
    assert row["status"] == "corrupt"
    report = json.loads((raw / "coverage.json").read_text())
    assert report["statuses"] == {"ok": 2, "corrupt": 2, "unusable": 1}  # as many as M005 has
    assert "M003 could not be read, counts as 2 videos" in report["notes"]
    with pytest.raises(DownloadError, match=r"2 of 5 videos are usable \(40%\)"):
        download(config_of(0.5, path=str(local)), "mead", raw)
    assert "M003.tar" in row["reason"]
    assert "cut off" in row["reason"]
    assert not (raw / "M003").exists()
    assert archive.is_file()


ANSWERS = {
    "M009.tar": "ok",
    "W009.tar": ["truncated", "ok"],
    "W011.tar": "truncated",
    "W014.tar": 404,
    "W015.tar": "html",
    "W016.tar": [429, "ok"],
    "W018.tar": "slow",
    "W023.tar": "ok",
}
STATES = {
    "M009": "ok",
    "W009": "ok",
    "W011": "corrupt",
    "W014": "gone",
    "W015": "corrupt",
    "W016": "ok",
    "W018": "corrupt",  # its digest is another
    "W023": "ok",
}


def test_each_archive_of_drive_ends_in_its_state(tmp_path, material):
    files = {f"{actor}.tar": actor_tar(tmp_path, actor, material).read_bytes() for actor in STATES}
    digests = {"W018": "0" * 64, "W023": hashlib.sha256(files["W023.tar"]).hexdigest()}
    raw = tmp_path / "raw" / "mead"

    with fake_server(files, ANSWERS) as (url, log):
        drive = {actor: f"{actor}.tar" for actor in STATES}
        config = config_of(drive=drive, url=f"{url}/uc?id={{id}}", sha256=digests)
        download(config, "mead", raw)

        rows = read_manifest(raw / "manifest.jsonl")
        assert {row["person"]: row["status"] for row in rows} == STATES
        assert sum(row["status"] == "ok" for row in rows) == 8
        assert "sha256 is" in next(row["reason"] for row in rows if row["person"] == "W018")
        assert all(row["tool"].startswith("gdown ") for row in rows if row["status"] == "ok")
        assert not list(raw.with_name(".mead.fetched").rglob("*.tar"))
        before = len(log)

        download(config, "mead", raw)

        assert {"M009.tar", "W009.tar", "W014.tar", "W023.tar"} & set(log[before:]) == set()
        assert read_manifest(raw / "manifest.jsonl") == rows


KILLED = """
import sys
from pathlib import Path
from tests.test_mead import config_of
from pipelines.download import download
drive = {actor: f"{actor}.tar" for actor in sys.argv[3:]}
download(config_of(drive=drive, url=sys.argv[1] + "/{id}"), "mead", Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_killed_at_any_point_it_ends_the_same(tmp_path, material):
    actors = ["M009", "W009", "W011"]
    files = {f"{actor}.tar": actor_tar(tmp_path, actor, material).read_bytes() for actor in actors}
    raw, undisturbed = tmp_path / "killed" / "mead", tmp_path / "undisturbed" / "mead"
    with fake_server(files, dict.fromkeys(files, "slow")) as (url, log):
        command = [sys.executable, "-c", KILLED, url, raw, *actors]
        for seconds in (0.05, 0.4, 0.6):  # after the first request of the process
            with killed(command, log):
                time.sleep(seconds)
        subprocess.run(command, cwd=ROOT, check=True)
        drive = {actor: f"{actor}.tar" for actor in actors}
        download(config_of(drive=drive, url=f"{url}/{{id}}"), "mead", undisturbed)

    assert rows_by_clip(raw) == rows_by_clip(undisturbed)
    found, expected = (
        {path.relative_to(one).as_posix() for path in one.rglob("*")} for one in (raw, undisturbed)
    )
    assert found == expected
    assert [path.name for path in raw.with_name(".mead.fetched").iterdir()] == ["lock"]


def test_drive_that_refuses_all_stops_the_run(tmp_path):
    drive = {f"M{number:03d}": f"M{number:03d}.tar" for number in range(9)}

    with fake_server({}, dict.fromkeys(drive.values(), 429)) as (url, log):
        config = config_of(drive=drive, url=f"{url}/{{id}}")
        with pytest.raises(BlockedError, match="5 refusals in a row"):
            download(config, "mead", tmp_path / "mead")

    assert len(log) == 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [({}, "no actor"), ({"path": "absent"}, "is not a folder"), ({"path": "."}, "no actor")],
)
def test_no_actor_says_what_to_do(tmp_path, changes, message):
    changes = {key: str(tmp_path / value) for key, value in changes.items()}

    with pytest.raises(DownloadError, match=message):
        download(config_of(**changes), "mead", tmp_path / "raw" / "mead")


def test_mutated_archives_end_in_a_reason(tmp_path, material):
    folder, outside = tmp_path / "in" / "MEAD", tmp_path / "in"
    folder.mkdir(parents=True)
    content = actor_tar(folder, "M003", material).read_bytes()
    whole = {member.name.as_posix() for member in members(folder / "M003.tar")}
    chance = random.Random(6)
    outcomes, told = {"error": 0, "same": 0, "other": 0}, []

    for number in range(100):
        mutated = bytearray(content)
        for _ in range(chance.choice((1, 3, 30))):
            # half of the changes hit headers, where they can do harm
            spot = chance.randrange(len(mutated))
            spot = spot // 512 * 512 + chance.randrange(300) if chance.random() < 0.5 else spot
            mutated[min(spot, len(mutated) - 1)] = chance.randrange(256)
        if number % 4 == 0:
            del mutated[chance.randrange(len(mutated)) :]
        path = tmp_path / "mutated.tar"
        path.write_bytes(mutated)
        names = set()
        try:
            for member in members(path):
                if member.refusal is None:
                    save(member, tmp_path / "saved" / "one")
                names.add(member.name.as_posix())
        except ArchiveError as error:
            told.append(str(error))
            outcomes["error"] += 1
        else:
            outcomes["same" if names == whole else "other"] += 1

    assert outcomes["error"] > 30
    assert all("mutated.tar" in message or "M003" in message for message in told)
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) in ([], ["one"])
    assert sorted(path.name for path in outside.iterdir()) == ["MEAD"]


def test_mutated_archive_in_the_stage(tmp_path, material):
    pristine = actor_tar(tmp_path, "M003", material).read_bytes()
    chance = random.Random(7)
    for number in range(8):
        folder = tmp_path / f"run{number}" / "MEAD"
        folder.mkdir(parents=True)
        mutated = bytearray(pristine)
        for _ in range(40):
            spot = chance.randrange(len(mutated) - 1)
            mutated[spot] ^= 1 << chance.randrange(8)
        (folder / "M003.tar").write_bytes(mutated)
        raw = folder.parent / "raw" / "mead"

        download(config_of(path=str(folder)), "mead", raw)

        rows = read_manifest(raw / "manifest.jsonl")
        assert rows
        assert all(row["reason"] for row in rows if row["status"] != "ok")
        found = sorted(path.name for path in folder.parent.rglob("*") if path.is_file())
        assert "M003.tar" in found
        assert sorted(path.name for path in folder.parent.iterdir()) == ["MEAD", "raw"]


def member_of(name, kind=tarfile.REGTYPE, content=b"x", link="", declared=None):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(content)
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(info, io.BytesIO(content))
    data = bytearray(file.getvalue())
    if declared is not None:
        header = info
        header.size = declared
        data[:512] = header.tobuf(tarfile.GNU_FORMAT)[:512]
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "refusal"),
    [
        (member_of("../../video/front/angry/level_1/001.mp4"), "leads out"),
        (member_of("/video/front/angry/level_1/001.mp4"), "leads out"),
        (member_of("a\\b/video/front/angry/level_1/001.mp4"), "leads out"),
        (member_of("video/front/angry/level_1/001.mp4", tarfile.SYMTYPE, b"", "/x"), "regular"),
        (member_of("video/front/angry/level_1/001.mp4", tarfile.LNKTYPE, b"", "y"), "regular"),
        (member_of("video/front/angry/level_1/001.mp4", tarfile.CHRTYPE, b""), "regular"),
        (member_of("video/front/angry/level_1/001.mp4", tarfile.FIFOTYPE, b""), "regular"),
    ],
)
def test_malicious_member_is_listed_not_read(tmp_path, data, refusal):
    folder = tmp_path / "MEAD"
    folder.mkdir()
    (folder / "M003.tar").write_bytes(data)
    raw = tmp_path / "raw" / "mead"

    assert refusal in next(iter(members(folder / "M003.tar"))).refusal
    download(config_of(path=str(folder)), "mead", raw)

    (row,) = read_manifest(raw / "manifest.jsonl")
    assert row["status"] == "unusable"
    assert refusal in row["reason"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["MEAD", "raw"]


@pytest.mark.parametrize("declared", [2**40, -512, 2**62])
def test_wrong_lengths_are_errors(tmp_path, declared):
    path = tmp_path / "M003.tar"
    path.write_bytes(member_of("video/front/angry/level_1/001.mp4", declared=declared))

    with pytest.raises(ArchiveError, match=r"M003\.tar: .*fetch it again"):
        list(members(path))


def test_huge_header_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MOST_AT_ONCE", 2**16)
    path = tmp_path / "M003.tar"
    name = member_of("././@LongLink", tarfile.GNUTYPE_LONGNAME, b"x" * 2**17)
    path.write_bytes(name)

    with pytest.raises(ArchiveError, match="a header of 131072 bytes"):
        list(members(path))


def test_archives_within_archives_within_archives_are_not_followed(tmp_path):
    inner = member_of("video/front/angry/level_1/001.mp4")
    for name in ("c.tar", "b.tar", "a.tar"):
        inner = member_of(name, content=inner)
    (tmp_path / "M003.tar").write_bytes(inner)

    names = [member.name.as_posix() for member in members(tmp_path / "M003.tar")]

    assert names == ["a/b.tar"]


def test_videos_where_the_stage_works_are_not_touched(tmp_path, material):
    raw = tmp_path / "raw" / "mead"
    for path in (raw, raw / "MEAD"):
        actor_folder(path, "M005", material)
        before = sorted(raw.rglob("*"))

        with pytest.raises(DownloadError, match="move it elsewhere"):
            download(config_of(path=str(path)), "mead", raw)

        assert sorted(raw.rglob("*")) == before


def test_files_beside_an_archive_do_not_hide_it(local, tmp_path):
    for name in ("M003.txt", "M003.zip", "W099.zip"):
        (local / name).touch()
    raw = tmp_path / "raw" / "mead"

    download(config_of(path=str(local)), "mead", raw)

    assert {row["person"] for row in rows_by_clip(raw).values()} == {"M003", "M005", "W017"}


def test_videos_of_odd_names_are_listed_and_counted(local, tmp_path, material):
    odd = ("angry/level_1/1.mp4", "anger/level_1/001.mp4", "angry/001.MP4")
    for name in odd:
        path = local / "M005" / "video" / "front" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(material[0])
    with tarfile.open(local / "M003.tar", "a") as archive:
        archive.add(path, f"M003/video/front/{odd[0]}")
        archive.add(path, "M003/video/front/angry/level_1/._001.mp4")
    raw = tmp_path / "raw" / "mead"

    download(config_of(path=str(local)), "mead", raw)

    rows = rows_by_clip(raw)
    told = {clip for clip, row in rows.items() if "name not understood" in (row["reason"] or "")}
    in_folder = {f"M005:video/front/{name}" for name in odd}
    assert told == in_folder | {f"M003:M003/video/front/{odd[0]}"}
    assert {rows[clip]["status"] for clip in told} == {"unusable"}
    report = json.loads((raw / "coverage.json").read_text())
    assert report["notes"] == ["videos of front: M003 3, M005 5"]
    assert report["statuses"] == {"ok": 4, "unusable": 5}


def test_actor_in_a_folder_and_in_an_archive_is_refused(local, tmp_path, material):
    actor_tar(local, "M005", material)

    with pytest.raises(DownloadError, match=r"M005 and .*M005\.tar are of one actor; move one"):
        download(config_of(path=str(local)), "mead", tmp_path / "raw" / "mead")


def test_damaged_take_is_fetched_once_more_and_when_its_archive_is_another(tmp_path, material):
    whole = actor_tar(tmp_path, "M009", material).read_bytes()
    files = {"M009.tar": whole.replace(material[0], bytes(len(material[0])), 1)}
    raw, seen = tmp_path / "raw" / "mead", []
    with fake_server(files, {}) as (url, log):
        for run in range(4):
            digests = {"M009": hashlib.sha256(whole).hexdigest()} if run == 3 else {}
            files["M009.tar"] = whole if run == 3 else files["M009.tar"]
            drive = {"M009": "M009.tar"}
            before = len(log)
            download(config_of(drive=drive, url=f"{url}/{{id}}", sha256=digests), "mead", raw)
            states = {clip: row["status"] for clip, row in rows_by_clip(raw).items()}
            seen.append((len(log) > before, states[f"M009/{TAKES[0]}"]))

    assert seen == [(True, "corrupt"), (True, "corrupt"), (False, "corrupt"), (True, "ok")]


def test_archive_that_is_gone_can_be_had_elsewhere(tmp_path, material):
    raw, archive = tmp_path / "raw" / "mead", actor_tar(tmp_path, "M009", material)
    with fake_server({"new.tar": archive.read_bytes()}, {"old.tar": 404}) as (url, _):
        seen = []
        for name in ("old.tar", "new.tar"):
            download(config_of(drive={"M009": name}, url=f"{url}/{{id}}"), "mead", raw)
            seen.append({row["status"] for row in rows_by_clip(raw).values()})

    assert seen == [{"gone"}, {"ok"}]


def test_archive_that_was_replaced_is_read_again(local, tmp_path, material):
    raw = tmp_path / "raw" / "mead"
    download(config_of(path=str(local)), "mead", raw)
    actor_tar(local, "M003", material, views=("down",))

    download(config_of(path=str(local)), "mead", raw)

    assert rows_by_clip(raw)["M003"]["reason"] == "no view front, only down"


def test_full_disk_ends_the_run_and_condemns_no_take(tmp_path, material):
    content = actor_tar(tmp_path, "M009", material).read_bytes()
    raw = tmp_path / "raw" / "mead"
    part = raw / "M009" / "angry" / "level_1" / ".001.mp4"
    part.parent.mkdir(parents=True)
    part.symlink_to("/dev/full")
    with fake_server({"M009.tar": content}, {}) as (url, log):
        config = config_of(drive={"M009": "M009.tar"}, url=f"{url}/{{id}}")
        with pytest.raises(OSError, match="disk full"):
            download(config, "mead", raw)
        before = len(log)

        download(config, "mead", raw)

    assert len(log) == before  # the archive was kept
    assert {row["status"] for row in rows_by_clip(raw).values()} == {"ok"}


def test_offline_asks_nobody_for_a_folder_of_drive(tmp_path, monkeypatch):
    import gdown

    monkeypatch.setattr(gdown, "download_folder", None)
    monkeypatch.setenv("FIXTALK_OFFLINE", "1")

    with pytest.raises(DownloadError, match="FIXTALK_OFFLINE is set"):
        download(config_of(folders=("abc",)), "mead", tmp_path / "raw" / "mead")


def test_lost_take_costs_no_other_take(tmp_path, material, monkeypatch):
    raw, archive = tmp_path / "raw" / "mead", actor_tar(tmp_path, "M009", material)
    with fake_server({"M009.tar": archive.read_bytes()}, {}) as (url, _):
        config = config_of(drive={"M009": "M009.tar"}, url=f"{url}/{{id}}")
        download(config, "mead", raw)
        (raw / "M009" / f"{TAKES[0]}.mp4").unlink()
        monkeypatch.setenv("FIXTALK_OFFLINE", "1")

        download(config, "mead", raw)

    rows = rows_by_clip(raw)
    assert {clip: row["status"] for clip, row in rows.items()} == {
        f"M009/{TAKES[0]}": "todo",
        f"M009/{TAKES[1]}": "ok",
    }
    assert (raw / "M009" / f"{TAKES[1]}.mp4").is_file()


def test_second_process_is_refused_before_it_writes(local, tmp_path):
    raw = tmp_path / "raw" / "mead"

    with (
        only_one(raw.with_name(".mead.fetched")),
        pytest.raises(BlockingIOError, match="works there"),
    ):
        download(config_of(path=str(local)), "mead", raw)

    assert not raw.exists()
