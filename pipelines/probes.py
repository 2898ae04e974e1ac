"""Layers of a model on labelled clips → how well identity and motion can be read from each."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, one_hot

from fixtalk.media import read_video, to_float
from fixtalk.model import FixTalk
from pipelines.substitution import encoder_maps

EVERY = 4  # frames: those between look alike
POOLED_SIDE = 4  # cells of a map that are read: all layers tell place equally finely
RIDGE = 0.1  # of the mean eigenvalue of the features' covariance
AT_ONCE = 32  # frames: bounds memory only
JAW_OPEN = 24  # ARKit's coefficients in alphabetical order
EXPRESSIONS = (2, 8, 29, 43, 49)  # inner brow, blink, frown, smile, sneer; left where there are two
MOTIONS = ("pose", "mouth", "expression")
GROUPS = (slice(0, 3), slice(3, 4), slice(4, 9))  # of the columns of `motion_labels`


class Reading(NamedTuple):
    """What linear probes read in the test frames, as sums over the frames of each person.

    Attributes:
        hits: frames whose person is named.
        frames: all of them.
        errors: squared errors of pose, mouth and expression.
        spreads: squared distances of the same from their mean.
    """

    hits: np.ndarray
    frames: np.ndarray
    errors: np.ndarray
    spreads: np.ndarray


def motion_labels(row: Mapping[str, Any]) -> np.ndarray:
    """Yaw, pitch, roll in radians, mouth opening and five expressions of every frame (frames, 9).

    Raises:
        ValueError: the clip has no exact labels.
    """
    if row["pose"] is None or row["arkit"] is None:
        raise ValueError(
            f"clip {row['clip']} has no pose or arkit labels: layers are probed on rendered "
            "people only; set localise.dataset to synthetic"
        )
    return np.hstack([row["pose"][:, :3], row["arkit"][:, [JAW_OPEN, *EXPRESSIONS]]])


@torch.no_grad()
def probe_layers(
    model: FixTalk, rows: Sequence[Mapping[str, Any]], people: Sequence[str]
) -> dict[str, Reading]:
    """Readings of every map by its side, of W, alpha and, with EMI, z; in the order of the pass.

    The clips of each person are taken in turn to learn from and to be tested on.

    Args:
        model: whose backbone is EDTalk.
        rows: clips with video, person, pose and arkit.
        people: names in the order of the readings.

    Raises:
        ValueError: a clip without labels, or a person of one clip only.

    Source: probes of FixTalk's figure 3, as far as it is known; ours.
    """
    features: list[dict[str, Tensor]] = []
    labels, names, is_train = [], [], []
    seen = dict.fromkeys(people, 0)
    for row in rows:
        frames = torch.from_numpy(read_video(row["video"])[::EVERY]).permute(0, 3, 1, 2)
        features += [layer_features(model, to_float(some)) for some in frames.split(AT_ONCE)]
        labels.append(torch.from_numpy(motion_labels(row)[::EVERY]))
        names += [people.index(row["person"])] * len(frames)
        is_train += [seen[row["person"]] % 2 == 0] * len(frames)
        seen[row["person"]] += 1
    alone = [name for name, clips in seen.items() if clips < 2]
    if alone:
        raise ValueError(
            f"{', '.join(alone)}: a clip to learn from and none to test on; each held-out person "
            "needs two (download.synthetic.clips_per_person)"
        )
    columns = {name: torch.cat([some[name] for some in features]) for name in features[0]}
    people_numbers, chosen = torch.tensor(names), torch.tensor(is_train)
    return {
        name: read(values, people_numbers, torch.cat(labels), chosen)
        for name, values in columns.items()
    }


def layer_features(model: FixTalk, frames: Tensor) -> dict[str, Tensor]:
    """What a probe sees of each layer of the driving pass (frames, features), on the CPU."""
    maps = encoder_maps(model, frames.to(next(model.parameters()).device))
    smallest, *skips = (maps[side] for side in sorted(maps))
    pooled = {str(side): adaptive_avg_pool2d(m, POOLED_SIDE).flatten(1) for side, m in maps.items()}
    latent = model.backbone.encoder.head(smallest).flatten(1)
    code = model.motion_code(latent, skips)
    z = {} if model.emi is None else {"z": code}
    alpha = torch.cat(tuple(model.backbone.motion(code)), 1)
    layers = {**pooled, "W": latent, **z, "alpha": alpha}
    return {name: values.cpu() for name, values in layers.items()}


def read(features: Tensor, people: Tensor, motion: Tensor, is_train: Tensor) -> Reading:
    """Fit ridge regressions on the training frames and read the others.

    One regression names the person, by the largest of one output for each, and gives the motion.

    Args:
        features: (frames, features).
        people: (frames,) numbers from 0.
        motion: (frames, 9) as `motion_labels` gives them.
        is_train: (frames,) which to learn from.

    Source: Hoerl and Kennard 1970, in the dual form, as features may outnumber frames.
    """
    features, motion = features.double(), motion.double()
    known, unknown = (_scaled(features, is_train)[chosen] for chosen in (is_train, ~is_train))
    motion = _scaled(motion, is_train)
    count = int(people.max()) + 1
    wanted = torch.cat([one_hot(people, count).double(), motion], 1)
    mean = wanted[is_train].mean(0)
    kernel = known @ known.T
    ridge = RIDGE * kernel.diagonal().mean() * torch.eye(len(kernel), dtype=kernel.dtype)
    weights = torch.linalg.solve(kernel + ridge, wanted[is_train] - mean)
    found = unknown @ known.T @ weights + mean
    true, truth = people[~is_train], motion[~is_train]
    errors = (found[:, count:] - truth).square()
    spreads = (truth - truth.mean(0)).square()
    return Reading(
        _per_person((found[:, :count].argmax(1) == true).double(), true, count),
        _per_person(torch.ones(len(true), dtype=torch.float64), true, count),
        _per_person(torch.stack([errors[:, g].sum(1) for g in GROUPS], 1), true, count),
        _per_person(torch.stack([spreads[:, g].sum(1) for g in GROUPS], 1), true, count),
    )


def _scaled(values: Tensor, is_train: Tensor) -> Tensor:
    """Columns with mean 0 and deviation 1 over the training frames; flat ones are 0 there."""
    deviation, mean = torch.std_mean(values[is_train], 0)
    return (values - mean) / torch.where(deviation > 0, deviation, 1)


def _per_person(values: Tensor, people: Tensor, count: int) -> np.ndarray:
    sums = torch.zeros(count, *values.shape[1:], dtype=values.dtype).index_add_(0, people, values)
    return sums.numpy()
