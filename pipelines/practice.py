"""Training clips → disturbed batches, and the loop in which a judge's network learns from them.

Plain PyTorch on one thread: equal material and course give equal weights.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from fixtalk.dataset import find_shards, read_clips, read_shard
from fixtalk.media import probe, read_video
from fixtalk.shapes import UInt8
from metrics.emotion import EMOTIONS
from metrics.networks import ANCHORS, LIP_SIDE, Locator, Look, crop, upright

LABELS = ["emotion", "landmarks", "arkit", "audio"]
COLUMNS = ["clip", "person", "session", "frames", *LABELS]
VIDEOS = ["person", "video"]
LOCATOR_SHARE = 4  # one step in so many teaches the locator, before the others
WEIGHT_DECAY = 0.01
WARM_UP = 0.1  # share of the steps in which the learning rate rises
GAIN, SHADE = 0.15, 0.2  # spread of log gains, and of the light's slope over half a picture
SOFTEST = 0.7  # share of the pixels that the softest pictures keep along a side
NOISE = 4.0  # grey levels, largest deviation
TURN, STRETCH, SHIFT = 0.1, 0.08, 0.06  # spread: radians, log scale, shares of half a side
STEADIER = 0.4  # share of these that is left of them where eyes and mouth are already found
MISSED = 0.006  # shares of the side by which crops for training miss eyes and mouth
EXPERTS = 6  # one training person in so many teaches the networks behind losses, and no judge
AT_ONCE = 32  # frames that are shrunk together
WHOLE = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))  # matrix of the crop that is the picture itself


class Course(NamedTuple):
    """How long and how fast a network learns."""

    steps: int
    batch: int  # pictures a step
    learning_rate: float  # highest
    seed: int
    bfloat16: bool


@dataclass(frozen=True)
class Material:
    """All frames of the clips in a row, with what is true of each."""

    clips: list[dict[str, Any]]  # their rows; "video" is a view of `frames`, "audio" a tensor
    frames: Tensor  # (frames, 3, height, width) uint8
    points: Tensor  # (frames, 68, 2) in shares of the side
    coefficients: Tensor  # (frames, 52)
    people: Tensor  # (frames,) numbers from 0
    emotions: Tensor  # (frames,) indices into EMOTIONS

    def anchors(self, chosen: Tensor) -> Tensor:
        """Centres of eyes and mouth in these frames, (frames, 3, 2) in shares of the side."""
        points = self.points[chosen]
        return torch.stack([points[:, part].mean(dim=1) for part in ANCHORS], dim=1)


def of_experts(people: Iterable[str]) -> set[str]:
    """Training people whom networks that shape a loss learn from: judges have never seen them."""
    return set(sorted(people)[EXPERTS - 1 :: EXPERTS])


class UnlabelledError(ValueError):
    """Clips without what rendered people are labelled with."""


def read_labels(clips: Path, split: str, *, for_experts: bool = False) -> list[dict[str, Any]]:
    """Rows of the clips that `read_material` gives, without their videos.

    Raises:
        UnlabelledError: no clip, or one without a label or sound; names the column. Shards behind
            that clip are not read.
    """
    people = {row["person"] for row in read_clips(clips, split, ["person"])}
    if split == "train":
        others = of_experts(people)
        people = others if for_experts else people - others
    if not people:
        raise UnlabelledError(
            f"{clips}: no clip of split {split!r}; crop a dataset with held-out people"
        )
    rows = []
    for row in _rows_of(people, clips, split, COLUMNS):
        for column in LABELS:
            if row[column] is None or not len(row[column]):
                raise UnlabelledError(
                    f"{clips}: clip {row['clip']} has no {column}: judges learn from the exact "
                    "labels of rendered people; set judge.dataset to synthetic"
                )
        rows.append(row)
    return rows


def read_material(
    clips: Path, split: str, side: int = LIP_SIDE, *, for_experts: bool = False
) -> Material:
    """The clips of a split with their labels; of the training split those for judges, or others.

    Args:
        clips: folder written by the crop stage.
        split: "train" or "test".
        side: most pixels that a network sees of a frame: larger ones are shrunk, their points too.
        for_experts: whether to take the people that no judge learns from.

    Raises:
        UnlabelledError: no clip, or one without a label or sound; names the column.
    """
    rows = read_labels(clips, split, for_experts=for_experts)
    lengths, people = [row["frames"] for row in rows], {row["person"] for row in rows}
    width = probe(next(_rows_of(people, clips, split, VIDEOS))["video"]).width
    side = min(side, width)
    frames = torch.empty(sum(lengths), 3, side, side, dtype=torch.uint8)
    filmed = _rows_of(people, clips, split, VIDEOS)
    for row, place, film in zip(rows, frames.split(lengths), filmed, strict=True):
        row["video"] = place.copy_(_seen(film["video"], side))
        row["landmarks"] = row["landmarks"] * (side / width)
        row["audio"] = torch.from_numpy(np.frombuffer(row["audio"], "<i2").astype(np.int16))
    names = sorted(people)
    numbers = torch.tensor([names.index(row["person"]) for row in rows])
    emotions = torch.tensor([EMOTIONS.index(row["emotion"]) for row in rows])
    return Material(
        clips=rows,
        frames=frames,
        points=torch.cat([torch.tensor(row["landmarks"]) for row in rows]) / side,
        coefficients=torch.cat([torch.tensor(row["arkit"]) for row in rows]),
        people=numbers.repeat_interleave(torch.tensor(lengths)),
        emotions=emotions.repeat_interleave(torch.tensor(lengths)),
    )


def _rows_of(
    people: set[str], clips: Path, split: str, columns: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Their rows in file order, a shard in memory at a time."""
    for shard in find_shards(clips):
        yield from (row for row in read_shard(shard, split, columns) if row["person"] in people)


def _seen(video: bytes, side: int) -> UInt8[Tensor, "frames 3 height width"]:
    """Frames of a video; larger ones shrunk as networks see whole pictures, but for rounding."""
    frames = torch.from_numpy(read_video(video)).permute(0, 3, 1, 2)
    if frames.shape[-1] <= side:
        return frames
    shrunk = [
        interpolate(some.float(), (side, side), mode="bilinear", antialias=True).round().byte()
        for some in frames.split(AT_ONCE)
    ]
    return torch.cat(shrunk)


def teach_locator(
    locator: Locator,
    material: Material,
    course: Course,
    chance: torch.Generator,
    pictures: Callable[[Tensor], Tensor],
) -> Course:
    """Train it, and return the course that remains for what it serves."""
    steps = max(1, course.steps // LOCATOR_SHARE)
    whole = torch.tensor(WHOLE).expand(course.batch, -1, -1)

    def loss() -> Tensor:
        chosen = draw(material, course.batch, chance)
        faces = pictures(material.frames[chosen])
        matrices, _ = shaken(whole, chance)
        found = locator(disturbed(crop(faces, matrices, faces.shape[-1]), chance))
        return (found - (within(matrices, material.anchors(chosen)) + 1) / 2).abs().mean()

    practise(locator, course._replace(steps=steps), loss)
    locator.requires_grad_(False)
    return course._replace(steps=max(1, course.steps - steps))


def practise(network: nn.Module, course: Course, loss: Callable[[], Tensor]) -> list[float]:
    """Lower the loss by AdamW, the rate rising and falling once; its value at each step."""
    network.train()
    optimiser = torch.optim.AdamW(
        network.parameters(), course.learning_rate, weight_decay=WEIGHT_DECAY, fused=True
    )
    rate = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, course.learning_rate, total_steps=course.steps + 1, pct_start=WARM_UP
    )
    losses = []
    for _ in range(course.steps):
        optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=course.bfloat16):
            value = loss()
        value.backward()
        optimiser.step()
        rate.step()
        losses.append(value.item())
    network.eval()
    return losses


def new(network_class: type[nn.Module], course: Course) -> nn.Module:
    """A network whose first weights depend on the course's seed only."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(course.seed)
        return network_class().to(memory_format=torch.channels_last)


def draw(material: Material, count: int, chance: torch.Generator) -> Tensor:
    """Indices of that many frames."""
    return torch.randint(len(material.frames), (count,), generator=chance)


def closer(
    material: Material,
    chosen: Tensor,
    look: Look,
    pictures: Callable[[Tensor], Tensor],
    chance: torch.Generator,
    flip: float = 0.0,
    sizes: list[int] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Disturbed crops of the chosen frames, their matrices, and which are mirrored.

    Args:
        material: frames and where their faces are.
        chosen: indices of frames.
        look: what to crop.
        pictures: from frames to what the network sees.
        chance: of everything.
        flip: share that is mirrored.
        sizes: lengths of clips of which all frames are shaken alike; None for each by itself.
    """
    anchors = material.anchors(chosen)
    anchors = anchors + MISSED * torch.randn(anchors.shape, generator=chance)
    matrices = upright(anchors, look)
    matrices, mirrored = shaken(matrices, chance, flip, sizes, STEADIER)
    crops = crop(pictures(material.frames[chosen]), matrices, look.side)
    return disturbed(crops, chance), matrices, mirrored


def within(matrices: Tensor, points: Tensor) -> Tensor:
    """Points in shares of the side of a picture, from -1 to 1 within its crop."""
    offsets = points * 2 - 1 - matrices[:, None, :, 2]
    return torch.linalg.solve(matrices[:, :, :2], offsets.mT).mT


def shaken(
    matrices: Tensor,
    chance: torch.Generator,
    flip: float = 0.0,
    sizes: list[int] | None = None,
    strength: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Crops turned, stretched, shifted and mirrored a little; which are mirrored."""
    sizes = sizes or [1] * len(matrices)
    count = len(sizes)
    angle = strength * TURN * torch.randn(count, generator=chance)
    scale = (strength * STRETCH * torch.randn(count, 2, generator=chance)).exp()
    shift = strength * SHIFT * torch.randn(count, 2, 1, generator=chance)
    mirrored = torch.rand(count, generator=chance) < flip
    cos, sin = angle.cos(), angle.sin()
    turn = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
    turn = turn * (scale * torch.stack([1 - 2.0 * mirrored, torch.ones(count)], 1))[:, None]
    turn, shift, mirrored = (
        part.repeat_interleave(torch.tensor(sizes), dim=0) for part in (turn, shift, mirrored)
    )
    axes, origin = matrices[:, :, :2], matrices[:, :, 2:]
    return torch.cat([axes @ turn, axes @ shift + origin], dim=2), mirrored


def disturbed(pictures: Tensor, chance: torch.Generator) -> Tensor:
    """In another light, half of them softer, all with noise, as generated pictures may be."""
    count, _, _, side = pictures.shape
    gains = (GAIN * torch.randn(count, 3, 1, 1, generator=chance)).exp()
    slopes = SHADE * torch.randn(count, 2, 1, 1, generator=chance)
    line = torch.linspace(-1, 1, side)
    light = (1 + slopes[:, :1] * line + slopes[:, 1:] * line[:, None]).clamp_min(0.2)
    pictures = pictures * (gains * light)
    fewer = int(torch.randint(int(side * SOFTEST), side, (1,), generator=chance))
    small = interpolate(pictures[: count // 2], (fewer, fewer), mode="bilinear", antialias=True)
    soft = interpolate(small, (side, side), mode="bilinear")
    noise = torch.randn(count, 1, side, side, generator=chance)
    noise *= NOISE * torch.rand(count, 1, 1, 1, generator=chance)
    return (torch.cat([soft, pictures[count // 2 :]]) + noise).clamp(0, 255)


def heads(points: Tensor, side: int) -> Tensor:
    """Masks, 1 on the head with its hair and 0 around, of faces with these points."""
    low, high = points.amin(dim=1), points.amax(dim=1)
    reach = (high - low).amax(dim=1)[:, None, None]
    x, y = ((low + high) / 2).T[..., None, None]
    line = (torch.arange(side) + 0.5) / side
    across = (line - x) / (0.72 * reach)
    along = (line[:, None] - (y - 0.15 * reach)) / (0.8 * reach)
    return torch.sigmoid(12 * (1 - (across.square() + along.square()).sqrt()))[:, None]
