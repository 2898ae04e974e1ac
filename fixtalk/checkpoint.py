"""Model ⇄ folder of safetensors and config.json. Nothing is pickled."""

import dataclasses
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from torch import nn

from fixtalk.edi import EDIConfig
from fixtalk.emi import EMIConfig
from fixtalk.model import FixTalk, ModelConfig
from fixtalk.speech import SpeechConfig
from fixtalk.training import TrainState

ARCHITECTURE = "fixtalk"
WEIGHTS = "model.safetensors"
DISCRIMINATOR = "discriminator.safetensors"
CONFIG = "config.json"


def save_checkpoint(
    model: FixTalk, folder: Path, facts: dict[str, Any], discriminator: nn.Module | None = None
) -> None:
    """Write the model so that `load_checkpoint` can build it again.

    Args:
        model: its parameters are written, on any device.
        folder: made if missing; each file appears whole or not at all.
        facts: what else config.json should tell (variant, steps, hash of the inputs).
        discriminator: needed to go on training from this model.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write_weights(model, folder / WEIGHTS)
    (folder / DISCRIMINATOR).unlink(missing_ok=True)  # one of another model would not fit
    if discriminator is not None:
        _write_weights(discriminator, folder / DISCRIMINATOR)
    config = {"architecture": ARCHITECTURE, "model": dataclasses.asdict(model.config)} | facts
    with _replacing(folder / CONFIG) as part:
        part.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def load_checkpoint(path: Path | str) -> FixTalk:
    """The model in evaluation mode on the CPU.

    Raises:
        FileNotFoundError: the folder lacks a file; tells how to make it.
        ValueError: another architecture, or keys or shapes that do not fit its config.
    """
    folder = Path(path)
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder / name} is missing: train a model first (`make repro`) or point to a "
                f"folder that holds {CONFIG} and {WEIGHTS}"
            )
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        if config["architecture"] != ARCHITECTURE:
            raise ValueError(f"architecture {config['architecture']!r}, not {ARCHITECTURE!r}")
        model = FixTalk(_config(config["model"]))
    except Exception as error:
        raise ValueError(f"{folder / CONFIG}: no model can be built from it: {error}") from error
    _read_weights(model, folder / WEIGHTS)
    return model.eval()


def start_from_base(state: TrainState, folder: Path | str) -> None:
    """Put a trained base into a fresh state, in place; what it lacks stays as drawn.

    That are indicators, and speech where the base has none, as EDTalk's released weights.

    Args:
        state: at step 0.
        folder: of the base model. Without its discriminator the state keeps its own.

    Raises:
        ValueError: the base has another architecture, or weights that are not finite; names them.
    """
    base, folder = load_checkpoint(folder), Path(folder)
    lacking = {"emi": None, "edi": None} | ({} if base.speech else {"speech": None})
    ours, theirs = (dataclasses.asdict(model.config) | lacking for model in (state.model, base))
    if ours != theirs:
        differ = [f"{name} {theirs[name]} ≠ {ours[name]}" for name in ours
                  if ours[name] != theirs[name]]  # fmt: skip
        raise ValueError(f"{folder}: not a base of this model: {', '.join(differ)}")
    weights = base.state_dict()
    if broken := [name for name in weights if not weights[name].isfinite().all()]:
        raise ValueError(f"{folder}: weights that are not finite: {', '.join(broken[:8])}")
    for model in (state.model, state.average):
        model.backbone.load_state_dict(base.backbone.state_dict())
        if base.speech is not None:
            model.speech.load_state_dict(base.speech.state_dict())
    if (folder / DISCRIMINATOR).is_file():
        _read_weights(state.discriminator, folder / DISCRIMINATOR)


def _config(described: dict[str, Any]) -> ModelConfig:
    nested = {"speech": SpeechConfig, "emi": EMIConfig, "edi": EDIConfig}
    inner = {name: kind(**described[name]) for name, kind in nested.items() if described.get(name)}
    return ModelConfig(**(described | inner))


def _write_weights(network: nn.Module, path: Path) -> None:
    from safetensors.torch import save_file

    tensors = {name: t.detach().cpu().contiguous() for name, t in network.state_dict().items()}
    with _replacing(path) as part:
        save_file(tensors, part)


def _read_weights(network: nn.Module, path: Path) -> None:
    from safetensors.torch import load_file

    try:
        network.load_state_dict(load_file(path))
    except Exception as error:
        raise ValueError(
            f"{path} does not fit {CONFIG}: {error}\nIs it of another version? Train it again."
        ) from error


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
