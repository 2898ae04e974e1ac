"""Tensors handed to a metric → the same tensors, or an error that says what is wrong with them."""

import torch
from torch import Tensor


def check_frames(fake: Tensor, real: Tensor) -> None:
    """Refuse clips that cannot be compared pixel by pixel.

    Raises:
        TypeError: not uint8.
        ValueError: shapes differ, not (frames, 3, height, width), or no frame.
    """
    _check_pair(fake, real)
    for name, frames in (("fake", fake), ("real", real)):
        if frames.dtype != torch.uint8:
            raise TypeError(f"{name}: expected uint8 frames 0-255, got {frames.dtype}")
    if fake.ndim != 4 or fake.shape[1] != 3:
        raise ValueError(f"expected (frames, 3, height, width), got {tuple(fake.shape)}")


def check_numbers(**inputs: Tensor) -> None:
    """Refuse features that cannot be compared frame by frame.

    Raises:
        ValueError: shapes differ, no frame, or a value that is not finite.
    """
    (first, reference), *others = inputs.items()
    for name, values in others:
        _check_pair(values, reference, (name, first))
    for name, values in inputs.items():
        bad = (~torch.isfinite(values)).reshape(len(values), -1).any(dim=1).nonzero().flatten()
        if len(bad):
            raise ValueError(f"{name}: {len(bad)} frames hold NaN or inf, first is {int(bad[0])}")


def _check_pair(a: Tensor, b: Tensor, names: tuple[str, str] = ("fake", "real")) -> None:
    if a.shape != b.shape:
        raise ValueError(
            f"{names[0]} {tuple(a.shape)} and {names[1]} {tuple(b.shape)} differ in shape"
        )
    if a.numel() == 0:
        raise ValueError(f"{names[0]} and {names[1]} are empty: {tuple(a.shape)}")
