"""The crop stage: raw videos → clips; nothing dropped silently, resumable, no leaking person."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError
from skimage.data import astronaut

from fixtalk.dataset import clip_schema, read_clips
from fixtalk.media import SAMPLES_PER_FRAME, decode_frames, read_video, write_video
from pipelines import crop as stage
from pipelines.crop import CropConfig, CropError, FilterConfig, crop
from pipelines.leaks import LeakConfig
from pipelines.manifest import ManifestError, read_manifest, split_hash

CONFIG = CropConfig(
    resolution=64,
    margin=0.1,
    detect_every=8,
    detect_resolution=256,
    min_probability=0.9,
    scene_change=15.0,
    min_frames=12,
    max_frames=30,
    filters=FilterConfig(min_face=None, min_sharpness=None, max_yaw=None, min_speech=None),
    landmarks=None,
    crf=14,
    gop=5,
    shard_megabytes=0.2,
    min_coverage=0.5,
    leaks=LeakConfig(sound=None, identity=None),
)
WEIGHTS = Path("no weights")


def entry(clip: str, video: str, **other) -> dict:
    return {
        "clip": clip, "video": video, "person": clip, "split": "train", "motion": None,
        "emotion": None, "level": None, "sentence": None, "labels": None, "identity_seed": None,
        "licence": "test", "sha256": clip, "bytes": 1, "status": "ok", "reason": None,
    } | other  # fmt: skip


def listed(raw: Path, *entries: dict) -> Path:
    raw.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(one) for one in entries]
    (raw / "manifest.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return raw


def portrait(frames: int, blank: range = range(0)) -> np.ndarray:
    """A face that drifts to the right by half a pixel a frame; without it in `blank` frames."""
    picture = astronaut()[:260, 100:420]
    pictures = np.stack([np.roll(picture, number // 2, axis=1) for number in range(frames)])
    pictures[blank.start : blank.stop] = 90
    return pictures


@pytest.fixture(scope="module")
def cropped(tmp_path_factory) -> Path:
    """Clips of a folder with good, long, silent, lost, faceless, broken and refused videos."""
    folder = tmp_path_factory.mktemp("crop")
    raw = folder / "raw"
    raw.mkdir()
    generator = np.random.default_rng(0)
    noise = (generator.normal(size=20 * SAMPLES_PER_FRAME) * 3000).astype(np.int16)
    write_video(raw / "good.mp4", portrait(20), audio=noise)
    nose = np.array([116.0, 130.0]) + np.arange(20)[:, None] // 2 * np.array([1, 0])
    np.savez(
        raw / "good.npz",
        landmarks=np.repeat(nose[:, None], 68, axis=1).astype(np.float32),
        arkit=np.linspace(0, 1, 20 * 52).reshape(20, 52).astype(np.float16),
        pose=np.zeros((20, 6), np.float32),
        viseme=np.array(["sil"] * 20),
        camera=np.array('{"focal": 2}'),
    )
    write_video(raw / "long.mp4", portrait(65))
    write_video(raw / "lost.mp4", portrait(96, blank=range(17, 72)))
    write_video(raw / "faceless.mp4", np.full((30, 64, 64, 3), 90, np.uint8))
    (raw / "broken.mp4").write_bytes(b"not a video" * 100)
    (raw / "empty.mp4").write_bytes(b"")
    labels = {"labels": "good.npz", "motion": "m1", "emotion": "happy", "level": 2}
    listed(
        raw,
        entry("S1/good", "good.mp4", **labels, split="test", sentence="hi", identity_seed=7),
        entry("long", "long.mp4", motion="m2"),
        entry("lost", "lost.mp4"),
        entry("short labels", "long.mp4", labels="good.npz"),
        entry("faceless", "faceless.mp4"),
        entry("broken", "broken.mp4"),
        entry("empty", "empty.mp4"),
        entry("missing", "missing.mp4"),
        entry("gone", "gone.mp4", status="private", reason="removed by its owner"),
    )
    crop(CONFIG.model_copy(update={"min_coverage": 0.2}), raw, folder / "clips" / "mine", WEIGHTS)
    return folder / "clips" / "mine"


def test_every_video_is_a_clip_or_listed_with_a_reason(cropped):
    coverage = json.loads((cropped / "coverage.json").read_text())

    reasons = {(one["clip"], one["reason"]) for one in coverage["dropped"]}
    assert reasons == {
        ("long", "tail too short"),
        ("lost", "face lost"),
        ("short labels", "labels"),
        ("short labels", "tail too short"),
        ("faceless", "no face"),
        ("broken", "undecodable"),
        ("empty", "empty"),
        ("missing", "not found"),
        ("gone", "manifest: private"),
    }
    assert sum(coverage["reasons"].values()) == len(coverage["dropped"])
    assert (coverage["videos"], coverage["usable"], coverage["clips"]) == (9, 3, 5)
    assert coverage["coverage"] == 3 / 9
    assert coverage["frames"] == sum(row["frames"] for row in read_clips(cropped))
    assert coverage["silent"] == 4
    assert coverage["face_probability"] > 0.9
    assert "removed by its owner" in json.dumps(coverage)


def test_the_hash_of_the_splits_is_the_one_of_the_usable_videos_listed(cropped):
    listed = read_manifest(cropped.parent.parent / "raw" / "manifest.jsonl")

    wanted = split_hash(one for one in listed if one["status"] == "ok")

    assert json.loads((cropped / "coverage.json").read_text())["split_hash"] == wanted
    assert f"`{wanted}`" in (cropped / "card" / "README.md").read_text()


def test_rows_follow_the_schema_and_the_index_finds_them(cropped):
    index = pd.read_csv(cropped / "index.csv")

    assert list(index["clip"]) == ["S1/good", "long#0", "long#1", "lost#0", "lost#1"]
    assert index["has_audio"].tolist() == [True, False, False, False, False]
    assert index["frames"].tolist()[:3] == [20, 30, 30]
    assert index["motion"].fillna("").tolist()[:3] == ["m1", "m2", "m2@30"]
    for found in index.itertuples():
        table = pq.read_table(cropped / "shards" / found.shard)
        assert table.schema.equals(clip_schema())
        assert table.slice(found.row, 1).to_pylist()[0]["clip"] == found.clip
    assert sorted(path.name for path in cropped.parent.iterdir()) == ["mine"]
    columns = pq.ParquetFile(cropped / "shards" / "00000.parquet").metadata.row_group(0)
    video = columns.column(clip_schema().get_field_index("video"))
    assert (video.path_in_schema, video.compression) == ("video", "UNCOMPRESSED")


def test_a_clip_holds_frames_sound_and_labels_of_its_length(cropped):
    clip = read_clips(cropped, "test")[0]

    frames = read_video(clip["video"])
    assert frames.shape == (20, 64, 64, 3)
    assert np.array_equal(decode_frames(clip["video"], [13]), frames[[13]])
    assert len(clip["audio"]) == 2 * 20 * SAMPLES_PER_FRAME
    assert np.frombuffer(clip["audio"], "<i2").std() > 1000
    assert clip["landmarks"].shape == (20, 68, 2)
    assert clip["arkit"][-1, -1] == 1
    assert clip["pose"].shape == (20, 6)
    assert (clip["identity_seed"], clip["camera"]) == (7, '{"focal": 2}')
    assert (clip["level"], clip["sentence"], clip["source_fps"]) == (2, "hi", 25)


def test_landmarks_and_pixels_are_moved_alike(cropped):
    """The static box keeps the face's drift: the nose goes the same way as the picture."""
    clip = read_clips(cropped, "test")[0]
    x0, y0, side = clip["box"]

    expected = (np.array([116.0 + 9, 130.0]) - [x0, y0]) * 64 / side
    assert clip["landmarks"][19, 30] == pytest.approx(expected, abs=1e-4)
    moved = clip["landmarks"][18, 0, 0] - clip["landmarks"][0, 0, 0]
    first, last = read_video(clip["video"])[[0, 18]].astype(float)
    shifts = range(-2, 8)
    errors = [np.abs(np.roll(first, shift, axis=1) - last)[:, 10:].mean() for shift in shifts]
    assert shifts[int(np.argmin(errors))] == pytest.approx(moved, abs=0.6)


def test_after_an_interruption_finished_videos_are_not_done_again(tmp_path, monkeypatch):
    raw = listed(tmp_path / "raw", entry("a", "a.mp4"), entry("b", "b.mp4"))
    for name in ("a", "b"):
        write_video(raw / f"{name}.mp4", portrait(16))
    clips = tmp_path / "clips"

    def until_interrupted(function, jobs, description):
        function(jobs[0])
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(stage, "map_parallel", until_interrupted)
    with pytest.raises(KeyboardInterrupt):
        crop(CONFIG, raw, clips, WEIGHTS)
    assert not clips.exists()
    done = []
    monkeypatch.setattr(
        stage,
        "map_parallel",
        lambda function, jobs, description: (done.append(function(job)) for job in jobs),
    )
    (raw / "a.mp4").unlink()  # finished before: not looked at again
    crop(CONFIG, raw, clips, WEIGHTS)

    assert len(done) == 1
    assert [row["clip"] for row in read_clips(clips)] == ["a", "b"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clips", "raw"]


def test_a_result_that_a_power_cut_tore_is_made_again(tmp_path):
    raw = listed(tmp_path / "raw", entry("a", "a.mp4"), entry("b", "b.mp4", status="gone"))
    write_video(raw / "a.mp4", portrait(16))
    with pytest.raises(CropError):
        crop(CONFIG.model_copy(update={"min_coverage": 1.0}), raw, tmp_path / "clips", WEIGHTS)
    for result in (tmp_path / ".clips.crop").glob("*.parquet"):
        result.write_bytes(result.read_bytes()[:-9])

    crop(CONFIG, raw, tmp_path / "clips", WEIGHTS)

    assert [row["clip"] for row in read_clips(tmp_path / "clips")] == ["a"]


def test_a_name_that_a_piece_of_another_video_has_is_told(tmp_path):
    raw = listed(tmp_path / "raw", entry("a", "a.mp4"), entry("a#0", "b.mp4"))
    write_video(raw / "a.mp4", portrait(48))
    write_video(raw / "b.mp4", portrait(16))

    with pytest.raises(CropError, match="two clips are called a#0"):
        crop(CONFIG, raw, tmp_path / "clips", WEIGHTS)


def test_pieces_that_are_never_long_enough_are_refused():
    with pytest.raises(ValidationError, match="min_frames 31 is more than max_frames"):
        CropConfig.model_validate(CONFIG.model_dump() | {"min_frames": 31})


def test_too_few_usable_videos_are_an_error_that_lists_them(tmp_path):
    raw = listed(
        tmp_path / "raw",
        entry("a", "a.mp4", status="blocked", reason="too many requests"),
        entry("b", "b.mp4", status="gone"),
    )

    with pytest.raises(
        CropError, match=r"(?s)0 of 2 videos usable.*a: manifest: blocked"
    ) as caught:
        crop(CONFIG, raw, tmp_path / "clips", WEIGHTS)

    report = tmp_path / "clips.coverage.json"
    assert str(report) in str(caught.value)
    assert json.loads(report.read_text())["coverage"] == 0
    assert not (tmp_path / "clips").exists()


def test_a_person_in_both_splits_is_named(tmp_path):
    raw = listed(
        tmp_path / "raw",
        entry("a", "a.mp4", person="Ann"),
        entry("b", "b.mp4", person="Ann", split="test"),
    )

    with pytest.raises(ManifestError, match="both train and test: Ann"):
        crop(CONFIG, raw, tmp_path / "clips", WEIGHTS)


@pytest.mark.parametrize("manifest", [None, "", '{"clip": "a"'])
def test_an_unusable_manifest_is_named(tmp_path, manifest):
    if manifest is not None:
        (tmp_path / "manifest.jsonl").write_text(manifest)

    with pytest.raises(ManifestError, match=r"manifest.jsonl"):
        crop(CONFIG, tmp_path, tmp_path / "clips", WEIGHTS)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("split", "val", "write train or test"),
        ("person", None, "write text"),
        ("emotion", 5, "write text"),
        ("level", "2", "write a whole number"),
        ("level", 2.5, "write a whole number"),
        ("level", True, "write a whole number"),
    ],
)
def test_a_value_of_the_wrong_kind_is_named_with_its_line(tmp_path, key, value, told):
    raw = listed(tmp_path / "raw", entry("a", "a.mp4"), entry("b", "b.mp4", **{key: value}))

    with pytest.raises(ManifestError, match=rf"manifest.jsonl:2: {key} is {value!r}; {told}"):
        crop(CONFIG, raw, tmp_path / "clips", WEIGHTS)


@pytest.mark.parametrize("box", [[1, 2], [1, 2, 0], [1, 2, float("nan")], [1, 2, "3"], 7, {}])
def test_a_box_that_is_none_is_named_with_its_line(tmp_path, box):
    raw = listed(tmp_path / "raw", entry("a", "a.mp4"), entry("b", "b.mp4", box=box))

    with pytest.raises(ManifestError, match=r"manifest.jsonl:2: box is "):
        crop(CONFIG, raw, tmp_path / "clips", WEIGHTS)


def test_a_published_box_is_used_in_whole_pixels(tmp_path):
    raw = listed(tmp_path / "raw", entry("a", "a.mp4", box=[30.4, -2.6, 199.7]))
    write_video(raw / "a.mp4", portrait(16))

    crop(CONFIG, raw, tmp_path / "clips", WEIGHTS)

    assert read_clips(tmp_path / "clips")[0]["box"] == [30, -3, 200]


def test_changed_labels_are_cropped_again_after_an_interruption(tmp_path):
    gone = entry("b", "b.mp4", status="gone")
    raw = listed(tmp_path / "raw", entry("a", "a.mp4", labels="a.npz"), gone)
    write_video(raw / "a.mp4", portrait(16))
    names = {"landmarks": (68, 2), "arkit": (52,), "pose": (6,)}

    def label(value: float) -> None:
        arrays = {name: np.full((16, *shape), value) for name, shape in names.items()}
        np.savez(raw / "a.npz", camera=np.array("{}"), **arrays)

    label(0.25)
    with pytest.raises(CropError):
        crop(CONFIG.model_copy(update={"min_coverage": 1.0}), raw, tmp_path / "clips", WEIGHTS)
    label(0.5)
    crop(CONFIG, raw, tmp_path / "clips", WEIGHTS)

    assert read_clips(tmp_path / "clips")[0]["arkit"].max() == 0.5


def test_real_clips_come_back_as_whole_heads(tmp_path, real_clips):
    names = {
        "edtalk/pose_source1.mp4": (-0.15, 1.3),  # cropped before: nearly the whole picture
        "liveportrait/s18.mp4": (0.5, 0.8),  # 1280x720, 30 fps
        "edtalk/expression_source.mp4": (-0.2, 1.4),  # silent, 30 fps
    }
    entries = [entry(name, str((real_clips / name).resolve())) for name in names]
    raw = listed(tmp_path / "raw", *entries)

    crop(CONFIG.model_copy(update={"max_frames": 10_000}), raw, tmp_path / "clips", WEIGHTS)

    rows = {row["clip"]: row for row in read_clips(tmp_path / "clips")}
    assert set(rows) == set(names)
    assert rows["edtalk/expression_source.mp4"]["audio"] == b""
    assert rows["edtalk/expression_source.mp4"]["frames"] == 325  # 389 frames at 30 fps
    for name, (start, side) in names.items():
        height = 720 if "s18" in name else 256
        assert rows[name]["box"][2] / height < side
        assert rows[name]["box"][0] / height > start
        assert rows[name]["face_probability"] > 0.95
