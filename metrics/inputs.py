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
    check_clip(fake, "fake")
    check_clip(real, "real")


def check_clip(frames: Tensor, name: str = "frames") -> None:
    """Refuse frames that are no clip of RGB pictures.

    Raises:
        TypeError: not uint8.
        ValueError: not (frames, 3, height, width), or no frame.
    """
    if frames.dtype != torch.uint8:
        raise TypeError(f"{name}: expected uint8 frames 0-255, got {frames.dtype}")
    if frames.ndim != 4 or frames.shape[1] != 3 or frames.numel() == 0:
        raise ValueError(
            f"{name}: expected at least one frame (frames, 3, height, width),"
            f" got {tuple(frames.shape)}"
        )


def check_numbers(**inputs: Tensor) -> None:
    """Refuse features that cannot be compared frame by frame.

    Raises:
        ValueError: shapes differ, no frame, or a value that is not finite.
    """
    (first, reference), *others = inputs.items()
    for name, values in others:
        _check_pair(values, reference, (name, first))
    for name, values in inputs.items():
        if values.numel() == 0:
            raise ValueError(f"{name} is empty: {tuple(values.shape)}")
        bad = (~torch.isfinite(values)).reshape(len(values), -1).any(dim=1).nonzero().flatten()
        if len(bad):
            raise ValueError(f"{name}: {len(bad)} frames hold NaN or inf, first is {int(bad[0])}")


def check_features(min_rows: int, **inputs: Tensor) -> None:
    """Refuse sets of features whose distributions cannot be compared; row counts may differ.

    Raises:
        ValueError: not (rows, features), fewer than `min_rows`, widths differ, or a value that
            is not finite.
    """
    for name, features in inputs.items():
        if features.ndim != 2:
            raise ValueError(f"{name}: expected (rows, features), got {tuple(features.shape)}")
        if len(features) < min_rows:
            raise ValueError(f"{name}: at least {min_rows} rows are needed, got {len(features)}")
        if len(features):
            check_numbers(**{name: features})
    widths = {name: features.shape[1] for name, features in inputs.items()}
    if len(set(widths.values())) > 1:
        raise ValueError(f"features differ in width: {widths}")


def check_rows(name: str, values: Tensor, shape: tuple[int, ...]) -> None:
    """Refuse what does not go with the frames one to one.

    Raises:
        ValueError: another shape; the message names both.
    """
    if tuple(values.shape) != shape:
        raise ValueError(f"{name}: expected {shape}, got {tuple(values.shape)}")


def _check_pair(a: Tensor, b: Tensor, names: tuple[str, str] = ("fake", "real")) -> None:
    if a.shape != b.shape:
        raise ValueError(
            f"{names[0]} {tuple(a.shape)} and {names[1]} {tuple(b.shape)} differ in shape"
        )
    if a.numel() == 0:
        raise ValueError(f"{names[0]} and {names[1]} are empty: {tuple(a.shape)}")
