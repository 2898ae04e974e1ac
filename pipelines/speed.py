"""Seconds of every generated clip → frames a second, latency of a frame, memory, device."""

import platform
import resource
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch


class Stopwatch:
    """Times the making of one clip, from its creation on, and the model's part of it."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.begin = device, time.perf_counter()
        self.laps: list[tuple[int, float]] = []

    @contextmanager
    def lap(self, frames: int) -> Iterator[None]:
        """Count the block as the model's work on so many frames."""
        self._wait()
        begin = time.perf_counter()
        yield
        self._wait()
        self.laps.append((frames, time.perf_counter() - begin))

    def each(self, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Frames of the batches one by one; a lap is what the next batch takes to come."""
        begin = time.perf_counter()
        for frames in batches:
            self.laps.append((len(frames), time.perf_counter() - begin))
            yield from frames
            begin = time.perf_counter()

    def stop(self, frames: int) -> dict[str, Any]:
        """All that `summarise` needs of the clip, as JSON can hold it."""
        return {
            "frames": frames,
            "seconds": time.perf_counter() - self.begin,
            "laps": self.laps,
            "memory": _peak_memory(self.device),
            "device": device_name(self.device),
        }

    def _wait(self) -> None:
        """A GPU works on after the call returns."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def summarise(clips: Sequence[dict[str, Any]], batch: int) -> dict[str, Any]:
    """What speed.json says: of one process among those that worked side by side.

    Args:
        clips: what stopwatches gave.
        batch: frames that the model sees at once.

    Returns:
        "fps_model": frames a second of the model alone, its source encoded before (in the audio
        protocol as the first batch begins); "fps": end to end, with decoding, source and lossless
        encoding; "latency_ms_p50" and "_p99": from the model's getting a driver frame to its
        picture, which is the time of its batch;
        "memory_mb": peak, allocated on the GPU or else of the process. None without a model or
        a clip.
    """
    frames = sum(clip["frames"] for clip in clips)
    laps = np.array([lap for clip in clips for lap in clip["laps"]]).reshape(-1, 2)
    waits = 1000 * np.repeat(laps[:, 1], laps[:, 0].astype(int))
    p50, p99 = np.percentile(waits, [50, 99]) if len(waits) else (None, None)
    return {
        "device": ", ".join(sorted({clip["device"] for clip in clips})),
        "clips": len(clips),
        "frames": frames,
        "batch": batch,
        "fps_model": _digits(laps[:, 0].sum() / laps[:, 1].sum() if len(laps) else None),
        "fps": _digits(frames / sum(clip["seconds"] for clip in clips) if clips else None),
        "latency_ms_p50": _digits(p50),
        "latency_ms_p99": _digits(p99),
        "memory_mb": _digits(max((clip["memory"] / 2**20 for clip in clips), default=None)),
    }


def device_name(device: torch.device) -> str:
    """The product's name, as far as the system tells it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _peak_memory(device: torch.device) -> int:
    """Bytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _digits(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
