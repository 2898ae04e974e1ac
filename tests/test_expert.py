"""The expert stage: whom it learns from, what it leaves, what it tells of frames and sounds."""

import hashlib
import json

import pyarrow.parquet as pq
import pytest
import torch

from pipelines.expert import ExpertConfig, expert
from pipelines.perception import load_experts
from pipelines.practice import of_experts, read_material
from tests.test_judge import drawn_clip, write_clips

CONFIG = ExpertConfig(
    seed=1, batch=4, learning_rate=2e-3, precision="float32", steps={"landmarks": 4, "sync": 8}
)
PEOPLE = 13  # two of them for the experts
CPU = torch.device("cpu")


def people(changes=None):
    """Thirteen to learn from and one held out; `changes` by the number of a person."""
    rows = [drawn_clip(f"S{n:02}/0", n % 4, "train", None, "happy", n) for n in range(PEOPLE)]
    rows.append(drawn_clip("S90/0", 2, "test", None, "sad", 90))
    for row in rows:
        row["person"] = row["clip"][:3]
    for number, change in (changes or {}).items():
        rows[number] |= change
    return rows


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return write_clips(tmp_path_factory.mktemp("drawn") / "clips", people())


@pytest.fixture(scope="module")
def taught(clips, tmp_path_factory):
    out = tmp_path_factory.mktemp("models") / "expert"
    out.mkdir()
    (out / "stale").write_text("of before")
    expert(CONFIG, clips, out)
    return out


def test_networks_and_facts_belong_together(taught):
    names = ["expert.json", "landmarks.safetensors", "sync.safetensors"]
    assert sorted(path.name for path in taught.iterdir()) == names
    facts = json.loads((taught / "expert.json").read_text())
    for name in ("landmarks", "sync"):
        weights = (taught / f"{name}.safetensors").read_bytes()
        assert facts[name]["sha256"] == hashlib.sha256(weights).hexdigest()
    assert facts["seed"] == 1
    assert facts["sync"]["accuracy"]["clips"] == 1
    assert facts["landmarks"]["accuracy"]["nme_interocular"] > 0


def test_their_people_are_not_the_judges(clips):
    own, judged = (
        {row["person"] for row in read_material(clips, "train", for_experts=mine).clips}
        for mine in (True, False)
    )

    assert own == {"S05", "S11"}
    assert judged == {f"S{n:02}" for n in range(PEOPLE)} - own


def test_every_sixth_person_teaches_experts():
    names = [f"{n:02}" for n in range(14)]

    assert of_experts(reversed(names)) == {"05", "11"}
    assert of_experts(names[:5]) == set()


def test_equal_seeds_give_equal_networks(clips, taught, tmp_path):
    def digests(folder):
        facts = json.loads((folder / "expert.json").read_text())
        return [facts[name]["sha256"] for name in ("landmarks", "sync")]

    for seed in (1, 2):
        expert(CONFIG.model_copy(update={"seed": seed}), clips, tmp_path / str(seed))

    assert digests(tmp_path / "1") == digests(taught)
    assert not set(digests(tmp_path / "2")) & set(digests(taught))


@pytest.mark.parametrize(
    ("changes", "kept", "reason"),
    [
        ({}, 5, "no clip of split 'train'"),
        ({5: {"audio": b""}}, PEOPLE, "clip S05/0 has no audio"),
        ({11: {"landmarks": None}}, PEOPLE, "clip S11/0 has no landmarks"),
    ],
)
def test_what_they_cannot_learn_from_leaves_a_reason_instead_of_networks(
    tmp_path, changes, kept, reason
):
    clips = write_clips(tmp_path / "clips", people(changes)[:kept])

    expert(CONFIG, clips, tmp_path / "expert")

    assert [path.name for path in (tmp_path / "expert").iterdir()] == ["expert.json"]
    assert reason in load_experts(tmp_path / "expert", CPU)


def test_where_a_label_is_missing_no_video_is_read(tmp_path, monkeypatch):
    rows = people({5: {"emotion": None}})
    clips = write_clips(tmp_path / "clips", rows[:8], rows[8:])
    asked, read = [], pq.read_table

    def spy(shard, columns, **options):
        asked.append((shard.name, columns))
        return read(shard, columns=columns, **options)

    monkeypatch.setattr(pq, "read_table", spy)

    expert(CONFIG, clips, tmp_path / "expert")

    assert "clip S05/0 has no emotion" in load_experts(tmp_path / "expert", CPU)
    assert not [columns for _, columns in asked if columns is None or "video" in columns]
    assert {shard for shard, columns in asked if "emotion" in columns} == {"000.parquet"}


def test_missing_stage_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expert.json: not found; run the expert stage"):
        load_experts(tmp_path, CPU)


def test_every_row_of_frames_meets_every_sound_and_frames_alone_get_a_gradient(taught):
    sync = load_experts(taught, CPU).sync
    torch.manual_seed(0)
    frames = (torch.rand(3, 5, 3, 64, 64) * 2 - 1).requires_grad_()
    sounds = torch.randint(-9000, 9000, (3, 3600), dtype=torch.int16)

    logits = sync(frames, sounds)

    assert logits.shape == (3, 3)
    assert (logits <= 0).all()
    swapped = sync(frames, sounds.flip(0))
    assert torch.allclose(swapped, logits.flip(1), atol=1e-4)
    logits.sum().backward()
    assert frames.grad.abs().sum() > 0


def test_points_are_those_of_the_network_and_teach_frames_alone(taught):
    from safetensors.torch import load_file

    from metrics.local import LocalLandmarks

    points = load_experts(taught, CPU).points
    judge = LocalLandmarks(load_file(taught / "landmarks.safetensors"), "of the file")
    torch.manual_seed(0)
    pictures = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8)
    frames = (pictures / 127.5 - 1).requires_grad_()

    found = points(frames)

    assert torch.allclose(found * 64, judge.points(pictures), atol=1e-3)
    found.sum().backward()
    assert all(frame.any() for frame in frames.grad)
