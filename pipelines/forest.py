"""Values with intervals → where the marks of a forest plot stand."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

WIDTH = 300  # units of the drawing; the page scales it
LEFT, RIGHT = 98, 288  # ends of the axis, right of the names
ROW = 24
TOP = 8
LETTERS = 14  # of a name; longer ones are cut


@dataclass(frozen=True)
class Estimate:
    """One line of a forest plot.

    Attributes:
        name: of the system.
        value: where its dot stands.
        low: end of the interval; None where there is none.
        high: other end.
        text: value and interval as they are read out.
        verdict: "better", "worse" or "tie"; empty for a plain mean.
    """

    name: str
    value: float
    low: float | None
    high: float | None
    text: str
    verdict: str = ""


def forest(estimates: Sequence[Estimate], reference: float | None) -> dict[str, Any]:
    """Coordinates of dots, whiskers, ticks and the line of reference, for the template.

    Args:
        estimates: from top to bottom, at least one.
        reference: value of the dashed line; None for no line.
    """
    from matplotlib.ticker import MaxNLocator

    known = [end for one in estimates for end in (one.value, one.low, one.high, reference)]
    low, high = (pick(end for end in known if end is not None) for pick in (min, max))
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    low, high = low - margin, high + margin

    def place(value: float | None) -> float | None:
        share = None if value is None else (value - low) / (high - low)
        return None if share is None else round(LEFT + share * (RIGHT - LEFT), 2)

    ticks = [tick for tick in MaxNLocator(4).tick_values(low, high) if low <= tick <= high]
    lines = [
        {
            "y": TOP + ROW * number + ROW / 2,
            "name": one.name if len(one.name) <= LETTERS else f"{one.name[: LETTERS - 1]}…",
            "verdict": one.verdict,
            "x": place(one.value),
            "low": place(one.low),
            "high": place(one.high),
        }
        for number, one in enumerate(estimates)
    ]
    bottom = TOP + ROW * len(estimates)
    return {
        "width": WIDTH, "height": bottom + 22, "left": LEFT, "right": RIGHT, "bottom": bottom,
        "lines": lines, "ticks": [(place(tick), f"{tick:.4g}") for tick in ticks],
        "reference": place(reference),
        "words": "; ".join(f"{one.name} {one.text} {one.verdict}".strip() for one in estimates),
    }  # fmt: skip
