"""Fetching and cutting against a server that fails in every way, and after kills."""

import json
import logging
import sqlite3
import subprocess
import sys
import time
import traceback
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from fixtalk.media import MediaError, probe
from pipelines.config import load_config
from pipelines.download import DownloadConfig, DownloadError, download
from pipelines.manifest import read_manifest
from pipelines.sources import breaker, hdtf, reels, videos
from pipelines.sources.breaker import BlockedError, Breaker
from pipelines.sources.drive import fetch_file
from pipelines.sources.harvest import Job, harvest, num_workers
from pipelines.sources.hdtf import HdtfConfig
from pipelines.sources.ledger import FetchError, Ledger, State
from pipelines.sources.vfhq import VfhqConfig
from tests.fake_server import fake_server, killed
from tests.fake_videos import film, numbers_of

ROOT = Path(__file__).parent.parent
WIDTH, HEIGHT, FPS = 320, 240, 25
# of one id each: two clips
ANSWERS = {
    "good_______": "ok",
    "-slow______": "slow",
    "_torn_once_": "broken once",
    "truncated__": "truncated",
    "removed____": 404,
    "consent____": "html",
    "busy_______": [429, 429, "ok"],
}
STATES = {
    "good_______": "ok",
    "-slow______": "ok",
    "_torn_once_": "ok",
    "truncated__": "corrupt",
    "removed____": "gone",
    "consent____": "format-missing",
    "busy_______": "ok",
    "damaged____": "corrupt",
    "stopped____": "corrupt",
}


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    film(path, seconds=4, fps=FPS, width=WIDTH // 2, height=HEIGHT // 2)
    return path.read_bytes()


@pytest.fixture
def files(content):
    """Bytes of every id: one is noise after its header, one is half of a video, as the whole."""
    head = content.index(b"mdat") + 4
    whole = dict.fromkeys(STATES, content)
    damaged = content[:head] + bytes(range(256)) * ((len(content) - head) // 256 + 1)
    return whole | {
        "damaged____": damaged[: len(content)],
        "stopped____": content[: len(content) // 3],
    }


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(videos, "PAUSE", 0.0)
    monkeypatch.setattr(breaker, "FIRST_PAUSE", 0.01)


def write_lists(folder, ids):
    folder.mkdir()
    for video in ids:
        for number, frames in enumerate(("9-35", "49-90")):
            text = f"H {HEIGHT}\nW {WIDTH}\nFPS {FPS}\nCROP 100 60 180 140\n"
            (folder / f"Clip+{video}+P{number}+C0+F{frames}.txt").write_text(text)


def config_of(lists, url, min_coverage=0.0):
    config = load_config(DownloadConfig, "download", ROOT / "params.yaml")
    vfhq = VfhqConfig(metadata=str(lists), url=f"{url}/{{id}}", min_seconds=1.0, test_share=0.5)
    changed = {"vfhq": vfhq, "min_coverage": min_coverage, "accept_terms": ("vfhq",)}
    return config.model_copy(update=changed)


def states_of(rows):
    return {row["source"]: row["status"] for row in rows}


def states_in_ledger(raw):
    with sqlite3.connect(raw.with_name(".vfhq.ledger.sqlite")) as base:
        return dict(base.execute("SELECT source, state FROM sources"))


def leftovers(raw):
    fetched = raw.with_name(".vfhq.fetched")
    return sorted(path.name for path in fetched.iterdir() if path.name != "lock")


@pytest.mark.parametrize("workers", ["1", "3"])
def test_each_video_ends_in_its_state(files, tmp_path, monkeypatch, workers):
    monkeypatch.setenv("FIXTALK_DOWNLOADS", workers)
    write_lists(tmp_path / "lists", STATES)
    raw = tmp_path / "raw" / "vfhq"

    with fake_server(files, ANSWERS) as (url, log):
        download(config_of(tmp_path / "lists", url), "vfhq", raw)

        rows = read_manifest(raw / "manifest.jsonl")
        assert states_of(rows) == STATES
        assert states_in_ledger(raw) == STATES
        good = [row for row in rows if row["status"] == "ok"]
        assert len(good) == 8
        for row in good:
            first, last = (10, 34) if "+P0+" in row["clip"] else (50, 89)
            assert numbers_of(raw / row["video"]) == [n % 30 for n in range(first, last + 1)]
            assert (row["start"], row["stop"]) == (first / FPS, (last + 1) / FPS)
            assert row["box"] == [10, 10, 40]  # half the published pixels came
            assert probe(raw / row["video"]).width == 60
            assert row["tool"].startswith("yt-dlp 20")
            assert row["format"] == "mp4 160x120"
            assert row["bytes"] == (raw / row["video"]).stat().st_size
        assert {row["source"] for row in rows if row["reason"]} == {
            source for source, state in STATES.items() if state != "ok"
        }
        report = json.loads((raw / "coverage.json").read_text())
        assert report["statuses"] == {"ok": 8, "corrupt": 6, "gone": 2, "format-missing": 2}
        assert report["hours"] == pytest.approx(4 * (1.0 + 1.6) / 3600, abs=1e-4)
        assert set(leftovers(raw)) <= {"v_truncated__"}  # the part that can be gone on with
        assert not [path for path in raw.rglob("*") if ".part" in path.name]
        assert log.count("removed____") == 1

        before = len(log)
        download(config_of(tmp_path / "lists", url), "vfhq", raw)

        assert {"good_______", "removed____"} & set(log[before:]) == set()  # done, or gone for good
        assert read_manifest(raw / "manifest.jsonl") == rows


def test_too_little_coverage_fails_with_the_list(files, tmp_path):
    write_lists(tmp_path / "lists", ["good_______", "removed____"])
    raw = tmp_path / "raw" / "vfhq"

    with (
        fake_server(files, ANSWERS) as (url, _),
        pytest.raises(DownloadError, match=r"2 of 4 videos are usable \(50%\)") as failure,
    ):
        download(config_of(tmp_path / "lists", url, 0.6), "vfhq", raw)

    assert "removed____" in str(failure.value)
    assert "404" in str(failure.value)
    assert not (raw / "manifest.jsonl").exists()


@pytest.mark.parametrize("status", [429, 403])
def test_refusals_in_a_row_stop_the_run_and_the_next_goes_on(files, tmp_path, status):
    ids = [f"video{number:06d}" for number in range(9)]
    write_lists(tmp_path / "lists", ids)
    raw = tmp_path / "raw" / "vfhq"
    content = files["good_______"]
    answers = dict.fromkeys(ids[2:], status)

    with fake_server(dict.fromkeys(ids, content), answers) as (url, log):
        config = config_of(tmp_path / "lists", url)
        with pytest.raises(BlockedError, match=r"5 refusals in a row.*\n.*5 blocked, 2 ok, 2 todo"):
            download(config, "vfhq", raw)
        assert len(set(log)) == 7  # two came, five were refused, the rest was spared
        assert not (raw / "manifest.jsonl").exists()
        answers.clear()
        before = len(log)

        download(config, "vfhq", raw)

        assert not set(ids[:2]) & set(log[before:])
    assert set(states_of(read_manifest(raw / "manifest.jsonl")).values()) == {"ok"}


def test_pauses_double_and_an_answer_resets_them(monkeypatch):
    monkeypatch.setattr(breaker, "FIRST_PAUSE", 600.0)
    switch, pauses = Breaker(), []

    for is_refused in (True, True, True, False, True):
        if is_refused:
            switch.refused("429")
        else:
            switch.answered()
        pauses.append(round(switch.pause, -2))

    assert pauses == [600, 1200, 2400, 2400, 600]
    assert switch.reason is None
    switch.stop("enough")
    assert not switch.wait()  # nobody sleeps on


def test_offline_uses_what_is_there(files, tmp_path, monkeypatch):
    write_lists(tmp_path / "lists", ["good_______", "-slow______"])
    raw = tmp_path / "raw" / "vfhq"
    with fake_server(files, {"-slow______": 429}) as (url, log):
        config = config_of(tmp_path / "lists", url)
        download(config, "vfhq", raw)
        monkeypatch.setenv("FIXTALK_OFFLINE", "1")
        before = len(log)

        download(config, "vfhq", raw)

        assert len(log) == before
    rows = read_manifest(raw / "manifest.jsonl")
    assert states_of(rows) == {"good_______": "ok", "-slow______": "todo"}
    assert "FIXTALK_OFFLINE" in next(row["reason"] for row in rows if row["status"] != "ok")


def test_changed_lists_cut_what_is_new_and_put_aside_what_is_not_named(files, tmp_path):
    lists = tmp_path / "lists"
    write_lists(lists, ["good_______", "-slow______"])
    first = {path.name: path.read_bytes() for path in lists.iterdir()}
    raw = tmp_path / "raw" / "vfhq"
    with fake_server(files, {}) as (url, log):
        download(config_of(lists, url), "vfhq", raw)
        made = {path.name: path.read_bytes() for path in raw.glob("*.mp4")}
        for path in lists.glob("*slow*"):
            path.unlink()
        (lists / "Clip+good_______+P0+C0+F9-35.txt").rename(
            lists / "Clip+good_______+P0+C0+F9-40.txt"
        )

        download(config_of(lists, url), "vfhq", raw)

        rows = read_manifest(raw / "manifest.jsonl")
        assert {row["video"] for row in rows} == {path.name for path in raw.glob("*.mp4")}
        assert [row["clip"] for row in rows] == [
            "Clip+good_______+P0+C0+F9-40",
            "Clip+good_______+P1+C0+F49-90",
        ]
        next(lists.glob("*F9-40*")).unlink()
        for name, text in first.items():
            (lists / name).write_bytes(text)
        before = len(log)

        download(config_of(lists, url), "vfhq", raw)

        assert len(log) == before, "what was fetched once is not fetched again"
    assert {path.name: path.read_bytes() for path in raw.glob("*.mp4")} == made


def test_range_after_the_end_is_unusable_not_corrupt(files, tmp_path):
    write_lists(tmp_path / "lists", ["good_______"])
    for path in (tmp_path / "lists").glob("*P1*"):
        path.rename(path.with_name("Clip+good_______+P1+C0+F90-190.txt"))
    raw = tmp_path / "raw" / "vfhq"

    with fake_server(files, {}) as (url, _):
        download(config_of(tmp_path / "lists", url), "vfhq", raw)

    rows = read_manifest(raw / "manifest.jsonl")
    assert [row["status"] for row in rows] == ["ok", "unusable"]
    assert "ends after 4.0" in rows[1]["reason"]


KILLED = """
import sys
from pathlib import Path
from pipelines.sources import breaker, videos
from tests.test_reels import config_of
from pipelines.download import download
videos.PAUSE, breaker.FIRST_PAUSE = 0.0, 0.01
download(config_of(Path(sys.argv[1]), sys.argv[2]), "vfhq", Path(sys.argv[3]))
"""


@pytest.mark.slow
def test_killed_at_any_point_it_ends_the_same(files, tmp_path):
    slow = [f"-slow{number}_____" for number in range(6)]
    files |= dict.fromkeys(slow, files["good_______"])
    answers = ANSWERS | dict.fromkeys(slow, "slow")
    write_lists(tmp_path / "lists", [*slow, "_torn_once_", "truncated__", "removed____"])
    with fake_server(files, answers) as (url, log):
        undisturbed = tmp_path / "undisturbed" / "vfhq"
        download(config_of(tmp_path / "lists", url), "vfhq", undisturbed)
        raw = tmp_path / "killed" / "vfhq"
        command = [sys.executable, "-c", KILLED, tmp_path / "lists", url, raw]
        for seconds in (0.05, 0.3, 0.7):  # after the first request of the process
            with killed(command, log):
                time.sleep(seconds)
            assert not (raw / "manifest.jsonl").exists()

        subprocess.run(command, cwd=ROOT, check=True)

    first, again = (read_manifest(one / "manifest.jsonl") for one in (undisturbed, raw))
    kept = [{k: v for k, v in row.items() if k != "reason"} for row in first]
    assert [{k: v for k, v in row.items() if k != "reason"} for row in again] == kept
    assert {path.name for path in raw.iterdir()} == {path.name for path in undisturbed.iterdir()}


@pytest.mark.slow
def test_two_runs_at_once_are_refused(files, tmp_path):
    write_lists(tmp_path / "lists", ["-slow______"])
    raw = tmp_path / "raw" / "vfhq"
    with fake_server(files, ANSWERS) as (url, log):
        command = [sys.executable, "-c", KILLED, tmp_path / "lists", url, raw]
        with (
            killed(command, log) as process,
            pytest.raises(BlockingIOError, match=f"process {process.pid} on"),
        ):
            download(config_of(tmp_path / "lists", url), "vfhq", raw)


def test_real_clip_by_lists_from_an_address(real_clips, tmp_path, monkeypatch):
    name = "WDA_AlexandriaOcasioCortez_000.mp4"  # 8 s of 512 x 512 pixels
    files = {"aoc________": (real_clips / "hdtf" / name).read_bytes()}
    lists = {
        "video_url": "\ufeffAlexandriaOcasioCortez https://youtu.be/aoc________ \n"
        "TomUdall https://www.youtube.com/watch?v=gone_______\n",
        "annotion_time": "AlexandriaOcasioCortez.mp4 00:01-00:02 00:06-00:07\n"
        "TomUdall.mp4 00:01-00:02\n",
        "crop_wh": "AlexandriaOcasioCortez_1.mp4 512 512 256 512\n",
        "resolution": "AlexandriaOcasioCortez.mp4 1024\n",
    }
    raw = tmp_path / "raw" / "hdtf"
    with fake_server(files, {}) as (url, _):
        for subset in ("RD", "WDA", "WRA"):
            for kind, text in lists.items():
                files[f"{subset}_{kind}.txt"] = text.encode() if subset == "WDA" else b""
        monkeypatch.setattr(hdtf, "address_of", lambda source: f"{url}/{source}")
        config = load_config(DownloadConfig, "download", ROOT / "params.yaml")
        changed = {
            "hdtf": HdtfConfig(metadata=f"{url}/lists"),
            "accept_terms": ("hdtf",),
            "min_coverage": 0.5,
        }
        download(config.model_copy(update=changed), "hdtf", raw)

    whole, boxed, gone = read_manifest(raw / "manifest.jsonl")
    assert (whole["status"], whole["box"], whole["split"]) == ("ok", None, "train")
    assert boxed["box"] == [64, 64, 256]  # in pixels of the picture that is kept
    assert (gone["clip"], gone["status"], gone["split"]) == ("WDA_TomUdall_000", "gone", "test")
    for row, side in ((whole, 512), (boxed, 320)):
        info = probe(raw / row["video"])
        assert (info.width, info.frames, info.fps) == (side, 25, 25)
        assert info.has_audio
    report = json.loads((raw / "coverage.json").read_text())
    assert "WDA_AlexandriaOcasioCortez_000" in report["notes"][1]


# What yt-dlp says of videos of YouTube.
@pytest.mark.parametrize(
    ("message", "state", "is_doubtful"),
    [
        ("Private video. Sign in if you've been granted access to this video", "gone", False),
        ("Video unavailable. This video has been removed by the uploader", "gone", False),
        (
            "Video unavailable. This video is no longer available because the YouTube account "
            "associated with this video has been terminated.",
            "gone",
            False,
        ),
        ("Join this channel to get access to members-only content", "gone", False),
        ("The uploader has not made this video available in your country", "gone", False),
        ("Sign in to confirm you’re not a bot. Use --cookies", "blocked", False),
        ("Sign in to confirm your age. This video may be inappropriate", "refused", False),
        (
            "Video unavailable. This content isn't available, try again later. The current session "
            "has been rate-limited by YouTube",
            "blocked",
            False,
        ),
        ("unable to download video data: HTTP Error 403: Forbidden", "refused", True),
        ("Requested format is not available. Use --list-formats", "format-missing", False),
        ("Failed to extract any player response", "blocked", False),
        ("Unable to download webpage: HTTP Error 503: Service Unavailable", "blocked", False),
        ("[Errno 11] Resource temporarily unavailable", "blocked", False),
        ("The TLS connection was non-properly terminated", "blocked", False),
        ("Failed to resolve 'www.youtube.com' ([Errno -2] Name unknown)", "blocked", False),
        ("Words that no release has said before", "failed", False),
    ],
)
def test_messages_mean_states(message, state, is_doubtful):
    error = videos._explained(
        "https://x", f"\x1b[0;31mERROR:\x1b[0m [youtube] drm_429_not: {message}"
    )

    assert isinstance(error, FetchError)
    assert (error.state, error.is_doubtful) == (State(state), is_doubtful)
    assert message[:20] in str(error)


def rendition(height, vcodec="avc1", acodec="none", name="x", protocol="https"):
    return {
        "height": height, "vcodec": vcodec, "acodec": acodec, "format_id": name,
        "protocol": protocol,
    }  # fmt: skip


SOUND = rendition(None, vcodec="none", acodec="mp4a", name="sound")


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ([360, 720, 1080, 2160], [1080, "sound"]),  # never more than is needed
        ([360, 720, 1440], [1440, "sound"]),  # the exact height is gone
        ([360, 720], [720, "sound"]),  # the greatest there is
        ([240, 360], []),  # less than half
    ],
)
def test_height_that_is_enough_is_chosen(offered, chosen):
    formats = [SOUND, *(rendition(height, name=height) for height in offered)]

    assert [one["format_id"] for one in videos._choose(formats, 1080)] == chosen


def test_sound_is_never_left_out():
    both = [rendition(720, acodec="mp4a", name="muxed")]
    worse, better = SOUND | {"format_id": "worse"}, SOUND | {"format_id": "better"}
    apart = [worse, better, rendition(720, name="best")]
    playlist = [rendition(1080, protocol="m3u8_native"), rendition(720, acodec="mp4a", name="file")]

    assert [one["format_id"] for one in videos._choose(both, 720)] == ["muxed"]
    assert [one["format_id"] for one in videos._choose(apart, 720)] == ["best", "better"]
    assert [one["format_id"] for one in videos._choose(playlist, 720)] == ["file"]


def test_pictures_and_sound_of_two_files_come_together(tmp_path, monkeypatch):
    import yt_dlp

    film(tmp_path / "p.mp4", seconds=1, width=64, height=48, has_sound=False)
    film(tmp_path / "s.mp4", seconds=1, width=64, height=48)
    files = {"137": (tmp_path / "p.mp4").read_bytes(), "140": (tmp_path / "s.mp4").read_bytes()}
    with fake_server(files, {}) as (url, log):
        formats = [
            rendition(None, vcodec="none", acodec="mp4a", name="140"),
            rendition(48, name="137"),
        ]
        for one in formats:
            one |= {"url": f"{url}/{one['format_id']}", "ext": "mp4", "protocol": "http"}
        page = {"id": "x", "title": "x", "extractor": "youtube", "formats": formats}
        monkeypatch.setattr(
            yt_dlp.YoutubeDL,
            "extract_info",
            lambda self, *_, download: self.process_ie_result(page, download),
        )

        found = videos.fetch(f"{url}/watch", tmp_path / "x", 48, Breaker())
        again = videos.fetch(f"{url}/watch", tmp_path / "x", 48, Breaker())

    assert found == again
    assert len(log) == 2
    assert found.format == "137+140"
    assert (found.picture.read_bytes(), found.sound.read_bytes()) == (files["137"], files["140"])


def test_terms_must_be_accepted(tmp_path):
    config = load_config(DownloadConfig, "download", ROOT / "params.yaml")

    for dataset in ("hdtf", "vfhq", "mead"):
        with pytest.raises(DownloadError, match=f"add {dataset} to download.accept_terms"):
            download(config, dataset, tmp_path / dataset)


@pytest.mark.parametrize("mark", ["\t", " "], ids=["valid", "invalid"])
def test_nothing_of_the_cookies_is_told_and_they_are_not_changed(
    files, tmp_path, monkeypatch, caplog, capfd, mark
):
    cookies = tmp_path / "own" / "hushed.txt"
    text = f"# Netscape HTTP Cookie File\n127.0.0.1\tFALSE\t/\tFALSE\t0\tsession{mark}secret\n"
    cookies.parent.mkdir()
    cookies.write_text(text)
    cookies.chmod(0o400)
    monkeypatch.setenv("FIXTALK_COOKIES", str(cookies))
    caplog.set_level(logging.DEBUG)
    write_lists(tmp_path / "lists", ["good_______", "busy_______", "removed____", "consent____"])
    raw, told = tmp_path / "raw" / "vfhq", []
    with fake_server(files, ANSWERS | {"busy_______": 429}) as (url, _):
        for min_coverage in (0.0, 1.0):
            try:
                download(config_of(tmp_path / "lists", url, min_coverage), "vfhq", raw)
            except DownloadError:
                told.append(traceback.format_exc())

    assert cookies.read_text() == text
    left = [path for path in raw.parent.rglob("*") if path.is_file() and path.suffix != ".mp4"]
    assert {".vfhq.ledger.sqlite", "lock"} <= {path.name for path in left}
    told += [path.read_bytes().decode("latin-1") for path in left]
    for one in (*told, caplog.text, *capfd.readouterr()):
        assert "hushed" not in one
        assert "secret" not in one
    assert len(told) > len(left)  # the exceptions were looked at, too


def test_missing_cookies_and_player_are_told(tmp_path, monkeypatch):
    monkeypatch.setenv("FIXTALK_COOKIES", str(tmp_path / "absent"))
    with pytest.raises(FileNotFoundError, match="FIXTALK_COOKIES names no file"):
        videos.fetch("http://127.0.0.1:9/x", tmp_path / "x", 120, Breaker())
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DownloadError, match="neither deno nor node is installed"):
        videos.fetch("https://www.youtube.com/watch?v=x", tmp_path / "x", 120, Breaker())


@pytest.mark.parametrize("text", ["0", "5", "many"])
def test_number_of_workers(monkeypatch, text):
    monkeypatch.setenv("FIXTALK_DOWNLOADS", text)

    with pytest.raises(ValueError, match="FIXTALK_DOWNLOADS"):
        num_workers()


def test_lost_clip_that_cannot_be_had_again_is_not_ok(files, tmp_path, monkeypatch):
    write_lists(tmp_path / "lists", ["good_______"])
    raw = tmp_path / "raw" / "vfhq"
    with fake_server(files, {}) as (url, _):
        download(config_of(tmp_path / "lists", url), "vfhq", raw)
        next(raw.glob("*P0*.mp4")).unlink()
        monkeypatch.setenv("FIXTALK_OFFLINE", "1")

        download(config_of(tmp_path / "lists", url), "vfhq", raw)

    rows = read_manifest(raw / "manifest.jsonl")
    assert [row["status"] for row in rows] == ["todo", "ok"]


def test_few_videos_that_are_always_refused_do_not_stop_every_run(files, tmp_path):
    ids = [f"video{number:06d}" for number in range(5)]
    write_lists(tmp_path / "lists", ids)
    raw = tmp_path / "raw" / "vfhq"
    content = dict.fromkeys(ids, files["good_______"])
    with fake_server(content, dict.fromkeys(ids[::2], 403)) as (url, _):
        for _ in range(2):
            download(config_of(tmp_path / "lists", url, 0.4), "vfhq", raw)

    states = states_of(read_manifest(raw / "manifest.jsonl"))
    assert [states[video] for video in ids] == ["refused", "ok", "refused", "ok", "refused"]


def test_videos_that_are_refused_for_ever_end_one_run_not_every_run(files, tmp_path):
    ids = [f"video{number:06d}" for number in range(8)]
    write_lists(tmp_path / "lists", ids)
    raw = tmp_path / "raw" / "vfhq"
    content = dict.fromkeys(ids, files["good_______"])
    with fake_server(content, dict.fromkeys(ids[2:], 403)) as (url, log):
        with pytest.raises(BlockedError, match="5 refusals in a row"):
            download(config_of(tmp_path / "lists", url, 0.2), "vfhq", raw)
        for _ in range(2):
            before = len(log)
            download(config_of(tmp_path / "lists", url, 0.2), "vfhq", raw)
            assert set(log[before:]) == set(ids[2:])  # each is tried again

        rows = read_manifest(raw / "manifest.jsonl")
        assert states_of(rows) == dict.fromkeys(ids, "refused") | dict.fromkeys(ids[:2], "ok")
        assert all("403" in row["reason"] for row in rows if row["status"] == "refused")
        with pytest.raises(DownloadError, match=r"4 of 16 videos are usable \(25%\)"):
            download(config_of(tmp_path / "lists", url, 0.3), "vfhq", raw)


def test_unknown_answers_are_each_sources_own_failure(tmp_path):
    asked = []

    def work(source, _):
        asked.append(source)
        if source != "good":
            raise videos._explained("https://x", "words that nobody knows")

    names = [f"odd{number}" for number in range(breaker.REFUSALS + 1)] + ["good"]
    ledger = Ledger(tmp_path / "ledger.sqlite")
    for _ in range(2):
        harvest([Job(name, partial(work, name)) for name in names], ledger)

    assert asked == [*names, "good", *names[:-1]]  # those that failed come last
    assert {ledger.state(name)[0] for name in names[:-1]} == {State.FAILED}
    assert "words that nobody knows" in ledger.state("odd0")[1]


@pytest.mark.parametrize("answer", [TypeError("no such thing"), AttributeError("x"), None])
def test_video_that_yt_dlp_stumbles_over_is_failed_and_the_others_are_fetched(
    files, tmp_path, monkeypatch, answer
):
    import yt_dlp

    def stumble(self, url, download):
        if "good" in url:
            return extract(self, url, download)
        if answer is None:
            return None
        raise answer

    extract = yt_dlp.YoutubeDL.extract_info
    monkeypatch.setattr(yt_dlp.YoutubeDL, "extract_info", stumble)
    write_lists(tmp_path / "lists", ["odd________", "good_______"])
    raw = tmp_path / "raw" / "vfhq"
    with fake_server(files, {}) as (url, _):
        download(config_of(tmp_path / "lists", url), "vfhq", raw)

    rows = read_manifest(raw / "manifest.jsonl")
    assert states_of(rows) == {"odd________": "failed", "good_______": "ok"}
    kind = type(answer or TypeError()).__name__
    (reason,) = {row["reason"] for row in rows if row["status"] == "failed"}
    assert reason.startswith(f"{url}/odd________: {kind}: ")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), MemoryError()])
def test_trouble_of_this_machine_is_no_failure_of_a_video(tmp_path, monkeypatch, error):
    import yt_dlp

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(yt_dlp.YoutubeDL, "extract_info", fail)

    with pytest.raises(type(error)) as raised:
        videos.fetch("http://127.0.0.1:9/x", tmp_path / "x", 120, Breaker())

    assert raised.value is error


@pytest.mark.parametrize("content", [b"no database" * 500, None])
def test_damaged_ledger_is_told(tmp_path, content):
    path = tmp_path / "ledger.sqlite"
    with closing(sqlite3.connect(path)) as base:
        base.executescript(
            "CREATE TABLE sources (source TEXT PRIMARY KEY, state TEXT, reason TEXT)"
        )
        base.execute("INSERT INTO sources VALUES ('a', 'nonsense', '')")
        base.commit()
    if content:
        path.write_bytes(content)

    with pytest.raises(DownloadError, match=r"ledger\.sqlite: damaged \(.*or delete it"):
        Ledger(path).state("a")


def test_folder_that_cannot_be_written_is_told_and_is_no_refusal(files):
    folder = Path("/proc/self")  # not even root makes files there
    with fake_server(files, {}) as (url, log):
        with pytest.raises(OSError, match=r"/proc/self: cannot be written .* a folder of yours"):
            videos.fetch(f"{url}/good_______", folder, 120, Breaker())
        with pytest.raises(OSError, match=r"/proc/self: cannot be written .* a folder of yours"):
            fetch_file(f"{url}/good_______", folder / "x.tar", None, Breaker())

    assert not log


def test_names_of_folders_are_taken_as_they_are(files, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "elsewhere"))
    monkeypatch.chdir(tmp_path)
    folder = Path("~ $HOME ${HOME} $$HOME 100%(id)s")
    with fake_server(files, {}) as (url, _):
        found = videos.fetch(f"{url}/good_______", folder, 120, Breaker())

    assert found.picture.read_bytes() == files["good_______"]
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_nothing_of_a_list_of_videos_is_fetched(files, tmp_path):
    page = "".join(f'<video src="/{name}.mp4"></video>' for name in ("one", "two"))
    files = {f"{name}.mp4": files["good_______"] for name in ("one", "two")} | {
        "page.html": f"<html><body>{page}</body></html>".encode()
    }
    with (
        fake_server(files, {}) as (url, log),
        pytest.raises(FetchError, match="a list of videos, not one") as error,
    ):
        videos.fetch(f"{url}/page.html", tmp_path / "x", 120, Breaker())

    assert error.value.state == State.FORMAT_MISSING
    assert set(log) == {"page.html"}


def test_full_disk_is_not_taken_for_a_damaged_video(files, tmp_path):
    write_lists(tmp_path / "lists", ["good_______"])
    raw = tmp_path / "raw" / "vfhq"
    raw.mkdir(parents=True)
    (raw / ".Clip+good_______+P1+C0+F49-90.mp4").symlink_to("/dev/full")
    with fake_server(files, {}) as (url, log):
        with pytest.raises(OSError, match="disk full"):
            download(config_of(tmp_path / "lists", url), "vfhq", raw)
        before = len(log)

        download(config_of(tmp_path / "lists", url), "vfhq", raw)

    assert len(log) == before  # the video was kept
    assert states_of(read_manifest(raw / "manifest.jsonl")) == {"good_______": "ok"}


def test_clips_beside_a_damaged_part_are_cut(files, tmp_path, monkeypatch):
    def damaged_first(wanted, *rest):
        if "+P0+" in wanted.clip:
            raise MediaError("a damaged part")
        return made(wanted, *rest)

    made = reels._made
    monkeypatch.setattr(reels, "_made", damaged_first)
    write_lists(tmp_path / "lists", ["good_______"])
    raw = tmp_path / "raw" / "vfhq"
    with fake_server(files, {}) as (url, _):
        download(config_of(tmp_path / "lists", url), "vfhq", raw)

    rows = read_manifest(raw / "manifest.jsonl")
    assert [(row["status"], row["reason"]) for row in rows] == [
        ("corrupt", "a damaged part"),
        ("ok", None),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "# Netscape HTTP Cookie File\n127.0.0.1\tFALSE\t/\tFALSE\t0\tsession secret\n",
        "# Netscape HTTP Cookie File\n127.0.0.1\tFALSE\t/\tFALSE\tsecret\tsession\tx\n",
        '[{"name": "session", "value": "secret"}]',
    ],
)
def test_wrong_cookies_are_told_and_not_printed(tmp_path, monkeypatch, capfd, text):
    (tmp_path / "cookies.txt").write_text(text)
    monkeypatch.setenv("FIXTALK_COOKIES", str(tmp_path / "cookies.txt"))

    with pytest.raises(DownloadError, match="FIXTALK_COOKIES: line") as error:
        videos.fetch("http://127.0.0.1:9/x", tmp_path / "x", 120, Breaker())

    assert "secret" not in str(error.value) + "".join(capfd.readouterr())
