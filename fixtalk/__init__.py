"""FixTalk's model, its data and its training step, in plain PyTorch."""

from importlib import import_module
from typing import Any

_HOMES = {
    "Driver": "fixtalk.drivers",
    "EmotionDriver": "fixtalk.drivers",
    "FixTalk": "fixtalk.model",
    "ModelConfig": "fixtalk.model",
    "Motion": "fixtalk.decoupling",
    "Smoothing": "fixtalk.control",
    "Source": "fixtalk.model",
    "SpeechDriver": "fixtalk.drivers",
    "animate": "fixtalk.animation",
    "blinks": "fixtalk.control",
    "load_checkpoint": "fixtalk.checkpoint",
    "load_edtalk": "fixtalk.release",
    "save_checkpoint": "fixtalk.checkpoint",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    """The public name, imported when first used: rendering and cropping do without torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'fixtalk' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
