"""Who leads a column: marginal means do not decide where the same clips say otherwise."""

import pandas as pd
import pytest

from pipelines.contrast import number_ids, read_scores
from pipelines.ranking import Ranking
from tests.scored_systems import write_system


@pytest.fixture
def leaders(tmp_path):
    """Leaders of psnr among systems, given the values of each."""

    def find(**values):
        systems = [
            read_scores(write_system(tmp_path / name, {"psnr": of_system}, name=name))
            for name, of_system in values.items()
        ]
        rows = pd.DataFrame(
            {"system": system.name, "psnr": means["psnr"], "psnr_id": number_ids(means)["psnr"]}
            for system in systems
            for means in [system.means["self"]]
        )
        return Ranking(systems, "self").leaders(rows, ("psnr", rows["psnr_id"].iloc[0]))

    return find


def test_system_that_is_better_on_all_clips_leads_alone(leaders):
    assert leaders(a=[20.0 + n for n in range(24)], b=[19.0 + n for n in range(24)]) == ["a"]


def test_who_cannot_be_told_from_the_best_is_named_too(leaders):
    assert leaders(a=[20.0, 20.0, 22.0, 22.0] * 6, b=[22.0, 22.0, 19.9, 19.9] * 6) == ["a", "b"]


def test_mean_of_easy_clips_only_does_not_lead(leaders):
    easy = [30.0] * 24 + [None] * 16

    assert leaders(easy=easy, whole=[31.0] * 24 + [20.0] * 16) == []
