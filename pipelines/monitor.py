"""Training steps → curves, sample grids and a progress bar."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fixtalk.training import Batch, TrainState
from pipelines import tracking
from pipelines.files import write_text

HISTORY = "history.jsonl"
LOG_EVERY = 10  # steps between two points of the curves
GRID_ROWS = 6  # pairs on a sample grid


class Monitor:
    """Eyes of rank 0: curves, sample grids and validation, each step logged once.

    Args:
        history: file of the logged steps; a row with `dropped` tells how many log calls did not
            reach MLflow since the row before.
        run: where the curves and grids go.
        pairs: of people left out of training; None for no sample grids.
        sample_every: steps between two sample grids.
        steps: of the whole schedule; the last one is always logged and sampled.
    """

    def __init__(
        self, history: Path, run: tracking.Run, pairs: Batch | None, sample_every: int, steps: int
    ) -> None:
        self.history, self.run, self.pairs = history, run, pairs
        self.sample_every, self.steps = sample_every, steps
        self.dropped = run.health.dropped
        rows = _rows(history)  # a killed process may have left half a line: write the others anew
        write_text(history, "".join(json.dumps(row) + "\n" for row in rows))
        self.logged = max((row["step"] for row in rows), default=0)

    def look(self, state: TrainState, values: dict[str, float]) -> None:
        """Log the step, where it is due and was not logged before a restart."""
        step = state.step
        is_sampled = step % self.sample_every == 0 or step == self.steps
        if step <= self.logged or not (is_sampled or step % LOG_EVERY == 0):
            return
        if self.pairs is not None and is_sampled:
            values = values | self._validate(state, step)
        self.run.log_metrics({f"train.{name}": value for name, value in values.items()}, step)
        lost, self.dropped = self.run.health.dropped - self.dropped, self.run.health.dropped
        row = {"step": step, **values} | ({"dropped": lost} if lost else {})
        with self.history.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def _validate(self, state: TrainState, step: int) -> dict[str, float]:
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
        self.run.log_image(to_uint8(grid).permute(1, 2, 0).cpu().numpy(), "samples", step)
        return {
            "validation_psnr": _psnr(fake, pairs.target),
            "validation_psnr_copy": _psnr(pairs.source, pairs.target),
        }


def _rows(history: Path) -> list[dict[str, float]]:
    """Logged steps; a line that a killed process left half-written does not count."""
    lines = history.read_text(encoding="utf-8").split("\n")[:-1] if history.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def _psnr(fake: Any, real: Any) -> float:
    """Mean PSNR in dB of frames in [-1, 1]: for the curves, not for the leaderboard."""
    error = ((fake - real) / 2).square().mean((1, 2, 3))
    return float((-10 * error.log10()).mean())


@contextmanager
def progress(history: Path, steps: int, run: tracking.Run) -> Iterator[None]:
    """A progress bar that follows the history file, since workers cannot print.

    What workers could not log is added to the health of `run`, which tells it when it ends.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    done = threading.Event()
    columns = (TextColumn("train"), BarColumn(), MofNCompleteColumn(), Remaining())
    columns += (TextColumn("{task.fields[note]}"),)
    with Progress(*columns) as bar:
        task = bar.add_task("train", total=steps, note="starting workers")

        def follow() -> None:
            while not done.wait(1.0):
                for row in _rows(history)[-1:]:
                    note = f"l_rec {row['l_rec']:.4f}" if "l_rec" in row else ""
                    bar.update(task, completed=row["step"], note=note)

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield
            bar.update(task, completed=steps)
        finally:
            done.set()
            thread.join()
            run.health.dropped += sum(row.get("dropped", 0) for row in _rows(history))
