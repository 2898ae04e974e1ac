"""This process → commit, code, parameters and versions that its numbers depend on."""

import hashlib
import platform
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pipelines.config import read_params

ROOT = Path(__file__).parent.parent
PACKAGES = ("fixtalk", "metrics", "pipelines")
LIBRARIES = ("av", "facenet-pytorch", "numpy", "opencv-python-headless", "scikit-image", "scipy",
             "torch", "torchvision")  # fmt: skip


def git(*arguments: str, folder: Path = Path()) -> str | None:
    """What a git command says in a folder; None where there is no git or it fails."""
    try:
        command = ["git", "-C", str(folder), *arguments]
        result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()


def circumstances() -> dict[str, Any]:
    """What a number depends on beside its data, its model and its protocol.

    Equal for every run of one checkout on one kind of machine: the files that hold it can be
    compared byte by byte.

    Returns:
        "commit" and "dirty" (uncommitted code) of this checkout, None without git; "code" (file →
        hash), "params" (all of params.yaml, empty without one) and "environment" (versions and
        device).
    """
    import torch

    changed = git("status", "--porcelain", "--untracked-files=no", "--", *PACKAGES, folder=ROOT)
    files = sorted(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {
        "commit": git("rev-parse", "HEAD", folder=ROOT),
        "dirty": None if changed is None else bool(changed),
        "code": {str(path.relative_to(ROOT)): _hash(path) for path in files},
        "params": read_params() if Path("params.yaml").is_file() else {},
        "environment": {**versions, "device": device},
    }


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]
