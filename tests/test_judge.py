"""The judge stage: what it writes, that it learns, and that equal seeds give equal judges."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

import pipelines.judge as stage
from fixtalk.dataset import clip_schema, to_blob
from fixtalk.media import encode_video, read_video
from metrics.local import LocalIdentity, LocalSync, face_pictures, lip_pictures
from metrics.networks import FACE_SIDE, LIP_SIDE, IdentityNetwork
from pipelines import exams, lessons, practice, subjects
from pipelines.judge import JudgeConfig, Steps, judge
from pipelines.practice import Course, read_material

SIDE, FRAMES = 64, 18
CONFIG = JudgeConfig(
    dataset="drawn",
    seed=3,
    batch=4,
    learning_rate=3e-3,
    precision="float32",
    steps=Steps(emotion=4, landmarks=4, identity=4, sync=4),
)
COURSE = Course(steps=40, batch=8, learning_rate=3e-3, seed=1, bfloat16=False)


def drawn_points(shift, openness):
    """68 points: the jaw on an arc, brows, nose, eyes and a mouth that opens."""
    angles = np.linspace(0, np.pi, 17)
    jaw = np.stack([-np.cos(angles) * 18, np.sin(angles) * 20], axis=1)
    brows = np.stack([np.linspace(-13, 13, 10), np.full(10, -10.0)], axis=1)
    nose = np.stack([np.array([0, 0, 0, 0, -4, -2, 0, 2, 4.0]), np.linspace(-6, 4, 9)], axis=1)
    ring = np.linspace(np.pi, 3 * np.pi, 6, endpoint=False)
    eye = np.stack([np.cos(ring) * 3, np.sin(ring) * 1.5], axis=1)
    wide = np.linspace(np.pi, 3 * np.pi, 20, endpoint=False)
    mouth = np.stack([np.cos(wide) * 6, np.sin(wide) * (1 + 4 * openness)], axis=1)
    eyes = [eye - np.array([8, 5]), eye + np.array([8, -5])]
    points = np.concatenate([jaw, brows, nose, *eyes, mouth + np.array([0, 10])])
    return (points + np.array([32 + shift, 30])).astype(np.float32)


def drawn_face(points, shade):
    rows, columns = np.mgrid[:SIDE, :SIDE] + 0.5
    picture = np.full((SIDE, SIDE, 3), 200, np.uint8)
    (x0, y0), (x1, y1) = points.min(axis=0), points.max(axis=0)
    middle, reach = (points.min(axis=0) + points.max(axis=0)) / 2, (x1 - x0, y1 - y0)
    inside = ((columns - middle[0]) / reach[0]) ** 2 + ((rows - middle[1]) / reach[1]) ** 2
    picture[inside < 0.3] = shade
    for part in (slice(36, 42), slice(42, 48), slice(48, 68)):
        low, high = points[part].min(axis=0), points[part].max(axis=0)
        left, top = np.floor(low).astype(int)
        right, bottom = np.ceil(high).astype(int)
        picture[top:bottom, left:right] = 20
    return picture


def drawn_clip(clip, person, split, session, emotion, seed):
    chance = np.random.default_rng(seed)
    openness = np.clip(0.5 + np.cumsum(chance.normal(0, 0.3, FRAMES)) * 0.5, 0, 1)
    points = np.stack([drawn_points(np.sin(n / 4) * 3, openness[n]) for n in range(FRAMES)])
    shade = (40 * person + 60, 150 - 20 * person, 120)
    arkit = np.zeros((FRAMES, 52), np.float32)
    arkit[:, 24] = openness
    loudness = np.repeat(openness, 640) * 8000
    audio = (chance.normal(size=FRAMES * 640) * loudness).clip(-32768, 32767).astype("<i2")
    return dict.fromkeys(clip_schema().names) | {
        "clip": clip, "person": f"S{person}", "split": split, "session": session,
        "emotion": emotion, "level": 2, "frames": FRAMES,
        "video": encode_video([drawn_face(one, shade) for one in points], crf=10, gop=5),
        "audio": audio.tobytes(), "box": [0.0, 0.0, 64.0], "source_fps": 25.0,
        "face_probability": 1.0, "landmarks": to_blob(points), "arkit": to_blob(arkit),
    }  # fmt: skip


def enlarged(row, times):
    """The clip with that many pixels for each along a side."""
    frames = read_video(row["video"]).repeat(times, axis=1).repeat(times, axis=2)
    points = times * np.frombuffer(row["landmarks"], "<f4")
    return row | {"video": encode_video(frames, crf=10, gop=5), "landmarks": to_blob(points)}


def write_clips(folder, *shards):
    (folder / "shards").mkdir(parents=True)
    for number, rows in enumerate(shards):
        table = pa.Table.from_pylist(rows, clip_schema())
        pq.write_table(table, folder / "shards" / f"{number:03}.parquet")
    return folder


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Three people to learn from; two held out, each in a session of its own and a shared one."""
    rows = [
        drawn_clip(f"S{p}/{n}", p, "train", f"S{p}", ("happy", "sad")[n], 10 * p + n)
        for p in range(3) for n in range(2)
    ]  # fmt: skip
    for person in (3, 4):
        rows.append(drawn_clip(f"S{person}/0", person, "test", f"S{person}", "happy", person))
        rows.append(drawn_clip(f"m0/S{person}", person, "test", "shared", "angry", 99))
    return write_clips(tmp_path_factory.mktemp("drawn") / "clips", rows)


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")


def test_four_judges_and_what_they_reach_on_held_out_people(clips, tmp_path):
    out = tmp_path / "models" / "judges"

    judge(CONFIG, clips, out)

    facts = json.loads((out / "judges.json").read_text())
    assert (facts["dataset"], facts["resolution"], facts["seed"]) == ("drawn", 64, 3)
    reached = {name: one["accuracy"] for name, one in facts["judges"].items()}
    assert set(reached) == {"identity", "landmarks", "emotion", "sync"}
    assert reached["identity"]["people"] == 2
    assert 0 <= reached["identity"]["verification_auc"] <= 1
    assert reached["landmarks"]["nme_interocular"] > 0
    assert reached["landmarks"]["frames"] == 4 * FRAMES
    low, high = reached["emotion"]["interval"]
    assert low <= reached["emotion"]["accuracy"] <= high
    assert (reached["sync"]["clips"], reached["sync"]["trials"]) == (4, 12)
    assert sorted(path.name for path in out.parent.iterdir()) == ["judges"]
    weights = load_file(out / "identity.safetensors")
    assert set(weights) == set(IdentityNetwork().state_dict())


def test_equal_seeds_give_equal_judges_and_another_seed_others(clips, tmp_path):
    def train(seed, name):
        judge(CONFIG.model_copy(update={"seed": seed}), clips, tmp_path / name)
        facts = json.loads((tmp_path / name / "judges.json").read_text())
        return {one["sha256"] for one in facts["judges"].values()}

    first, again, other = train(3, "a"), train(3, "b"), train(4, "c")

    assert first == again
    assert not first & other


def test_a_failed_run_leaves_the_judges_of_before(clips, tmp_path, monkeypatch):
    out = tmp_path / "judges"
    out.mkdir()
    (out / "judges.json").write_text("of before")
    (tmp_path / ".judges.judge").mkdir()
    (tmp_path / ".judges.judge" / "stale.safetensors").write_text("half written")

    def interrupted(function, jobs, description):
        yield function(jobs[0])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stage, "map_parallel", interrupted)
        with pytest.raises(KeyboardInterrupt):
            judge(CONFIG, clips, out)
    assert [path.name for path in out.iterdir()] == ["judges.json"]
    judge(CONFIG, clips, out)

    names = {f"{name}.safetensors" for name in ("identity", "landmarks", "emotion", "sync")}
    assert {path.name for path in out.iterdir()} == {"judges.json"} | names
    assert [path.name for path in tmp_path.glob(".judges*")] == []


@pytest.mark.parametrize("column", ["landmarks", "emotion", "arkit", "audio"])
def test_clips_without_a_label_are_refused_by_name(tmp_path, column):
    row = drawn_clip("real/0", 0, "train", "S0", "happy", 0)
    row[column] = b"" if column == "audio" else None
    clips = write_clips(tmp_path / "clips", [row])

    with pytest.raises(ValueError, match=f"real/0 has no {column}.*judge.dataset to synthetic"):
        read_material(clips, "train")


def test_clips_without_held_out_people_are_refused(tmp_path):
    row = drawn_clip("S0/0", 0, "train", "S0", "happy", 0)
    clips = write_clips(tmp_path / "clips", [row])

    with pytest.raises(ValueError, match="no clip of split 'test'"):
        read_material(clips, "test")


@pytest.mark.parametrize(
    ("side", "pictures"), [(FACE_SIDE, face_pictures), (LIP_SIDE, lip_pictures)]
)
def test_frames_larger_than_a_network_sees_are_read_as_it_sees_them(tmp_path, side, pictures):
    rows = [enlarged(drawn_clip(f"S0/{n}", 0, "train", "S0", "happy", n), 4) for n in range(2)]
    clips = write_clips(tmp_path / "clips", rows)
    whole = read_material(clips, "train", 4 * SIDE)

    seen = read_material(clips, "train", side)

    assert whole.frames.shape[2:] == (4 * SIDE, 4 * SIDE)
    assert seen.frames.shape[2:] == (side, side)
    assert (pictures(seen.frames) - pictures(whole.frames)).abs().max() <= 0.501  # grey levels
    assert torch.allclose(seen.points, whole.points)
    for row, large in zip(seen.clips, whole.clips, strict=True):
        assert row["video"].shape[2:] == (side, side)
        assert np.allclose(row["landmarks"] / side, large["landmarks"] / (4 * SIDE))


@pytest.mark.parametrize(("name", "side"), [("identity", 64), ("landmarks", 64), ("sync", 224)])
def test_a_learner_holds_frames_no_larger_than_its_network_sees(tmp_path, monkeypatch, name, side):
    row = enlarged(drawn_clip("S0/0", 0, "train", "S0", "happy", 0), 4)
    clips = write_clips(tmp_path / "clips", [row, row | {"split": "test"}])
    held = []

    def read(*arguments, **options):
        material = read_material(*arguments, **options)
        held.append(material.frames.shape[-1])
        return material

    monkeypatch.setattr(subjects, "read_material", read)

    subjects.learn(subjects.Job(name, COURSE._replace(steps=1), clips, tmp_path / name))

    assert held == [side, side]


def test_clips_of_several_shards_are_read_in_order(tmp_path):
    rows = [drawn_clip(f"S/{n}", n % 4, "train", "S", "happy", n) for n in range(14)]
    rows = [row | {"person": f"S{number % 7}"} for number, row in enumerate(rows)]
    one = write_clips(tmp_path / "one", rows)
    several = write_clips(tmp_path / "several", rows[:3], rows[3:6], rows[6:])

    for for_experts, count in ((False, 12), (True, 2)):
        first, again = (
            read_material(clips, "train", for_experts=for_experts) for clips in (one, several)
        )
        assert len(first.clips) == count
        assert [row["clip"] for row in again.clips] == [row["clip"] for row in first.clips]
        assert torch.equal(again.frames, first.frames)
        assert torch.equal(again.people, first.people)


@pytest.mark.parametrize(
    "lesson",
    [
        lessons.teach_identity,
        lessons.teach_landmarks,
        lessons.teach_emotion,
        lessons.teach_sync,
    ],
)
def test_losses_fall(clips, lesson):
    _, losses = lesson(read_material(clips, "train"), COURSE)

    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])


def test_mirrored_points_are_those_of_the_mirrored_picture(clips):
    points = torch.from_numpy(drawn_points(2.0, 0.5)) / SIDE

    mirrored = torch.stack([1 - points[:, 0], points[:, 1]], dim=1)[lessons.MIRROR]

    assert sorted(lessons.MIRROR) == list(range(68))
    assert [lessons.MIRROR[n] for n in lessons.MIRROR] == list(range(68))
    assert lessons.MIRROR[36] == 45  # outer corners of the eyes
    assert lessons.MIRROR[48] == 54  # corners of the mouth
    assert mirrored[0, 0] < mirrored[16, 0]  # the jaw still runs from left to right


def test_shaken_crops_move_points_with_the_picture(clips):
    material = read_material(clips, "train")
    chance = torch.Generator().manual_seed(0)
    whole = torch.tensor(practice.WHOLE).expand(len(material.frames), -1, -1)

    matrices, mirrored = practice.shaken(whole, chance, flip=0.5)
    pictures = practice.crop(material.frames.float(), matrices, SIDE)
    mouths = practice.within(matrices, material.anchors(torch.arange(len(whole))))[:, 2]

    assert mirrored.any()
    assert not mirrored.all()
    shown = ((mouths + 1) / 2 * SIDE).long()
    for picture, (column, row) in zip(pictures, shown, strict=True):
        assert picture[:, row, column].max() < 80  # the mouth is dark where it should be


def test_an_examiner_needs_both_kinds_of_pairs(clips):
    material = read_material(clips, "train")  # one session a person

    report = exams.examine_identity(LocalIdentity(IdentityNetwork(), "0"), material)

    assert report["verification_auc"] is None
    assert report["pairs"] == 0


def test_an_examiner_of_sync_knows_which_way_the_sound_is_late(clips):
    class Perfect(LocalSync):
        """Embeds what frame it is, in both."""

        def __init__(self):
            pass

        def embed_video(self, frames):
            return torch.eye(len(frames))[: len(frames) - 4] * 10 + 10

        def embed_audio(self, audio):
            return self.embed_video(torch.zeros(len(audio) // 640, 1))

    report = exams.examine_sync(Perfect(), read_material(clips, "test"))

    assert report["offset_within_1_frame"] == 1
