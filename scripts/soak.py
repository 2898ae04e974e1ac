"""A small training killed at random again and again, beside one left alone: `soak.py --kills 20`.

Exits 1 where they differ: curves, weights, or more than one MLflow run with each step once.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.training_runs import TinyTraining, left_after

BLOWS = ("worker", "driver group", "SIGTERM")
STEPS_AHEAD = (0, 10, 20)  # from the first new step to the blow
SECONDS_MORE = 2.0  # at most: the moment lies between steps, or in the writing of a state
SECONDS_TO_END = 60.0  # that a dead driver's workers have
STEPS_PER_KILL = 45


def main() -> int:
    """Exit status: 0 where the kills left no trace."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    steps = max(400, STEPS_PER_KILL * options.kills)
    phases = [{"warp": steps * 3 // 4}, {"texture": steps - steps * 3 // 4}]
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fixtalk-soak-") as folder:
        undisturbed = TinyTraining(Path(folder) / "undisturbed", phases)
        if undisturbed.run():
            raise RuntimeError(undisturbed.said())
        print(f"{steps} steps undisturbed: {time.monotonic() - begin:.0f} s", flush=True)
        killed = TinyTraining(Path(folder) / "killed", phases)
        try:
            kill_again_and_again(killed, options.kills, random.Random(options.seed))
        finally:
            for process in killed.processes():
                process.kill()
        differences = killed.differences(undisturbed)
    print(*differences, f"{len(differences)} differences", sep="\n")
    print(f"total: {time.monotonic() - begin:.0f} s")
    return 1 if differences else 0


def kill_again_and_again(training: TinyTraining, kills: int, rng: random.Random) -> None:
    """Strike at random, each time start the same command, and let the last one finish."""
    process = training.start()
    training.wait_for(1, process)
    print(f"{'kill':>4}  {'of':12}  {'step':>4}  seconds to the next new step")
    for number in range(1, kills + 1):
        training.wait_for(training.reached() + rng.choice(STEPS_AHEAD), process)
        time.sleep(rng.uniform(0, SECONDS_MORE))
        blow, workers, begin = rng.choice(BLOWS), training.workers(), time.monotonic()
        strike(process, workers, blow, rng)
        if blow != "worker":
            process.wait()
            process = training.start()
        if left := left_after(workers, SECONDS_TO_END):
            raise RuntimeError(f"still there after the death of the {blow}: {left}")
        step = training.reached()  # of those that are gone now
        training.wait_for(step + 1, process)
        seconds = time.monotonic() - begin
        print(f"{number:4}  {blow:12}  {step:4}  {seconds:.0f}", flush=True)
    if process.wait():
        raise RuntimeError(training.said())


def strike(
    process: subprocess.Popen, workers: list[psutil.Process], blow: str, rng: random.Random
) -> None:
    """Kill a worker or all of the driver's process group, or ask the driver to stop."""
    if blow == "worker":
        rng.choice(workers).kill()
    elif blow == "driver group":
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.terminate()


if __name__ == "__main__":
    sys.exit(main())
