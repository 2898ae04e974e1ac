"""Statistics: each by a hand-computed example, and intervals that hold what they say."""

import math

import numpy as np
import pytest

from metrics import statistics
from metrics.statistics import (
    cluster_interval,
    clusters_needed,
    holm,
    jackknife,
    mcnemar,
    sign_flip,
)

PEOPLE = ["a", "a", "b", "c", "c", "d"]
CHANGES = [1.0, 3.0, 1.0, -2.0, 1.0, 4.0]  # of the people: 2, 1, -0.5, 4


def two_level(generator, people):
    """Clips of people, three to six each; people and clips spread alike around 0."""
    labels = np.repeat(np.arange(people), generator.integers(3, 7, people))
    own = generator.normal(size=people)[labels]
    return own + generator.normal(size=len(labels)), labels


@pytest.mark.parametrize("people", [8, 12, 30])
def test_interval_covers_the_truth_as_often_as_it_says(people, monkeypatch):
    monkeypatch.setattr(statistics, "RESAMPLES", 500)
    generator = np.random.default_rng(people)
    found = 0

    for _ in range(2000):
        low, high = cluster_interval(*two_level(generator, people))
        found += low <= 0 <= high

    assert 0.93 <= found / 2000 <= 0.97


def test_interval_of_two_alike_people_is_t_of_one_degree():
    # resampled means are 10, 15 or 20 with ¼, ½, ¼: deviation √12.5, times √2 is 5;
    # t of one degree is 12.706
    low, high = cluster_interval([10.0] * 50 + [20.0] * 50, ["a"] * 50 + ["b"] * 50)

    assert (low + high) / 2 == 15
    assert (high - low) / 2 == pytest.approx(12.706 * 5, rel=0.02)


def test_interval_is_the_same_each_time_and_wider_at_a_higher_level():
    first, again = (cluster_interval(CHANGES, PEOPLE) for _ in range(2))

    assert first == again
    wide = cluster_interval(CHANGES, PEOPLE, level=0.99)
    assert wide.low < first.low < first.high < wide.high


def test_weights_move_the_interval_towards_the_heavier():
    low, high = cluster_interval([0.0, 1.0], ["a", "b"], [1, 3])

    assert (low + high) / 2 == 0.75


def test_equal_values_have_no_width_and_one_person_no_interval():
    assert cluster_interval([2.0, 2.0, 2.0], ["a", "b", "b"]) == (2.0, 2.0)
    assert cluster_interval([2.0, 3.0], ["a", "a"]) is None
    assert cluster_interval([], []) is None


def test_what_is_no_value_is_refused():
    with pytest.raises(ValueError, match="value 1 is nan"):
        cluster_interval([1.0, math.nan], ["a", "b"])
    with pytest.raises(ValueError, match="one label each"):
        sign_flip([1.0, 2.0], ["a"])


def test_sign_flip_counts_flips_by_hand():
    # sums 4, 1, -1, 4 make 8: of 16 flips, ±(4 1 -1 4), ±(4 1 1 4) and ±(4 -1 1 4) reach that far
    assert sign_flip(CHANGES, PEOPLE) == 6 / 16
    assert sign_flip([1.0, -1.0], ["a", "b"]) == 1
    assert sign_flip([0.1] * 16, range(16)) == 2 / 2**16


def test_sign_flip_of_many_is_random_and_close_to_exact(monkeypatch):
    generator = np.random.default_rng(0)
    changes = generator.normal(0.4, 1, 14)
    exact = sign_flip(changes, range(14))

    monkeypatch.setattr(statistics, "EXACT", 3)

    assert sign_flip(changes, range(14)) == pytest.approx(exact, abs=0.02)
    assert sign_flip(changes, range(14)) == sign_flip(changes, range(14))
    assert sign_flip(np.ones(60), range(60)) == 1 / 10_001


def test_mcnemar_by_hand():
    # one alone is right in 1 clip, the other in 5: 2 (1 + 6) / 2⁶
    first = [True, True, False, False, False, False, False]
    second = [True, False, True, True, True, True, True]

    assert mcnemar(first, second) == 2 * 7 / 64
    assert mcnemar(second, first) == 2 * 7 / 64
    assert mcnemar(first, first) == 1
    with pytest.raises(ValueError, match="first has 7 clips, second 1"):
        mcnemar(first, [True])


def test_holm_by_hand():
    # smallest times 3, next times 2, never below the one before, never above 1
    assert holm({"a": 0.03, "b": 0.01, "c": 0.04}) == {"a": 0.06, "b": 0.03, "c": 0.06}
    assert holm({"a": 0.7, "b": 0.6}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


def test_clusters_needed_by_hand():
    # people 1 and 3: deviation √2; (1.95996 + 0.84162)² 2 / 0.5² = 62.8
    assert clusters_needed([1.0, 3.0], ["a", "b"], 0.5) == 63
    assert clusters_needed([1.0, 3.0], ["a", "b"], -0.5) == 63
    assert clusters_needed([2.0, 2.0], ["a", "b"], 0.5) == 2
    with pytest.raises(ValueError, match="1 clusters"):
        clusters_needed([1.0, 3.0], ["a", "a"], 0.5)


def test_as_many_people_as_needed_find_the_effect_as_often_as_asked():
    generator = np.random.default_rng(1)
    people = clusters_needed(generator.normal(size=4000), range(4000), 0.5)

    found = sum(
        sign_flip(generator.normal(0.5, 1, people), range(people)) < 0.05 for _ in range(100)
    )

    assert people == pytest.approx(32, abs=2)
    assert 70 <= found <= 90


def test_jackknife_of_a_mean_is_students_interval():
    # people 1, 2, 6: mean 3, deviation √7, error √(7/3), t of two degrees 4.3027
    values = np.array([1.0, 2.0, 6.0])
    without = [(values.sum() - value) / 2 for value in values]

    (low, high), p = jackknife(3.0, without)

    assert (low, high) == pytest.approx((3 - 4.3027 * 1.52753, 3 + 4.3027 * 1.52753), abs=1e-3)
    assert p == pytest.approx(0.1881, abs=1e-3)
    assert jackknife(0.0, [0.0, 0.0]) == ((0.0, 0.0), 1.0)
