"""How good: tensors in, numbers out; `METRICS` is the table of contents."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

from torch import Tensor

from metrics.identity import cosine_similarity, identity_leakage
from metrics.image import psnr, ssim
from metrics.landmarks import face_found, landmark_distance, point_distance


@dataclass(frozen=True)
class Metric:
    """One column of the leaderboard.

    Attributes:
        function: inputs named in `needs` → one value a frame.
        unit: of the value; "1" for none.
        higher_is_better: None where the best value is 0.
        needs: what it is computed from, in the order of the arguments.
        source: the definition or implementation it equals.
        meaning: one line for readers of the leaderboard.
        version: raised when values change, so that old and new never share a table.
    """

    function: Callable[..., Tensor]
    unit: str
    higher_is_better: bool | None
    needs: tuple[str, ...]
    source: str
    meaning: str
    version: int = 1


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "psnr": Metric(
            psnr, "dB", True, ("generated", "truth"),
            "skimage.metrics.peak_signal_noise_ratio, uint8 RGB",
            "pixel error against the true frames; forgives blur",
        ),
        "ssim": Metric(
            ssim, "1", True, ("generated", "truth"),
            "skimage.metrics.structural_similarity, defaults, RGB",
            "likeness of local structure, 7x7 uniform window; 1 is identical",
        ),
        "ssim_gaussian": Metric(
            partial(ssim, window="gaussian"), "1", True, ("generated", "truth"),
            "Wang et al. 2004, 11x11 Gaussian window, RGB",
            "the same with the 2004 paper's Gaussian window; not comparable with ssim",
        ),
        "lmd_mtcnn5": Metric(
            point_distance, "px of 128", False, ("generated points", "truth points"),
            "centring of yuangan/evaluation_eat test_lmd.py, on MTCNN's five points",
            "distance of eyes, nose and mouth corners from the true ones; not the 68-point LMD",
        ),
        "face_found": Metric(
            face_found, "1", True, ("face probabilities", "min_probability"),
            "facenet-pytorch MTCNN, bundled weights",
            "share of generated frames in which a detector finds a face",
        ),
        "leak_pixels": Metric(
            identity_leakage, "1", None, ("generated", "truth", "driver"),
            "<g - s, d - s> / |d - s|² on raw pixels, s the true frame, d the driver's",
            "share of the driver's picture in the frame: 0 none, 1 fully the driver",
        ),
        "csim_facenet": Metric(
            cosine_similarity, "1", True, ("generated embeddings", "truth embeddings"),
            "cosine of facenet-pytorch InceptionResnetV1 (vggface2) embeddings",
            "likeness of the person according to a face recogniser",
        ),
    }
)  # fmt: skip

__all__ = [
    "METRICS",
    "Metric",
    "cosine_similarity",
    "face_found",
    "identity_leakage",
    "landmark_distance",
    "point_distance",
    "psnr",
    "ssim",
]
