"""Systems of others: the registry, stub checkouts that behave as documented, imports, scores."""

import csv
import json
import re
import shutil
import subprocess
import sys
import time
import wave
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from skimage.data import astronaut
from typer.testing import CliRunner

from fixtalk.media import FPS, SAMPLE_RATE, VideoReader, probe, read_video, write_video
from pipelines.assignments import SystemsError, read_assignments
from pipelines.cli import app
from pipelines.compare import compare
from pipelines.generate import GenerateConfig, generate
from pipelines.matching import CompareError
from pipelines.systems import import_system, read_systems, run_system
from tests.discs import clip_row, write_clips

ROOT = Path(__file__).parent.parent
SYSTEMS = read_systems()
RUNS = [(name, mode) for name, system in SYSTEMS.items() for mode in system.commands]

# Reads the options of the documented script, no others; opens what it is told to read; leaves what
# the documented one leaves: the result first, then files that could be mistaken for it.
STUB = """
import argparse, pathlib, shutil, sys
here = pathlib.Path(__file__).parent
parser = argparse.ArgumentParser(allow_abbrev=False)
for option in {options!r}.split():
    parser.add_argument(option, type=pathlib.Path, required=True)
for option in {optional!r}.split():
    parser.add_argument(option)
given = parser.parse_args()
{check}
for name in {reads!r}.split():
    getattr(given, name).open("rb").close()
for number, place in enumerate({writes!r}.split()):
    place = pathlib.Path(place.format(**vars(given)))
    place.parent.mkdir(exist_ok=True)
    shutil.copy({clips!r}[min(number, 1)], place)
"""


@dataclass(frozen=True)
class Script:
    """What one documented script takes, opens and leaves; each `writes` begins with its result."""

    path: str
    options: str
    reads: str
    writes: str
    optional: str = ""
    check: str = ""


LAUNCHER = """
import runpy, sys
sys.argv = sys.argv[1:]
while sys.argv[0] in ("--nnodes", "--master_addr", "--master_port", "--node_rank",
                      "--nproc_per_node"):
    sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
SCRIPTS = {
    ("DPE", "video"): Script(
        "run_demo_single.py",
        "--s_path --pose_path --exp_path --face --model_path --output_folder",
        "s_path pose_path exp_path",
        "{output_folder}/edit.mp4 {output_folder}/s.mp4",
        optional="--size --channel_multiplier --model --latent_dim_style --latent_dim_motion",
        check="assert str(given.face) in ('exp', 'pose', 'both')",
    ),
    ("EDTalk", "video"): Script(
        "demo_EDTalk_V.py",
        "--source_path --lip_driving_path --audio_driving_path --pose_driving_path "
        "--exp_driving_path --save_path",
        "source_path lip_driving_path audio_driving_path pose_driving_path exp_driving_path",
        "{save_path}",
        optional="--size --model_path --face_sr",
        check="assert given.audio_driving_path.suffix not in ('.mp4', '.avi', '.mov', '.mkv')",
    ),
    ("EDTalk", "audio"): Script(
        "demo_EDTalk_A.py",
        "--source_path --audio_driving_path --pose_driving_path --exp_driving_path --save_path",
        "source_path audio_driving_path pose_driving_path exp_driving_path",
        "{save_path}",
        optional="--size --model --model_path --audio2lip_model_path --face_sr",
    ),
    ("LivePortrait", "video"): Script(
        "inference.py",
        "-s -d -o",
        "s d",
        "{o}/{s.stem}--{d.stem}.mp4 {o}/{s.stem}--{d.stem}_concat.mp4",
        check="shutil.copy(given.d, given.d.with_suffix('.pkl'))",  # its template of the motion
    ),
    ("X-Portrait", "video"): Script(
        "core/test_xportrait.py",
        "--model_config --output_dir --resume_dir --seed --uc_scale --source_image --driving_video "
        "--best_frame --out_frames --num_mix --ddim_steps",
        "source_image driving_video",
        "{output_dir}/inference_appearance_pose_local_mm_uc{uc_scale}_{source_image.stem}_by_"
        "{driving_video.stem}_mix{num_mix}.mp4",
        optional="--start_idx --skip --initial_facevid2vid_results",
        check="assert '.mp4' in str(given.driving_video)",
    ),
    ("Follow-Your-Emoji", "video"): Script(
        "infer.py",
        "--config --input_path --lmk_path --output_path",
        "input_path lmk_path",
        "{output_path}/{lmk_path.stem}_{input_path.stem}_oo.mp4 "
        "{output_path}/{lmk_path.stem}_{input_path.stem}_all.mp4",
        optional="--seed",
        check="assert given.lmk_path.suffix == '.npy'",
    ),
    ("SadTalker", "audio"): Script(
        "inference.py",
        "--driven_audio --source_image --result_dir",
        "driven_audio source_image",
        "{result_dir}/2026_11_26_12.00.00.mp4",
        optional="--enhancer --preprocess --size",
    ),
    ("AniTalker", "audio"): Script(
        "code/demo.py",
        "--infer_type --stage1_checkpoint_path --stage2_checkpoint_path --test_image_path "
        "--test_audio_path --test_hubert_path --result_path",
        "test_image_path test_audio_path",
        "{result_path}/{test_image_path.stem}-{test_audio_path.stem}.mp4",
        optional="--seed --device",
        check="assert not given.test_hubert_path.exists(), 'features of another speech'",
    ),
    ("Hallo", "audio"): Script(
        "scripts/inference.py",
        "--source_image --driving_audio --output",
        "source_image driving_audio",
        "{output}",
        optional="-c --pose_weight --face_weight --lip_weight",
        check="assert given.driving_audio.suffix == '.wav'",
    ),
}


def face(frames=4, side=96):
    """A photograph that moves right by a pixel a frame."""
    wide = astronaut()[20 : 20 + side]
    return np.stack([wide[:, 150 - n : 150 - n + side] for n in range(frames)])


def write_at(path, frames, rate):
    """An mp4 of another frame rate."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def write_tone(path, seconds=0.16):
    samples = np.int16(8000 * np.sin(np.arange(int(seconds * SAMPLE_RATE)) * 0.2))
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
        file.writeframes(samples.tobytes())


@pytest.fixture
def inputs(tmp_path):
    """A folder with a picture, a driver, a template of landmarks and a sound of odd names."""
    folder = tmp_path / "in puts"
    folder.mkdir()
    write_video(folder / "-driver 1.mp4", face())
    np.save(folder / "-driver 1.npy", np.zeros(4))
    write_tone(folder / "-speech.wav")
    Image.fromarray(face()[0]).save(folder / "-a face.png")
    return folder


def list_pairs(folder, names, driving="-driver 1.mp4", audio="-speech.wav"):
    path = folder / "pairs.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = [["pair", "source", "driving", "audio"]]
        csv.writer(file).writerows(rows + [[n, "-a face.png", driving, audio] for n in names])
    return path


@pytest.fixture
def clone(tmp_path):
    """name, mode → a folder that behaves like a checkout of the system; `before` runs first."""

    def make(name, mode, before="", rate=FPS, frames=4):
        script, folder = SCRIPTS[name, mode], tmp_path / f"{name} checkout"
        result, other = folder / "result.mp4", folder / "other.mp4"
        (folder / script.path).parent.mkdir(parents=True, exist_ok=True)
        write_at(result, face(frames), rate)
        write_at(other, face(side=64), 8)
        values = dict(vars(script), check=f"{before}\n{script.check}")
        text = STUB.format(**values, clips=[str(result), str(other)])
        (folder / script.path).write_text(text)
        if "-m" in SYSTEMS[name].commands[mode]:
            launcher = folder / "torch" / "distributed" / "run.py"
            launcher.parent.mkdir(parents=True)
            launcher.write_text(LAUNCHER)
            for package in launcher.parents[:2]:
                (package / "__init__.py").touch()
        return folder

    return make


def run(name, mode, checkout, pairs, out, **options):
    return run_system(name, checkout, sys.executable, pairs, out, mode=mode, **options)


def made(out):
    return sorted(path.name for path in (out / "videos").iterdir() if path.suffix != ".json")


def scores_in(folder):
    return pd.read_parquet(folder / "scores.parquet")


def test_the_registry_holds_the_ten_systems_and_says_where_it_was_read():
    assert list(SYSTEMS) == [
        "DPE", "EmoPortraits", "EDTalk", "LivePortrait", "X-Portrait", "Follow-Your-Emoji",
        "SadTalker", "AniTalker", "Hallo", "FixTalk",
    ]  # fmt: skip
    for system in SYSTEMS.values():
        assert bool(system.repository) == bool(system.commit and len(system.commit) == 40)
        for command in system.commands.values():
            fields = {"python", "source", "driving", "audio", "out"}
            filled = [part.format_map(dict.fromkeys(fields, "x")) for part in command]
            assert command[0] == "{python}"
            assert not any("{" in part for part in filled)
    assert set(RUNS) == set(SCRIPTS)


@pytest.mark.parametrize(("name", "mode"), RUNS)
def test_every_documented_command_leaves_the_system_s_video(name, mode, clone, inputs, tmp_path):
    suffix = SYSTEMS[name].driving
    pairs = list_pairs(inputs, ["-first pair", "b.2"], driving=f"-driver 1{suffix}")
    rate = SYSTEMS[name].frame_rate or FPS
    before = set(inputs.iterdir())

    coverage = run(name, mode, clone(name, mode, rate=rate), pairs, tmp_path / "o ut")

    assert coverage["failed"] == {}
    assert list(coverage["made"]) == ["-first pair", "b.2"]
    assert made(tmp_path / "o ut") == ["-first pair.mp4", "b.2.mp4"]
    video = tmp_path / "o ut" / "videos" / "b.2.mp4"
    assert probe(video).width == 96  # the result, none of the files beside it
    assert probe(video).fps == pytest.approx(FPS, abs=0.01)
    assert sum(1 for _ in VideoReader(video)) == 4
    assert set(inputs.iterdir()) == before


def test_frames_of_a_slow_video_are_kept_bit_by_bit_when_it_is_put_at_25_fps(
    clone, inputs, tmp_path
):
    pairs = list_pairs(inputs, ["a"], driving="-driver 1.npy")
    checkout = clone("Follow-Your-Emoji", "video", rate=7, frames=20)

    run("Follow-Your-Emoji", "video", checkout, pairs, tmp_path / "out")

    def pictures(path):
        with av.open(str(path)) as container:
            return [frame.to_ndarray() for frame in container.decode(video=0)]

    video = tmp_path / "out" / "videos" / "a.mp4"
    np.testing.assert_array_equal(pictures(video), pictures(checkout / "result.mp4"))
    assert len(read_video(video)) == 20


def test_what_was_run_is_written_beside_the_videos(clone, inputs, tmp_path):
    checkout = clone("Hallo", "audio")
    git = ["git", "-C", str(checkout), "-c", "user.name=a", "-c", "user.email=a@b"]
    for arguments in (["init", "-q"], ["add", "scripts"], ["commit", "-qm", "stub"]):
        subprocess.run([*git, *arguments], check=True)
    command = [*git, "rev-parse", "HEAD"]
    commit = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    run("hallo", "audio", checkout, list_pairs(inputs, ["a"]), tmp_path / "out")

    told = json.loads((tmp_path / "out" / "videos" / "system.json").read_text())
    assert (told["system"], told["commit"]) == ("Hallo", commit)
    assert told["command"] == SYSTEMS["Hallo"].commands["audio"]
    assert told["licence"] == SYSTEMS["Hallo"].licence
    assert told["device"]
    assert told["date"].startswith("20")

    with (checkout / "scripts" / "inference.py").open("a") as file:
        file.write("# changed\n")
    run("Hallo", "audio", checkout, inputs / "pairs.csv", tmp_path / "out")
    told = json.loads((tmp_path / "out" / "videos" / "system.json").read_text())
    assert told["commit"] == f"{commit}-dirty"


def test_a_checkout_without_git_is_not_taken_for_the_repository_around_it(clone, inputs, tmp_path):
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)

    run("Hallo", "audio", clone("Hallo", "audio"), list_pairs(inputs, ["a"]), tmp_path / "out")

    told = json.loads((tmp_path / "out" / "videos" / "system.json").read_text())
    assert told["commit"] == "unknown"


FAILURES = {
    "status": (
        "print('CUDA out of memory'); sys.exit(3)",
        r"status 3: CUDA out of memory; see .*log",
    ),
    "nothing": ("sys.exit()", r"left 0 files result.mp4"),
    "hang": ("import time; time.sleep(600)", r"stopped after 3 s"),
    "broken": ("given.output.write_bytes(b'no video'); sys.exit()", "result.mp4"),
    "cut": (
        "b = pathlib.Path({clip!r}).read_bytes(); given.output.write_bytes(b[: len(b) * 2 // 3]);"
        "sys.exit()",
        "result.mp4",
    ),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_a_pair_without_a_video_has_its_reason_and_the_others_theirs(kind, clone, inputs, tmp_path):
    before, reason = FAILURES[kind]
    write_video(tmp_path / "clip.mkv", face(25), lossless=True)
    before = before.replace("{clip!r}", repr(str(tmp_path / "clip.mkv")))
    guard = f"if b'second' in given.driving_audio.read_bytes():\n    {before}"
    checkout = clone("Hallo", "audio", before=guard)
    pairs = list_pairs(inputs, ["first"])
    (inputs / "second.wav").write_bytes(b"second")
    with pairs.open("a") as file:
        file.write("second,-a face.png,,second.wav\n")
    start = time.monotonic()

    coverage = run("Hallo", "audio", checkout, pairs, tmp_path / "out", timeout=3)

    assert time.monotonic() - start < 15
    assert list(coverage["made"]) == ["first"]
    assert list(coverage["failed"]) == ["second"]
    assert re.search(reason, coverage["failed"]["second"])
    assert made(tmp_path / "out") == ["first.mp4"]
    assert coverage == json.loads((tmp_path / "out" / "coverage.json").read_text())
    logs = [path.name for path in (tmp_path / "out" / "logs").iterdir()]
    assert logs == ["second.log"]


def test_a_command_that_hangs_takes_its_children_along(clone, inputs, tmp_path):
    child = "import time; time.sleep(600)"
    before = (
        f"import subprocess, time; child = subprocess.Popen([sys.executable, '-c', {child!r}]);"
        f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(child.pid)); time.sleep(600)"
    )

    run("Hallo", "audio", clone("Hallo", "audio", before=before), list_pairs(inputs, ["a"]),
        tmp_path / "out", timeout=3)  # fmt: skip

    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes():
        assert time.monotonic() < deadline, "the child still runs"
        time.sleep(0.05)


def test_the_same_command_again_makes_only_what_is_missing_or_has_changed(clone, inputs, tmp_path):
    count = f"pathlib.Path({str(tmp_path / 'calls')!r}).open('a').write('x')"
    checkout, out = clone("Hallo", "audio", before=count), tmp_path / "out"
    pairs = list_pairs(inputs, ["a", "b", "c"])

    def calls():
        run("Hallo", "audio", checkout, pairs, out)
        number = len((tmp_path / "calls").read_text())
        (tmp_path / "calls").write_text("")
        return number

    assert calls() == 3
    (out / "videos" / "b.mp4").unlink()
    assert calls() == 1
    assert calls() == 0
    write_tone(inputs / "-speech.wav", seconds=0.2)
    assert calls() == 3
    assert made(out) == ["a.mp4", "b.mp4", "c.mp4"]


def test_a_video_of_other_inputs_goes_when_its_pair_fails(clone, inputs, tmp_path):
    out, pairs = tmp_path / "out", list_pairs(inputs, ["a"])
    run("Hallo", "audio", clone("Hallo", "audio"), pairs, out)
    write_tone(inputs / "-speech.wav", seconds=0.2)

    coverage = run("Hallo", "audio", clone("Hallo", "audio", before="sys.exit(1)"), pairs, out)

    assert list(coverage["failed"]) == ["a"]
    assert coverage["made"] == {}
    assert made(out) == []


def test_theirs_is_not_our_python(clone, inputs, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    before = "import os; assert not {'PYTHONPATH', 'VIRTUAL_ENV'} & set(os.environ)"

    coverage = run("Hallo", "audio", clone("Hallo", "audio", before=before),
                   list_pairs(inputs, ["a"]), tmp_path / "out")  # fmt: skip

    assert coverage["failed"] == {}


def test_refusals_come_before_the_first_clip(clone, inputs, tmp_path):
    checkout, out = clone("EDTalk", "video"), tmp_path / "out"
    pairs = list_pairs(inputs, ["a"])

    def refused(match, *arguments, **options):
        with pytest.raises(SystemsError, match=match):
            run_system(*arguments, out, **options)
        assert not (out / "videos").exists()

    refused("unknown: known are DPE", "EDTalks", checkout, sys.executable, pairs)
    refused("notebook", "EmoPortraits", checkout, sys.executable, pairs)
    refused("no code", "FixTalk", checkout, sys.executable, pairs)
    refused("has no mode audio: use video", "DPE", checkout, sys.executable, pairs, mode="audio")
    refused(
        "clone https://github.com/tanshuai0219/EDTalk", "EDTalk", tmp_path, sys.executable, pairs
    )
    refused("not a program", "EDTalk", checkout, str(tmp_path / "python"), pairs)
    refused("1 of 3 listed files are missing: .*gone.wav", "EDTalk", checkout, sys.executable,
            list_pairs(inputs, ["a"], audio="gone.wav"))  # fmt: skip
    refused("not one protocol of the generate stage", "EDTalk", checkout, sys.executable, inputs)


def test_inputs_of_another_kind_or_none_are_reasons(clone, inputs, tmp_path):
    pairs = list_pairs(inputs, ["a"], driving="-driver 1.npy", audio="")
    with pairs.open("a") as file:
        file.write("b,-a face.png,-driver 1.npy,-speech.wav\n")

    coverage = run("EDTalk", "video", clone("EDTalk", "video"), pairs, tmp_path / "out")

    assert "does not end in .mp4" in coverage["failed"]["b"]
    assert list(coverage["failed"]) == ["a", "b"]
    pairs = list_pairs(inputs, ["a"], audio="")
    coverage = run("EDTalk", "video", clone("EDTalk", "video"), pairs, tmp_path / "out")
    assert coverage["failed"]["a"] == "audio: none listed, and the command needs one"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "lists no pair"),
        ("name,source\na,b\n", "pair ''"),
        ("pair,source\na,b\na,b\n", "pairs.csv:3: pair 'a'"),
        ("pair,source\n../a,b\n", "pair '../a'"),
        ("pair,source\n.a,b\n", "pair '.a'"),
    ],
)
def test_lists_that_are_refused(text, match, tmp_path):
    (tmp_path / "pairs.csv").write_text(text)

    with pytest.raises(SystemsError, match=match):
        read_assignments(tmp_path / "pairs.csv")
    with pytest.raises(SystemsError, match="not a list of pairs"):
        read_assignments(tmp_path / "none.csv")


def test_a_video_that_the_list_lacks_is_not_mixed_in(clone, inputs, tmp_path):
    checkout, out = clone("Hallo", "audio"), tmp_path / "out"
    run("Hallo", "audio", checkout, list_pairs(inputs, ["a", "b"]), out)

    with pytest.raises(SystemsError, match=r"b\.mp4: not in the list of pairs"):
        run("Hallo", "audio", checkout, list_pairs(inputs, ["a"]), out)


def test_videos_of_a_linked_folder_are_not_mixed_in(clone, inputs, tmp_path):
    checkout, out = clone("Hallo", "audio"), tmp_path / "out"
    run("Hallo", "audio", checkout, list_pairs(inputs, ["a"]), out)
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(out / "videos" / "a.mp4", tmp_path / "elsewhere" / "c.MP4")
    (out / "videos" / "linked").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(SystemsError, match=r"c\.MP4: not in the list of pairs"):
        run("Hallo", "audio", checkout, list_pairs(inputs, ["a"]), out)


def test_a_protocol_becomes_files_for_any_system_and_its_truth(clone, tmp_path):
    rows = [clip_row(f"cross/{m}/S{p:03d}", p, m) for p in range(2) for m in ("m0", "m1")]
    for row in rows:
        row |= {"audio": np.arange(6 * 640, dtype="<i2").tobytes(), "emotion": "happy"}
    clips = write_clips(tmp_path / "clips" / "discs", rows)
    config = GenerateConfig(
        dataset="discs", protocols=["self", "cross"], max_pairs=3, batch=4, gains={}
    )
    videos, out = tmp_path / "results" / "copy_source" / "videos", tmp_path / "out"
    generate(config, clips, ROOT / "models" / "copy_source", videos)

    coverage = run("EDTalk", "video", clone("EDTalk", "video"), videos / "cross", out,
                   clips=tmp_path / "clips")  # fmt: skip

    listed = [row for row in csv.DictReader((videos / "pairs.csv").open())
              if row["protocol"] == "cross"]  # fmt: skip
    assert list(coverage["made"]) == [row["pair"] for row in listed]
    by_clip = {row["clip"]: row for row in rows}
    for row in listed:
        pairs, clip = out / "pairs", row["pair"]
        truth = read_video(by_clip[row["truth_clip"]]["video"])
        np.testing.assert_array_equal(read_video(pairs / "truth" / f"{clip}.mp4"), truth)
        driver = (pairs / "driving" / f"{clip}.mp4").read_bytes()
        assert driver == by_clip[row["driver_clip"]]["video"]
        with wave.open(str(pairs / "audio" / f"{clip}.wav")) as file:
            assert file.readframes(10**6) == by_clip[row["driver_clip"]]["audio"]
    labels = list(csv.DictReader((out / "pairs" / "truth" / "labels.csv").open()))
    assert [row["person"] for row in labels] == [row["person"] for row in listed]
    assert {row["emotion"] for row in labels} == {"happy"}
    again = run("EDTalk", "video", clone("EDTalk", "video", before="sys.exit(1)"),
                videos / "cross", out, clips=tmp_path / "clips")  # fmt: skip
    assert again["failed"] == {}


def test_imports_count_what_is_missing_extra_and_corrupt(inputs, tmp_path):
    folder, out = tmp_path / "theirs", tmp_path / "out"
    folder.mkdir()
    for name in ("a", "more"):
        write_video(folder / f"{name}.MP4", face())
    (folder / "broken.mp4").write_bytes((folder / "a.MP4").read_bytes()[:500])
    (folder / "notes.txt").write_text("of no interest")

    coverage = import_system("sadtalker", folder, out, list_pairs(inputs, ["a", "gone", "broken"]))

    assert list(coverage["made"]) == ["a"]
    assert coverage["extra"] == ["more"]
    assert coverage["failed"]["gone"] == f"no video of this name in {folder}"
    assert "broken.mp4" in coverage["failed"]["broken"]
    assert made(out) == ["a.mp4"]
    assert (out / "videos" / "a.mp4").read_bytes() == (folder / "a.MP4").read_bytes()
    told = json.loads((out / "videos" / "system.json").read_text())
    assert (told["system"], told["commit"]) == ("SadTalker", "unknown")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CompareError, match="no file"):
        import_system("SadTalker", tmp_path / "empty", out)


def test_score_takes_the_system_s_name_from_beside_the_videos(tmp_path):
    folder, truth = tmp_path / "theirs", tmp_path / "truth"
    for place in (folder, truth):
        write_video(place / "a.mp4", face(8, 160))

    import_system("DPE", folder, tmp_path / "out")
    compare(tmp_path / "out" / "videos", truth, tmp_path / "scores", preset="full",
            weights=tmp_path / "none")  # fmt: skip

    assert set(scores_in(tmp_path / "scores").system) == {"DPE"}
    (tmp_path / "out" / "videos" / "system.json").write_text("[]")
    with pytest.raises(CompareError, match="names no system"):
        compare(tmp_path / "out" / "videos", truth, tmp_path / "scores", preset="full",
                weights=tmp_path / "none")  # fmt: skip


def test_command_line_runs_imports_and_says_what_comes_next(clone, inputs, tmp_path):
    def fixtalk(*arguments):
        return CliRunner().invoke(app, ["systems", *map(str, arguments)])

    pairs, out, copy = list_pairs(inputs, ["a"]), tmp_path / "out", tmp_path / "copy"
    options = ("--python", sys.executable, "--pairs", pairs, "--out", out)
    checkout = clone("EDTalk", "audio")

    listed = fixtalk("list")
    ran = fixtalk("run", "EDTalk", "--checkout", checkout, "--mode", "audio", *options)
    refused = fixtalk("run", "FixTalk", "--checkout", checkout, *options)
    imported = fixtalk("import", "EDTalk", out / "videos", "--out", copy)
    pairs.write_text("pair,source\na,x\nb,x\n")
    incomplete = fixtalk("import", "EDTalk", out / "videos", "--out", copy, "--pairs", pairs)

    assert listed.exit_code == 0
    assert all(name in listed.output for name in SYSTEMS)
    assert ran.exit_code == 0, ran.output
    assert "1 of 1 videos" in ran.output
    assert "fixtalk score --generated" in ran.output.replace("'", "")
    assert refused.exit_code == 1
    assert "import its videos" in refused.output
    assert imported.exit_code == 0
    assert incomplete.exit_code == 1
    assert "b: no video of this name" in incomplete.output


def test_real_clips_of_two_systems_are_imported_and_scored(real_clips, tmp_path):
    theirs = {
        "EDTalk": {"V": "edtalk/demo_EDTalk_V.mp4", "A": "edtalk/demo_EDTalk_A.mp4"},
        "AniTalker": {
            "aiface2": "anitalker/aiface2-english_female.mp4",
            "girl": "anitalker/girl-lianliru.mp4",
        },
    }
    for name, clips in theirs.items():
        folder, truth = tmp_path / name, tmp_path / f"{name} truth"
        folder.mkdir()
        truth.mkdir()
        for clip, file in clips.items():
            shutil.copy(real_clips / file, folder / f"{clip}.mp4")

        coverage = import_system(name, folder, tmp_path / "out" / name)

        assert list(coverage["made"]) == sorted(clips)
        assert coverage["failed"] == {}
        short = tmp_path / "short" / name
        for clip in clips:
            frames = read_video(folder / f"{clip}.mp4")[:6]
            write_video(short / f"{clip}.mp4", frames)
            write_video(truth / f"{clip}.mp4", np.roll(frames, 1, axis=0))
        shutil.copy(tmp_path / "out" / name / "videos" / "system.json", short)
        compare(short, truth, tmp_path / "scores", preset="full", weights=tmp_path / "none")
        scores = scores_in(tmp_path / "scores")
        assert set(scores.system) == {name}
        assert set(scores.pair) == set(clips)
        assert np.isfinite(scores[scores.metric == "psnr"].value).all()
