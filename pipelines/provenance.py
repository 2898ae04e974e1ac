"""This process → commit, code, parameters and versions that its numbers depend on."""

import hashlib
import json
import platform
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pipelines.revision import git

ROOT = Path(__file__).parent.parent
PACKAGES = ("fixtalk", "metrics", "pipelines")
RULES = ("params.yaml", "dvc.yaml", "torchvision_cpu.py")  # decide as code does
LIBRARIES = ("av", "facenet-pytorch", "numpy", "opencv-python-headless", "scikit-image", "scipy",
             "torch", "torchvision")  # fmt: skip


def circumstances(params: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What a number depends on beside its data, its model and its protocol.

    Equal for every run of one checkout on one kind of machine: the files that hold it can be
    compared byte by byte.

    Args:
        params: that a stage of the pipeline read; None where no parameter decides the number, as
            of videos from elsewhere: a params.yaml that lies around there belongs to others.

    Returns:
        "commit" and "dirty" (uncommitted code) of this checkout, None without git; "code" (file →
        hash), "params" (as given, in what JSON can hold) and "environment" (versions and device).
    """
    import torch

    own = ("--git-dir", ".git")  # lest a repository around an installed package answers
    changed = git(*own, "status", "--porcelain", "--", *PACKAGES, *RULES, folder=ROOT)
    files = sorted(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {
        "commit": git(*own, "rev-parse", "HEAD", folder=ROOT),
        "dirty": None if changed is None else bool(changed),
        "code": {str(path.relative_to(ROOT)): _hash(path) for path in files},
        "params": json.loads(json.dumps(params or {}, default=str)),  # YAML knows dates
        "environment": {**versions, "device": device},
    }


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]
