"""Published lists of HDTF and VFHQ, their quirks included, → what is cut of which source."""

import json
import zipfile
from pathlib import Path

import pytest

from pipelines.manifest import manifest_row, read_manifest, split_hash, write_manifest
from pipelines.sources.collected import DownloadError
from pipelines.sources.hdtf import (
    CROPS,
    HEIGHTS,
    RANGES,
    SUBSETS,
    URLS,
    HdtfConfig,
    _local,
    fetch_hdtf,
    list_hdtf,
    source_of,
)
from pipelines.sources.splits import hold_out, people_of, published
from pipelines.sources.vfhq import VfhqConfig, list_vfhq, split_of
from tests.conftest import shared
from tests.fake_server import fake_server

# Lines as published; the second file begins with a byte order mark, lines end with spaces.
HDTF = {
    "RD_video_url.txt": "Radio1 https://www.youtube.com/watch?v=CPCoMyuBRM0 \n"
    "Radio2 https://www.youtube.com/watch?v=uBWJJvynXpA&t=6s\n"
    "Radio10 https://youtu.be/-a_Radio_10\n"
    "Radio11 https://www.youtube.com/watch?v=y-JQqnqmEgg\n"
    "Radio24 https://www.youtube.com/watch?v=_0000000024\n",
    "RD_annotion_time.txt": "Radio1.mp4 00:20-01:35\nRadio2.mp4 1:00:05-1:01:05\n"
    "Radio10.mp4 00:30-02:50\nRadio11.mp4 00:30-01:00 01:30-02:30  \n",
    "RD_crop_wh.txt": "Radio10_0.mp4 483 390 0 390\nRadio11_0.mp4 412 599 0 599\n"
    "Radio11_1.mp4 557 478 0 478\n",
    "RD_resolution.txt": "Radio1.mp4 720\nRadio2.mp4 720\nRadio10.mp4 720\nRadio11.mp4 720\n",
    "WDA_video_url.txt": "\ufeffCarolynMaloney2 https://www.youtube.com/watch?v=Maloney0002\n"
    "BarackObama https://www.youtube.com/watch?v=Obama000000\n"
    "BarackObama1 https://www.youtube.com/watch?v=Obama000001\n"
    "RonWyden1 https://www.youtube.com/watch?v=Wyden000001\n",
    "WDA_annotion_time.txt": "CarolynMaloney2.mp4 00:10-00:40\n"
    "BarackObama.mp4 00:10-00:40 01:00-01:30\nBarackObama1.mp4 00:10-00:40\n"
    "RonWyden1.mp4 00:10-00:40 00:50-00:45\n",
    "WDA_crop_wh.txt": "CarolynMaloney2_0.mp4 10 300 20 300\n",
    "WDA_resolution.txt": "CarolynMaloney2.mp4 1080\n",
    "WRA_video_url.txt": "Senator0 https://www.youtube.com/watch?v=Wyden000001\n"
    "../../x https://www.youtube.com/watch?v=Escape00001\n",
    "WRA_annotion_time.txt": "Senator0.mp4 03:00-03:20\n../../x.mp4 03:00-03:20\n",
}


@pytest.fixture
def hdtf(tmp_path):
    folder = tmp_path / "HDTF_dataset"
    folder.mkdir()
    for name, text in HDTF.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_hdtf_lists_give_clips_by_source(hdtf):
    reels, left_out, notes = list_hdtf(hdtf)

    cuts = {cut.clip: (reel.source, cut) for reel in reels for cut in reel.cuts}
    assert {clip: source for clip, (source, _) in cuts.items()} == {
        "RD_Radio1_000": "CPCoMyuBRM0",
        "RD_Radio2_000": "uBWJJvynXpA",
        "RD_Radio10_000": "-a_Radio_10",
        "RD_Radio11_000": "y-JQqnqmEgg",
        "RD_Radio11_001": "y-JQqnqmEgg",
        "WDA_CarolynMaloney2_000": "Maloney0002",
        "WDA_BarackObama_000": "Obama000000",
        "WDA_BarackObama_001": "Obama000000",
        "WDA_BarackObama1_000": "Obama000001",
        "WDA_RonWyden1_000": "Wyden000001",
        "WRA_Senator0_000": "Wyden000001",
    }
    radio, maloney = cuts["RD_Radio11_001"][1], cuts["WDA_CarolynMaloney2_000"][1]
    assert (radio.start, radio.stop, radio.box) == (90, 150, (557, 0, 1035, 478))
    assert (maloney.box, maloney.box_pixels) == ((10, 20, 310, 320), (None, 1080))
    assert cuts["RD_Radio2_000"][1].start == 3605
    assert cuts["RD_Radio1_000"][1].box is None
    assert set(left_out) == {"RD_Radio24", "WDA_RonWyden1_001", "WRA_../../x"}
    assert "no time range" in left_out["RD_Radio24"]
    assert "RD_Radio1_000" in notes[1]
    assert len(reels) == 8
    wyden = next(reel for reel in reels if reel.source == "Wyden000001")
    assert wyden.url == "https://www.youtube.com/watch?v=Wyden000001"
    assert len(wyden.cuts) == 2


def test_nobody_and_no_video_of_hdtf_is_in_both_splits(hdtf):
    reels, _, notes = list_hdtf(hdtf)

    splits = {cut.clip: (cut.person, cut.split) for reel in reels for cut in reel.cuts}
    # only BarackObama_001 is on the published test list
    assert (
        splits["WDA_BarackObama_000"] == splits["WDA_BarackObama1_000"] == ("BarackObama", "test")
    )
    # two names, one video: one person
    assert splits["WRA_Senator0_000"] == splits["WDA_RonWyden1_000"] == ("RonWyden", "train")
    assert splits["RD_Radio11_000"] == splits["RD_Radio11_001"] == ("RD_Radio11", "test")
    assert splits["RD_Radio10_000"] == ("RD_Radio10", "train")
    for side in ("person", "source"):
        seen = {}
        for reel in reels:
            for cut in reel.cuts:
                key = cut.person if side == "person" else reel.source
                seen.setdefault(key, set()).add(cut.split)
        assert all(len(split) == 1 for split in seen.values())
    assert "of its training clips" in notes[0]


def test_published_lists_are_edtalks():
    lists, folder = published("hdtf"), shared("splits")
    for split in ("test", "train"):
        theirs = json.loads((folder / f"edtalk_{split}.json").read_text())
        assert lists[split] == theirs["hdtf_clips"]
    test = json.loads((folder / "edtalk_test.json").read_text())
    assert sorted(published("mead")["test"]) == sorted(test["mead_actors"])


def test_published_lists_have_the_known_leak():
    lists = published("hdtf")
    assert (len(lists["test"]), len(lists["train"])) == (77, 308)
    people = {
        clip: clip.rsplit("_", 1)[0].split("_", 1)[1].rstrip("0123456789")
        if clip[:2] != "RD"
        else clip.rsplit("_", 1)[0]
        for clip in [*lists["test"], *lists["train"]]
    }

    splits = hold_out(people, lists["test"])

    moved = [clip for clip in lists["train"] if splits[clip] == "test"]
    assert len(moved) > 40
    assert {people[clip] for clip in moved} <= {people[clip] for clip in lists["test"]}


def test_people_are_joined_by_shared_videos():
    people = people_of([("C", "v1"), ("B", "v2"), ("A", "v2"), ("B", "v1"), ("D", "v3")])

    assert people == {"A": "A", "B": "A", "C": "A", "D": "D"}


@pytest.mark.parametrize(
    ("url", "source"),
    [
        ("https://www.youtube.com/watch?v=uBWJJvynXpA&t=6s", "uBWJJvynXpA"),
        ("https://youtube.com/watch?app=desktop&v=-_aaaaaaaaa ", "-_aaaaaaaaa"),
        ("https://youtu.be/-aaaaaaaaaa?t=3", "-aaaaaaaaaa"),
        ("https://m.youtube.com/watch?v=-aaaaaaaaaa#t=3", "-aaaaaaaaaa"),
        ("https://www.youtube.com/shorts/-aaaaaaaaaa?feature=share", "-aaaaaaaaaa"),
        ("https://www.youtube.com/playlist?list=PLaaaaaaaaaaa", None),
        ("https://www.youtube.com/watch?list=PLaaaaaaaaaaa", None),
        ("https://www.youtube.com/watch?v=aaaaaaaaaaaa", None),
        ("https://www.youtube.com.example.org/watch?v=-aaaaaaaaaa", None),
        ("https://example.org/https://youtu.be/-aaaaaaaaaa", None),
        ("http://127.0.0.1:8000/a.mp4", None),
        ("file:///etc/passwd", None),
    ],
)
def test_source_of_an_address(url, source):
    assert source_of(url) == source


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "download.hdtf.metadata in params.yaml is null"),
        ("absent", "RD_video_url.txt: not found"),
        ("http://example.com/lists", "not an https address"),
        ("http://127.0.0.1:9/lists", "or clone HDTF"),
    ],
)
def test_absent_lists_of_hdtf(tmp_path, metadata, message):
    with pytest.raises(DownloadError, match=message):
        fetch_hdtf(HdtfConfig(metadata=metadata), tmp_path / "hdtf")


def vfhq_config(metadata, **changes):
    facts = {"url": "https://www.youtube.com/watch?v={id}", "min_seconds": 4.0, "test_share": 0.5}
    return VfhqConfig(metadata=str(metadata), **facts | changes)


def entry(fps="23.976", crop="400 100 900 600"):
    return (
        f"\ufeffFPS {fps}\nH 1080\nW 1920 \nCROP {crop} \n"
        "LANDMARKS 1.5 2.5\n\nframe 00001 1 2 3 4\n"
    )


VFHQ = {
    "Clip+_-91nXXjrVo+P0+C0+F1537-1825.txt": entry(),
    "Clip+_-91nXXjrVo+P1+C1+F2000-2200.txt": entry(fps="25"),
    "Clip+-0NWqXVcm2A+P0+C2+F100-140.txt": entry(),
    "Clip+abcdefghijk+P0+C0+F1-500.txt": "H 1080\nW 1920\nCROP 1 2 3 4\n",
    "Clip+abcdefghijk+P0+C1+F1-500.txt": entry(crop="900 100 400 600"),
    "Clip+headwords00+P0+C0+F100-300.txt": "FPS: 25.0\nHeight 1080\nWidth 1920\nCROP 4 3 2\n",
    "Clip+short+P0+C1+F1-500.txt": entry(),
}


@pytest.mark.parametrize("is_zip", [False, True])
def test_vfhq_lists_give_clips_by_source(tmp_path, is_zip):
    path = tmp_path / "meta_info"
    if is_zip:
        with zipfile.ZipFile(path, "w") as archive:
            for name, text in VFHQ.items():
                archive.writestr(f"meta_info/{name}", text)
    else:
        path.mkdir()
        for name, text in VFHQ.items():
            (path / name).write_text(text)

    reels, left_out = list_vfhq(vfhq_config(path))

    assert [(reel.source, reel.url, reel.height) for reel in reels] == [
        ("_-91nXXjrVo", "https://www.youtube.com/watch?v=_-91nXXjrVo", 1080)
    ]
    first, second = reels[0].cuts
    assert first.clip == "Clip+_-91nXXjrVo+P0+C0+F1537-1825"
    assert (first.start, first.stop) == (1538 / 23.976, 1825 / 23.976)
    assert (first.box, first.box_pixels) == ((400, 100, 900, 600), (1920, 1080))
    assert (second.person, second.start) == ("_-91nXXjrVo+P1", 2001 / 25)
    assert "min_seconds is 4.0" in left_out["Clip+-0NWqXVcm2A+P0+C2+F100-140"]
    assert sum("not understood" in reason for reason in left_out.values()) == 4


def test_vfhq_splits_by_source_video():
    ids = [f"{number:011d}" for number in range(2000)]

    share = sum(split_of(video, 0.1) == "test" for video in ids) / len(ids)

    assert 0.08 < share < 0.12
    assert split_of("_-91nXXjrVo", 0.1) == split_of("_-91nXXjrVo", 0.1)
    assert {split_of(video, 0.0) for video in ids} == {"train"}


@pytest.mark.parametrize("name", ["absent", "empty", "broken.zip"])
def test_absent_list_of_vfhq(tmp_path, name):
    (tmp_path / "empty").mkdir()
    Path(tmp_path / "broken.zip").write_bytes(b"PK no zip")

    with pytest.raises(DownloadError, match=r"neither a folder nor a zip|no clip among 0"):
        list_vfhq(vfhq_config(tmp_path / name))


def test_split_hash_stands_for_who_is_where():
    rows = [{"clip": str(n), "person": f"p{n // 2}", "split": "train"} for n in range(6)]

    assert split_hash(rows) == split_hash(reversed(rows))
    assert split_hash(rows) == split_hash([row | {"sha256": "x"} for row in rows])
    assert split_hash(rows) != split_hash([*rows[:5], rows[5] | {"split": "test"}])
    assert split_hash(rows) != split_hash(rows[:5])


@pytest.mark.parametrize(
    "name",
    ["Clip+abcdefghijk+P0+C0+F10-11.txt", "Clip+abcdefghijk+P0+C0+F1-500.txt"],
)
def test_no_frame_and_endless_box_are_left_out(tmp_path, name):
    (tmp_path / name).write_text(entry(crop="0 0 inf inf" if "500" in name else "1 2 3 4"))
    (tmp_path / "Clip+goodgoodgoo+P0+C0+F1-500.txt").write_text(entry())

    reels, left_out = list_vfhq(vfhq_config(tmp_path, min_seconds=0.0))

    assert [reel.source for reel in reels] == ["goodgoodgoo"]
    assert list(left_out) == [name.removesuffix(".txt")]


def test_clip_that_is_listed_twice_is_told_before_anything_is_fetched(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "Clip+abcdefghijk+P0+C0+F1-500.txt").write_text(entry())

    with pytest.raises(DownloadError, match=r"F1-500\.txt twice"):
        list_vfhq(vfhq_config(tmp_path))


@pytest.mark.parametrize("is_encrypted", [False, True])
def test_zip_that_cannot_be_read_is_told(tmp_path, is_encrypted):
    path = tmp_path / "meta_info.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("Clip+abcdefghijk+P0+C0+F1-500.txt", entry() * 5)
    content = bytearray(path.read_bytes())
    if is_encrypted:
        content[6] |= 1
        content[content.index(b"PK\1\2") + 8] |= 1
    else:
        content[70:110] = bytes(40)
    path.write_bytes(content)

    with pytest.raises(DownloadError, match=r"meta_info\.zip: Clip"):
        list_vfhq(vfhq_config(path))


def test_address_of_vfhq_is_no_format_string(tmp_path):
    (tmp_path / "Clip+abcdefghijk+P0+C0+F1-500.txt").write_text(entry())

    reels, _ = list_vfhq(vfhq_config(tmp_path, url="http://x/{id}{y}{id.__class__}"))

    assert reels[0].url == "http://x/abcdefghijk{y}{id.__class__}"


@pytest.mark.parametrize(("kind", "line"), [("resolution", "720"), ("crop_wh", "483 390 0 390")])
def test_digits_of_other_scripts_are_no_crash(hdtf, kind, line):
    name = "Radio10.mp4" if kind == "resolution" else "Radio10_0.mp4"
    (hdtf / f"RD_{kind}.txt").write_text(f"{name} {line.replace('0', '²')}\n", encoding="utf-8")

    reels, _, _ = list_hdtf(hdtf)

    (radio,) = (cut for reel in reels for cut in reel.cuts if cut.clip == "RD_Radio10_000")
    assert radio.box is None


def test_address_elsewhere_is_refused_with_the_reason(hdtf):
    text = HDTF["RD_video_url.txt"].replace("https://youtu.be/-a_Radio_10", "http://10.0.0.1/x.mp4")
    (hdtf / "RD_video_url.txt").write_text(text, encoding="utf-8")

    reels, left_out, _ = list_hdtf(hdtf)

    assert not [reel for reel in reels if "10.0.0.1" in reel.url]
    assert left_out["RD_Radio10"] == "refused: 'http://10.0.0.1/x.mp4' is not a video of YouTube"


def test_list_of_another_encoding_is_told(hdtf):
    (hdtf / "RD_video_url.txt").write_bytes("Radió1 https://youtu.be/x".encode("latin-1"))

    with pytest.raises(DownloadError, match=r"RD_video_url\.txt: not UTF-8"):
        list_hdtf(hdtf)


def test_lists_of_an_address_are_not_taken_for_those_of_another(hdtf, tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    files = {f"{s}_{k}.txt": b"" for s in SUBSETS for k in (URLS, RANGES, CROPS, HEIGHTS)}
    files |= {path.name: path.read_bytes() for path in hdtf.iterdir()}
    copies = tmp_path / "copies"
    pages = dict.fromkeys(files, b"<!DOCTYPE html><html>")
    with fake_server(pages, {}) as (url, _), pytest.raises(DownloadError, match="a web page"):
        _local(url, copies)
    with (
        fake_server(files, {"RD_crop_wh.txt": "truncated"}) as (url, _),
        pytest.raises(DownloadError, match=r"RD_crop_wh\.txt: IncompleteRead"),
    ):
        _local(url, copies)
    with fake_server(files, {}) as (url, log):
        assert len(list_hdtf(_local(url, copies))[0]) == 8
        before = len(log)
        assert len(list_hdtf(_local(url, copies))[0]) == 8

    assert len(log) == before  # once fetched, the copies are used


def test_manifest_with_other_line_ends_in_a_reason(tmp_path):
    row = manifest_row(clip="a", video="a", person="p", split="test", status="gone")
    write_manifest(tmp_path / "manifest.jsonl", [row | {"reason": "x\u2028y\x85z"}])

    assert read_manifest(tmp_path / "manifest.jsonl")[0]["reason"] == "x\u2028y\x85z"
