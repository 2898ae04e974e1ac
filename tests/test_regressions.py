"""The gate on clips that were really harmed, and on real reruns, with networks that judge."""

import shutil
from collections import Counter

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from scipy.ndimage import gaussian_filter

from fixtalk.media import read_audio, read_video, write_video
from pipelines.compare import compare
from pipelines.config import load_config
from pipelines.gate import GateConfig, gate
from pipelines.generate import GenerateConfig, generate
from pipelines.judge import JudgeConfig, Steps, judge
from pipelines.matching import read_labels
from pipelines.score import Folders, ScoreConfig, score
from tests.conftest import ROOT

CONFIG = load_config(GateConfig, "gate", ROOT / "params.yaml")
CLIPS = ROOT / "baselines" / "model" / "clips" / "shards" / "00000.parquet"
MODEL = ROOT / "baselines" / "model" / "checkpoint"
REFERENCE = ROOT / "baselines" / "metrics" / "reference"
FAULTS = {
    "blur": {"psnr", "ssim", "kd_efficientnet_lite0"},
    "swap": {"psnr", "csim_local"},
    "shift": {"sync_offset_local"},
    "drop": {"psnr", "ssim"},
}
RERUNS = 20

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """Clips, and judges that have learnt these very clips: the gate is tested here, not they."""
    root = tmp_path_factory.mktemp("judges")
    (root / "clips" / "shards").mkdir(parents=True)
    shutil.copy(CLIPS.parents[1] / "coverage.json", root / "clips")
    table = pq.read_table(CLIPS)
    place = table.schema.get_field_index("split")
    for split in ("train", "test"):
        column = pc.if_else(pc.is_valid(table["split"]), split, None)
        shard = table.set_column(place, table.schema.field(place), column)
        pq.write_table(shard, root / "clips" / "shards" / f"{split}.parquet")
    steps = Steps(emotion=200, landmarks=300, identity=150, sync=250)
    config = JudgeConfig(dataset="rendered", seed=0, batch=32, learning_rate=3e-3,
                         precision="float32", steps=steps)  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.tracking.project_root", lambda: root)
        judge(config, root / "clips", root / "judges")
    return root


@pytest.fixture(scope="module")
def truth():
    """Clip → frames, sound and person."""
    people = {clip: row["person"] for clip, row in read_labels(REFERENCE / "labels.csv").items()}
    found = {}
    for path in sorted(REFERENCE.glob("*.mp4")):
        frames = read_video(path)
        found[path.stem] = frames, read_audio(path, len(frames)), people[path.stem]
    return found


@pytest.fixture(scope="module")
def scored(material, tmp_path_factory):
    """Writes videos as a system would, scores them and returns the folder of the scores."""

    def score(clips):
        root = tmp_path_factory.mktemp("system")
        for clip, (frames, audio, _) in clips.items():
            path = root / "system" / f"{clip}.mp4"
            write_video(path, frames, crf=23, audio=audio.astype(np.int16))
        compare(root / "system", REFERENCE, root / "scores", preset="full", weights=root / "none",
                judges=material / "judges")  # fmt: skip
        return root / "scores"

    return score


@pytest.fixture(scope="module")
def good(scored, truth):
    """Scores of a good system: the truth with a little loss."""
    return scored(truth)


def harmed(fault, clip, truth):
    """Frames and sound of a clip with the fault in them."""
    frames, audio, person = truth[clip]
    if fault == "blur":
        return gaussian_filter(frames, (0, 1.5, 1.5, 0)), audio
    if fault == "swap":
        other = next(their for their, _, who in truth.values() if who != person)
        return other[np.minimum(np.arange(len(frames)), len(other) - 1)], audio
    if fault == "shift":
        return frames, np.concatenate([np.zeros(3 * 640, audio.dtype), audio[: -3 * 640]])
    kept = [n for n in range(len(frames)) if n % 4]  # every fourth is lost, the rest moves up
    return frames[kept + [len(frames) - 1] * (len(frames) - len(kept))], audio


@pytest.mark.parametrize("fault", FAULTS)
def test_injected_regression_is_blocked_by_what_sees_it(fault, good, scored, truth):
    clips = {clip: (*harmed(fault, clip, truth), person) for clip, (_, _, person) in truth.items()}

    verdict = gate(CONFIG, good, scored(clips))

    fired = {row.metric for row in verdict.rows if row.tier == "hard" and row.state == "FAIL"}
    assert verdict.state == "FAIL"
    assert verdict.reasons == []
    assert fired >= FAULTS[fault], verdict.text
    if fault == "shift":
        assert fired == FAULTS[fault], verdict.text


@pytest.fixture
def rerun(material, tmp_path):
    """Generates with the committed model and scores, with so many frames, threads and workers."""

    def run(name, batch, threads, workers, monkeypatch):
        monkeypatch.setenv("FIXTALK_WORKERS", str(workers))
        torch.set_num_threads(threads)
        protocols = GenerateConfig(
            dataset="rendered", protocols=["self"], max_pairs=4, batch=batch, gains={}
        )
        videos = tmp_path / name / "videos"
        generate(protocols, material / "clips", MODEL, videos)
        folders = Folders(material / "clips", material / "judges", tmp_path / "none", videos)
        score(load_config(ScoreConfig, "score", ROOT / "params.yaml"), folders, tmp_path / name)
        torch.set_num_threads(1)
        return tmp_path / name

    return run


def test_reruns_of_one_model_pass(rerun, monkeypatch):
    first = rerun("first", 8, 1, 1, monkeypatch)
    states, texts = Counter(), []

    for number in range(RERUNS):
        # two threads round differently; the last two runs share their clips among two workers
        workers = 2 if number >= RERUNS - 2 else 1
        threads = 2 if number % 5 == 0 else 1
        again = rerun(str(number), 1 + number % 10, threads, workers, monkeypatch)
        verdict = gate(CONFIG, first, again)
        states[verdict.state] += 1
        texts.append(verdict.text)

    assert states == {"PASS": RERUNS}, "\n".join(texts)
