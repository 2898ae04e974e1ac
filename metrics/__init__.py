"""How good: tensors in, numbers out; `METRICS` is the table of contents."""

from metrics.catalogue import METRICS, Metric, metric_of
from metrics.cpbd import cpbd
from metrics.distribution import (
    FeatureMoments,
    frechet_at_infinity,
    frechet_distance,
    frechet_of_moments,
    kernel_distance,
)
from metrics.emotion import EMOTIONS, accuracy, wilson_interval
from metrics.identity import cosine_similarity, identity_leakage
from metrics.image import psnr, ssim
from metrics.landmarks import (
    face_found,
    interocular_distance,
    jitter,
    landmark_distance,
    normalised_landmark_distance,
    point_distance,
)
from metrics.niqe import niqe, niqe_288
from metrics.protocol import PRESETS, Protocol
from metrics.sample import Reservoir
from metrics.sync import SyncScores, mfcc, sync_scores

__all__ = [
    "EMOTIONS",
    "METRICS",
    "PRESETS",
    "FeatureMoments",
    "Metric",
    "Protocol",
    "Reservoir",
    "SyncScores",
    "accuracy",
    "cosine_similarity",
    "cpbd",
    "face_found",
    "frechet_at_infinity",
    "frechet_distance",
    "frechet_of_moments",
    "identity_leakage",
    "interocular_distance",
    "jitter",
    "kernel_distance",
    "landmark_distance",
    "metric_of",
    "mfcc",
    "niqe",
    "niqe_288",
    "normalised_landmark_distance",
    "point_distance",
    "psnr",
    "ssim",
    "sync_scores",
    "wilson_interval",
]
