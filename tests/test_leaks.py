"""Overlap of train and test: recordings and faces in both are errors that name the clips."""

import json

import numpy as np
import pytest

from fixtalk.media import encode_video
from pipelines import leaks
from pipelines.leaks import Face, LeakConfig, LeakError, find_leaks, require_no_leak, similar_people
from pipelines.weights import WeightsError
from tests.clip_shards import write_shard
from tests.voices import BOAT, FOX, spoken

RNG = np.random.default_rng(1)
ALL = LeakConfig(sound=0.2, identity=0.7)
SOUND = LeakConfig(sound=0.2, identity=None)


def clip(name, split, audio=None, **other):
    sound = b"" if audio is None else audio.astype("<i2").tobytes()
    return {
        "clip": name,
        "person": name.split("/")[0],
        "split": split,
        "audio": sound,
        "frames": 4,
    } | other


def test_the_same_recording_in_both_splits_is_an_error_that_names_the_clips(tmp_path):
    rows = [
        clip("Ann/1", "train", spoken(FOX)),
        clip("Bob/1", "train", spoken(BOAT, "en-us+m7")),
        clip("Cid/1", "test", (spoken(FOX)[5000:] * 0.5)),
        clip("Dan/1", "test", spoken(BOAT, "en-us+f2")),
        clip("Dan/2", "test", spoken(BOAT, "en-us+f2")),
        clip("Eve/1", "test"),
    ]
    write_shard(tmp_path, rows, group=2)

    found = find_leaks(SOUND, tmp_path, tmp_path)

    assert [(p["train"], p["test"]) for p in found["sound"]["pairs"]] == [("Ann/1", "Cid/1")]
    assert found["identity"] is None
    clips = tmp_path / "clips"
    with pytest.raises(
        LeakError, match=r"(?s)sound: Ann/1 \(train\) and Cid/1 \(test\).*one split"
    ):
        require_no_leak({"leaks": found}, clips)
    report = json.loads((tmp_path / "clips.coverage.json").read_text())
    assert report["leaks"]["sound"]["pairs"][0]["share"] > 0.3


def test_without_overlap_nothing_is_raised(tmp_path):
    write_shard(tmp_path, [clip("A/1", "train", spoken(FOX)), clip("B/1", "test", spoken(BOAT))])

    found = find_leaks(SOUND, tmp_path, tmp_path)

    assert found["sound"] == {"bound": 0.2, "compared": {"train": 1, "test": 1}, "pairs": []}
    require_no_leak({"leaks": found}, tmp_path / "clips")
    assert not (tmp_path / "clips.coverage.json").exists()


def test_checks_that_cannot_be_done_are_told(tmp_path):
    write_shard(tmp_path, [clip("A/1", "train"), clip("B/1", "test")])

    found = find_leaks(ALL, tmp_path, tmp_path / "weights")

    assert found["sound"]["not_done"] == "0 of train and 0 of test have what is compared"
    assert "facenet is not in" in found["identity"]["not_done"]
    assert "fixtalk weights fetch facenet" in found["identity"]["not_done"]
    require_no_leak({"leaks": found}, tmp_path / "clips")


def test_damaged_weights_are_no_missing_weights(tmp_path):
    write_shard(tmp_path, [clip("A/1", "train"), clip("B/1", "test")])
    (tmp_path / "20180402-114759-vggface2.pt").write_bytes(b"no tensors")

    with pytest.raises(WeightsError, match="not a file of plain tensors"):
        find_leaks(ALL, tmp_path, tmp_path)


def test_one_split_has_no_overlap_to_look_for(tmp_path):
    write_shard(tmp_path, [clip("A/1", "test", spoken(FOX)), clip("B/1", "test", spoken(FOX))])

    assert find_leaks(ALL, tmp_path, tmp_path)["sound"]["not_done"] == "all clips are of test"


def embedding(axis, noise):
    vector = np.eye(512)[axis] + RNG.normal(0, noise, 512)
    return vector / np.linalg.norm(vector)


def test_people_are_compared_by_the_mean_of_their_faces():
    faces = [
        Face(f"{person}/{n}", person, split, embedding(axis, 0.03))
        for person, split, axis in (
            ("Ann", "train", 0), ("Bob", "train", 1), ("Ann again", "test", 0), ("Cid", "test", 2),
        )
        for n in range(5)
    ]  # fmt: skip

    pairs = similar_people(faces, 0.7)

    assert [(pair["train"], pair["test"]) for pair in pairs] == [("Ann/0", "Ann again/0")]
    assert similar_people(faces, -1.0)[0]["share"] == pairs[0]["share"] > 0.9
    assert similar_people([face for face in faces if face.split == "train"], 0.5) == []


def test_faces_are_those_of_the_first_clips_of_each_person(tmp_path, monkeypatch):
    film = encode_video(np.full((4, 64, 64, 3), 90, np.uint8), crf=20, gop=2)
    rows = [clip(f"P{n % 2}/{n}", ["train", "test"][n % 2], video=film) for n in range(20)]
    write_shard(tmp_path, rows, group=3)
    looked = []
    monkeypatch.setattr(leaks, "_facenet", lambda weights: None)
    monkeypatch.setattr(leaks, "_embed", lambda weights, row: looked.append(row["clip"]) or [])

    found = find_leaks(ALL, tmp_path, tmp_path)["identity"]

    assert found["not_done"] == "0 of train and 0 of test have what is compared"
    assert sorted(looked) == sorted(f"P{n % 2}/{n}" for n in range(8))
    monkeypatch.undo()
    assert leaks._embed(tmp_path, rows[0]) == [], "no face, no embedding"
