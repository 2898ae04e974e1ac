"""Model ⇄ folder of safetensors and config.json; training state ⇄ one file. Nothing is pickled."""

import dataclasses
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch

from fixtalk.model import FixTalk, ModelConfig
from fixtalk.training import TrainState

ARCHITECTURE = "fixtalk"
WEIGHTS = "model.safetensors"
CONFIG = "config.json"


def save_checkpoint(model: FixTalk, folder: Path, facts: dict[str, Any]) -> None:
    """Write the model so that `load_checkpoint` can build it again.

    Args:
        model: its parameters are written, on any device.
        folder: made if missing; each file appears whole or not at all.
        facts: what else config.json should tell (variant, steps, hash of the inputs).
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
    with _replacing(folder / WEIGHTS) as part:
        save_file(tensors, part)
    config = {"architecture": ARCHITECTURE, "model": dataclasses.asdict(model.config)} | facts
    with _replacing(folder / CONFIG) as part:
        part.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def load_checkpoint(path: Path | str) -> FixTalk:
    """The model in evaluation mode on the CPU.

    Raises:
        FileNotFoundError: the folder lacks a file; tells how to make it.
        ValueError: another architecture, or keys or shapes that do not fit its config.
    """
    from safetensors.torch import load_file

    folder = Path(path)
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder / name} is missing: train a model first (`make repro`) or point to a "
                f"folder that holds {CONFIG} and {WEIGHTS}"
            )
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    if config.get("architecture") != ARCHITECTURE:
        raise ValueError(
            f"{folder / CONFIG}: architecture {config.get('architecture')!r}, "
            f"expected {ARCHITECTURE!r}"
        )
    try:
        model = FixTalk(ModelConfig(**config["model"]))
        model.load_state_dict(load_file(folder / WEIGHTS))
    except Exception as error:
        raise ValueError(f"{folder / WEIGHTS} does not fit {CONFIG}: {error}") from error
    return model.eval()


def save_state(state: TrainState, path: Path) -> None:
    """Write the training state to one file, whole or not at all."""
    with _replacing(path) as part:
        torch.save(state.state_dict(), part)


def load_state(state: TrainState, path: Path) -> None:
    """Restore what `save_state` wrote, in place.

    Raises:
        ValueError: the file is damaged or belongs to another architecture.
    """
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        state.load_state_dict(saved)
    except Exception as error:
        raise ValueError(f"{path}: not a training state of this model: {error}") from error


class _replacing:  # noqa: N801 - reads as a verb at its use
    """A temporary path that takes the target's place when the block ends well."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __enter__(self) -> Path:
        self.target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self.target.parent, prefix=f".{self.target.name}.")
        os.close(handle)
        self.part = Path(name)
        return self.part

    def __exit__(self, kind: type | None, *_: object) -> None:
        if kind is None:
            self.part.chmod(0o644)
            self.part.replace(self.target)
        else:
            self.part.unlink(missing_ok=True)
