"""Emotion accuracy: one prediction a video, and how sure a share of few videos is."""

import json
import math
from pathlib import Path

import pytest
import torch

from fixtalk.synthetic import motion
from metrics.emotion import EMOTIONS, accuracy, wilson_interval

GOLDEN = json.loads((Path(__file__).parent / "golden" / "emotion.json").read_text("utf-8"))


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda c: f"{c['correct']}of{c['total']}")
def test_wilson_interval_equals_scipy(case):
    interval = wilson_interval(case["correct"], case["total"], case["confidence"])

    assert interval == pytest.approx((case["low"], case["high"]), abs=GOLDEN["tolerance"])


def test_wilson_interval_mirrors_and_narrows_with_more_videos():
    low, high = wilson_interval(3, 10)
    low_of_many, high_of_many = wilson_interval(300, 1000)

    assert wilson_interval(7, 10) == pytest.approx((1 - high, 1 - low))
    assert low < low_of_many < 0.3 < high_of_many < high


def test_wilson_interval_without_videos_is_nan():
    assert all(math.isnan(bound) for bound in wilson_interval(0, 0))


@pytest.mark.parametrize(("correct", "total"), [(3, 2), (-1, 2), (0, -1)])
def test_impossible_counts_are_refused(correct, total):
    with pytest.raises(ValueError, match=f"correct={correct}.*total={total}"):
        wilson_interval(correct, total)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0])
def test_confidence_is_a_share(confidence):
    with pytest.raises(ValueError, match=f"confidence={confidence}"):
        wilson_interval(1, 2, confidence)


def test_accuracy_counts_videos():
    predicted, true = torch.tensor([0, 3, 5, 7]), torch.tensor([0, 3, 6, 0])

    correct = accuracy(predicted, true)

    assert correct.tolist() == [1.0, 1.0, 0.0, 0.0]
    assert correct.dtype == torch.float64


def test_videos_of_another_number_are_refused(unchecked):
    with pytest.raises(ValueError, match=r"true \(2,\) and predicted \(3,\) differ"):
        accuracy(torch.zeros(3).long(), torch.zeros(2).long())
    with pytest.raises(ValueError, match="empty"):
        accuracy(torch.zeros(0).long(), torch.zeros(0).long())


def test_the_synthetic_corpus_spells_the_emotions_alike():
    assert set(EMOTIONS) == set(motion.EMOTIONS)
    assert len(EMOTIONS) == 8
