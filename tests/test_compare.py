"""`fixtalk score`: anybody's folders of videos, whole, odd and broken, and what it says of them."""

import json
import os
import wave
from fractions import Fraction

import av
import numpy as np
import pandas as pd
import pytest
import torch
from skimage.data import astronaut
from typer.testing import CliRunner

from fixtalk.media import MediaError, encode_video, read_audio, read_video, write_video
from fixtalk.sound import read_sound
from metrics import METRICS
from metrics.judges import JudgeMissingError
from pipelines.cli import app
from pipelines.compare import compare
from pipelines.config import load_config
from pipelines.contrast import contrast, read_scores
from pipelines.footage import sounds
from pipelines.gate import GateConfig, gate
from pipelines.listing import VIDEOS
from pipelines.matching import CompareError, by_name, match
from pipelines.panel import Panel
from tests.conftest import ROOT
from tests.talkers import clicks, write_sound

FRAMES = 8


@pytest.fixture(autouse=True)
def one_worker(monkeypatch):
    monkeypatch.setenv("FIXTALK_WORKERS", "1")


@pytest.fixture
def folders(tmp_path):
    for name in ("made", "true"):
        (tmp_path / name).mkdir()
    return tmp_path / "made", tmp_path / "true", tmp_path / "out"


def face(frames=FRAMES, width=160, height=160):
    """A photograph that moves right by a pixel a frame."""
    wide = astronaut()[20 : 20 + height]
    return np.stack([wide[:, 150 - n : 150 - n + width] for n in range(frames)])


def plain(frames=FRAMES, grey=120):
    return np.full((frames, 160, 160, 3), grey, np.uint8)


def softened(frames):
    return (frames // 8) * 8 + 4


def tone(seconds, path=None):
    samples = np.int16(8000 * np.sin(np.arange(int(seconds * 16000)) * 0.2))
    if path:
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, 16000, len(samples), "NONE", ""))
            file.writeframes(samples.tobytes())
    return samples


def write_as(path, frames, codec, pixels, times=None, rate=25):
    """A video of another codec, pixel format or rhythm than the project's own."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixels
        stream.codec_context.time_base = Fraction(1, 1000)
        for number, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pixels)
            frame.time_base = Fraction(1, 1000)
            frame.pts = times[number] if times else 40 * number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def with_sound(path, changed, later=0.0, until=60.0):
    """The same video with its sound track so much later, and no packet of it from a time on."""
    with av.open(str(path)) as given, av.open(str(changed), "w") as made:
        copies = {one.index: made.add_stream_from_template(one) for one in given.streams}
        for packet in given.demux():
            if packet.dts is None:
                continue
            if packet.stream.type == "audio":
                if packet.pts * packet.time_base >= until:
                    continue
                packet.pts += round(later / packet.time_base)
                packet.dts += round(later / packet.time_base)
            packet.stream = copies[packet.stream.index]
            made.mux(packet)
    return changed


def run(folders, preset="full", **options):
    made, true, out = folders
    report = compare(made, true, out, preset=preset, weights=made.parent / "none", **options)
    means = json.loads((out / "metrics.json").read_text())[preset]
    return means, json.loads((out / "coverage.json").read_text()), report


def test_a_perfect_system_scores_best_and_every_null_has_a_reason(folders):
    for folder in folders[:2]:
        write_video(folder / "a.mkv", face(), lossless=True)

    means, coverage, report = run(folders)

    assert means["ssim"] == means["ssim_gaussian"] == means["face_found"] == 1.0
    assert means["lmd_mtcnn5"] == 0.0
    assert means["psnr"] is None
    assert means["reasons"]["psnr"] == "all frames are identical to the truth"
    assert means["fd_efficientnet_lite0@2"] == pytest.approx(0, abs=1e-6)
    assert means["cpbd"] == means["cpbd_truth"]
    names = {name.partition("@")[0] for name in means}
    assert names >= {name for name, metric in METRICS.items() if metric.per != "set"}
    for name in METRICS:
        if means.get(name) is None and not any(key.startswith(f"{name}@") for key in means):
            assert means["reasons"].get(name) or name in " ".join(means["warnings"]), name
    assert coverage["scored"] == coverage["matched"] == 1
    assert "unavailable: facenet is not in" in report


def test_table_holds_a_row_for_every_clip_and_metric_with_its_id(folders):
    for name in ("a", "b"):
        write_video(folders[0] / f"{name}.mp4", softened(face()), crf=18)
        write_video(folders[1] / f"{name}.mp4", face(), crf=18)

    means, _, _ = run(folders)

    table = pd.read_parquet(folders[2] / "scores.parquet")
    per_clip = [name for name, metric in METRICS.items() if metric.per != "set"]
    assert table.groupby("pair").metric.nunique().tolist() == [len(per_clip)] * 2
    psnr = table[table.metric == "psnr"]
    assert psnr.value.mean() == pytest.approx(means["psnr"], abs=1e-6)
    assert set(psnr.number_id) == {means["ids"]["psnr"]}


def test_names_that_do_not_meet_are_refused_and_leftovers_listed(folders):
    write_video(folders[0] / "a.mp4", face())
    write_video(folders[1] / "b.mp4", face())

    with pytest.raises(CompareError, match="names must be equal but for the suffix"):
        run(folders)
    write_video(folders[1] / "a.mkv", face(), lossless=True)
    _, coverage, report = run(folders)

    assert coverage["unmatched"] == ["reference/b: not generated"]
    assert "Unmatched: `reference/b: not generated`" in report


@pytest.mark.parametrize("missing", [0, 1])
def test_missing_and_empty_folders_are_named(folders, missing):
    write_video(folders[1 - missing] / "a.mp4", face(2))

    with pytest.raises(CompareError, match=rf"{folders[missing].name}: no file"):
        run(folders)
    folders[missing].rmdir()
    with pytest.raises(CompareError, match=rf"{folders[missing].name}: not a folder"):
        run(folders)


def test_two_files_of_one_name_are_refused(folders):
    for name in ("a.mp4", "a.mkv"):
        write_video(folders[0] / name, face(2), lossless=name.endswith("mkv"))

    with pytest.raises(CompareError, match="have one name"):
        run(folders)


def test_unknown_protocol_names_the_known(folders):
    with pytest.raises(CompareError, match="known are full, eat128"):
        run(folders, preset="mead")


def test_differences_of_length_size_and_rate_are_told(folders):
    write_video(folders[0] / "a.mp4", face(6), crf=10)
    write_as(folders[1] / "a.mkv", face(10, 320, 320), "ffv1", "bgr0",
             [round(n * 1000 / 30) for n in range(10)], rate=30)  # fmt: skip

    means, coverage, _ = run(folders)

    told = "; ".join(coverage["differences"]["a"])
    assert "reference has 320x320 pixels: resized to 160x160" in told
    assert "fps: read at 25 by time stamps" in told
    assert "generated has 6 frames, reference" in told
    assert means["frames"] == 6


def test_variable_frame_rate_is_read_by_time_stamps(folders):
    frames = face()
    times = [0, 40, 120, 160, 200, 280, 320, 360]  # frames 2 and 6 of the truth are not there
    write_as(folders[0] / "a.mkv", frames[[0, 1, 3, 4, 5, 7, 7, 7]], "ffv1", "bgr0", times)
    write_video(folders[1] / "a.mkv", frames, lossless=True)

    means, _, _ = run(folders)

    table = pd.read_parquet(folders[2] / "scores.parquet")
    psnr = table[table.metric == "psnr"].iloc[0]
    assert means["frames"] == 8
    assert (psnr.frames, psnr.left_out) == (2, 6)  # six are identical, two were held


@pytest.mark.parametrize(
    ("codec", "pixels", "suffix"),
    [("ffv1", "gray", "mkv"), ("png", "rgba", "mov"), ("libx264", "yuv444p", "mp4")],
)
def test_grey_transparent_and_odd_sized_videos_are_read(folders, codec, pixels, suffix):
    write_as(folders[0] / f"a.{suffix}", face(3, 161, 159), codec, pixels)
    write_video(folders[1] / "a.mkv", face(3, 161, 159), lossless=True)

    means, coverage, _ = run(folders)

    assert coverage["scored"] == 1
    assert means["psnr"] is None if codec == "png" else 10 < means["psnr"] < 70
    assert json.loads(json.dumps(means))["frames"] == 3


def test_broken_files_are_listed_and_the_others_scored(folders):
    whole = encode_video(face(), crf=18, gop=5)
    for name, content in (("a", whole), ("cut", whole[: len(whole) // 2]), ("text", b"no video")):
        (folders[0] / f"{name}.mp4").write_bytes(content)
        (folders[1] / f"{name}.mp4").write_bytes(whole)
    write_video(folders[0] / "tiny.mkv", face(2, 10, 10), lossless=True)
    write_video(folders[1] / "tiny.mkv", face(2), lossless=True)

    _, coverage, report = run(folders)

    assert coverage["scored"] == 1
    assert set(coverage["failed"]) == {"cut", "text", "tiny"}
    assert "at least 16 a side" in coverage["failed"]["tiny"]
    assert "text.mp4: not a readable video" in coverage["failed"]["text"]
    assert "Not scored: `cut`" in report


def test_a_system_that_lost_clips_compares_with_a_whole_one_and_they_are_missing(folders):
    for name in "abcd":
        write_video(folders[0] / f"{name}.mkv", softened(face(2)), lossless=True)
        write_video(folders[1] / f"{name}.mkv", face(2), lossless=True)
    (folders[1] / "d.mkv").write_bytes(b"no video")
    whole, _, _ = run(folders)
    (folders[0] / "a.mkv").write_bytes(b"no video")
    (folders[0] / "b.mkv").unlink()
    out = folders[2].with_name("lost")

    lost, coverage, _ = run((*folders[:2], out))

    assert lost["protocol_id"] == whole["protocol_id"]
    assert [(means["pairs"], means["psnr_n"]) for means in (whole, lost)] == [(4, 3), (4, 1)]
    told = next(text for text in lost["warnings"] if text.startswith("3 of 4 clips without any"))
    assert "the first a: " in told
    assert "a.mkv: not a readable video" in told
    assert lost["reasons"]["csim_facenet"].startswith("unavailable")
    assert (coverage["matched"], coverage["scored"], list(coverage["failed"])) == (3, 1, ["a", "d"])
    table = pd.read_parquet(out / "scores.parquet").set_index(["pair", "metric"])
    assert table.loc["b", "reason"].unique().tolist() == ["not generated"]
    assert table.loc["b", "value"].isna().all()
    assert table.loc["b", "covered"].unique().tolist() == [0]
    sides = read_scores(folders[2]), read_scores(out)
    psnr = next(found for found in contrast(*sides, "full") if found.metric == "psnr")
    assert (psnr.clips, psnr.missing, psnr.delta) == (1, 2, 0)
    verdict = gate(load_config(GateConfig, "gate", ROOT / "params.yaml"), folders[2], out)
    assert "2 frames compared, 6 in the baseline: 66.7% lost, most of a;" in verdict.text


def test_nothing_is_written_over_when_no_clip_can_be_scored(folders):
    for folder in folders[:2]:
        write_video(folder / "a.mp4", face(2))
    run(folders)
    before = (folders[2] / "metrics.json").read_bytes()
    for folder in folders[:2]:
        (folder / "a.mp4").write_bytes(b"no video")

    with pytest.raises(CompareError, match=r"none of 1 clips could be scored:\n  a: .*a\.mp4"):
        run(folders)

    assert (folders[2] / "metrics.json").read_bytes() == before


@pytest.mark.parametrize("params", ["since: 2026-11-28\ntoken: s3cret\n", "- no section\n", "{"])
def test_params_of_another_project_are_neither_read_nor_kept(folders, monkeypatch, params):
    (folders[0].parent / "params.yaml").write_text(params)
    monkeypatch.chdir(folders[0].parent)
    write_video(folders[0] / "a.mkv", softened(face(2)), lossless=True)
    write_video(folders[1] / "a.mkv", face(2), lossless=True)

    run(folders)

    assert read_scores(folders[2]).facts["provenance"]["params"] == {}
    assert b"s3cret" not in (folders[2] / "scores.parquet").read_bytes()


def test_a_run_that_breaks_off_leaves_the_earlier_results_whole_or_refused(folders, monkeypatch):
    def stop(*given, **options):
        raise OSError(28, "No space left on device")

    write_video(folders[0] / "a.mkv", softened(face(2)), lossless=True)
    write_video(folders[1] / "a.mkv", face(2), lossless=True)
    run(folders)
    before = {path.name: path.read_bytes() for path in folders[2].iterdir()}

    with monkeypatch.context() as patch:
        patch.setattr("pipelines.compare.map_parallel", stop)
        with pytest.raises(OSError, match="No space"):
            run(folders)
    assert {path.name: path.read_bytes() for path in folders[2].iterdir()} == before
    with monkeypatch.context() as patch:
        patch.setattr("pipelines.summary._write_features", stop)
        with pytest.raises(OSError, match="No space"):
            run(folders)
    with pytest.raises(FileNotFoundError, match=r"metrics\.json: missing; run score"):
        read_scores(folders[2])
    assert not {"report.md", "coverage.json"} & {path.name for path in folders[2].iterdir()}


def test_frames_without_a_face_and_without_texture_have_reasons(folders):
    write_video(folders[0] / "a.mkv", plain(), lossless=True)
    write_video(folders[1] / "a.mkv", plain(grey=90), lossless=True)

    means, _, _ = run(folders)

    assert means["face_found"] == 0.0
    assert means["cpbd"] == 0.0
    assert means["reasons"]["lmd_mtcnn5"] == "no frame in which both faces were found"
    assert means["lmd_mtcnn5_left_out"] == 2
    assert means["reasons"]["niqe_live_288"] == "undefined in every frame"
    assert "it needs 192; see niqe_live_288" in means["reasons"]["niqe_live"]


def test_a_face_in_some_frames_only_leaves_the_others_out(folders):
    frames = face(20)
    write_video(folders[0] / "a.mkv", np.concatenate([plain(10), frames[10:]]), lossless=True)
    write_video(folders[1] / "a.mkv", frames, lossless=True)

    means, _, _ = run(folders)

    assert means["face_found"] == 0.5
    assert means["face_found_truth"] == 1.0
    assert means["lmd_mtcnn5"] == pytest.approx(0, abs=1e-4)
    assert means["lmd_mtcnn5_left_out"] == 2


def test_a_single_frame_has_pixels_but_no_distribution(folders):
    write_video(folders[0] / "a.mkv", softened(face(1)), lossless=True)
    write_video(folders[1] / "a.mkv", face(1), lossless=True)

    means, _, _ = run(folders)

    assert means["psnr"] > 20
    assert not any("@" in name for name in means)
    assert "1 frames; a distance needs at least 2" in means["warnings"][0]


def test_sound_is_looked_for_and_its_absence_told(folders, tmp_path):
    sounds = tmp_path / "sounds"
    sounds.mkdir()
    tone(0.1, sounds / "a.wav")
    for name in ("a", "b"):
        write_video(folders[0] / f"{name}.mkv", softened(face()), lossless=True)
        write_video(folders[1] / f"{name}.mkv", face(), lossless=True, audio=tone(FRAMES / 25))

    _, coverage, _ = run(folders, audio=sounds)
    _, own, _ = run(folders)

    assert coverage["differences"]["a"] == ["sound has 0.10 s for 0.32 s of frames: cut to both"]
    assert f"no sound of this name in {sounds}" in coverage["differences"]["b"]
    assert own["differences"]["a"] == ["generated has no sound: scored with the reference's"]


@pytest.mark.parametrize("suffix", ["wav", "mp4"])
def test_sound_files_are_read_and_others_refused(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    if suffix == "wav":
        samples = tone(0.5, path)
    else:
        samples = tone(0.32)
        write_video(path, face(), audio=samples)
    write_video(tmp_path / "silent.mp4", face())

    sound = read_sound(path)

    assert sound.dtype == np.int16
    assert abs(len(sound) - len(samples)) <= 1024
    with pytest.raises(MediaError, match=r"silent\.mp4: no sound track"):
        read_sound(tmp_path / "silent.mp4")
    with pytest.raises(MediaError, match=r"none\.wav: not found"):
        read_sound(tmp_path / "none.wav")


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize("seconds", [0.4, -0.4])
def test_given_videos_and_own_tracks_are_heard_at_one_time(tmp_path, suffix, seconds):
    whole = tmp_path / f"whole.{suffix}"
    sound = np.zeros(50 * 640, np.int16)
    sound[25 * 640] = 30000
    write_video(whole, plain(50), lossless=suffix == "mkv", audio=sound)
    path = with_sound(whole, tmp_path / f"a.{suffix}", later=seconds)

    own, given = (sounds(path, path, one, 50, [])[0].abs().argmax() for one in (None, path))

    assert own == pytest.approx((1 + seconds) * 16000, abs=32)
    assert given == own


@pytest.mark.parametrize(("heard", "kept"), [(50, 50), (49, 50), (48, 48), (20, 20)])
def test_frames_behind_the_end_of_an_own_track_are_not_judged(tmp_path, heard, kept):
    write_video(tmp_path / "whole.mkv", plain(50), lossless=True, audio=tone(2))
    path = with_sound(tmp_path / "whole.mkv", tmp_path / "a.mkv", until=Fraction(heard, 25))
    notes = []

    made, true = sounds(path, tmp_path / "whole.mkv", None, 50, notes)

    told = f"generated sound has {heard / 25:.2f} s for 2.00 s of frames: cut to both"
    assert (len(made), len(true)) == (kept * 640, 50 * 640)
    assert torch.equal(made[: heard * 640], true[: heard * 640])
    assert notes == ([] if kept == 50 else [told])


def test_own_tracks_of_the_baseline_are_heard_to_the_last_frame():
    folders = [ROOT / "baselines" / "metrics" / name for name in ("generated", "reference")]
    for paths in match(*folders).both.values():
        frames, notes = len(read_video(paths[1])), []

        heard = sounds(*paths, None, frames, notes)

        assert [len(sound) for sound in heard] == [frames * 640] * 2
        for sound, path in zip(heard, paths, strict=True):
            assert np.array_equal(sound, read_audio(path, frames))
        assert notes == []


@pytest.mark.parametrize("suffix", ["m4a", "mkv"])
def test_sound_behind_a_gap_stays_in_its_time(tmp_path, suffix):
    """Packets that are lost, or time stamps that jump, leave silence and move nothing."""
    whole = write_sound(tmp_path / f"a.{suffix}", clicks([0.5, 4.5], 5, 16000), 16000, "aac")
    path = tmp_path / f"b.{suffix}"
    with av.open(str(whole)) as given, av.open(str(path), "w") as made:
        track = made.add_stream_from_template(given.streams.audio[0])
        for packet in given.demux(given.streams.audio[0]):
            if packet.dts is not None and not 1 < packet.pts * packet.time_base < 4:
                packet.stream = track
                made.mux(packet)

    heard, wanted = (np.abs(read_sound(one).astype(int)) for one in (path, whole))

    assert abs(len(heard) - len(wanted)) < 1600
    loud = np.flatnonzero(heard > 0.3 * heard.max()) / 16000
    assert loud.min() == pytest.approx(0.5, abs=0.04)
    assert loud.max() == pytest.approx(4.5, abs=0.04)
    assert np.array_equal(heard[:12000], wanted[:12000])


def test_sound_that_changes_its_rate_on_the_way_is_read_on(tmp_path):
    parts = [
        write_sound(tmp_path / f"{rate}.mp3", clicks([0.5], 1, rate), rate, "mp3")
        for rate in (24000, 44100)
    ]
    joined = tmp_path / "joined.mp3"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))

    heard = np.abs(read_sound(joined).astype(int))

    loud = np.flatnonzero(heard > 0.3 * heard.max()) / 16000
    assert 1.8 < len(heard) / 16000 < 2.4
    assert loud.min() < 0.7 < 1.3 < loud.max()


def test_label_file_without_clips_is_refused(folders):
    for folder in folders[:2]:
        write_video(folder / "a.mp4", face(2))
    (folders[1] / "labels.csv").write_text("name,emotion\na,happy\n")

    with pytest.raises(CompareError, match="no column 'clip'"):
        run(folders)


def test_people_of_the_label_file_are_what_intervals_draw(folders):
    for number, name in enumerate("abcd"):
        write_video(folders[0] / f"{name}.mkv", softened(face(2)) + np.uint8(number), lossless=True)
        write_video(folders[1] / f"{name}.mkv", face(2), lossless=True)

    alone, _, _ = run(folders)
    (folders[1] / "labels.csv").write_text("clip,person\na,P\nb,P\nc,P\nd,P\n")
    together, _, _ = run(folders)

    assert alone["people"] == 4
    assert alone["psnr_low"] < alone["psnr"] < alone["psnr_high"]
    assert together["people"] == 1
    assert together["psnr_low"] is None
    warned = [any("counts as a person" in text for text in means["warnings"])
              for means in (alone, together)]  # fmt: skip
    assert warned == [True, False]


def test_id_follows_the_reference_and_the_protocol_not_the_system(folders):
    write_video(folders[0] / "a.mkv", softened(face(2)), lossless=True)
    write_video(folders[1] / "a.mkv", face(2), lossless=True)
    first, _, _ = run(folders)
    write_video(folders[0] / "a.mkv", softened(face(2)) + np.uint8(1), lossless=True)
    other_system, _, _ = run(folders)
    write_video(folders[1] / "a.mkv", face(2)[:, ::-1], lossless=True)
    other_truth, _, _ = run(folders)

    assert first["protocol_id"] == other_system["protocol_id"]
    assert first["protocol_id"] != other_truth["protocol_id"]


def test_eat_protocol_aligns_faces_and_leaves_out_frames_without_one(folders):
    pytest.importorskip("dlib", reason="dlib is not installed: make dlib")
    wide = astronaut()[:240, 60:420]
    frames = np.stack([np.roll(wide, 2 * n, axis=1) for n in range(6)])
    made = frames.copy()
    made[3] = 0
    write_video(folders[0] / "a.mkv", softened(made), lossless=True)
    write_video(folders[1] / "a.mkv", frames, lossless=True)

    means, _, _ = run(folders, preset="eat128")

    table = pd.read_parquet(folders[2] / "scores.parquet").set_index("metric")
    assert (table.frames["psnr"], table.left_out["psnr"]) == (5, 1)
    assert 20 < means["psnr"] < 50
    assert means["f_lmd_dlib68"] < 1.5
    assert "128x128 px" in (folders[2] / "report.md").read_text()


def test_eat_protocol_without_dlib_says_how_to_get_it(folders, monkeypatch):
    monkeypatch.setattr("metrics.judges.find_spec", lambda name: None)
    for folder in folders[:2]:
        write_video(folder / "a.mkv", face(2), lossless=True)

    with pytest.raises(JudgeMissingError, match="make dlib"):
        run(folders, preset="eat128")


def test_command_prints_the_table_and_errors_without_a_trace(folders):
    made, true, out = map(str, folders)
    arguments = ["score", "--generated", made, "--reference", true, "--out", out]

    refused = CliRunner().invoke(app, arguments)
    write_video(folders[0] / "a.mkv", softened(face(2)), lossless=True)
    write_video(folders[1] / "a.mkv", face(2), lossless=True)
    shown = CliRunner().invoke(app, arguments)

    assert refused.exit_code == 1
    assert "Traceback" not in refused.output
    assert "no file" in refused.output
    assert shown.exit_code == 0, shown.output
    for words in ("psnr", "Read with care", "unavailable"):
        assert words in shown.output
    assert (folders[2] / "report.md").is_file()


def test_label_files_of_other_spelling_are_told(folders):
    for folder in folders[:2]:
        write_video(folder / "a.mkv", softened(face(2)), lossless=True)
    labels = folders[1] / "labels.csv"

    labels.write_text("\ufeffclip,emotion\na,bored\nb,happy\n", encoding="utf-8")
    means, coverage, _ = run(folders)
    assert means["acc_emo_local"] is None
    assert coverage["unmatched"] == ["labels.csv/b: no such clip"]
    labels.write_text("clip,emotion\na,happy\na,sad\n")
    with pytest.raises(CompareError, match="clip 'a' is listed twice"):
        run(folders)
    labels.write_bytes("clip,emotion\na,fröhlich\n".encode("latin-1"))
    with pytest.raises(CompareError, match="not UTF-8"):
        run(folders)


def test_a_face_that_syncnet_cannot_be_shown_costs_its_columns_only(folders, monkeypatch):
    panel = Panel({"syncnet": object(), "dlib68": None}, {"s3fd": "unavailable: s3fd"})
    monkeypatch.setattr(
        "pipelines.compare.seat_panel", lambda *folders: panel.without("dlib68", "")
    )
    write_video(folders[0] / "a.mkv", softened(face()), lossless=True, audio=tone(FRAMES / 25))
    write_video(folders[1] / "a.mkv", face(), lossless=True)

    means, coverage, _ = run(folders)

    assert coverage["scored"] == 1
    assert means["psnr"] > 20
    assert means["reasons"]["sync_conf_syncnet"] == "its crop needs s3fd: unavailable: s3fd"


def test_one_folder_cannot_be_system_and_truth(folders):
    write_video(folders[0] / "a.mkv", face(2), lossless=True)

    with pytest.raises(CompareError, match="the same folder twice"):
        compare(folders[0], folders[0], folders[2], preset="full", weights=folders[2])


@pytest.mark.parametrize("name", ["clip with spaces", "ünïcode", "-dash", "dots.in.name", "sub/a"])
def test_names_of_all_kinds_are_matched(folders, name):
    for folder, lossless in zip(folders[:2], (True, False), strict=True):
        suffix = ".mkv" if lossless else ".mp4"
        write_video(folder / f"{name}{suffix}", face(2), lossless=lossless)
        write_video(folder / f".hidden/b{suffix}", face(2), lossless=lossless)

    _, coverage, _ = run(folders)

    assert (coverage["matched"], coverage["scored"], coverage["unmatched"]) == (1, 1, [])


def test_linked_folders_are_entered_and_those_that_lead_back_are_not(tmp_path):
    for name in ("true/M1/a.mp4", "true/M2/a.mp4", "made/b.mp4", "made/.kept/c.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    made, true = tmp_path / "made", tmp_path / "true"
    for name in ("M1", "M2", "M3"):
        (made / name).symlink_to(true / name.replace("3", "1"))
    (made / "self").symlink_to(made)
    (true / "M1" / "up").symlink_to(tmp_path)
    (true / "M2" / "made").symlink_to(made)

    assert sorted(by_name(made, VIDEOS)) == ["M1/a", "M2/a", "M3/a", "b"]


def test_a_name_that_is_no_text_is_refused_before_any_work(folders):
    for folder in folders[:2]:
        write_video(folder / "a.mkv", face(2), lossless=True)
    (folders[0] / "a.mkv").rename(os.fsdecode(os.fsencode(folders[0]) + b"/b\xff.mkv"))

    with pytest.raises(CompareError, match="not a readable name"):
        run(folders)


def test_an_output_that_cannot_be_written_is_told_at_once(folders):
    for folder in folders[:2]:
        write_video(folder / "a.mkv", face(2), lossless=True)
    folders[2].write_text("a file")
    made, true, out = map(str, folders)

    refused = CliRunner().invoke(
        app, ["score", "--generated", made, "--reference", true, "--out", out]
    )

    assert refused.exit_code == 1
    assert "File exists" in refused.output
    assert "Traceback" not in refused.output


def test_a_broken_sound_costs_the_sync_columns_only(folders, tmp_path):
    sounds = tmp_path / "sounds"
    sounds.mkdir()
    (sounds / "a.wav").write_bytes(b"")
    tone(0.32, sounds / "b.wav")
    with wave.open(str(sounds / "c.wav"), "wb") as file:
        file.setparams((2, 2, 8000, 2560, "NONE", ""))
        file.writeframes(bytes(10240))
    for name in "abc":
        write_video(folders[0] / f"{name}.mkv", softened(face()), lossless=True)
        write_video(folders[1] / f"{name}.mkv", face(), lossless=True)

    means, coverage, _ = run(folders, audio=sounds)

    assert coverage["scored"] == means["psnr_n"] == 3
    assert "sound left out" in coverage["differences"]["a"][0]
    assert "b" not in coverage["differences"]
    assert coverage["differences"]["c"] == ["sound is silent"]


def test_numbers_depend_on_sound_and_label_and_so_do_their_ids(folders, tmp_path):
    for folder in folders[:2]:
        write_video(folder / "a.mkv", softened(face(2)) if folder == folders[0] else face(2),
                    lossless=True)  # fmt: skip
    sounds = tmp_path / "sounds"
    sounds.mkdir()

    ids = {run(folders)[0]["protocol_id"]}
    (folders[1] / "labels.csv").write_text("clip,emotion\na, Happy \n")
    ids.add(run(folders)[0]["protocol_id"])
    for seconds in (0.08, 0.5):
        tone(seconds, sounds / "a.wav")
        ids.add(run(folders, audio=sounds)[0]["protocol_id"])

    assert len(ids) == 4


def test_equal_files_and_lost_frames_are_told(folders):
    for name, frames in (("a", 8), ("b", 2)):
        write_video(folders[0] / f"{name}.mkv", face(frames), lossless=True)
        write_video(folders[1] / f"{name}.mkv", face(8), lossless=True)

    _, coverage, report = run(folders)

    assert coverage["differences"]["a"] == ["generated and reference are the same file"]
    assert "10 of 16 true frames compared" in report


def test_a_system_that_stops_early_says_how_much_of_the_truth_it_is_scored_on(folders):
    for name, frames in (("a", 1), ("b", 4)):
        write_video(folders[0] / f"{name}.mkv", softened(face(frames)), lossless=True)
        write_video(folders[1] / f"{name}.mkv", face(4), lossless=True)

    means, _, _ = run(folders)

    table = pd.read_parquet(folders[2] / "scores.parquet")
    assert table.groupby("pair").covered.first().tolist() == [0.25, 1.0]
    assert "5 of 8 true frames compared: the others are in no mean" in means["warnings"]


def test_clips_without_a_value_are_counted_among_those_with_one(folders):
    for name, frames in (("a", face(2)), ("b", plain(2))):
        write_video(folders[0] / f"{name}.mkv", softened(frames), lossless=True)
        write_video(folders[1] / f"{name}.mkv", frames, lossless=True)

    means, _, _ = run(folders)

    assert means["lmd_mtcnn5_n"] == 1
    told = [warning for warning in means["warnings"] if warning.startswith("lmd_mtcnn5")]
    assert len(told) == 1
    assert told[0].endswith(
        ": 1 of 2 clips without a value (no frame in which both faces were found)"
    )
