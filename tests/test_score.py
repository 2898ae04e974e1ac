"""Score: hand-computed values on drawn clips, nulls with reasons, and refusals."""

import csv
import json
import math
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from fixtalk.media import read_video, write_video
from metrics import METRICS
from metrics.protocol import identify
from pipelines.evidence import describe_detector
from pipelines.files import read_table
from pipelines.generate import GenerateConfig, generate
from pipelines.score import Folders, Job, ScoreConfig, _protocol, score
from tests.discs import SPLIT, clip_row, write_clips

COPY_SOURCE = Path(__file__).parent.parent / "models" / "copy_source"
CONFIG = ScoreConfig(min_probability=0.9, detect_resolution=96, detect_every=5, max_shift=15)
PER_CLIP = [name for name, metric in METRICS.items() if metric.per != "set"]
NOISE = 16  # added to one pixel in four: mse 64 where nothing clips


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """Clips and one scored system: still clips copied, moving ones with known noise, leaks."""
    root = tmp_path_factory.mktemp("score")
    rows = [
        clip_row(f"cross/{m}/S{p:03d}", p, m, frames=6, moving=m == "m1")
        for p in range(2)
        for m in ("m0", "m1")
    ]
    clips = write_clips(root / "clips", rows)
    protocols = GenerateConfig(
        dataset="discs", protocols=["self", "cross"], max_pairs=8, batch=4, gains={}
    )
    generate(protocols, clips, COPY_SOURCE, root / "known" / "videos")
    overwrite(root / "known" / "videos", rows)
    score(CONFIG, folders(root), root / "known")
    return root


def folders(root, videos="known"):
    """What the stage reads; the judges there were made for another dataset."""
    judges = root / "judges"
    judges.mkdir(exist_ok=True)
    (judges / "judges.json").write_text('{"dataset": "another", "judges": {}}')
    return Folders(root / "clips", judges, root / "weights", root / videos / "videos")


def overwrite(videos, rows):
    """Moving clips in self become the truth with noise, all of cross becomes the driver."""
    drivers = {row["clip"]: read_video(row["video"]) for row in rows}
    for pair in csv.DictReader((videos / "pairs.csv").open()):
        frames = drivers[pair["driver_clip"]].copy()
        if pair["protocol"] == "self":
            frames[:, ::2, ::2] += np.uint8(NOISE)
        if pair["protocol"] == "cross" or "/m1/" in pair["driver_clip"]:
            write_video(videos / pair["protocol"] / f"{pair['pair']}.mkv", frames, lossless=True)


def table(folder):
    return pq.read_table(folder / "scores.parquet").to_pandas()


def means(folder):
    return json.loads((folder / "metrics.json").read_text())


def of(frame, protocol, metric):
    chosen = frame[(frame.protocol == protocol) & (frame.metric == metric)]
    return chosen.set_index("driver_clip")


def test_facts_tell_the_split_and_what_the_numbers_depend_on(scored):
    _, facts = read_table(scored / "known" / "scores.parquet")

    assert facts["split"] == SPLIT
    made = facts["provenance"]
    assert set(made) == {"commit", "dirty", "code", "params", "environment"}
    assert len(made["code"]["pipelines/score.py"]) == 12
    assert made["params"]["score"]["detect_every"] == 5


def test_copy_of_a_still_clip_is_perfect_and_counted_apart(scored):
    psnr = of(table(scored / "known"), "self", "psnr").loc["cross/m0/S000"]
    ssim = of(table(scored / "known"), "self", "ssim").loc["cross/m0/S000"]

    assert psnr.value == math.inf
    assert (psnr.frames, psnr.left_out) == (0, 6)
    assert psnr.reason == "all frames are identical to the truth"
    assert ssim.value == 1.0


def test_known_noise_scores_the_hand_computed_psnr_and_infinity_stays_out_of_the_mean(scored):
    expected = 10 * math.log10(255**2 / (NOISE**2 / 4))

    psnr = of(table(scored / "known"), "self", "psnr")

    assert psnr.value[psnr.value < math.inf].tolist() == pytest.approx([expected] * 2, abs=1e-9)
    summary = means(scored / "known")["self"]
    assert summary["psnr"] == pytest.approx(expected, abs=1e-6)
    assert summary["possible"] == 4
    assert (summary["pairs"], summary["psnr_n"], summary["psnr_left_out"]) == (4, 2, 12)


def test_showing_the_driver_instead_is_full_leakage(scored):
    leak = of(table(scored / "known"), "cross", "leak_pixels")

    assert leak.value.tolist() == pytest.approx([1.0] * len(leak), abs=1e-12)


def test_every_null_has_a_reason_and_every_metric_a_row(scored):
    frame = table(scored / "known")

    empty = frame[frame.value.isna()]

    assert empty.reason.notna().all()
    assert (frame.groupby(["protocol", "pair"]).metric.nunique() == len(PER_CLIP)).all()
    assert set(empty.metric) >= {"csim_facenet", "csim_local", "lmd_mtcnn5", "leak_pixels"}
    reasons = dict(zip(empty.metric, empty.reason, strict=True))
    assert "rendered people only" in reasons["csim_local"]
    assert "it needs 192; see niqe_live_288" in reasons["niqe_live"]


def test_discs_have_no_face_and_the_summary_says_so(scored):
    summary = means(scored / "known")["self"]

    assert summary["face_found"] == 0.0
    assert summary["lmd_mtcnn5"] is None
    assert "face" in summary["reasons"]["lmd_mtcnn5"]
    assert summary["lmd_mtcnn5_n"] == 0
    assert summary["lmd_mtcnn5_left_out"] == 8
    assert "fixtalk weights fetch facenet" in summary["reasons"]["csim_facenet"]
    assert "fixtalk weights fetch inception" in summary["reasons"]["fid_inception"]


def test_sets_of_frames_are_compared_and_carry_their_number(scored):
    summary = means(scored / "known")

    assert summary["self"]["fd_efficientnet_lite0@8"] > 0
    assert "8 frames; below 2048" in summary["self"]["warnings"][0]
    assert summary["cross"]["kd_efficientnet_lite0@8"] != summary["self"]["kd_efficientnet_lite0@8"]


def test_protocol_id_follows_what_must_be_equal(scored):
    known = means(scored / "known")
    jobs = [compared()]
    other = CONFIG.model_copy(update={"min_probability": 0.8})

    ids = [
        _protocol(config, "self", listed, "32x32").id
        for config, listed in ((CONFIG, jobs), (CONFIG, []), (other, jobs))
    ]

    assert known["self"]["protocol_id"] != known["cross"]["protocol_id"]
    assert len(set(ids)) == 3
    assert ids[0] == _protocol(CONFIG, "self", [compared(video="moved.mkv")], "32x32").id


@pytest.mark.parametrize("role", ["source", "driver", "truth"])
def test_protocol_id_follows_the_pixels_of_a_clip_under_the_same_name(role):
    ids = {
        _protocol(CONFIG, "self", [compared(**content)], "32x32").id
        for content in ({}, {role: b"rendered anew"})
    }

    assert len(ids) == 2


def test_protocol_names_the_weights_that_find_faces():
    import facenet_pytorch

    data = Path(facenet_pytorch.__file__).parent / "data"
    hashes = [sha256((data / f"{n}.pt").read_bytes()).hexdigest() for n in ("pnet", "rnet", "onet")]

    assert describe_detector().endswith(identify(hashes))
    protocol = _protocol(CONFIG, "self", [], "32x32")
    assert replace(protocol, detector="another").id != protocol.id


def compared(source=b"source", driver=b"driver", truth=b"truth", video="made.mkv"):
    """The job of one pair."""
    pair = {"protocol": "self", "pair": "000-a"}
    panel = (Path("weights"), None, "")
    return Job(CONFIG, pair, Path(video), source, driver, truth, b"", None, {}, panel,
               Path("p.png"), False, False)  # fmt: skip


@pytest.mark.slow
def test_scoring_again_gives_the_same_bytes(scored):
    names = ("metrics.json", "scores.parquet", "preview/sheet.png")
    before = [(scored / "known" / name).read_bytes() for name in names]

    score(CONFIG, folders(scored), scored / "known")

    assert [(scored / "known" / name).read_bytes() for name in names] == before


def test_preview_holds_a_row_per_person_and_films(scored):
    preview = scored / "known" / "preview"

    films = sorted(preview.glob("*/*.mp4"))

    assert len(list(preview.glob("cross/*.png"))) == 2
    assert len(films) == 8
    assert read_video(films[0]).shape == (6, 128, 512, 3)
    assert (preview / "sheet.png").is_file()


def test_missing_video_is_named(scored, tmp_path):
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in ("pairs.csv", "coverage.json", "system.json"):
        (videos / name).write_text((scored / "known" / "videos" / name).read_text())

    with pytest.raises(FileNotFoundError, match=r"000-cross-m0-S000\.mkv: missing"):
        score(CONFIG, folders(scored)._replace(videos=videos), tmp_path / "out")

    assert not (tmp_path / "out").exists()


def test_video_of_another_length_is_named(scored, tmp_path):
    source, videos = scored / "known" / "videos", tmp_path / "videos"
    header, first = (source / "pairs.csv").read_text().splitlines()[:2]
    (videos / "self").mkdir(parents=True)
    (videos / "pairs.csv").write_text(f"{header}\n{first}\n")
    for name in ("system.json", "coverage.json"):
        (videos / name).write_text((source / name).read_text())
    pair = first.split(",")[1]
    frames = read_video(source / "self" / f"{pair}.mkv")
    write_video(videos / "self" / f"{pair}.mkv", frames[:-1], lossless=True)

    with pytest.raises(ValueError, match=rf"{pair}.*has 5 frames.*expected 6"):
        score(CONFIG, folders(scored)._replace(videos=videos), tmp_path / "out")

    assert not (tmp_path / "out" / "metrics.json").exists()
