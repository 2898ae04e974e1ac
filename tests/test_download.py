"""The download stage: the rendered corpus resumes and repeats; a folder is listed with reasons."""

import json
import os
import shutil
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from fixtalk.encoding import write_video
from fixtalk.media import probe, read_audio
from pipelines.config import ConfigError, load_config, read_params
from pipelines.download import (
    DownloadConfig,
    DownloadError,
    FolderConfig,
    SyntheticConfig,
    download,
)

ROOT = Path(__file__).parent.parent
TINY = SyntheticConfig(
    resolution=48,
    mesh_level=0,
    supersampling=1,
    train_people=1,
    test_people=2,
    clips_per_person=1,
    cross_motions=1,
    max_seconds=0.2,
    identity_seed=1,
    motion_seed=2,
    light_seed=3,
    voice_seed=4,
)


def config_of(synthetic=TINY, folder=None, min_coverage=0.9):
    default = load_config(DownloadConfig, "download", ROOT / "params.yaml")
    changed = {"synthetic": synthetic, "folder": FolderConfig(path=folder)}
    return default.model_copy(update=changed | {"min_coverage": min_coverage})


def rows_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    raw = tmp_path_factory.mktemp("first") / "synthetic"
    download(config_of(), "synthetic", raw)
    return raw


def test_manifest_names_every_clip(rendered):
    rows = rows_of(rendered / "manifest.jsonl")

    assert [row["split"] for row in rows] == ["train"] + ["test"] * 4
    assert {row["clip"] for row in rows if row["motion"] == "m0"} == {
        "cross/m0/S001",
        "cross/m0/S002",
    }
    for row in rows:
        video = rendered / row["video"]
        info = probe(video)
        assert (info.width, info.height, info.frames, info.fps) == (48, 48, 5, 25)
        assert row["bytes"] == video.stat().st_size
        assert row["status"] == "ok"
        assert row["licence"].startswith("CC0")
        assert np.abs(read_audio(video, info.frames)).max() > 100


def test_labels_fit_the_video(rendered):
    for row in rows_of(rendered / "manifest.jsonl"):
        with np.load(rendered / row["labels"]) as labels:
            shapes = {name: labels[name].shape for name in labels.files}
            types = {name: labels[name].dtype for name in ("arkit", "pose", "landmarks")}
            camera = json.loads(str(labels["camera"]))

        assert shapes["arkit"] == (5, 52)
        assert shapes["pose"] == (5, 6)
        assert shapes["landmarks"] == (5, 68, 2)
        assert shapes["viseme"] == (5,)
        assert types == {"arkit": np.float16, "pose": np.float32, "landmarks": np.float32}
        assert camera["resolution"] == 48


def test_interrupted_run_keeps_finished_clips_and_ends_the_same(rendered, tmp_path):
    raw = shutil.copytree(rendered, tmp_path / "synthetic")
    first = rows_of(raw / "manifest.jsonl")
    times = {row["clip"]: (raw / row["video"]).stat().st_mtime_ns for row in first}
    lost = first[1]["clip"]
    (raw / f"{lost}.mp4").unlink()
    (raw / f"{lost}.npz").unlink()
    (raw / "manifest.jsonl").unlink()
    unfinished = (raw / lost).with_name(".x.mp4.abcd") / "x.mp4"  # of a killed process
    unfinished.parent.mkdir()
    unfinished.touch()
    (raw / lost).with_name(".x.npz.1.part").touch()

    download(config_of(), "synthetic", raw)

    again = rows_of(raw / "manifest.jsonl")
    assert again == first  # whatever process renders a clip
    for row in again:
        is_kept = (raw / row["video"]).stat().st_mtime_ns == times[row["clip"]]
        assert is_kept == (row["clip"] != lost)
    assert [path.name for path in tmp_path.iterdir()] == ["synthetic"]
    assert not list(raw.rglob(".*"))


def test_changed_seed_renders_anew(rendered, tmp_path):
    raw = tmp_path / "synthetic"
    changed = TINY.model_copy(update={"light_seed": 9, "test_people": 0})
    rendered_rows = {row["clip"]: row for row in rows_of(rendered / "manifest.jsonl")}

    download(config_of(changed), "synthetic", raw)

    rows = rows_of(raw / "manifest.jsonl")
    assert len(rows) == 1
    assert rows[0]["sha256"] != rendered_rows[rows[0]["clip"]]["sha256"]


def make_folder(folder):
    frames = np.zeros((6, 32, 32, 3), np.uint8)
    frames[:, 8:24, 8:24] = 200
    write_video(folder / "deep" / "good.MP4", frames)
    write_video(folder / "good.mp4", frames)
    (folder / "good.mov").write_bytes((folder / "good.mp4").read_bytes())
    (folder / "empty.webm").touch()
    content = (folder / "good.mp4").read_bytes()
    (folder / "broken.mkv").write_bytes(b"x" * len(content))
    packets = content.index(b"mdat") + 4
    (folder / "zeroed.mp4").write_bytes(content[:packets].ljust(len(content), b"\0"))
    (folder / "notes.txt").write_text("not a video")


def test_folder_lists_every_video_with_a_reason(tmp_path):
    make_folder(tmp_path / "mine")
    raw = tmp_path / "raw" / "folder"

    download(config_of(folder=str(tmp_path / "mine"), min_coverage=0.5), "folder", raw)

    rows = {row["clip"]: row for row in rows_of(raw / "manifest.jsonl")}
    assert set(rows) == {"deep/good", "good.mp4", "good.mov", "empty", "broken", "zeroed"}
    assert {name for name, row in rows.items() if row["status"] == "ok"} == {
        "deep/good",
        "good.mp4",
        "good.mov",
    }
    assert rows["empty"]["status"] == "empty"
    assert "0 bytes" in rows["empty"]["reason"]
    assert rows["broken"]["status"] == "unreadable"
    assert "broken.mkv" in rows["broken"]["reason"]
    assert rows["zeroed"]["status"] == "unreadable"
    assert "zeroed.mp4: no frame can be decoded" in rows["zeroed"]["reason"]
    assert rows["deep/good"]["video"] == str(tmp_path / "mine" / "deep" / "good.MP4")
    assert rows["deep/good"]["person"] == "deep/good"
    assert {row["split"] for row in rows.values()} == {"test"}


def test_linked_folders_are_entered_and_hidden_files_are_not(tmp_path):
    frames = np.zeros((6, 32, 32, 3), np.uint8)
    mine, raw = tmp_path / "mine", tmp_path / "raw" / "folder"
    write_video(tmp_path / "elsewhere" / "good.mp4", frames)
    write_video(mine / "._good.mp4", frames)
    homes = {"linked": "elsewhere", "once more": "elsewhere", "up": ".", "gone": "nowhere"}
    for name, home in homes.items():
        (mine / name).symlink_to(tmp_path / home)
    (mine / "round.mp4").symlink_to(mine / "round.mp4")

    download(config_of(folder=str(mine), min_coverage=0.3), "folder", raw)

    rows = {row["clip"]: row for row in rows_of(raw / "manifest.jsonl")}
    assert {name: row["status"] for name, row in rows.items()} == {
        "linked/good": "ok", "gone": "unreadable", "round": "unreadable"
    }  # fmt: skip
    assert (
        rows["gone"]["reason"] == f"{mine / 'gone'}: a link that leads nowhere; mend or delete it"
    )


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    def refuse(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(os, "scandir", refuse)

    with pytest.raises(OSError, match=f"{tmp_path}: cannot be listed .Permission denied.; see"):
        download(config_of(folder=str(tmp_path)), "folder", tmp_path / "raw" / "folder")


def test_too_few_usable_videos_fail_with_the_list(tmp_path):
    make_folder(tmp_path / "mine")
    raw = tmp_path / "raw" / "folder"

    with pytest.raises(DownloadError, match="3 of 6 videos are usable") as failure:
        download(config_of(folder=str(tmp_path / "mine")), "folder", raw)

    assert "broken" in str(failure.value)
    assert "empty" in str(failure.value)
    assert not raw.exists()
    assert len(rows_of(raw.with_name("folder.manifest.jsonl"))) == 6


@pytest.mark.parametrize(
    ("dataset", "folder", "message"),
    [
        ("lrs3", None, "known are folder, "),
        ("folder", None, "params.yaml is null"),
        ("folder", "absent", "is not a folder"),
        ("folder", ".", "no video found"),
    ],
)
def test_wrong_dataset_says_what_to_do(tmp_path, dataset, folder, message):
    path = None if folder is None else str(tmp_path / folder)

    with pytest.raises(DownloadError, match=message):
        download(config_of(folder=path), dataset, tmp_path / "raw")


@pytest.mark.parametrize("dataset", ["folder", "hdtf", "vfhq", "mead"])
def test_mistake_in_the_params_loses_nothing(tmp_path, dataset):
    raw = tmp_path / "raw" / dataset
    raw.mkdir(parents=True)
    (raw / "manifest.jsonl").write_text("of an earlier run")
    config = config_of()
    changes = {"path" if dataset in ("folder", "mead") else "metadata": str(tmp_path / "absent")}
    section = getattr(config, dataset).model_copy(update=changes)
    accepted = ("hdtf", "vfhq", "mead")
    config = config.model_copy(update={dataset: section, "accept_terms": accepted})

    with pytest.raises(DownloadError, match="absent"):
        download(config, dataset, raw)

    assert (raw / "manifest.jsonl").read_text() == "of an earlier run"


@pytest.mark.parametrize(("shared", "own", "passes"), [(0.9, 0.5, True), (0.5, 0.9, False)])
def test_dataset_may_have_its_own_coverage(tmp_path, shared, own, passes):
    make_folder(tmp_path / "mine")
    folder = FolderConfig(path=str(tmp_path / "mine"), min_coverage=own)
    config = config_of(min_coverage=shared).model_copy(update={"folder": folder})

    with nullcontext() if passes else pytest.raises(DownloadError, match="asks for 90%"):
        download(config, "folder", tmp_path / "raw" / "folder")

    assert (tmp_path / "raw" / "folder" / "manifest.jsonl").is_file() == passes


def test_params_file_fits_the_config(tmp_path):
    config = load_config(DownloadConfig, "download")

    assert config.synthetic.test_people > 0
    assert read_params()["download"]["synthetic"]["resolution"] == config.synthetic.resolution
    broken = tmp_path / "params.yaml"
    broken.write_text("download: {min_coverage: 2.0}")
    with pytest.raises(ConfigError, match=r"download\.min_coverage"):
        load_config(DownloadConfig, "download", broken)
