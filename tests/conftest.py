"""Fixtures: a tiny model, its training state, and where optional real clips lie."""

import os
from pathlib import Path

import jaxtyping
import pytest
import torch

from fixtalk.model import ModelConfig
from fixtalk.training import Batch, Phase, start

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["FIXTALK_WORKERS"] = "1"  # maps run in this process: no start-up per call
torch.set_num_threads(1)

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


@pytest.fixture(scope="session")
def real_clips():
    """Folder of real talking clips; FIXTALK_SHARED names its parent."""
    folder = Path(os.environ.get("FIXTALK_SHARED", Path(__file__).parent.parent.parent / "shared"))
    if not (folder / "real").is_dir():
        pytest.skip(f"no real clips at {folder / 'real'}: set FIXTALK_SHARED")
    return folder / "real"


@pytest.fixture
def unchecked():
    """What users meet: metrics without the type checker that the tests switch on."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def tiny_state():
    """Training state of the tiny model at step 0."""
    return start(TINY, (0.5, 0.99), seed=1)


@pytest.fixture
def batch():
    """Four pairs of smooth pictures with an exact warp: the driver is the source, moved."""
    torch.manual_seed(0)
    source = torch.nn.functional.interpolate(torch.rand(4, 3, 8, 8), 64, mode="bilinear") * 2 - 1
    driver = source.roll(4, 3)
    line = torch.linspace(-1, 1, 64)
    flow = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1).expand(4, -1, -1, -1).clone()
    flow[..., 0] -= 4 * 2 / 63
    valid = flow.abs().amax(-1) <= 1
    return Batch(source, driver, driver, torch.ones(4, dtype=torch.bool), flow, valid)


@pytest.fixture
def phases():
    """Two steps without and two with a discriminator."""
    warp = Phase(
        name="warp", steps=2, learning_rate=2e-3, final_learning_rate=2e-3,
        discriminator_learning_rate=0.0, penalty=0.0,
        weights={"reconstruction": 1.0, "pyramid": 1.0, "warp_truth": 1.0},
    )  # fmt: skip
    adversarial = Phase(
        name="adversarial", steps=2, learning_rate=2e-3, final_learning_rate=1e-4,
        discriminator_learning_rate=1e-3, penalty=1.0,
        weights={"reconstruction": 1.0, "adversarial": 0.1, "feature_matching": 0.1},
    )  # fmt: skip
    return [warp, adversarial]
