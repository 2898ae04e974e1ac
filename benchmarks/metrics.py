"""Metrics, their peers and folders of clips → tables of milliseconds, seconds and GiB.

Run it as `python -m benchmarks.metrics`: run as a file, it would hide the package `metrics`.
"""

import csv
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import cv2
import numpy as np
import psutil
import torch
import typer
from PIL import Image
from skimage.data import astronaut
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from benchmarks.peers import load_basicsr, load_pyiqa, load_python_cpbd, load_pytorch_fid
from fixtalk.media import SAMPLES_PER_FRAME, write_video
from metrics import cpbd, frechet_distance, niqe, psnr, ssim
from metrics.catalogue import is_column
from pipelines.cluster import cores

ROOT = Path(__file__).parent.parent
JUDGES = ROOT / "models" / "judges"
RUNS = 20
FEATURES = 1500, 2048
DISTINCT = 4  # pairs of videos that are made; the others are links to them


class Row(NamedTuple):
    """A metric, the peer that computes the same, and the speed-up asked of it."""

    metric: str
    peer: str
    asked: int | None
    ours: Callable[[], Any]
    load: Callable[[], Callable[..., Any]]
    inputs: tuple[np.ndarray, ...]
    runs: int = RUNS


def rows_of_pictures(side: int) -> list[Row]:
    """Metrics of one picture of `side` pixels; what is asked of SSIM and NIQE holds for 512."""
    y, x = (0, 0) if side == 512 else (20, 110)
    true = np.ascontiguousarray(astronaut()[y : y + side, x : x + side])
    fake = cv2.GaussianBlur(true, (0, 0), 1)
    luma = np.array(Image.fromarray(true).convert("L"))
    clip, soft = (torch.from_numpy(rgb).permute(2, 0, 1)[None] for rgb in (true, fake))
    uniform = partial(structural_similarity, channel_axis=-1)
    gaussian = partial(uniform, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
    for_ssim, for_niqe = (4, 3) if side == 512 else (None, None)
    our_niqe = partial(niqe, clip)
    rows = [
        Row("psnr", "skimage", None, partial(psnr, soft, clip),
            lambda: peak_signal_noise_ratio, (true, fake)),
        Row("ssim", "skimage", for_ssim, partial(ssim, soft, clip), lambda: uniform, (true, fake)),
        Row("ssim gaussian", "skimage", for_ssim, partial(ssim, soft, clip, "gaussian"),
            lambda: gaussian, (true, fake)),
        Row("niqe live", "pyiqa", for_niqe, our_niqe, load_pyiqa, (luma,)),
        Row("niqe live", "BasicSR", for_niqe, our_niqe, load_basicsr, (luma,)),
        Row("cpbd", "python-cpbd", 20, partial(cpbd, clip), load_python_cpbd, (luma,)),
    ]  # fmt: skip
    return [row._replace(metric=f"{row.metric}, {side} px") for row in rows]


def row_of_features() -> Row:
    """Fréchet distance of two sets of features, statistics included, once."""
    generator = np.random.default_rng(1)
    sets = tuple(generator.normal(shift, 1, FEATURES) for shift in (0, 0.1))
    ours = partial(frechet_distance, *map(torch.from_numpy, sets))
    name = "Fréchet, {} x {}".format(*FEATURES)
    return Row(name, "pytorch-fid", 10, ours, load_pytorch_fid, sets, runs=1)


def measure(row: Row) -> str:
    """A line of the table: the least of the times of runs that take turns."""
    head = f"| {row.metric} | {row.peer} "
    try:
        theirs = partial(row.load(), *row.inputs)
    except ImportError as error:
        return f"{head}| not installed ({error}): make bench-metrics | | | | |"
    row.ours()  # compiles, fills caches
    runs = [(timed(theirs), timed(row.ours)) for _ in range(row.runs)]
    peer_ms, our_ms = (min(ms for ms, _ in side) for side in zip(*runs, strict=True))
    (_, their_value), (_, our_value) = runs[0]
    return (
        f"{head}| {peer_ms:.2f} | {our_ms:.2f} | {peer_ms / our_ms:.1f} | {row.asked or ''} "
        f"| {abs(float(our_value) - float(their_value)):.1e} |"
    )


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Milliseconds of one call, and its result."""
    start = time.perf_counter()
    result = function()
    return 1000 * (time.perf_counter() - start), result


def machine() -> str:
    """Processor, cores, threads of this process and how busy the machine is."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor()
    load = "{:.1f} {:.1f} {:.1f}".format(*os.getloadavg())
    return f"{name}, {cores()} cores, {torch.get_num_threads()} thread here, load average {load}"


def make_pairs(folder: Path, frames: int, resolution: int) -> None:
    """DISTINCT pairs in true/ (FFV1) and made/ (H.264): a photograph that sways, with noise."""
    photograph = cv2.resize(astronaut(), (2 * resolution, 2 * resolution))
    sound = np.random.default_rng(1).normal(0, 2000, frames * SAMPLES_PER_FRAME).astype(np.int16)
    times = 2 * np.pi * np.arange(frames) / 50
    for pair in range(DISTINCT):
        x = resolution * (110 + 16 * np.sin(times + pair)) // 256
        y = resolution * (20 + 8 * np.cos(times * 0.7 + pair)) // 256
        crops = [
            photograph[top : top + resolution, left : left + resolution]
            for top, left in zip(y.astype(int), x.astype(int), strict=True)
        ]
        write_video(folder / "true" / f"{pair}.mkv", crops, audio=sound, lossless=True)
        write_video(folder / "made" / f"{pair}.mp4", crops, audio=sound, crf=30)


def link_pairs(distinct: Path, folder: Path, clips: int) -> None:
    """As many pairs as wanted, hard links to the distinct ones, and labels for all."""
    for name, suffix in (("true", "mkv"), ("made", "mp4")):
        (folder / name).mkdir(parents=True)
        for clip in range(clips):
            link = folder / name / f"clip{clip:04}.{suffix}"
            link.hardlink_to(distinct / name / f"{clip % DISTINCT}.{suffix}")
    with (folder / "true" / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        rows = [(f"clip{clip:04}", "happy", f"person{clip % DISTINCT}") for clip in range(clips)]
        csv.writer(file).writerows([("clip", "emotion", "person"), *rows])


def score(folder: Path) -> tuple[float, float]:
    """Wall seconds and peak GiB of `fixtalk score`, all of its processes.

    Memory is the sum of resident sizes: pages that processes share are counted in each.
    """
    command = [sys.executable, "-m", "pipelines.cli", "score", "--out", str(folder / "out")]
    command += ["--generated", str(folder / "made"), "--reference", str(folder / "true")]
    command += ["--judges", str(JUDGES)] if JUDGES.is_dir() else []
    start, peak = time.perf_counter(), 0
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
        while process.poll() is None:
            peak = max(peak, resident_bytes(process.pid))
            time.sleep(0.1)
    seconds = time.perf_counter() - start
    if process.returncode:
        text = (folder / "log").read_text(encoding="utf-8", errors="replace")
        raise RuntimeError(f"fixtalk score ended with {process.returncode}:\n{text[-2000:]}")
    return seconds, peak / 2**30


def resident_bytes(pid: int) -> int:
    """Memory of a process and its children; 0 for those that have just ended."""
    total = 0
    try:
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            total += process.memory_info().rss
    except psutil.NoSuchProcess:
        pass
    return total


def main(
    clips: Annotated[int, typer.Option(help="pairs of videos to score; 0: none")] = 100,
    frames: Annotated[int, typer.Option(help="of each video")] = 75,
    resolution: Annotated[int, typer.Option(help="of the videos, pixels")] = 256,
) -> None:
    """Print both tables."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    print(f"{machine()}\n\nLeast of {RUNS} runs in turn, features once; peers get luma ready made.")
    print("| metric | peer | peer, ms | ours, ms | ratio | asked | difference |")
    print("|---|---|---|---|---|---|---|")
    for row in [*rows_of_pictures(512), *rows_of_pictures(256), row_of_features()]:
        print(measure(row), flush=True)
    if clips:
        score_folders(clips, frames, resolution)


def score_folders(clips: int, frames: int, resolution: int) -> None:
    """Print what a quarter of the clips and all of them cost, and which metrics had a value."""
    print(
        f"\n`fixtalk score`: {frames} frames at {resolution} pixels, {DISTINCT} pairs, then links."
    )
    print("Asked on 2 cores: 100 clips of 75 frames at 256 pixels in 900 s and 4 GiB; linear.\n")
    print("| clips | seconds | seconds a clip | peak GiB |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_pairs(folder, frames, resolution)
        for count in (max(1, clips // 4), clips):
            link_pairs(folder, folder / str(count), count)
            seconds, peak = score(folder / str(count))
            print(f"| {count} | {seconds:.0f} | {seconds / count:.2f} | {peak:.2f} |", flush=True)
        numbers = json.loads((folder / str(clips) / "out" / "metrics.json").read_text("utf-8"))
    columns = {key: value for key, value in numbers["full"].items() if is_column(key)}
    for title, is_missing in (("with a value", False), ("without", True)):
        names = [key for key, value in columns.items() if (value is None) == is_missing]
        print(f"\n{title}: {', '.join(names)}")


if __name__ == "__main__":
    typer.run(main)
