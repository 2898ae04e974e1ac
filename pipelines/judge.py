"""data/clips/<dataset> → models/judges small offline judges, and how good they are at it."""

import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from fixtalk.dataset import find_shards, read_shard
from fixtalk.media import probe
from pipelines import tracking
from pipelines.cluster import map_parallel
from pipelines.config import StageConfig, load_config
from pipelines.subjects import SUBJECTS, Job, course, learn

LOGGED_LOSSES = 20  # points of each curve


class Steps(StageConfig):
    """How long each judge learns."""

    emotion: int = Field(ge=1, description="batches of pictures")
    landmarks: int = Field(ge=1, description="batches of pictures")
    identity: int = Field(ge=1, description="batches of pictures")
    sync: int = Field(ge=1, description="batches of clips")


class JudgeConfig(StageConfig):
    """How the judges are trained."""

    dataset: str  # its clips are learnt from; only rendered ones have the labels
    seed: int = Field(ge=0)  # another than that of networks that shape a loss
    batch: int = Field(ge=2)  # pictures a step
    learning_rate: float = Field(gt=0)  # highest
    precision: Literal["bfloat16", "float32"]  # of convolutions while training
    steps: Steps


def judge(config: JudgeConfig, clips: Path, out: Path) -> None:
    """Train the four judges on the training people and examine them on the held-out ones.

    `out` gets NAME.safetensors of each and judges.json. It appears whole or not at all. Networks
    that shape a loss are trained elsewhere: a judge never shapes what it judges.

    Raises:
        ValueError: clips without the labels of rendered people; names clip and column.
    """
    partial = out.with_name(f".{out.name}.judge")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    jobs = [
        Job(
            name,
            course(config, getattr(config.steps, name)),
            clips.resolve(),
            partial / f"{name}.safetensors",
        )
        for name in SUBJECTS
    ]
    trained = dict(zip(SUBJECTS, map_parallel(learn, jobs, "judge"), strict=True))
    facts = {
        "dataset": config.dataset,
        "resolution": _resolution(clips),
        "seed": config.seed,
        "judges": {name: report for name, (report, _) in trained.items()},
    }
    (partial / "judges.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(out, ignore_errors=True)
    partial.replace(out)
    _log(config, facts, {name: losses for name, (_, losses) in trained.items()}, out)


def _resolution(clips: Path) -> int:
    shards = (read_shard(shard, "test", ["video"]) for shard in find_shards(clips))
    return probe(next(rows[0]["video"] for rows in shards if rows)).width


def _log(
    config: JudgeConfig, facts: dict[str, Any], curves: dict[str, list[float]], out: Path
) -> None:
    """Accuracies and losses as an MLflow run of their own."""
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    with tracking.open_run("judges", key, tracking.provenance("judge")) as run:
        run.log_params({"judge": config.model_dump()})
        run.log_metrics(
            {
                f"{name}.{measure}": value
                for name, one in facts["judges"].items()
                for measure, value in one["accuracy"].items()
                if isinstance(value, int | float)
            }
        )
        for name, losses in curves.items():
            for step in range(0, len(losses), max(1, len(losses) // LOGGED_LOSSES)):
                run.log_metrics({f"{name}.loss": losses[step]}, step)
        run.log_file(out / "judges.json")


if __name__ == "__main__":
    judge(load_config(JudgeConfig, "judge"), *map(Path, sys.argv[1:]))
