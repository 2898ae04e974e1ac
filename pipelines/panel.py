"""Folders of weights → the judges that can be asked, and why the others cannot."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pipelines.weights import WeightsError, read

LOCAL = ("identity", "landmarks", "emotion", "sync")
NO_LOCAL = "the project's own judges know rendered people only"


@dataclass(frozen=True)
class Panel:
    """Networks by name, and a reason for each that is missing.

    Attributes:
        judges: name → judge with `sha256` of its weights.
        missing: name → why it is not there.
    """

    judges: Mapping[str, Any]
    missing: Mapping[str, str]

    def reason(self, judge: str | None) -> str | None:
        """Why a judge cannot be asked; None if it can, or if none is needed."""
        return None if judge is None else self.missing.get(judge)

    def without(self, judge: str, reason: str) -> "Panel":
        """The panel with one judge sent out."""
        judges = {name: seated for name, seated in self.judges.items() if name != judge}
        return Panel(judges, {**self.missing, judge: reason})


@cache
def seat_panel(weights: Path, local: Path | None, no_local: str = NO_LOCAL) -> Panel:
    """All judges whose weights lie in the two folders or come with a package, once a process.

    Args:
        weights: folder that `fixtalk weights fetch` fills.
        local: folder that the judge stage wrote; None to leave its judges out.
        no_local: the reason to give where `local` is None.

    Raises:
        WeightsError: weights are there but damaged: a wrong file is never passed over.
    """
    judges: dict[str, Any] = {}
    missing: dict[str, str] = {}
    for name, load in (_official(weights) | _bundled() | _local(local)).items():
        try:
            judges[name] = load()
        except FileNotFoundError as error:
            missing[name] = str(error)
    if local is None:
        missing |= {f"local_{name}": no_local for name in LOCAL}
    panel = Panel(judges, missing)
    if "emotion_fan" in judges and "dlib68" in missing:
        return panel.without("emotion_fan", f"its face chips need dlib68: {missing['dlib68']}")
    return panel


def read_accuracies(local: Path) -> dict[str, Any]:
    """What judges.json says of the judges in a folder.

    Raises:
        WeightsError: no such file, or damaged.
    """
    path = local / "judges.json"
    if not path.is_file():
        raise WeightsError(f"{path}: missing; run the judge stage first (make repro)")
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        return {name: facts[name] for name in ("dataset", "judges")}
    except (ValueError, KeyError) as error:
        raise WeightsError(f"{path}: damaged ({error!r}); run the judge stage again") from None


def _official(weights: Path) -> dict[str, Callable[[], Any]]:
    from metrics import judges
    from metrics.registry import build

    adapters = {
        "facenet": judges.FaceNet,
        "inception": judges.Inception,
        "syncnet": judges.SyncNet,
        "s3fd": judges.S3fd,
        "emotion_fan": judges.EmotionFan,
    }

    def load(name: str) -> Any:
        state, sha256 = read(name, weights)
        return adapters[name](_on_device(build(name, state)), sha256)

    return {name: (lambda name=name: load(name)) for name in adapters}


def _bundled() -> dict[str, Callable[[], Any]]:
    from metrics.judges import Dlib68, EfficientNetLite0

    return {"dlib68": Dlib68, "efficientnet_lite0": EfficientNetLite0.from_package}


def _local(folder: Path | None) -> dict[str, Callable[[], Any]]:
    if folder is None:
        return {}
    from safetensors.torch import load

    from metrics import local

    adapters = {
        "identity": local.LocalIdentity,
        "landmarks": local.LocalLandmarks,
        "emotion": local.LocalEmotion,
        "sync": local.LocalSync,
    }
    known = read_accuracies(folder)["judges"]

    def seat(name: str) -> Any:
        path = folder / f"{name}.safetensors"
        content = path.read_bytes() if path.is_file() else b""
        sha256 = hashlib.sha256(content).hexdigest()
        if sha256 != known.get(name, {}).get("sha256"):
            raise WeightsError(f"{path}: missing or not the file of judges.json; run judge again")
        return adapters[name](load(content), sha256)

    return {f"local_{name}": (lambda name=name: seat(name)) for name in LOCAL}


def _on_device(network: Any) -> Any:
    import torch

    return network.to("cuda" if torch.cuda.is_available() else "cpu")
