"""Training steps → journals that workers write, and a driver that shows and mirrors them."""

import json
import logging
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fixtalk.training import Batch, TrainState
from pipelines.files import append_row, read_rows, replacing, write_text
from pipelines.run import Run

HISTORY = "history.jsonl"
SAMPLES = "samples"  # folder of grids
MIRRORED = "mirrored.json"  # how much of the journals the tracking server or its backlog has
LOG_EVERY = 10  # steps between two points of the curves
SECONDS_PER_LOOK = 10.0  # between two looks at a node
GRID_ROWS = 6  # pairs on a sample grid
GPU_FACTS = {  # of nvidia-smi: name of the curve, and what turns it into its unit
    "utilization.gpu": ("utilization_percentage", 1.0),
    "memory.used": ("memory_usage_megabytes", 2**20 / 1e6),
    "power.draw": ("power_usage_watts", 1.0),
}


class _Journal:
    """Rows of increasing steps, each once, even if a restart goes through its steps again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last = max((row["step"] for row in read_rows(path)[0]), default=0)

    def add(self, step: int, values: dict[str, float]) -> None:
        append_row(self.path, {"step": step, "time": int(time.time() * 1000), **values})
        self.last = step


class Monitor:
    """Eyes of rank 0: curves, sample grids and validation, each step logged once.

    Args:
        folder: of the training; gets `history.jsonl` and `samples/<step>.png`.
        pairs: of people left out of training; None for no sample grids.
        sample_every: steps between two sample grids.
        steps: of the whole schedule; the last one is always logged and sampled.
    """

    def __init__(self, folder: Path, pairs: Batch | None, sample_every: int, steps: int) -> None:
        self.journal, self.samples, self.pairs = _Journal(folder / HISTORY), folder / SAMPLES, pairs
        self.sample_every, self.steps = sample_every, steps
        self.known = {row["step"]: row for row in read_rows(folder / HISTORY)[0]}

    def look(self, state: TrainState, values: dict[str, float]) -> dict[str, float]:
        """Log the step, where it is due and was not logged before a restart.

        Returns:
            What is logged of it, now or before: the values, and those of the validation where a
            grid is due.
        """
        step = state.step
        is_sampled = step % self.sample_every == 0 or step == self.steps
        if step <= self.journal.last:
            return self.known.get(step, {})
        if not (is_sampled or step % LOG_EVERY == 0):
            return {}
        if self.pairs is not None and is_sampled:
            values = values | self._validate(state)
        self.journal.add(step, values)
        return values

    def _validate(self, state: TrainState) -> dict[str, float]:
        """PSNR of the averaged model on people left out, and a grid of them."""
        import torch

        from fixtalk.media import to_uint8

        device = next(state.average.parameters()).device
        pairs = self.pairs.to(device)
        state.average.eval()
        with torch.inference_mode():
            source = state.average.encode_source(pairs.source)
            fake = state.average.animate(source, state.average.motion(pairs.driver))
        columns = [pairs.source[:GRID_ROWS], pairs.driver[:GRID_ROWS], fake[:GRID_ROWS]]
        grid = torch.cat([torch.cat(list(c), 1) for c in columns], 2)
        self._save(to_uint8(grid).permute(1, 2, 0).cpu().numpy(), state.step)
        return {
            "validation_psnr": _psnr(fake, pairs.target),
            "validation_psnr_copy": _psnr(pairs.source, pairs.target),
        }

    def _save(self, grid: Any, step: int) -> None:
        from PIL import Image

        self.samples.mkdir(exist_ok=True)
        with replacing(self.samples / f"{step:08d}.png") as temporary:
            Image.fromarray(grid).save(temporary)


class NodeMonitor:
    """Eyes of each node's first worker: what the machine does, under MLflow's names.

    Args:
        folder: of the training; gets `system-<node>.jsonl`. Its disk is the one watched.
        node: number of the node.
    """

    def __init__(self, folder: Path, node: int) -> None:
        import psutil
        import torch

        self.folder, self.journal = folder, _Journal(folder / f"system-{node}.jsonl")
        self.has_gpu, self.looked = torch.cuda.is_available(), -SECONDS_PER_LOOK
        psutil.cpu_percent()  # it tells the mean since the call before

    def look(self, step: int) -> None:
        """Log the node, unless it was looked at a moment ago."""
        import psutil

        now = time.monotonic()
        if step <= self.journal.last or now - self.looked < SECONDS_PER_LOOK:
            return
        self.looked, memory = now, psutil.virtual_memory()
        self.journal.add(
            step,
            {
                "cpu_utilization_percentage": psutil.cpu_percent(),
                "system_memory_usage_megabytes": memory.used / 1e6,
                "system_memory_usage_percentage": memory.percent,
                "disk_available_megabytes": shutil.disk_usage(self.folder).free / 1e6,
                **(self._gpus() if self.has_gpu else {}),
            },
        )

    def _gpus(self) -> dict[str, float]:
        command = ["nvidia-smi", f"--query-gpu={','.join(GPU_FACTS)}"]
        command.append("--format=csv,noheader,nounits")
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            self.has_gpu = False
            logging.getLogger("fixtalk.monitor").warning("no curves of the GPUs: %s", error)
            return {}
        return gpu_values(done.stdout)


def gpu_values(table: str) -> dict[str, float]:
    """Curves from nvidia-smi's table, a line a GPU; what a GPU does not tell is left out."""
    return {
        f"gpu_{number}_{name}": float(text) * factor
        for number, line in enumerate(table.splitlines())
        for text, (name, factor) in zip(line.split(", "), GPU_FACTS.values(), strict=True)
        if text.replace(".", "").isdigit()
    }


def _psnr(fake: Any, real: Any) -> float:
    """Mean PSNR in dB of frames in [-1, 1]: for the curves, not for the leaderboard."""
    error = ((fake - real) / 2).square().mean((1, 2, 3))
    return float((-10 * error.log10()).mean())


@contextmanager
def mirror(folder: Path, run: Run, steps: int) -> Iterator[None]:
    """A progress bar, and a tracking run, that follow what the workers write into a folder.

    What was passed on is noted there, so that a restart goes on behind it; a run that is new
    gets everything. Workers never talk to the tracking server.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    done, passed = threading.Event(), _Mirror(folder, run)
    columns = (TextColumn("train"), BarColumn(), MofNCompleteColumn(), Remaining())
    columns += (TextColumn("{task.fields[note]}"),)
    with Progress(*columns) as bar:
        task = bar.add_task("train", total=steps, note="starting workers")
        bar.update(task, completed=_Journal(folder / HISTORY).last)

        def follow() -> None:
            while not done.wait(1.0):
                for row in passed.history()[-1:]:
                    note = f"l_rec {row['l_rec']:.4f}" if "l_rec" in row else ""
                    bar.update(task, completed=row["step"], note=note)
                passed.rest()

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            passed.history()
            passed.rest()
            bar.update(task, completed=_Journal(folder / HISTORY).last)


class _Mirror:
    """Passes the journals of a folder on to a run, each row and picture once."""

    def __init__(self, folder: Path, run: Run) -> None:
        self.folder, self.run, self.note = folder, run, folder / MIRRORED
        noted = json.loads(self.note.read_text()) if self.note.exists() else {}
        self.run_id = run.run_id or noted.get("run")
        is_other = noted.get("run") not in (None, self.run_id)
        self.marks: dict[str, int] = {} if is_other else noted.get("marks", {})

    def history(self) -> list[dict[str, float]]:
        """Pass new steps on, and return them."""
        return self._pass_on(HISTORY, "train.")

    def rest(self) -> None:
        """Pass on what else is new: nodes and sample grids."""
        for path in self.folder.glob("system-*.jsonl"):
            self._pass_on(path.name, f"system/{path.stem.removeprefix('system-')}/")
        for path in sorted((self.folder / SAMPLES).glob("[0-9]*.png")):
            if int(path.stem) > self.marks.get(SAMPLES, 0):
                time_ms = int(path.stat().st_mtime * 1000)
                self.run.log_image(path, SAMPLES, int(path.stem), time_ms)
                self._mark(SAMPLES, int(path.stem))

    def _pass_on(self, name: str, prefix: str) -> list[dict[str, float]]:
        rows, end = read_rows(self.folder / name, self.marks.get(name, 0))
        if rows:
            self.run.log_rows(
                (row["step"], row["time"], {
                    prefix + key: value for key, value in row.items() if key not in ("step", "time")
                })
                for row in rows
            )  # fmt: skip
            self._mark(name, end)
        return rows

    def _mark(self, name: str, mark: int) -> None:
        self.marks[name] = mark
        self.run_id = self.run.run_id or self.run_id
        write_text(self.note, json.dumps({"run": self.run_id, "marks": self.marks}) + "\n")
