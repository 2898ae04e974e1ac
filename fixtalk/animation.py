"""Source frame and drivers, frame by frame → frames of the animated source."""

from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice, zip_longest

import numpy as np
import torch
from torch import Tensor

from fixtalk.control import Calming, Smoothing, mix, to_and_fro
from fixtalk.drivers import AnyDriver, Coefficients, as_input, speech_of
from fixtalk.media import to_uint8
from fixtalk.model import FixTalk, Source
from fixtalk.shapes import Float, UInt8


def animate(
    model: FixTalk,
    source: UInt8[np.ndarray, "side side 3"],
    drivers: Sequence[AnyDriver],
    *,
    gains: Mapping[str, float] | None = None,
    smoothing: Smoothing | None = None,
    blinks: Iterable[float] = (),
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
        blinks: how far the eyes are closed in each frame, 0 open and 1 shut, added to the
            expression (`fixtalk.control.blinks`); none where they end.
        batch: frames that the model sees at once; 1 has the least delay.

    Raises:
        ValueError: no driver, a component unknown to the model or driven twice, a negative gain,
            frames of another resolution than the model's, speech or an emotion for a model
            without an audio encoder, or the model gave NaN.
    """
    calming = Calming(smoothing)
    batches = animate_in_batches(
        model, source, drivers, calming=calming, batch=batch, gains=gains, blinks=blinks
    )
    for frames in batches:
        yield from frames


def animate_in_batches(
    model: FixTalk,
    source: UInt8[np.ndarray, "side side 3"],
    drivers: Sequence[AnyDriver],
    *,
    calming: Calming,
    batch: int,
    gains: Mapping[str, float] | None = None,
    blinks: Iterable[float] = (),
) -> Iterator[UInt8[np.ndarray, "frames side side 3"]]:
    """The same as `animate`, `batch` frames at a time; `calming` tells how much they trembled."""
    person = _encode(model, source)
    gains = _checked(person, drivers, gains or {})
    first, *others = (_coefficients(model, person, d, gains, calming, batch) for d in drivers)
    swings, lids, count = [to_and_fro(each) for each in others], iter(blinks), 0
    while length := len(part := list(islice(first, batch))):
        parts = [part, *(list(islice(swing, length)) for swing in swings)]
        for driver, frames in zip(drivers, parts, strict=True):
            if not frames:
                raise ValueError(f"the driver of {', '.join(driver.components)} has no frames")
        motions = [dict(ChainMap(*moved)) for moved in zip(*parts, strict=True)]
        if shut := list(islice(lids, length)):
            for motion, closed in zip_longest(motions, shut, fillvalue=0.0):
                motion["expression"] = _blinking(model, person, motion, closed)
        yield _render(model, person, motions, count)
        count += length


def _checked(
    person: Source, drivers: Sequence[AnyDriver], gains: Mapping[str, float]
) -> Mapping[str, float]:
    """The gains, if these drivers and gains can move this person."""
    known = person.motion._fields
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
    driver: AnyDriver,
    gains: Mapping[str, float],
    calming: Calming,
    batch: int,
) -> Iterator[Coefficients]:
    """One driver's part of the motion, frame by frame, as the person is to move."""
    own, neutral = person.motion._asdict(), driver.at_rest(model, person)
    for read in driver.moving(model, person, batch):
        moved = {
            name: mix(own[name], calming(name, read[name]), gains.get(name, 1.0), neutral.get(name))
            for name in driver.components
        }
        for values in zip(*moved.values(), strict=True):
            yield dict(zip(moved, values, strict=True))


@torch.inference_mode()
def _blinking(
    model: FixTalk, person: Source, motion: Coefficients, closed: float
) -> Float[Tensor, " expressions"]:
    """The expression with the eyes closed that far."""
    open_ = motion.get("expression", person.motion.expression[0])
    return open_ + speech_of(model).blink(open_.new_tensor(closed))


@torch.inference_mode()
def _encode(model: FixTalk, source: UInt8[np.ndarray, "side side 3"]) -> Source:
    return model.encode_source(as_input(model, [source], "source"))


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
