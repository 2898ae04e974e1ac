"""data/clips/<dataset> → models/expert the network behind L_sync, taught by people of its own."""

import hashlib
import json
import shutil
import sys
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor

from fixtalk.talking import Sync
from metrics.local import LocalSync, lip_pictures
from metrics.networks import SyncNetwork
from metrics.sync import mfcc_windows
from pipelines.config import StageConfig, load_config
from pipelines.exams import examine_sync
from pipelines.files import write_text
from pipelines.lessons import SYNC_SHARPNESS, teach_sync
from pipelines.practice import Course, UnlabelledError, read_material

WEIGHTS, FACTS = "expert.safetensors", "expert.json"


class ExpertConfig(StageConfig):
    """How the network behind L_sync learns."""

    seed: int = Field(ge=0)  # another than the judges'
    batch: int = Field(ge=2)  # pictures a step, while it learns where lips are
    learning_rate: float = Field(gt=0)  # highest
    steps: int = Field(ge=1)  # batches of eight clips


def expert(config: ExpertConfig, clips: Path, out: Path) -> None:
    """Teach it by every sixth training person, whom no judge learns from, and examine it.

    `out` gets expert.safetensors and expert.json. Where clips lack the labels that it learns from,
    it gets the second only, which says so; L_sync is then left out of training, and the run tells.
    """
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    try:
        material = read_material(clips, "train", for_experts=True)
    except UnlabelledError as error:
        write_text(out / FACTS, json.dumps({"reason": str(error)}, indent=1) + "\n")
        return
    from safetensors.torch import save

    course = Course(**config.model_dump(), bfloat16=True)
    network, _ = teach_sync(material, course)
    content = save({name: values.contiguous() for name, values in network.state_dict().items()})
    (out / WEIGHTS).write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    examined = examine_sync(LocalSync(network, sha256), read_material(clips, "test"))
    facts = {"sha256": sha256, "seed": config.seed, "accuracy": examined}
    write_text(out / FACTS, json.dumps(facts, indent=1) + "\n")


def load_expert(folder: Path, device: torch.device) -> Sync | str:
    """Frames in a row and sounds → how well each of the first fits each of the second, or a reason.

    Raises:
        FileNotFoundError: the stage has not run.
    """
    from safetensors.torch import load_file

    if not (folder / FACTS).is_file():
        raise FileNotFoundError(f"{folder / FACTS}: not found; run the expert stage (dvc repro)")
    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    if "reason" in facts:
        return facts["reason"]
    network = SyncNetwork()
    network.load_state_dict(load_file(folder / WEIGHTS))
    network.requires_grad_(False).eval().to(device)

    def sync(frames: Tensor, sounds: Tensor) -> Tensor:
        windows = torch.cat([mfcc_windows(sound)[:1] for sound in sounds.cpu()]).to(frames.device)
        with torch.autocast(frames.device.type, enabled=False):
            pictures = lip_pictures((frames.float().flatten(0, 1) + 1) * 127.5)
            lips = network.embed_looks(network.look(pictures).unflatten(0, frames.shape[:2]))
            return -SYNC_SHARPNESS * torch.cdist(lips, network.forward_aud(windows))

    return sync


if __name__ == "__main__":
    expert(load_config(ExpertConfig, "expert"), *map(Path, sys.argv[1:]))
