"""Packages in .peers → their functions, each with what it cannot import today stood in for.

Each loader raises ImportError where its package is not installed (`make bench-metrics` does that).
"""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import scipy.ndimage
import torch

import torchvision_cpu

FOLDER = Path(__file__).parent.parent / ".peers"


def load_python_cpbd() -> Callable[[np.ndarray], float]:
    """CPBD of luma; the package wants a function that SciPy has no longer."""
    scipy.ndimage.imread = None
    return _load("cpbd").compute


def load_basicsr() -> Callable[[np.ndarray], float]:
    """NIQE of luma, without the training code around it."""
    _stand_in("basicsr", FOLDER / "basicsr")
    _stand_in("basicsr.metrics", FOLDER / "basicsr" / "metrics")
    _stand_in("basicsr.utils", FOLDER / "basicsr" / "utils", bgr2ycbcr=None)
    niqe = _load("basicsr.metrics.niqe").niqe
    pristine = _pristine()
    names = "mu_pris_param", "cov_pris_param", "gaussian_window"
    arguments = [pristine[name] for name in names]
    return lambda luma: niqe(luma.astype(np.float32), *arguments)


def load_pyiqa() -> Callable[[np.ndarray], float]:
    """NIQE of luma in float64, without downloads: BasicSR ships the same parameters."""
    for name in ("pyiqa", "pyiqa.archs", "pyiqa.utils", "pyiqa.losses"):
        _stand_in(name, FOLDER.joinpath(*name.split(".")))
    _stand_in("pyiqa.utils.download_util", load_file_from_url=None)
    _stand_in("pyiqa.archs.arch_util", get_url_from_name=str)
    niqe = _load("pyiqa.archs.niqe_arch").calculate_niqe
    mean, covariance = (torch.from_numpy(_pristine()[f"{n}_pris_param"]) for n in ("mu", "cov"))

    def score(luma: np.ndarray) -> float:
        picture = torch.from_numpy(luma)[None, None].double() / 255
        return niqe(picture, mu_pris_param=mean, cov_pris_param=covariance[None]).item()

    return score


def load_pytorch_fid() -> Callable[[np.ndarray, np.ndarray], float]:
    """Fréchet distance of two sets of features, with the statistics that go before it."""
    torchvision_cpu.install()
    distance = _load("pytorch_fid.fid_score").calculate_frechet_distance

    def score(a: np.ndarray, b: np.ndarray) -> float:
        covariances = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
        return distance(a.mean(axis=0), covariances[0], b.mean(axis=0), covariances[1])

    return score


def _load(name: str) -> Any:
    # last on the path: the folder also holds "tests" and "options" that peers brought along
    if str(FOLDER) not in sys.path:
        sys.path.append(str(FOLDER))
    return importlib.import_module(name)


def _pristine() -> Any:
    return np.load(FOLDER / "basicsr" / "metrics" / "niqe_pris_params.npz")


def _stand_in(name: str, path: Path | None = None, **names: Any) -> None:
    """Put a module in place of one that cannot be imported or would import too much."""
    module = sys.modules[name] = ModuleType(name)
    vars(module).update(names)
    if path:
        module.__path__ = [str(path)]
