"""Emotions seen in videos → whether they are the intended ones, and how sure their share is."""

import math
from statistics import NormalDist

from jaxtyping import Float, Int
from torch import Tensor

from metrics.inputs import check_numbers

# classes of emotion-FAN as EAT trained it on MEAD, in its order
EMOTIONS = ("happy", "angry", "disgusted", "fear", "sad", "neutral", "surprised", "contempt")


def accuracy(
    predicted: Int[Tensor, " videos"], true: Int[Tensor, " videos"]
) -> Float[Tensor, " videos"]:
    """1 for each video whose emotion is recognised, else 0; higher is better.

    No better than the judge: show its accuracy on the true videos beside the mean.

    Args:
        predicted: most probable class of each video, an index into `EMOTIONS`.
        true: class that each video should show.

    Raises:
        ValueError: the numbers of videos differ, or are 0.

    Source: Acc_emo of yuangan/evaluation_eat, correct videos / videos.
    """
    check_numbers(predicted=predicted, true=true)
    return (predicted == true).double()


def wilson_interval(correct: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Bounds between which the true accuracy lies with the given confidence, 0 to 1.

    Good for few videos and for accuracies near 0 and 1. Both are `nan` without a video.

    Args:
        correct: videos recognised.
        total: videos judged.
        confidence: of the two-sided interval, between 0 and 1.

    Raises:
        ValueError: `correct` is not among 0 to `total`, or `confidence` not between 0 and 1.

    Source: Wilson 1927; scipy.stats.binomtest, proportion_ci(method="wilson"), equal to 1e-12
        (tests/golden/emotion.json).
    """
    if not 0 <= correct <= total:
        raise ValueError(f"correct={correct}: expected 0 to total={total}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence}: expected a share between 0 and 1, as 0.95")
    if total == 0:
        return math.nan, math.nan
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, weight = correct / total, z**2 / total
    middle = (share + weight / 2) / (1 + weight)
    reach = z / (1 + weight) * math.sqrt(share * (1 - share) / total + weight / (4 * total))
    return max(0.0, middle - reach), min(1.0, middle + reach)
