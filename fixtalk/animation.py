"""Source frame and drivers' frames, one after the other → frames of the animated source."""

from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from fixtalk.control import OneEuroFilter, Smoothing, mix, to_and_fro
from fixtalk.media import to_float, to_uint8
from fixtalk.model import FixTalk, Source
from fixtalk.shapes import UInt8

COMPONENTS = ("lip", "pose", "expression")


@dataclass(frozen=True, kw_only=True)
class Driver:
    """Frames of a face, cropped to the model's resolution, and what of their motion is taken."""

    frames: Iterable[UInt8[np.ndarray, "side side 3"]]
    components: tuple[str, ...] = COMPONENTS
    # its frame that counts as no motion: the source moves by the difference; None: absolute motion
    neutral: UInt8[np.ndarray, "side side 3"] | None = None


def animate(
    model: FixTalk,
    source: UInt8[np.ndarray, "side side 3"],
    drivers: Sequence[Driver],
    *,
    gains: Mapping[str, float] | None = None,
    smoothing: Smoothing | None = None,
    batch: int = 1,
) -> Iterator[UInt8[np.ndarray, "side side 3"]]:
    """Frames of the source person, each as soon as the drivers' are there; memory stays flat.

    The first driver says how long the video is. A shorter one goes to and fro; of it the
    coefficients are kept, not the frames. What no driver moves stays as the source has it.

    Args:
        model: on any device, in evaluation mode.
        source: the person, cropped to the model's resolution.
        drivers: each component of the motion comes from one of them.
        gains: of components: 0 none of the driver's motion, 1 (where missing) all of it, above 1
            exaggerated.
        smoothing: filter of the coefficients; None: as the drivers move.
        batch: frames that the model sees at once; 1 has the least delay.

    Raises:
        ValueError: no driver, a component unknown to the model or driven twice, a negative gain,
            frames of another resolution than the model's, or the model gave NaN.
    """
    for frames in animate_in_batches(model, source, drivers, gains, smoothing, batch):
        yield from frames


def animate_in_batches(
    model: FixTalk,
    source: UInt8[np.ndarray, "side side 3"],
    drivers: Sequence[Driver],
    gains: Mapping[str, float] | None,
    smoothing: Smoothing | None,
    batch: int,
) -> Iterator[UInt8[np.ndarray, "frames side side 3"]]:
    """The same as `animate`, `batch` frames at a time."""
    person = _encode(model, source)
    gains = _checked(person, drivers, gains or {})
    first, *others = (_coefficients(model, person, d, gains, smoothing, batch) for d in drivers)
    swings, count = [to_and_fro(each) for each in others], 0
    while length := len(part := list(islice(first, batch))):
        parts = [part, *(list(islice(swing, length)) for swing in swings)]
        for driver, frames in zip(drivers, parts, strict=True):
            if not frames:
                raise ValueError(f"the driver of {', '.join(driver.components)} has no frames")
        motions = [dict(ChainMap(*moved)) for moved in zip(*parts, strict=True)]
        yield _render(model, person, motions, count)
        count += length


def _checked(
    person: Source, drivers: Sequence[Driver], gains: Mapping[str, float]
) -> Mapping[str, float]:
    """The gains, if these drivers and gains can move this person."""
    known = [name for name, own in person.motion._asdict().items() if own is not None]
    driven = [name for driver in drivers for name in driver.components]
    if not driven:
        raise ValueError("nothing moves: give at least one driver and a component of it")
    for name in [*driven, *gains]:
        if name not in known:
            raise ValueError(f"component {name!r}: this model has {', '.join(known)}")
        if driven.count(name) > 1:
            raise ValueError(f"component {name!r} has {driven.count(name)} drivers: give it one")
        if gains.get(name, 1.0) < 0:
            raise ValueError(f"gain {gains[name]} of {name}: choose at least 0")
    return gains


def _coefficients(
    model: FixTalk,
    person: Source,
    driver: Driver,
    gains: Mapping[str, float],
    smoothing: Smoothing | None,
    batch: int,
) -> Iterator[dict[str, Tensor]]:
    """One driver's part of the motion, frame by frame, as the person is to move."""
    own, names = person.motion._asdict(), driver.components
    neutral = {} if driver.neutral is None else _motion(model, [driver.neutral], "neutral")
    filters = {name: OneEuroFilter(smoothing) for name in names} if smoothing else {}
    frames = iter(driver.frames)
    while part := list(islice(frames, batch)):
        motion = _motion(model, part, "driver")
        for name in names:
            driven = filters[name](motion[name]) if smoothing else motion[name]
            motion[name] = mix(own[name], driven, gains.get(name, 1.0), neutral.get(name))
        yield from ({name: motion[name][n] for name in names} for n in range(len(part)))


@torch.inference_mode()
def _encode(model: FixTalk, source: UInt8[np.ndarray, "side side 3"]) -> Source:
    return model.encode_source(_as_input(model, [source], "source"))


@torch.inference_mode()
def _motion(model: FixTalk, frames: Sequence[np.ndarray], role: str) -> dict[str, Tensor]:
    return model.motion(_as_input(model, frames, role))._asdict()


@torch.inference_mode()
def _render(
    model: FixTalk, person: Source, motions: Sequence[Mapping[str, Tensor]], start: int
) -> UInt8[np.ndarray, "frames side side 3"]:
    """Pictures of the person; what a motion leaves out is the person's own."""
    count = len(motions)
    moved = {name: torch.stack([one[name] for one in motions]) for name in motions[0]}
    motion = person.expand(count).motion._replace(**moved)
    frames = model.animate(person, motion)
    if not torch.isfinite(frames).all():
        raise ValueError(
            f"the model gave NaN in frames {start} to {start + count - 1}: its training diverged; "
            "train it again"
        )
    return to_uint8(frames).permute(0, 2, 3, 1).cpu().numpy()


def _as_input(model: FixTalk, frames: Sequence[np.ndarray], role: str) -> Tensor:
    side = model.config.resolution
    for frame in frames:
        if frame.shape != (side, side, 3):
            raise ValueError(f"{role} frame of shape {frame.shape}: crop it to {side}x{side} px")
    device = next(model.parameters()).device
    return to_float(torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).to(device))
