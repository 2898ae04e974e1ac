"""This checkout → a temporary copy with tiny parameters in which the whole pipeline runs."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
TINY = {
    "download": {
        "synthetic": {
            "supersampling": 1,
            "train_people": 6,  # the sixth is the sync expert's
            "test_people": 2,
            "clips_per_person": 2,
            "cross_motions": 2,
            "max_seconds": 1.0,
        }
    },
    "judge": {"batch": 8, "steps": dict.fromkeys(("emotion", "landmarks", "identity", "sync"), 8)},
    "expert": {"steps": {"landmarks": 2, "sync": 2}},
    "train": {
        "model": {"width": 0.03125, "widest": 16},
        "batch": 4,
        "microbatch": 2,
        "validation_people": 1,
        "checkpoint_every": 4,
        "sample_every": 8,
    },
    "generate": {"max_pairs": 4},
    "localise": {"pairs": 4, "resamples": 10},
}
REPRO = [sys.executable, "scripts/session.py", sys.executable, "-m", "dvc", "repro"]
STEPS = 12  # of each variant, shared by its phases, one more for the first ones


def copy_checkout(target: Path) -> None:
    """Copy what git would commit, so that data and results of this checkout stay out."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, names.decode().split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes((ROOT / name).read_bytes())
    (target / "dvc.lock").unlink(missing_ok=True)
    subprocess.run(["git", "init", "-q"], cwd=target, check=True)


def shrink_params(path: Path) -> None:
    """Write tiny parameters over the defaults."""
    params = yaml.safe_load(path.read_text(encoding="utf-8"))
    merge(params, TINY)
    for variant in params["train"]["variants"].values():
        names = [name for stretch in variant["steps"] for name in stretch]
        least, more = divmod(STEPS, len(names))
        variant["steps"] = [{name: least + (n < more)} for n, name in enumerate(names)]
    path.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")


def merge(params: dict, changes: dict) -> None:
    """Write changes over params, section by section."""
    for key, value in changes.items():
        if isinstance(value, dict):
            merge(params[key], value)
        else:
            params[key] = value


def run(target: Path, *stages: str) -> None:
    """`make repro` in the copy."""
    subprocess.run([*REPRO, *stages], cwd=target, check=True)


def main() -> None:
    """Run the copy, show its leaderboard and throw it away."""
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fixtalk-smoke-") as folder:
        target = Path(folder)
        copy_checkout(target)
        shrink_params(target / "params.yaml")
        run(target)
        print((target / "results" / "leaderboard.md").read_text(encoding="utf-8"))
    print(f"smoke run: {time.monotonic() - begin:.0f} s")


if __name__ == "__main__":
    main()
