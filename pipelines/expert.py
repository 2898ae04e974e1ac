"""data/clips/<dataset> → models/expert the network behind L_sync, taught by people of its own."""

import hashlib
import json
import shutil
import sys
from pathlib import Path

from pydantic import Field

from metrics.local import LocalSync
from pipelines.config import StageConfig, load_config
from pipelines.exams import examine_sync
from pipelines.files import write_text
from pipelines.lessons import teach_sync
from pipelines.perception import EXPERT, EXPERT_WEIGHTS
from pipelines.practice import Course, UnlabelledError, read_material


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
        write_text(out / EXPERT, json.dumps({"reason": str(error)}, indent=1) + "\n")
        return
    from safetensors.torch import save

    course = Course(**config.model_dump(), bfloat16=True)
    network, _ = teach_sync(material, course)
    content = save({name: values.contiguous() for name, values in network.state_dict().items()})
    (out / EXPERT_WEIGHTS).write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    examined = examine_sync(LocalSync(network, sha256), read_material(clips, "test"))
    facts = {"sha256": sha256, "seed": config.seed, "accuracy": examined}
    write_text(out / EXPERT, json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    expert(load_config(ExpertConfig, "expert"), *map(Path, sys.argv[1:]))
