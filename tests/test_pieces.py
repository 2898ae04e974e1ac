"""One video: cuts, filters, boxes and labels; real clips as the datasets list them."""

import io
import json
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from fixtalk.dataset import read_clips
from fixtalk.encoding import retime
from fixtalk.media import SAMPLES_PER_FRAME, read_audio, read_video, write_video
from pipelines.crop import FilterConfig, crop
from pipelines.leaks import LeakConfig
from pipelines.pieces import Job, crop_video
from tests.test_crop import CONFIG, WEIGHTS, entry, listed, portrait

OPEN = CONFIG.filters
ALL = LeakConfig(sound=0.2, identity=0.7)
VOICE = (np.random.default_rng(0).normal(size=16 * SAMPLES_PER_FRAME) * 3000).astype(np.int16)


def cropped(raw: Path, config=CONFIG, **columns) -> tuple[list[dict], dict]:
    """Rows and report of the video a.mp4."""
    result = raw / "result.parquet"
    crop_video(Job(config, entry("a", "a.mp4", **columns), raw, result))
    with pq.ParquetFile(result) as stored:
        return stored.read().to_pylist(), json.loads(stored.metadata.metadata[b"report"])


def reasons(report: dict) -> list[str]:
    return [one["reason"] for one in report["dropped"]]


def test_no_clip_spans_a_cut_between_two_shots_of_a_person(tmp_path):
    mirrored = np.roll(portrait(26)[:, :, ::-1, ::-1], -88, axis=2)  # its face in the same place
    write_video(tmp_path / "a.mp4", np.concatenate([portrait(26), mirrored, portrait(24)]))

    rows, report = cropped(tmp_path)
    whole, _ = cropped(tmp_path, CONFIG.model_copy(update={"scene_change": None}))

    assert report["cuts"] == 2
    assert [row["frames"] for row in rows] == [25, 17, 20]
    assert [row["frames"] for row in whole] == [30, 30, 16]
    for row in rows:
        changes = np.abs(np.diff(read_video(row["video"]).astype(int), axis=0)).mean(axis=(1, 2, 3))
        assert changes.max() < 30


@pytest.mark.parametrize(
    ("filters", "reason", "value"),
    [
        ({"min_face": 150.0}, "face too small", "face_pixels is"),
        ({"min_sharpness": 1.0}, "blurred", "sharpness is"),
        ({"max_yaw": 1.0}, "turned away", "yaw is"),
        ({"min_speech": 0.5}, "no speech", "speech is 0"),
    ],
)
def test_each_filter_drops_a_clip_with_its_value_and_bound(tmp_path, filters, reason, value):
    write_video(tmp_path / "a.mp4", portrait(16))
    strict = CONFIG.model_copy(update={"filters": OPEN.model_copy(update=filters)})

    kept, _ = cropped(tmp_path)
    rows, report = cropped(tmp_path, strict)

    assert (len(kept), len(rows)) == (1, 0)
    assert reasons(report) == [reason]
    key, bound = next(iter(filters.items()))
    detail = report["dropped"][0]["detail"]
    assert detail.startswith("frames 0 to 15: ")
    assert value in detail
    assert detail.endswith(f"crop.filters.{key} is {bound:g}")


def test_filters_keep_what_meets_them(tmp_path):
    write_video(tmp_path / "a.mp4", portrait(16), audio=VOICE)
    met = FilterConfig(min_face=60.0, min_sharpness=0.001, max_yaw=40.0, min_speech=0.0)

    rows, report = cropped(tmp_path, CONFIG.model_copy(update={"filters": met}))

    assert (len(rows), reasons(report)) == (1, [])
    assert rows[0]["face_pixels"] == pytest.approx(95, abs=20)


def test_faces_outside_a_published_box_are_others(tmp_path):
    two = np.concatenate([portrait(16), portrait(16)], axis=2)
    two[:, :, 320:] = cv2.GaussianBlur(two[0, :, 320:], (0, 0), 1)
    write_video(tmp_path / "a.mp4", two)

    left, report = cropped(tmp_path, box=[0, 0, 260])
    right, _ = cropped(tmp_path, box=[350, 0, 260])

    assert left[0]["box"] == [0, 0, 260]
    assert right[0]["box"] == [350, 0, 260]
    assert reasons(report) == ["outside the box"]


def test_a_video_with_all_faces_outside_the_box_is_counted_once(tmp_path):
    write_video(tmp_path / "a.mp4", portrait(16))

    rows, report = cropped(tmp_path, box=[0, 0, 40])

    assert (rows, reasons(report)) == ([], ["outside the box"])


@pytest.mark.parametrize("side", [5000, 10**6, 1e300])
def test_a_box_far_larger_than_the_picture_is_a_reason(tmp_path, side):
    write_video(tmp_path / "a.mp4", portrait(16))

    rows, report = cropped(tmp_path, box=[0, 0, side])

    assert (rows, reasons(report)) == ([], ["box"])
    assert f"a side of {side:g} pixels in a picture of 320x260" in report["dropped"][0]["detail"]


def test_what_cannot_be_measured_does_not_pass_a_filter():
    strict = FilterConfig(min_face=1.0, min_sharpness=None, max_yaw=90.0, min_speech=None)
    good = {"face_pixels": 90.0, "sharpness": 0.1, "yaw": 10.0, "speech": 0.5}

    assert strict.refuse(good) == (None, "")
    assert strict.refuse(good | {"yaw": float("nan")})[0] == "turned away"
    assert strict.refuse(good | {"face_pixels": float("nan")})[0] == "face too small"
    assert strict.refuse(good | {"speech": float("nan")}) == (None, "")


LABELS = {
    "landmarks": np.zeros((16, 68, 2)), "arkit": np.zeros((16, 52)), "pose": np.zeros((16, 6)),
    "camera": "",
}  # fmt: skip


def labels_with(**other) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **(LABELS | other))
    return file.getvalue()


def flipped(data: bytes) -> bytes:
    return bytes(value ^ (100 <= place < 120) for place, value in enumerate(data))


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"no labels",
        labels_with()[:-100],
        flipped(labels_with(landmarks=np.random.default_rng(0).random((16, 68, 2)))),
        labels_with(pose=np.zeros(16)),
        labels_with(pose=np.zeros((16, 3))),
        labels_with(landmarks=np.zeros((16, 5, 2))),
        labels_with(arkit=np.float32(0)),
        labels_with(pose=np.full((16, 6), np.nan)),
        labels_with(pose=np.full((16, 6), "x")),
    ],
    ids=["empty", "text", "cut off", "bits", "flat", "short", "five", "scalar", "nan", "words"],
)
def test_labels_that_are_none_are_a_reason(tmp_path, stored):
    write_video(tmp_path / "a.mp4", portrait(16))
    (tmp_path / "a.npz").write_bytes(stored)

    rows, report = cropped(tmp_path, labels="a.npz")

    assert (rows, reasons(report)) == ([], ["labels"])
    assert "a.npz: " in report["dropped"][0]["detail"]


def test_labels_of_a_clip_without_given_ones(tmp_path):
    write_video(tmp_path / "a.mp4", portrait(16))

    row = cropped(tmp_path)[0][0]

    points = np.frombuffer(row["points"], "<f4").reshape(-1, 5, 2)
    angles = np.frombuffer(row["head_pose"], "<f4").reshape(-1, 3)
    assert len(points) == len(angles) == 16
    assert (points > 0).all()
    assert (points < 64).all()
    eyes, mouth = points[:, :2].mean(axis=(0, 1)), points[:, 3:].mean(axis=(0, 1))
    assert eyes[1] < points[:, 2, 1].mean() < mouth[1]
    assert np.abs(np.degrees(angles)).max() < 40
    assert (row["landmarks"], row["mouth"], row["pose"]) == (None, None, None)


def test_landmarks_of_dlib_make_the_mouth_measurable(tmp_path):
    pytest.importorskip("dlib", reason="make dlib")
    write_video(tmp_path / "a.mp4", portrait(16))
    config = CONFIG.model_copy(update={"landmarks": "dlib68", "resolution": 256})

    row = cropped(tmp_path, config)[0][0]

    landmarks = np.frombuffer(row["landmarks"], "<f4").reshape(-1, 68, 2)
    points = np.frombuffer(row["points"], "<f4").reshape(-1, 5, 2)
    eyes = landmarks[:, 36:42].mean(axis=1), landmarks[:, 42:48].mean(axis=1)
    between = np.linalg.norm(eyes[0] - eyes[1], axis=1)
    for ours, theirs in ((points[:, 0], eyes[0]), (points[:, 1], eyes[1])):
        assert (np.linalg.norm(ours - theirs, axis=1) < 0.2 * between).all()
    mouth = np.frombuffer(row["mouth"], "<f4")
    assert mouth.shape == (16,)
    assert (mouth < 0.3).all()


@pytest.mark.parametrize("rate", ["30000/1001", "24000/1001", "30/1", "50/1"])
def test_every_frame_rate_becomes_25_by_time_stamps(tmp_path, rate):
    write_video(tmp_path / "25.mp4", portrait(50))
    retime(tmp_path / "25.mp4", tmp_path / "a.mp4", 25 / Fraction(rate))

    row = cropped(tmp_path, CONFIG.model_copy(update={"max_frames": 100}))[0][0]

    assert row["frames"] == pytest.approx(50 / Fraction(rate) * 25, abs=1)
    assert len(read_video(row["video"])) == row["frames"]


def test_loudness_is_left_as_it_is(tmp_path):
    write_video(tmp_path / "a.mp4", portrait(16), audio=VOICE // 8)

    row = cropped(tmp_path)[0][0]

    kept = np.frombuffer(row["audio"], "<i2").astype(float)
    assert np.array_equal(kept, read_audio(tmp_path / "a.mp4", 16))
    assert kept.std() == pytest.approx((VOICE // 8).std(), rel=0.1)


HDTF = {
    "clip": "WDA_AlexandriaOcasioCortez_000", "person": "AlexandriaOcasioCortez",
    "licence": "CC-BY-4.0 (annotation)", "box": [0, 0, 512],
}  # fmt: skip
MEAD = {
    "clip": "M003/angry/level_2/001", "person": "M003", "emotion": "angry", "level": 2,
    "sentence": "001", "licence": "MEAD terms, research only",
}  # fmt: skip


def test_real_clips_go_through_as_hdtf_and_mead_list_them(tmp_path, real_clips):
    videos = {"hdtf": "hdtf/WDA_AlexandriaOcasioCortez_000.mp4", "mead": "liveportrait/d11.mp4"}
    entries = [
        entry(of["clip"], str((real_clips / videos[name]).resolve())) | of | {"split": split}
        for name, of, split in (("hdtf", HDTF, "test"), ("mead", MEAD, "train"))
    ]
    raw = listed(tmp_path / "raw", *entries)
    config = CONFIG.model_copy(update={"resolution": 256, "max_frames": 250, "leaks": ALL})

    crop(config, raw, tmp_path / "clips", WEIGHTS)

    hdtf, mead = read_clips(tmp_path / "clips")
    assert (hdtf["frames"], hdtf["box"]) == (200, [0, 0, 512])
    assert (mead["person"], mead["emotion"], mead["level"]) == ("M003", "angry", 2)
    assert hdtf["speech"] > 0.5
    assert mead["head_pose"].shape == (mead["frames"], 3)
    coverage = json.loads((tmp_path / "clips" / "coverage.json").read_text())
    assert coverage["leaks"]["sound"]["pairs"] == []
    assert "facenet is not in" in coverage["leaks"]["identity"]["not_done"]
    card = (tmp_path / "clips" / "card" / "README.md").read_text()
    assert "CC-BY-4.0 (annotation) (1 videos)" in card
    assert "identity: **not done**" in card
