"""Step time of Ray Train beside a plain loop, of two workers beside one, and waits for data."""

import json
import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import chdir
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import psutil
import torch

from fixtalk.reenactment import Batch
from fixtalk.training import Method, Microbatch, start, train_step
from pipelines.config import load_config
from pipelines.crop import CropConfig, crop
from pipelines.download import DownloadConfig, download
from pipelines.feed import Reader, find_corpus, share_of
from pipelines.perception import EXPERT
from pipelines.recipe import TrainConfig, Variant
from pipelines.train import train

ROOT = Path(__file__).parent.parent
PHASE = "texture"  # all losses of pictures, exact warps and the discriminator
WARM, LAST = 20, 100  # steps between which is measured: five times the 16 of the R1 penalty
ROUNDS = 2  # of each kind in turn; the fastest counts
CORES = 2  # used at most: then each worker computes with one thread, as the plain loop does
FEW = {"train_people": 8, "test_people": 2, "clips_per_person": 3}  # where there is no corpus


class Pace(NamedTuple):
    """Seconds a step, and how many of them it waits for data."""

    seconds: float
    waiting: float


def corpus(folder: Path) -> Path:
    """The folder with the cropped corpus of this project, or with a small one of its kind."""
    clips = ROOT / "data" / "clips"
    if (clips / "synthetic").is_dir():
        return clips
    config = load_config(DownloadConfig, "download", ROOT / "params.yaml")
    few = config.synthetic.model_copy(update=FEW)
    download(config.model_copy(update={"synthetic": few}), "synthetic", folder / "raw")
    recipe = load_config(CropConfig, "crop", ROOT / "params.yaml")
    crop(recipe, folder / "raw", folder / "clips" / "synthetic", ROOT / "models" / "weights")
    return folder / "clips"


def recipe() -> TrainConfig:
    """The default training, cut to one phase and without looks at other people on the way."""
    config = load_config(TrainConfig, "train", ROOT / "params.yaml")
    base = Variant(indicators=[], steps=[{PHASE: LAST}])
    return config.model_copy(
        update={"variants": {"base": base}, "checkpoint_every": LAST, "sample_every": LAST}
    )


def plain(clips: Path, loops: int = 1) -> Pace:
    """Loops side by side that share nothing: each one process, one thread, nothing read ahead.

    The pace is that of all together: more than this the machine has not to give to workers.
    """
    with ProcessPoolExecutor(loops, mp_context=multiprocessing.get_context("spawn")) as pool:
        paces = list(pool.map(_plain, [clips] * loops))
    return Pace(*(fmean(column) / loops for column in zip(*paces, strict=True)))


def _plain(clips: Path) -> Pace:
    torch.set_num_threads(1)
    config = recipe()
    schedule, share = config.schedule("base"), share_of(0, 1, config.batch // config.microbatch)
    reader = Reader(config, find_corpus(config, clips), schedule)
    state = start(config.architecture("base"), config.betas, config.seed)
    method = Method(
        decay=config.average_decay,
        bfloat16=config.precision == "bfloat16",
        margin=config.margin,
        alignment=config.alignment,
    )
    begin = waited = 0.0
    while state.step < LAST:
        if state.step == WARM:
            begin, waited = time.monotonic(), 0.0
        asked = time.monotonic()
        pairs = Batch.of(reader.pairs(state.step, list(range(config.batch))))
        waited += time.monotonic() - asked
        batches = pairs.split(config.microbatch)
        weighted = [Microbatch(b, weight) for b, (_, weight) in zip(batches, share, strict=True)]
        train_step(state, weighted, schedule, method)
    return Pace((time.monotonic() - begin) / (LAST - WARM), waited / (LAST - WARM))


def with_ray(workers: int, clips: Path, folder: Path) -> Pace:
    """The stage itself, as its journal tells."""
    os.environ["FIXTALK_WORKERS"] = str(workers)
    expert = folder / "expert"
    expert.mkdir(parents=True)
    (expert / EXPERT).write_text('{"reason": "nothing speaks here"}')
    train(recipe(), clips, folder / "weights", expert, folder / "checkpoints", folder / "base")
    (journal,) = (folder / "checkpoints").glob("*/history.jsonl")
    rows = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]
    warm, last = (next(row for row in rows if row["step"] == step) for step in (WARM, LAST))
    if last["workers"] != workers:
        raise RuntimeError(f"{last['workers']:.0f} workers trained instead of {workers}")
    waited = last["data_share"] * last["seconds"] - warm["data_share"] * warm["seconds"]
    return Pace((last["seconds"] - warm["seconds"]) / (LAST - WARM), waited / (LAST - WARM))


def measure() -> tuple[dict[str, Pace], str]:
    """The fastest pace of each kind, and what it was measured on."""
    paces: dict[str, list[Pace]] = {}
    # the runs are logged in that folder, not in the project
    with tempfile.TemporaryDirectory(prefix="fixtalk-bench-") as name, chdir(name):
        folder = Path(name)
        os.environ["FIXTALK_WORKERS"] = "1"
        clips = corpus(folder)
        facts = f"{clips}, {find_corpus(recipe(), clips).clips} clips to train on"
        for turn in range(ROUNDS):
            for loops in (1, 2):
                paces.setdefault(f"plain loops, apart: {loops}", []).append(plain(clips, loops))
            for workers in (1, 2):
                pace = with_ray(workers, clips, folder / f"{turn}-{workers}")
                paces.setdefault(f"Ray Train, workers: {workers}", []).append(pace)
    return {kind: min(found) for kind, found in paces.items()}, facts


def main() -> None:
    """Print a table, and the three numbers that have a target."""
    here, load = psutil.Process(), os.getloadavg()[0]
    here.cpu_affinity(here.cpu_affinity()[:CORES])
    paces, facts = measure()
    batch = recipe().batch
    print(f"\n{CORES} of {psutil.cpu_count()} cores, {load:.1f} busy with other work at the start.")
    print(f"{facts}; phase {PHASE}, batch {batch}\n")
    print("| | s/step | images/s | waits for data |\n|---|---|---|---|")
    for kind, (seconds, waiting) in paces.items():
        share = f"{100 * waiting / seconds:.1f} %"
        print(f"| {kind} | {seconds:.3f} | {batch / seconds:.1f} | {share} |")
    alone, apart, one, two = paces.values()
    print(
        f"\nRay Train beside the plain loop: {one.seconds / alone.seconds - 1:+.1%} (at most 10 %)"
    )
    print(
        f"two workers beside one: {one.seconds / two.seconds:.2f} x (at least 1.6); two loops "
        f"that share nothing beside one: {alone.seconds / apart.seconds:.2f} x"
    )
    print(f"one worker waits for data: {one.waiting / one.seconds:.1%} (less than 5 %)")


if __name__ == "__main__":
    main()
