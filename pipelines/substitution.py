"""Source and driver frames → what a model makes when one of its inner variables is exchanged."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from fixtalk.decoupling import Motion
from fixtalk.model import FixTalk, Source
from fixtalk.shapes import Float

TINY = 1e-6  # deviation of a channel below which it counts as flat


def encoder_maps(
    model: FixTalk, frames: Float[Tensor, "batch 3 height width"]
) -> dict[int, Float[Tensor, "batch channels side side"]]:
    """All maps of EDTalk's encoder by their side, also the 4×4 that the generator never sees."""
    maps, features = {}, frames
    for side, layer in _layers(model).items():
        maps[side] = features = layer(features)
    return maps


def animate_with_driver_maps(
    model: FixTalk,
    source: Source,
    motion: Motion,
    driver_maps: Mapping[int, Tensor],
    sides: Collection[int],
) -> Float[Tensor, "batch 3 height width"]:
    """Frames in [-1, 1] painted from the driver's maps at some sides, the source's at the others.

    There the warp is off: the driver's maps are in the driving pose already. All else, the masks
    included, stays as it was.

    Args:
        model: whose backbone is EDTalk.
        source: as many rows as there are drivers.
        motion: of the drivers.
        driver_maps: as `encoder_maps` gives them.
        sides: of the maps to exchange.

    Source: FixTalk, figure 3, as far as it is known; the warp that is switched off is ours.
    """
    maps = tuple(driver_maps[m.shape[-1]] if m.shape[-1] in sides else m for m in source.maps)
    with ExitStack() as changes:
        for stage, features in zip(model.backbone.generator.stages, maps, strict=True):
            if features.shape[-1] in sides:
                changes.enter_context(_changed(stage.warp, _unwarped))
        return model.animate(replace(source, maps=maps), motion)


def motion_with_statistics(
    model: FixTalk,
    drivers: Float[Tensor, "batch 3 height width"],
    side: int,
    like: Float[Tensor, "batch channels side side"],
) -> Motion:
    """Motion of the drivers when one encoder map has every channel's mean and deviation of `like`.

    A channel's statistics are style, hence mostly identity; where things are stays.

    Args:
        model: whose backbone is EDTalk.
        drivers: frames in [-1, 1].
        side: of the map to restyle; the encoder goes on from there.
        like: the source's map of that side.

    Source: AdaIN (Huang and Belongie 2017), equation 8, inside the encoder; ours.
    """
    mean, deviation = _moments(like)

    def restyled(_: tuple[Any, ...], features: Tensor) -> Tensor:
        own_mean, own_deviation = _moments(features)
        return (features - own_mean) / own_deviation * deviation + mean

    with _changed(_layers(model)[side], restyled):
        return model.motion(drivers)


def motion_without_channels(
    model: FixTalk, drivers: Float[Tensor, "batch 3 height width"], side: int, channels: slice
) -> Motion:
    """Motion of the drivers when some channels of one encoder map are zero.

    Args:
        model: whose backbone is EDTalk.
        drivers: frames in [-1, 1].
        side: of the map; the encoder goes on from there.
        channels: to knock out.
    """

    def silenced(_: tuple[Any, ...], features: Tensor) -> Tensor:
        features = features.clone()
        features[:, channels] = 0
        return features

    with _changed(_layers(model)[side], silenced):
        return model.motion(drivers)


def _layers(model: FixTalk) -> dict[int, nn.Module]:
    """The encoder's layers by the side of what they give, in the order of the pass."""
    encoder = model.backbone.encoder
    sides = sorted(model.backbone.channels, reverse=True)
    return dict(zip(sides, (encoder.stem, *encoder.blocks), strict=True))


@contextmanager
def _changed(layer: nn.Module, change: Callable[[tuple[Any, ...], Any], Any]) -> Iterator[None]:
    """While it lasts the layer gives `change(its inputs, its output)`."""
    hook = layer.register_forward_hook(lambda _, inputs, output: change(inputs, output))
    try:
        yield
    finally:
        hook.remove()


def _unwarped(inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """A warp's output with its features where they were."""
    _, _, features, _ = inputs
    _, mask, *rest = output
    return features * mask, mask, *rest


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of every channel of every frame."""
    mean = features.mean((2, 3), keepdim=True)
    return mean, features.std((2, 3), keepdim=True) + TINY
