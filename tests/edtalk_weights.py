"""Weights and pictures by formula: EDTalk's own outputs for them can be compared with ours."""

import json
import zlib
from pathlib import Path

import numpy as np
import torch

GOLDEN = Path(__file__).parent / "golden"
CALM = 0.02  # factor on the flows' weights: rounding errors stay where they are


def keys(resolution):
    """Names and shapes of the release's tensors at 256 or 512 px."""
    shapes = json.loads((GOLDEN / "edtalk_keys.json").read_text())
    return shapes[str(resolution)]


def seeded(shapes, flow=CALM, seed=1):
    """A state dict in the release's layout, drawn from a seed key by key."""
    return {key: torch.from_numpy(_draw(key, shape, flow, seed)) for key, shape in shapes.items()}


def _draw(key, shape, flow, seed):
    if key.endswith("kernel"):
        taps = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64
        follows_upsampling = key.endswith("upsample.kernel") or key.startswith("dec.convs")
        return (taps * (4 if follows_upsampling else 1)).astype(np.float32)
    rng = np.random.default_rng([seed, zlib.crc32(key.encode())])
    values = rng.standard_normal(shape).astype(np.float32)
    if len(shape) < 2 or (len(shape) == 4 and shape[0] == 1 and shape[2:] == [1, 1]):
        return 0.1 * values + np.float32(key.endswith("modulation.bias"))
    if "adain" in key:
        return (values / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
    return values * np.float32(flow if "to_flows" in key and key.endswith("conv.weight") else 1)


def pictures(resolution):
    """Source, lip, pose and expression frame: smooth waves, (4, 3, side, side) in [-1, 1]."""
    line = np.linspace(0, 1, resolution)
    rng = np.random.default_rng(5)
    frames = np.zeros((4, 3, resolution, resolution))
    for down, across, phase in zip(*(rng.uniform(1, 9, (3, 6))), strict=True):
        wave = np.sin(down * line[:, None] + across * line + phase)
        frames += wave * rng.uniform(-1, 1, (4, 3, 1, 1)) / 6
    return torch.from_numpy(frames.astype(np.float32))
