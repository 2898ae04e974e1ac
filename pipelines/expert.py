"""data/clips/<dataset> → models/expert the networks that losses look through, not the judges'."""

import json
import shutil
import sys
from pathlib import Path
from typing import Literal

from pydantic import Field

from pipelines.cluster import map_parallel
from pipelines.config import StageConfig, load_config
from pipelines.files import write_text
from pipelines.perception import EXPERT
from pipelines.practice import UnlabelledError, read_labels
from pipelines.subjects import Job, course, learn


class Steps(StageConfig):
    """How long each expert learns."""

    landmarks: int = Field(ge=1, description="batches of pictures")
    sync: int = Field(ge=1, description="batches of eight clips")


class ExpertConfig(StageConfig):
    """How the networks behind L_points and L_sync learn."""

    seed: int = Field(ge=0)  # another than the judges'
    batch: int = Field(ge=2)  # pictures a step
    learning_rate: float = Field(gt=0)  # highest
    precision: Literal["bfloat16", "float32"]  # of convolutions while training
    steps: Steps


def expert(config: ExpertConfig, clips: Path, out: Path) -> None:
    """Teach them by every sixth training person, whom no judge learns from, and examine them.

    `out` gets landmarks.safetensors, sync.safetensors and expert.json. Where clips lack the labels
    that they learn from, it gets the last only, which says so; L_points and L_sync are then left
    out of training, and the run tells.
    """
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    try:
        read_labels(clips, "train", for_experts=True)
    except UnlabelledError as error:
        write_text(out / EXPERT, json.dumps({"reason": str(error)}, indent=1) + "\n")
        return
    jobs = [
        Job(name, course(config, steps), clips.resolve(), out / f"{name}.safetensors", True)
        for name, steps in config.steps
    ]
    learnt = map_parallel(learn, jobs, "expert")
    facts = {job.name: report for job, (report, _) in zip(jobs, learnt, strict=True)}
    write_text(out / EXPERT, json.dumps({"seed": config.seed} | facts, indent=1) + "\n")


if __name__ == "__main__":
    expert(load_config(ExpertConfig, "expert"), *map(Path, sys.argv[1:]))
