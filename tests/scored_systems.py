"""Values by hand → a scored folder as the score stage and `fixtalk score` leave it."""

import numpy as np

from metrics import METRICS, Protocol
from pipelines.measure import ClipScores
from pipelines.provenance import circumstances
from pipelines.summary import Totals, write_scores

PEOPLE, CLIPS = 6, 2  # of each person
PROTOCOL = Protocol(name="self", resolution="8x8", codec="lossless", detector="none", inputs="0")


def spread(middle, seed=0, people=PEOPLE):
    """A value for each clip, near `middle`."""
    return middle + np.random.default_rng(seed).normal(0, 0.01 * abs(middle), people * CLIPS)


def write_system(folder, values, *, name="s", protocol=PROTOCOL, judges=None, features=None,
                 frames=10, left_out=0, **facts):  # fmt: skip
    """A folder in which clip n of person n // CLIPS has the n-th of the values of each metric.

    A value of None has a reason, NaN has none; `judges` are hashes by name, `features` the
    generated and the true ones, (clips, frames, width) each.
    """
    total = Totals()
    for number in range(len(next(iter(values.values())))):
        rows = []
        for metric in (each for each, of in METRICS.items() if of.per != "set"):
            value = values[metric][number] if metric in values else None
            reason = "no value here" if value in (None, np.inf) else None
            rows.append({"metric": metric, "value": value, "truth": None, "frames": frames,
                         "left_out": left_out, "reason": reason})  # fmt: skip
        sets = {} if features is None else {"inception": tuple(side[number] for side in features)}
        person = f"P{number // CLIPS}"
        about = {"system": name, "protocol": protocol.name, "pair": str(number), "person": person}
        total.add(about, ClipScores(rows, sets, {}, judges or {}))
    total.protocol = protocol
    folder.mkdir(parents=True, exist_ok=True)
    facts = {"system": name, "dataset": "d", "key": name, "judges": {}, **facts}
    facts["provenance"] = circumstances({"train": {"steps": 1}})
    write_scores(folder, {protocol.name: total}, facts, {protocol.name: len(total.rows)}, {})
    return folder
