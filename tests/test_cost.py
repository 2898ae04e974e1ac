"""What the indicators cost at the published size."""

import pytest

from benchmarks.model import BASE, FULL, flops, run


def test_indicators_add_at_most_a_tenth_of_the_work():
    base, full = flops(BASE), flops(FULL)

    assert 0 < full["EMI"] + full["EDI"] <= 0.1 * base["all"]
    # a part that the table forgets would show here
    for counts in (base, full):
        assert counts["all"] == pytest.approx(
            sum(count for part, count in counts.items() if part != "all"), rel=1e-3
        )
    assert full["all"] - base["all"] == pytest.approx(full["EMI"] + full["EDI"], rel=1e-3)


@pytest.mark.slow
def test_published_size_runs_within_three_gib():
    _, _, peak = run(FULL)

    assert 0.3 < peak < 3  # the weights alone are 0.3
