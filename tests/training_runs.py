"""A tiny training as users start it: in a folder of its own, watched, killed and compared."""

import os
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import yaml

from fixtalk.media import encode_video
from pipelines.checkpoints import Checkpoints
from pipelines.files import read_rows
from tests.clip_shards import write_shard

ROOT = Path(__file__).parent.parent
PEOPLE = 8
FRAMES = 12
MOMENTARY = ("time", "seconds", "data_share")  # what no two runs have in common
MARK = "TRAINING_RUN"  # in the environment of every process of a training: its folder
COMMAND = (
    sys.executable, "-m", "pipelines.train", "clips", "weights", "models/expert", "checkpoints",
    "models/base",
)  # fmt: skip


def moving_square(person, shift):
    """A coloured square that wanders over a plain wall."""
    frames = np.full((FRAMES, 64, 64, 3), 25 * (person + 1), np.uint8)
    for index in range(FRAMES):
        left = 8 + (3 * index + shift) % 30
        frames[index, 20:44, left : left + 24] = (250 - 25 * person, 90, 30 * person)
    return frames


def write_clips(clips, dataset="synthetic", people="P", **columns):
    """Three clips of each person, by the columns that training reads without exact labels.

    Returns:
        The folder of all datasets.
    """
    rows = [
        {
            "clip": f"{people}{person}/{clip}", "person": f"{people}{person}", "frames": FRAMES,
            "audio": b"", "source_fps": 25.0, "face_probability": 1.0,
            "head_pose": np.zeros((FRAMES, 3), np.float32),
            "video": encode_video(moving_square(person, 5 * clip), crf=14, gop=5),
        } | columns
        for person in range(PEOPLE) for clip in range(3)
    ]  # fmt: skip
    write_shard(clips / dataset, rows, group=4)
    return clips


def write_no_expert(folder):
    """What the expert stage leaves where no clip has sound."""
    folder.mkdir(parents=True)
    (folder / "expert.json").write_text('{"reason": "no clip with sound"}')
    return folder


def write_params(path, base):
    """Section `train` of params.yaml for a tiny model; the base goes through the given phases."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text())["train"]
    values["model"] |= {"width": 0.03125, "widest": 16}
    values |= {"batch": 8, "microbatch": 4, "precision": "float32", "validation_people": 1}
    values |= {"checkpoint_every": 10, "sample_every": 50}
    values["variants"] = {
        "base": {"indicators": [], "steps": base},
        "fixtalk": {"indicators": ["emi", "edi"], "steps": [{"warmup": 3}, {"joint": 7}]},
    }
    path.write_text(yaml.safe_dump({"train": values}, sort_keys=False))
    return path


class TinyTraining:
    """Trains the base in a folder of its own; the same command goes on where it was.

    Args:
        folder: empty or missing.
        base: phases and steps of the base.
        workers: of the training.
    """

    def __init__(self, folder, base, workers=2):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.log = folder, folder / "log.txt"
        write_clips(folder / "clips")
        write_no_expert(folder / "models" / "expert")
        write_params(folder / "params.yaml", base)
        self.steps = sum(steps for stretch in base for steps in stretch.values())
        elsewhere = ("RAY_ADDRESS", "MLFLOW_TRACKING_URI", "FIXTALK_CHECKPOINTS")
        self.environment = {k: v for k, v in os.environ.items() if k not in elsewhere}
        self.environment |= {
            "FIXTALK_WORKERS": str(workers),
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            MARK: str(folder),
        }

    def start(self, **environment):
        """The command as a process group of its own; what it says goes to the log."""
        with self.log.open("ab") as log:
            return subprocess.Popen(
                COMMAND,
                cwd=self.folder,
                env=self.environment | environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def run(self, **environment):
        """Exit status of the command."""
        return self.start(**environment).wait()

    def said(self):
        """The log of all starts."""
        return self.log.read_text(errors="replace")

    def wait_for(self, step, process, seconds=400):
        """Return once the journal of a running training has this step or a later one."""
        deadline = time.monotonic() + seconds
        while self.reached() < step:
            assert process.poll() is None, f"ended before step {step}:\n{self.said()}"
            assert time.monotonic() < deadline, f"no step {step} in {seconds} s:\n{self.said()}"
            time.sleep(0.05)

    @property
    def store(self):
        """Folder of the journal and the states; None before the first start made it."""
        return next((self.folder / "checkpoints").glob("*"), None)

    def states(self):
        """The committed states, oldest first."""
        return Checkpoints(str(self.store)).kept() if self.store else []

    def saved(self):
        """Step of the newest of them."""
        return max((kept.step for kept in self.states()), default=0)

    def rows(self):
        """The journal."""
        return read_rows(self.store / "history.jsonl")[0] if self.store else []

    def reached(self):
        """The last step of the journal."""
        return max((row["step"] for row in self.rows()), default=0)

    def curve(self):
        """Rows of the journal without what differs from run to run."""
        return [{k: v for k, v in row.items() if k not in MOMENTARY} for row in self.rows()]

    def model(self):
        """Bytes of the exported weights."""
        return (self.folder / "models" / "base" / "model.safetensors").read_bytes()

    def processes(self, title=""):
        """Living processes of this training, wherever their parents are, by part of the title."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                is_ours = process.environ().get(MARK) == str(self.folder)
                if is_ours and title in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def workers(self):
        """The processes that train."""
        return self.processes("TrainWorker")

    def tracked(self):
        """The runs of its MLflow database."""
        from mlflow import MlflowClient

        client = MlflowClient(f"sqlite:///{self.folder}/mlflow.db")
        experiment = client.get_experiment_by_name("fixtalk").experiment_id
        return client, client.search_runs([experiment])

    def differences(self, other):
        """What tells an interrupted training from one left alone: one line each."""
        found = [
            f"step {ours['step']}: {ours}, undisturbed {theirs}"
            for ours, theirs in zip(self.curve(), other.curve(), strict=False)
            if ours != theirs
        ]
        steps = [row["step"] for row in self.rows()]
        if steps != [row["step"] for row in other.rows()]:
            found.append(f"the journal has steps {steps}")
        if self.model() != other.model():
            found.append("the exported weights differ")
        return found + self.untracked()

    def untracked(self):
        """Where MLflow's record is not one finished run with each point of the journal once."""
        client, runs = self.tracked()
        if [run.info.status for run in runs] != ["FINISHED"]:
            return [f"MLflow has runs {[run.info.status for run in runs]}"]
        (run,) = runs
        logged = {
            name: [
                (point.step, point.value)
                for point in client.get_metric_history(run.info.run_id, name)
            ]
            for name in run.data.metrics
        }
        twice = [
            f"MLflow has {name} of step {step} {times} times"
            for name, points in logged.items()
            for step, times in Counter(step for step, _ in points).items()
            if times > 1
        ]
        lost = [
            f"MLflow lacks {name}={value} of step {row['step']}"
            for row in self.rows()
            for name, value in row.items()
            if name not in ("step", "time")
            if (row["step"], value) not in logged.get(f"train.{name}", [])
        ]
        return twice + lost


def left_after(processes, seconds):
    """Those of the processes that still live then; returns early once there are none."""
    deadline = time.monotonic() + seconds
    while alive := [p for p in processes if _lives(p)]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.2)
    return alive


def _lives(process):
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
