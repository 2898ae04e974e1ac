"""The expert stage: whom it learns from, what it leaves, how it is examined, who is told."""

import hashlib
import json

import numpy as np
import pytest
import torch
from fixtalk.sync_expert import SyncExpert

from fixtalk.talks import TALK
from pipelines import expert as stage
from pipelines.expert import ExpertConfig, examine, expert, teach
from pipelines.perception import load_expert
from pipelines.practice import of_experts, read_material
from tests.test_judge import FRAMES, drawn_clip, write_clips

CONFIG = ExpertConfig(seed=1, clips=8, clips_at_once=2, windows=4, learning_rate=2e-3, steps=2)
PEOPLE = 13  # two of them for the expert
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


def taught(clips, monkeypatch, tmp_path, config=CONFIG):
    """People that the stage learns from."""
    seen = []
    monkeypatch.setattr(
        stage, "teach", lambda rows, config: seen.extend(rows) or (SyncExpert(), [1.0])
    )
    expert(config, clips, tmp_path / "expert")
    return [row["person"] for row in seen]


def test_network_and_facts_are_a_pair(clips, tmp_path):
    out = tmp_path / "models" / "expert"
    out.mkdir(parents=True)
    (out / "stale").write_text("of before")

    expert(CONFIG, clips, out)

    assert sorted(path.name for path in out.iterdir()) == ["expert.json", "expert.safetensors"]
    facts = json.loads((out / "expert.json").read_text())
    weights = (out / "expert.safetensors").read_bytes()
    assert facts["sha256"] == hashlib.sha256(weights).hexdigest()
    assert (facts["clips"], facts["people"], facts["seed"]) == (2, 2, 1)
    assert facts["held_out"]["windows"] == FRAMES - TALK + 1
    assert facts["loss"] > 0
    network = load_expert(out, CPU)
    assert not network.training
    assert not any(weight.requires_grad for weight in network.parameters())
    assert not torch.equal(network.offset, SyncExpert().offset), "it has learnt"


def test_equal_seeds_give_equal_networks(clips, tmp_path):
    def digest(seed, name):
        expert(CONFIG.model_copy(update={"seed": seed}), clips, tmp_path / name)
        return json.loads((tmp_path / name / "expert.json").read_text())["sha256"]

    first = digest(1, "a")
    assert digest(1, "b") == first
    assert digest(2, "c") != first


def test_its_people_are_not_the_judges(clips, monkeypatch, tmp_path):
    own = set(taught(clips, monkeypatch, tmp_path))

    judged = {row["person"] for row in read_material(clips, "train").clips}
    assert own == {"S05", "S11"}
    assert judged == {f"S{n:02}" for n in range(PEOPLE)} - own


def test_silent_and_short_clips_do_not_move_the_border(monkeypatch, tmp_path):
    # counted among those with sound alone, every sixth would be people of the judges
    changes = {1: {"audio": b""}, 2: {"audio": None}, 3: {"frames": TALK - 1}, 5: {"audio": b""}}
    clips = write_clips(tmp_path / "clips", people(changes))

    assert taught(clips, monkeypatch, tmp_path) == ["S11"]


def test_people_are_taken_evenly_where_there_are_more_clips_than_wanted(monkeypatch, tmp_path):
    rows = [
        row | {"person": f"S{n:02}", "clip": f"S{n:02}/{k}"}
        for n, row in enumerate(people()[:12]) for k in range(3)
    ]  # fmt: skip
    clips = write_clips(tmp_path / "clips", rows)

    few = CONFIG.model_copy(update={"clips": 2})
    assert taught(clips, monkeypatch, tmp_path, few) == ["S05", "S11"]


def test_every_sixth_person_teaches_experts():
    names = [f"{n:02}" for n in range(14)]

    assert of_experts(reversed(names)) == {"05", "11"}
    assert of_experts(names[:5]) == set()


@pytest.mark.parametrize("kept", [5, PEOPLE])
def test_too_few_sounds_leave_a_reason_instead_of_a_network(tmp_path, kept):
    silent = people({n: {"audio": b""} for n in (5, 11)})
    clips = write_clips(tmp_path / "clips", silent[:kept])

    expert(CONFIG, clips, tmp_path / "expert")

    assert [path.name for path in (tmp_path / "expert").iterdir()] == ["expert.json"]
    reason = load_expert(tmp_path / "expert", CPU)
    assert reason == f"{clips}: no clip with sound and 5 frames of a person kept for it (each 6th)"


def test_missing_stage_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expert.json: not found; run the expert stage"):
        load_expert(tmp_path, CPU)


class Planted(SyncExpert):
    """Knows which window it sees, and hears it so many frames late."""

    def __init__(self, late):
        super().__init__()
        self.late = late

    def look(self, frames):  # noqa: D102 - as its parent's
        assert frames.shape[1:] == (TALK, 3, 64, 64)
        return torch.eye(len(frames))

    def listen(self, pieces):  # noqa: D102 - as its parent's
        assert pieces.shape[1:] == (1, 80, 16)
        return torch.eye(len(pieces)).roll(self.late, 0)


@pytest.mark.parametrize(("late", "hit"), [(0, 14), (1, 13), (-1, 13), (2, 0), (-3, 0)])
def test_a_hit_is_the_true_sound_or_one_a_frame_away(late, hit):
    report = examine(Planted(late), people()[:1])

    windows = FRAMES - TALK + 1
    assert windows == 14
    assert report["windows"] == windows
    # those that are rolled over the end lie far away
    assert report["within_a_frame"] == pytest.approx(hit / windows, abs=1e-3)


def test_examine_without_clips_knows_nothing():
    assert examine(Planted(0), []) == {"within_a_frame": None, "windows": 0}


def test_loss_falls_and_the_true_match_weighs_as_all_others():
    config = CONFIG.model_copy(update={"steps": 40, "windows": 6})

    _, losses = teach(people()[:2], config)

    assert len(losses) == 40
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


def test_embeddings_have_length_one_and_logits_pair_rows():
    torch.manual_seed(0)
    network = SyncExpert()
    frames, pieces = torch.rand(3, TALK, 3, 64, 64) * 2 - 1, torch.randn(3, 1, 80, 16)

    looks, sounds = network.look(frames), network.listen(pieces)

    assert torch.allclose(looks.norm(dim=1), torch.ones(3))
    assert torch.allclose(sounds.norm(dim=1), torch.ones(3))
    assert torch.allclose(network(frames, pieces), network.match(looks, sounds).diagonal())
    upper = frames.clone()
    upper[..., :32, :] = 0
    assert torch.equal(network.look(upper), looks), "upper halves are not looked at"
    assert not torch.allclose(network.look(frames.flip(1)), looks, atol=1e-3)


@pytest.mark.parametrize("side", [64, 128])
def test_frames_of_any_side_are_looked_at(side):
    assert SyncExpert().look(torch.zeros(1, TALK, 3, side, side)).shape == (1, 128)
