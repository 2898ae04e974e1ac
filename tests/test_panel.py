"""Panel: judges that are there, reasons for the others, and damaged weights that stop the work."""

import hashlib
import json

import pytest
from safetensors.torch import save

from metrics.catalogue import METRICS
from metrics.local import LocalEmotion, LocalIdentity, LocalLandmarks, LocalSync
from metrics.registry import OFFICIAL
from pipelines.panel import LOCAL, read_accuracies, seat_panel
from pipelines.weights import WeightsError

CLASSES = {"identity": LocalIdentity, "landmarks": LocalLandmarks,
           "emotion": LocalEmotion, "sync": LocalSync}  # fmt: skip


@pytest.fixture
def local(tmp_path):
    """A folder as the judge stage writes it, of untrained networks."""
    judges = {}
    for name, judge in CLASSES.items():
        content = save(judge.network_class().state_dict())
        (tmp_path / f"{name}.safetensors").write_bytes(content)
        judges[name] = {"sha256": hashlib.sha256(content).hexdigest(), "accuracy": {}}
    (tmp_path / "judges.json").write_text(json.dumps({"dataset": "synthetic", "judges": judges}))
    return tmp_path


def test_every_judge_is_seated_or_has_a_reason(tmp_path):
    panel = seat_panel(tmp_path / "none", None)

    asked = {metric.judge for metric in METRICS.values()} - {None}
    assert asked <= panel.judges.keys() | panel.missing.keys()
    assert "efficientnet_lite0" in panel.judges
    assert "fixtalk weights fetch facenet" in panel.reason("facenet")
    assert panel.reason("local_sync") == "the project's own judges know rendered people only"
    assert panel.reason(None) is None
    assert panel.reason("efficientnet_lite0") is None


def test_own_judges_are_seated_with_the_hash_of_their_file(tmp_path, local):
    panel = seat_panel(tmp_path / "none", local)

    known = read_accuracies(local)["judges"]
    assert {n: panel.judges[f"local_{n}"].sha256 for n in LOCAL} == {
        n: known[n]["sha256"] for n in LOCAL
    }
    assert panel.without("local_sync", "sent out").reason("local_sync") == "sent out"


def test_another_file_than_judges_json_says_stops_the_work(tmp_path, local):
    (local / "emotion.safetensors").write_bytes(b"half a file")

    with pytest.raises(WeightsError, match=r"emotion\.safetensors: missing or not the file"):
        seat_panel(tmp_path / "none", local)


def test_a_damaged_official_file_stops_the_work(tmp_path):
    (tmp_path / OFFICIAL["facenet"].file).write_bytes(b"not tensors")

    with pytest.raises(WeightsError, match="not a file of plain tensors"):
        seat_panel(tmp_path, None)


def test_damaged_facts_of_judges_are_told(tmp_path):
    for content in ("{", '{"judges": {}}'):
        (tmp_path / "judges.json").write_text(content)

        with pytest.raises(WeightsError, match=r"judges\.json: damaged"):
            read_accuracies(tmp_path)


def test_a_folder_without_judges_says_what_to_run(tmp_path):
    with pytest.raises(WeightsError, match="run the judge stage first"):
        read_accuracies(tmp_path)
