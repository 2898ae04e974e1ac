"""A talking head at 512 px → frames a second of the crop stage, its memory, pairs a second.

Run it as `make bench-crop`: one Ray session for all. Speed is in CPU-seconds, so that a busy
machine does not change it; what two workers gain is in seconds and wants an idle machine.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import torch
import typer
from skimage.data import astronaut

from benchmarks.metrics import machine
from fixtalk.augmentation import Augmentation
from fixtalk.media import SAMPLES_PER_FRAME, VideoReader, write_video
from fixtalk.pages import find_pages
from fixtalk.pairs import PairSampler
from pipelines.config import load_config
from pipelines.crop import CropConfig, crop
from pipelines.pieces import Job, crop_video
from pipelines.recipe import TrainConfig

ROOT = Path(__file__).parent.parent
SHARED = Path(os.environ.get("FIXTALK_SHARED", ROOT.parent / "shared"))
REAL = SHARED / "real" / "hdtf" / "WDA_AlexandriaOcasioCortez_000.mp4"
SIDE, CRF, PIECE = 512, 18, 250
BATCH, STEPS = 16, 20
PEOPLE, VIDEOS = 8, 48  # actors take five seconds to start
PLAIN = Augmentation(flip=0.0, colour=0.0, driver_colour=0.0, driver_stretch=0.0)
PEAK = """
import resource, sys
from pathlib import Path
from benchmarks.crop import cropped
print(cropped(Path(sys.argv[1]))[1], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10)
"""

APART = """
import sys
from pathlib import Path
from benchmarks.crop import cropped
for _ in range(int(sys.argv[2])):
    cropped(Path(sys.argv[1]))
"""


def recipe() -> CropConfig:
    """The parameters of params.yaml at the published resolution."""
    config = load_config(CropConfig, "crop", ROOT / "params.yaml")
    return config.model_copy(update={"resolution": SIDE, "crf": CRF, "max_frames": PIECE})


def entry(video: Path, name: str = "a", split: str = "train") -> dict[str, str]:
    """A line of a manifest."""
    return {"clip": name, "video": str(video), "person": name, "split": split, "status": "ok"}


def cropped(video: Path) -> tuple[float, int]:
    """CPU-seconds of a video through the crop stage, and how many frames were kept."""
    import pyarrow.parquet as pq

    result = video.with_suffix(".parquet")
    begin = time.process_time()
    crop_video(Job(recipe(), entry(video), video.parent, result))
    seconds = time.process_time() - begin
    return seconds, sum(pq.read_table(result, columns=["frames"])["frames"].to_pylist())


def pictures(frames: int) -> Iterator[np.ndarray]:
    """The real video over and over, forwards and backwards; else a portrait that sways."""
    if REAL.is_file():
        shown = list(VideoReader(REAL))
        turn = [*shown, *shown[::-1]]
        yield from (turn[number % len(turn)] for number in range(frames))
        return
    portrait = cv2.resize(astronaut(), (2 * SIDE, 2 * SIDE))
    noise = np.random.default_rng(0).normal(0, 4, (SIDE, SIDE, 3))
    for number in range(frames):
        x = round(220 + 32 * np.sin(number / 10))
        frame = portrait[40 : 40 + SIDE, x : x + SIDE] + np.roll(noise, 7 * number, axis=1)
        yield frame.clip(0, 255).astype(np.uint8)


def make_video(path: Path, frames: int) -> Path:
    """A video of 512 px with sound."""
    sound = np.random.default_rng(1).normal(0, 2000, frames * SAMPLES_PER_FRAME).astype(np.int16)
    write_video(path, pictures(frames), audio=sound, crf=16)
    return path


def peak_megabytes(video: Path) -> float:
    """Peak memory of a fresh process that crops a video."""
    command = [sys.executable, "-c", PEAK, str(video)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def pairs_a_second(clips: Path, augmentation: Augmentation) -> float:
    """Pairs a CPU-second that one reader draws and decodes."""
    config = load_config(TrainConfig, "train", ROOT / "params.yaml")
    sampler = PairSampler(
        find_pages(clips, "train"),
        seed=0,
        lanes=BATCH,
        visits=config.pairs_per_visit,
        distance=config.distance,
        gate=config.motion_gate,
        augmentation=augmentation,
        labelled=False,
    )
    sampler.arrays(0, range(BATCH))
    begin = time.process_time()
    for step in range(1, STEPS + 1):
        sampler.arrays(step, range(BATCH))
    return STEPS * BATCH / (time.process_time() - begin)


def crop_folder(folder: Path, video: Path, videos: int, workers: int) -> float:
    """Seconds of the whole stage on links to one video, all processes started by it."""
    raw = folder / f"raw{workers}"
    raw.mkdir()
    rows = [entry(video, f"P{number % PEOPLE}/{number}") for number in range(videos)]
    rows = [row | {"person": row["clip"].split("/")[0]} for row in rows]
    lines = "\n".join(map(json.dumps, rows))
    (raw / "manifest.jsonl").write_text(lines, encoding="utf-8")
    os.environ["FIXTALK_WORKERS"] = str(workers)
    begin = time.perf_counter()
    crop(recipe(), raw, folder / f"clips{workers}", ROOT / "models" / "weights")
    return time.perf_counter() - begin


def apart(video: Path, videos: int, processes: int) -> float:
    """Seconds of as many videos in processes that share nothing: what the machine has to give."""
    links = [video.with_name(f"apart{n}.mp4") for n in range(processes)]
    for link in links:
        link.unlink(missing_ok=True)
        link.symlink_to(video)
    begin = time.perf_counter()
    commands = [[sys.executable, "-c", APART, str(n), str(videos // processes)] for n in links]
    started = [subprocess.Popen(command, cwd=ROOT) for command in commands]
    statuses = [one.wait() for one in started]
    if any(statuses):
        raise RuntimeError("a process of the comparison failed")
    return time.perf_counter() - begin


def report(title: str, value: float, unit: str, asked: str = "") -> None:
    """A line of the table."""
    print(f"| {title} | {value:.1f} {unit} | {asked} |", flush=True)


def main(
    frames: Annotated[int, typer.Option(help="of the shorter video")] = 250,
    workers: Annotated[bool, typer.Option(help="measure two workers, on two idle cores")] = True,
) -> None:
    """Print the table."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    print(f"{machine()}; {'a real video' if REAL.is_file() else 'a portrait that sways'}\n")
    print("| | measured | asked |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        short, long = (make_video(folder / f"{n}.mp4", n) for n in (frames, 4 * frames))
        cropped(short)  # loads the detector
        seconds, kept = cropped(short)
        report("crop, detector every 8th frame, x264", kept / seconds, "frames/CPU-s", "25")
        peaks = [peak_megabytes(video) for video in (short, long)]
        report(f"peak memory, {frames} frames", peaks[0], "MiB")
        report(f"peak memory, {4 * frames} frames", peaks[1], "MiB", "the same")
        alone = crop_folder(folder, short, VIDEOS, 1)
        report(f"{VIDEOS} videos, one worker", alone, "s")
        if workers:
            both = crop_folder(folder, short, VIDEOS, 2)
            report(f"{VIDEOS} videos, two workers", both, f"s, {alone / both:.2f} times", "1.7")
            one, two = (apart(short, VIDEOS, processes) for processes in (1, 2))
            report("the same in two processes apart", two, f"s, {one / two:.2f} times")
        config = load_config(TrainConfig, "train", ROOT / "params.yaml")
        for title, change in (("plain", PLAIN), ("augmented", config.augmentation)):
            pace = pairs_a_second(folder / "clips1", change)
            report(f"random pairs, {title}", pace, "pairs/CPU-s", "55")


if __name__ == "__main__":
    typer.run(main)
