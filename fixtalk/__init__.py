"""FixTalk's model, its data and its training step, in plain PyTorch."""

from fixtalk.decoupling import Motion
from fixtalk.model import FixTalk, ModelConfig, Source

__all__ = ["FixTalk", "ModelConfig", "Motion", "Source", "load_checkpoint"]


def load_checkpoint(path: str) -> FixTalk:
    """The model of a folder written by the train stage; see `fixtalk.checkpoint`."""
    from fixtalk.checkpoint import load_checkpoint as load

    return load(path)
