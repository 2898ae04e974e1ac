"""Four tiny people and a tiny trained model → what `make gate` scores again, in baselines/.

Minutes of rendering and training; needed once, and after a change of the clips' format or of the
model's architecture. The scores themselves are refreshed by `make baseline`.
"""

import csv
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml
from smoke import ROOT, copy_checkout, merge

from fixtalk.dataset import find_shards
from fixtalk.media import read_video, write_video

SMALL = {
    "download": {
        "synthetic": {
            "train_people": 16,
            "test_people": 4,
            "clips_per_person": 1,
            "cross_motions": 2,
            "max_seconds": 1.0,
        }
    },
    "expert": {"steps": {"landmarks": 1, "sync": 1}},
    "train": {
        "model": {"width": 0.03125, "widest": 32, "latent": 64},
        "batch": 8,
        "validation_people": 1,
        "variants": {"base": {"steps": [{"warp": 500}, {"listen": 50}, {"texture": 50}]}},
    },
}
CLIPS, RAW, MODEL, VIDEOS = "data/clips/synthetic", "data/raw/synthetic", "models/base", "videos"
STAGES = (
    ("download", "synthetic", RAW),
    ("crop", RAW, CLIPS, "models/weights"),
    ("expert", CLIPS, "models/expert"),
    ("train", "data/clips", "models/weights", "models/expert", "checkpoints", MODEL),
    ("generate", CLIPS, MODEL, VIDEOS),
)


def make(target: Path) -> None:
    """Run the stages with small parameters in a copy of this checkout."""
    copy_checkout(target)
    params = yaml.safe_load((target / "params.yaml").read_text(encoding="utf-8"))
    merge(params, SMALL)
    text = yaml.safe_dump(params, sort_keys=False)
    (target / "params.yaml").write_text(text, encoding="utf-8")
    for stage, *paths in STAGES:
        command = [sys.executable, "-m", f"pipelines.{stage}", *paths]
        subprocess.run(command, cwd=target, check=True)


def keep(made: Path, baselines: Path) -> None:
    """Put the model, held-out clips of shared motions, and their videos of self in their places."""
    model, metrics = baselines / "model", baselines / "metrics"
    for folder in (model, metrics):
        shutil.rmtree(folder, ignore_errors=True)
    (model / "checkpoint").mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        shutil.copy(made / MODEL / name, model / "checkpoint" / name)
    (model / "judges").mkdir()
    (model / "judges" / "judges.json").write_text('{"dataset": "none", "judges": {}}\n')
    wanted = pc.starts_with(pc.field("clip"), "cross/")  # of held-out people
    table = pa.concat_tables(pq.read_table(s, filters=wanted) for s in find_shards(made / CLIPS))
    (model / "clips" / "shards").mkdir(parents=True)
    pq.write_table(table, model / "clips" / "shards" / "00000.parquet", compression="zstd")
    shutil.copy(made / CLIPS / "coverage.json", model / "clips" / "coverage.json")
    clips = {row["clip"]: row for row in table.to_pylist()}
    labels = [("clip", "emotion", "person")]
    with (made / VIDEOS / "pairs.csv").open(encoding="utf-8", newline="") as file:
        pairs = list(csv.DictReader(file))
    for pair in pairs:
        if pair["protocol"] != "self" or pair["truth_clip"] not in clips:
            continue
        clip, name = clips[pair["truth_clip"]], f"{pair['pair']}.mp4"
        audio = np.frombuffer(clip["audio"], "<i2")
        generated = read_video(made / VIDEOS / "self" / f"{pair['pair']}.mkv")
        write_video(metrics / "generated" / name, generated, audio=audio)
        write_video(metrics / "reference" / name, read_video(clip["video"]), audio=audio)
        labels.append((pair["pair"], clip["emotion"], pair["person"]))
    with (metrics / "reference" / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(labels)


def main() -> None:
    """Make and keep."""
    with tempfile.TemporaryDirectory(prefix="fixtalk-baseline-") as folder:
        make(Path(folder))
        keep(Path(folder), ROOT / "baselines")


if __name__ == "__main__":
    main()
