"""Fixtures: a tiny model, its training state, and where optional real clips lie."""

import os
from dataclasses import replace
from pathlib import Path

import jaxtyping
import pytest
import torch

from fixtalk.edi import EDIConfig
from fixtalk.emi import EMIConfig
from fixtalk.model import ModelConfig
from fixtalk.reenactment import Batch
from fixtalk.speech import SpeechConfig, strength_of
from fixtalk.talks import TALK
from fixtalk.training import Method, start
from pipelines.config import load_config
from pipelines.recipe import TrainConfig

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["FIXTALK_WORKERS"] = "1"  # maps run in this process: no start-up per call
torch.set_num_threads(1)

ROOT = Path(__file__).parent.parent
TINY = ModelConfig(
    resolution=64,
    width=0.03125,
    widest=16,
    latent=64,
    lips=6,
    poses=4,
    expressions=3,
    align_corners=True,
)
TINY_EMI = EMIConfig(layers=1, queries=2, heads=2, hidden=32)
TINY_EDI = EDIConfig(slots=8, sharpness=16.0, heads=2)
TINY_SPEECH = SpeechConfig(width=0.125, hidden=16, memory=3)
TINY_BASE = replace(TINY, speech=TINY_SPEECH)
TINY_FIXTALK = replace(TINY, emi=TINY_EMI, edi=TINY_EDI)
TINY_TALKING = replace(TINY_FIXTALK, speech=TINY_SPEECH)
METHOD = Method(decay=0.9, bfloat16=False, margin=0.2, alignment="student||teacher")


def shared(name):
    """A folder of optional material; FIXTALK_SHARED names its parent."""
    folder = Path(os.environ.get("FIXTALK_SHARED", ROOT.parent / "shared")) / name
    if not folder.is_dir():
        pytest.skip(f"nothing at {folder}: set FIXTALK_SHARED")
    return folder


@pytest.fixture(scope="session")
def real_clips():
    """Folder of real talking clips."""
    return shared("real")


@pytest.fixture(autouse=True)
def own_backlog(tmp_path, monkeypatch):
    """Calls that no tracking server took wait in the test's folder, not in the project's."""
    monkeypatch.setattr("pipelines.tracking.project_root", lambda: tmp_path)


@pytest.fixture
def unchecked():
    """What users meet: metrics without the type checker that the tests switch on."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def recipe_of_params():
    """The training of params.yaml."""
    return load_config(TrainConfig, "train", ROOT / "params.yaml")


def state_of(config=TINY_TALKING, seed=1):
    """Training state of the tiny model, by default with all that it can have, at step 0."""
    return start(config, (0.5, 0.99), seed)


def mouth_at(top, left):
    """A box of 12×20 pixels in a frame of 64."""
    mouth = torch.zeros(64, 64, dtype=torch.bool)
    mouth[top : top + 12, left : left + 20] = True
    return mouth


def smooth_pictures():
    """Four of them, always the same."""
    torch.manual_seed(0)
    return torch.nn.functional.interpolate(torch.rand(4, 3, 8, 8), 64, mode="bilinear") * 2 - 1


def talks_that_move():
    """Four smooth pictures that move to the right, said to some sound; one shows no emotion."""
    source = smooth_pictures()
    shown = torch.stack([source.roll(place, 3) for place in range(1, TALK + 1)], 1)
    mouths = torch.stack([mouth_at(40, 20 + place) for place in range(TALK)])
    return Batch(
        source,
        driver=shown,
        target=shown,
        shows_target=torch.ones(4, dtype=torch.bool),
        mouth=mouths.expand(4, -1, -1, -1),
        speech=torch.randn(4, TALK, 1, 80, 16),
        sound=torch.randint(-9000, 9000, (4, 3600), dtype=torch.int16),
        closed=torch.tensor([[0, 0.5, 1, 0.5, 0], [0] * 5, [0.0, 0, 0, 0.5, 1], [0] * 5]),
        strength=torch.stack(
            [*map(strength_of, ("happy", "sad", "fear"), (3.0, 1.0, 2.0)), torch.zeros(8)]
        ),
        mood=torch.stack([strength_of("happy", 3.0), *torch.zeros(3, 8)]),
    )


class Ears(torch.nn.Module):
    """A stand-in for the sync expert: random readings of frames and of samples."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.look, self.listen = torch.nn.Linear(TALK * 3 * 64, 8), torch.nn.Linear(3600, 8)
        self.requires_grad_(False)

    def forward(self, frames, sounds):
        """Logits of every sound for each row of frames."""
        looks = torch.nn.functional.adaptive_avg_pool2d(frames.flatten(0, 1), 8)
        looks = self.look(looks.reshape(len(frames), -1).to(self.look.weight))
        return looks @ self.listen(sounds.to(self.listen.weight) / 9000).mT


def pictures_that_move():
    """Four pairs of smooth pictures with an exact warp: the driver is the source, moved."""
    source = smooth_pictures()
    driver = source.roll(4, 3)
    line = torch.linspace(-1, 1, 64)
    flow = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1).expand(4, -1, -1, -1).clone()
    flow[..., 0] -= 4 * 2 / 63
    return Batch(
        source,
        driver,
        target=driver,
        shows_target=torch.ones(4, dtype=torch.bool),
        moves=torch.tensor([True, True, True, False]),
        mouth=mouth_at(40, 20).expand(4, -1, -1),
        lip=driver.roll(1, 0),
        pose=driver.roll(1, 2),
        lips=torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.5, 0.0], [-1.0, 0.0, 1.0], [2.0, -0.5, 0.5]]),
        head=torch.linspace(-1, 1, 24).reshape(4, 6),
        brows=torch.linspace(1, -1, 16).reshape(4, 4),
        flow=flow,
        valid=flow.abs().amax(-1) <= 1,
    )


@pytest.fixture(scope="session")
def recipe():
    return recipe_of_params()


@pytest.fixture
def tiny_state():
    return state_of()


@pytest.fixture
def batch():
    return pictures_that_move()
