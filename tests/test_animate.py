"""`fixtalk animate`: sound in time, drivers apart, flat memory, and every bad input named."""

import subprocess
import sys
from fractions import Fraction
from itertools import islice

import av
import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from fixtalk.checkpoint import save_checkpoint
from fixtalk.control import blinks
from fixtalk.media import probe, read_audio, read_video
from fixtalk.model import FixTalk
from pipelines.animate import MARK, AnimateConfig, animate
from pipelines.cli import app
from pipelines.preflight import detector
from tests.conftest import ROOT, TINY
from tests.speakers import speaking
from tests.talkers import NTSC, clicks, portrait, swaying, write_clip, write_sound

TRAINED = ROOT / "baselines" / "model" / "checkpoint"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A picture, a clip with sound, a shorter one that moves otherwise, an untrained model."""
    folder = tmp_path_factory.mktemp("animate")
    Image.fromarray(portrait(160)).save(folder / "face.png")
    sound = 0.5 * np.sin(np.arange(48000) / 20)
    write_clip(folder / "clip.mp4", 25, sound=sound)
    write_clip(
        folder / "other.mp4", 10, pictures=swaying(lambda shift: portrait(96, -shift)[:, ::-1])
    )
    write_clip(folder / "blank.mp4", 5, pictures=lambda n: np.zeros((64, 64, 3), np.uint8))
    Image.new("RGB", (99, 99)).save(folder / "blank.png")
    Image.fromarray(portrait(24)).save(folder / "tiny.png")
    (folder / "text.mp4").write_text("no video")
    save_checkpoint(FixTalk(TINY), folder / "tiny", {})
    save_checkpoint(speaking(), folder / "hears", {})
    return folder


def made(files, out, **settings):
    said = []
    settings = {"driving": files / "clip.mp4", "model": TRAINED} | settings
    config = AnimateConfig(source=files / "face.png", out=out, **settings)
    return animate(config, said.append), said


def test_video_has_its_drivers_length_and_sound_and_says_that_it_is_generated(files, tmp_path):
    speed, said = made(files, tmp_path / "new" / "out.mp4")

    info = probe(tmp_path / "new" / "out.mp4")
    assert (info.width, info.height, info.fps, info.frames) == (64, 64, 25.0, 25)
    heard, given = (read_audio(p, 25) for p in (tmp_path / "new" / "out.mp4", files / "clip.mp4"))
    assert np.corrcoef(heard, given)[0, 1] > 0.99
    with av.open(str(tmp_path / "new" / "out.mp4")) as container:
        assert container.metadata["comment"] == MARK
    assert speed["frames"] == 25
    assert 0 < speed["latency_ms_p50"] <= speed["latency_ms_p99"]
    assert "face.png: 160x160 px" in said[0]
    assert any("25 frames at" in line for line in said)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out.mp4"]


def test_each_component_follows_its_own_clip(files, tmp_path):
    def frames(name, **settings):
        made(files, tmp_path / name, **settings)
        return read_video(tmp_path / name).astype(int)

    alone = frames("alone.mp4")
    other = files / "other.mp4"
    changed = [
        frames("pose.mp4", pose=other),
        frames("expression.mp4", expression=other),
        frames("lip.mp4", driving=other, pose=files / "clip.mp4", expression=files / "clip.mp4"),
        frames("still.mp4", pose="still"),
        frames("gain.mp4", lip_gain=2.0),
        frames("relative.mp4", relative=True),
        frames("smooth.mp4", smooth=True),
    ]

    assert len(changed[2]) == 10  # lips set the length
    results = [alone, *changed]
    for number, one in enumerate(results):
        for another in results[:number]:
            assert not np.array_equal(one[:10], another[:10])


def test_face_goes_back_into_the_whole_picture(files, tmp_path):
    made(files, tmp_path / "out.mp4", paste_back=True)

    frames = read_video(tmp_path / "out.mp4")
    assert frames.shape == (25, 160, 160, 3)
    difference = np.abs(frames[3].astype(int) - portrait(160)).mean(axis=-1)
    assert difference[:, :3].mean() < 6  # codec
    assert difference[60:110, 50:100].mean() > 8  # face


def test_huge_picture_is_pasted_into_at_the_size_that_players_show(files, tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.animate.LONGEST_SIDE", 120)

    _, said = made(files, tmp_path / "out.mp4", paste_back=True)

    assert probe(tmp_path / "out.mp4").width == 120
    assert any("face.png: scaled to 120x120 px" in line for line in said)


def sound_of_clicks(folder, kind, times, seconds):
    """A sound file or a video that clicks at these times."""
    if kind == "video":
        sound = clicks(times, seconds)
        return write_clip(folder / "sound.mp4", seconds * 30, Fraction(30), sound=sound)
    suffix, rate = kind.split()
    codec = {"wav": "pcm_s16le", "m4a": "aac", "mp3": "libmp3lame"}[suffix]
    signal = clicks(times, seconds, int(rate))
    return write_sound(folder / f"sound.{suffix}", signal, int(rate), codec)


@pytest.mark.parametrize(
    ("seconds", "fps", "kind"),
    [(20, NTSC, "wav 44100"), pytest.param(300, NTSC, "m4a 48000", marks=pytest.mark.slow),
     (5, Fraction(60), "wav 8000"), (5, NTSC, "mp3 44100"), (5, NTSC, "video")],
)  # fmt: skip
def test_clicks_stay_where_they_are(files, tmp_path, seconds, fps, kind):
    driving = write_clip(tmp_path / "driving.mp4", int(seconds * fps), fps)
    times = np.arange(0.5, seconds - 0.5, 1.37)
    sound = sound_of_clicks(tmp_path, kind, times, seconds)

    _, said = made(files, tmp_path / "out.mp4", driving=driving, audio=sound, lips="driving",
                   batch=64, model=files / "tiny")  # fmt: skip

    onsets = onsets_in(tmp_path / "out.mp4", seconds)
    assert probe(tmp_path / "out.mp4").frames == seconds * 25
    assert len(onsets) == len(times)
    assert np.abs(onsets - times).max() < 1 / 25
    assert any("sound track only" in line for line in said)


SPEECH = [
    (20, "wav 8000"), (5, "wav 44100"), (5, "mp3 44100"), (5, "m4a 48000"), (5, "video"),
    pytest.param(300, "m4a 44100", marks=pytest.mark.slow),
]  # fmt: skip


@pytest.mark.parametrize(("seconds", "kind"), SPEECH)
def test_speech_says_the_length_and_is_heard_in_time(files, tmp_path, seconds, kind):
    times = np.arange(0.5, seconds - 0.5, 1.37)
    sound = sound_of_clicks(tmp_path, kind, times, seconds)

    speed, said = made(files, tmp_path / "out.mp4", driving=None, audio=sound, pose="natural",
                       emotion="happy", batch=64, model=files / "hears")  # fmt: skip

    onsets = onsets_in(tmp_path / "out.mp4", seconds)
    assert abs(probe(tmp_path / "out.mp4").frames - seconds * 25) <= 4  # padding of the codec
    assert len(onsets) == len(times)
    assert np.abs(onsets - times).max() < 1 / 25
    assert any("(lip, pose)" in line for line in said)
    assert speed["jitter"]["lip"] > 0


def test_lips_are_told_the_emotion_in_which_they_speak(files, tmp_path):
    model = speaking()
    torch.nn.init.zeros_(model.speech._emotion[-1].weight)  # the expression is of no label
    save_checkpoint(model, tmp_path / "model", {})
    sound = write_sound(tmp_path / "a.wav", 0.1 * np.ones(16000), 16000, "pcm_s16le")

    shown = {}
    for name, emotion in {"happy": "happy", "again": "happy", "angry": "angry"}.items():
        made(files, tmp_path / f"{name}.mp4", driving=None, audio=sound, emotion=emotion,
             model=tmp_path / "model")  # fmt: skip
        shown[name] = read_video(tmp_path / f"{name}.mp4")

    assert np.array_equal(shown["happy"], shown["again"])
    assert not np.array_equal(shown["happy"], shown["angry"])


def onsets_in(path, seconds):
    """Seconds at which something is heard after silence."""
    heard = np.abs(read_audio(path, seconds * 25).astype(float))
    loud = np.flatnonzero(heard > 0.3 * heard.max()) / 16000
    return loud[np.diff(loud, prepend=-1) > 0.2]


def test_speech_may_be_short_silent_or_longer_than_the_clips(files, tmp_path):
    short = write_sound(tmp_path / "short.wav", 0.5 * np.ones(3200), 16000, "pcm_s16le")
    silent = write_sound(tmp_path / "silent.wav", np.zeros(32000), 16000, "pcm_s16le")
    hears = {"model": files / "hears", "batch": 64}

    made(files, tmp_path / "a.mp4", driving=None, audio=short, **hears)
    _, said = made(files, tmp_path / "b.mp4", audio=silent, pose=files / "other.mp4", **hears)

    assert [probe(tmp_path / name).frames for name in ("a.mp4", "b.mp4")] == [5, 50]
    assert any("silent.wav: silent" in line for line in said)
    assert any("other.mp4 (pose)" in line for line in said)
    assert any("clip.mp4 (expression)" in line for line in said)


def test_eyes_that_close_now_and_then_change_these_frames_alone(files, tmp_path):
    options = {"driving": None, "audio": write_sound(
        tmp_path / "calm.wav", np.zeros(16000 * 7), 16000, "pcm_s16le"
    ), "batch": 64, "model": files / "hears", "seed": 2}  # fmt: skip

    made(files, tmp_path / "a.mp4", **options)
    _, said = made(files, tmp_path / "b.mp4", **options, blink=True)

    plain, blinking = (read_video(tmp_path / name).astype(int) for name in ("a.mp4", "b.mp4"))
    changed = np.abs(plain - blinking).mean((1, 2, 3))
    closed = np.array(list(islice(blinks(2), len(plain))))
    assert closed.any()
    assert any(f"{np.sum(closed == 1)} blinks in 7.00 s" in line for line in said)
    assert changed[closed > 0.4].min() > 2 * changed[closed == 0].max()


def test_eyes_that_have_learnt_nothing_are_told_of(files, tmp_path):
    model = speaking()
    model.speech._lids.data.zero_()
    save_checkpoint(model, tmp_path / "blind", {})

    _, said = made(files, tmp_path / "a.mp4", expression="still", blink=True,
                   model=tmp_path / "blind")  # fmt: skip

    assert any("has learnt no blink" in line for line in said)


def test_smoothing_tells_what_it_calmed(files, tmp_path):
    speed, said = made(files, tmp_path / "a.mp4", smooth=True)
    plain, _ = made(files, tmp_path / "b.mp4")

    assert plain["jitter"] == plain["jitter_smoothed"]
    assert all(speed["jitter_smoothed"][name] < speed["jitter"][name] for name in speed["jitter"])
    assert any("jitter" in line and "→" in line for line in said)


def test_sound_of_another_length_is_cut_or_filled_and_said(files, tmp_path):
    short = write_sound(tmp_path / "short.wav", np.full(8000, 0.5), 16000, "pcm_s16le")
    long = write_sound(tmp_path / "long.wav", np.zeros(80000), 16000, "pcm_s16le")

    _, first = made(files, tmp_path / "a.mp4", audio=short, lips="driving")
    _, second = made(files, tmp_path / "b.mp4", audio=long, lips="driving")

    assert any("0.50 s for 1.00 s of video: silence follows" in line for line in first)
    assert any("5.00 s for 1.00 s of video: the rest is left out" in line for line in second)
    assert any("silent" in line for line in second)
    assert probe(tmp_path / "a.mp4").has_audio


BAD = {
    "no model": ({"model": "nowhere"}, "make repro"),
    "no face": ({"source": "blank.png"}, "no face found"),
    "tiny": ({"source": "tiny.png"}, "24x24 pixels, at least 32"),
    "missing source": ({"source": "gone.png"}, "gone.png: not found"),
    "face number": ({"face": "2"}, "1 faces found, face 2 asked for"),
    "driver without face": ({"driving": "blank.mp4"}, "no face in the first 4 s"),
    "no video": ({"driving": "text.mp4"}, "not a readable video"),
    "missing pose": ({"pose": "gone.mp4"}, "gone.mp4: not found"),
    "missing sound": ({"audio": "gone.wav", "lips": "driving"}, "gone.wav: not found"),
    "text as sound": ({"audio": "text.mp4", "lips": "driving"}, "not a readable video or sound"),
    "silent film": ({"audio": "other.mp4", "model": "hears"}, "no sound track in it"),
    "clip that speaks to the deaf": ({"audio": "clip.mp4"}, "--lips driving the lips follow"),
    "deaf to emotions": ({"emotion": "happy"}, "no audio encoder"),
    "unknown emotion": ({"emotion": "glad"}, "choose one of happy"),
    "blinks of the deaf": ({"expression": "still", "blink": True}, "no audio encoder"),
    "blinks of a clip": ({"blink": True}, "which blinks by itself"),
    "level": ({"emotion": "happy", "level": "4"}, "choose from 1 to 3"),
    "level of nothing": ({"level": "2"}, "of no emotion"),
    "two expressions": ({"emotion": "happy", "expression": "still"}, "choose one"),
    "emotion alone": ({"driving": None, "emotion": "happy"}, "does not say how long"),
    "natural without speech": ({"pose": "natural"}, "made from speech, add --audio"),
    "heard without speech": ({"expression": "heard"}, "made from speech, add --audio"),
    "lips of no clip": ({"driving": None, "audio": "clip.mp4", "lips": "driving"}, "add --driving"),
    "sound alone": ({"driving": None, "audio": "clip.mp4"}, "no audio encoder"),
    "nothing": ({"driving": None}, "nothing moves"),
    "gain of nothing": ({"pose": "still", "pose-gain": "2"}, "nothing moves the pose"),
    "not an mp4": ({"out": "out.gif"}, "ends in .mp4"),
    "folder": ({"out": "folder.mp4"}, "is a folder"),
    "input as output": ({"out": "clip.mp4"}, "would replace one of the inputs"),
}


@pytest.mark.parametrize(("change", "message"), BAD.values(), ids=BAD)
def test_bad_input_gives_a_reason_and_no_file(files, tmp_path, change, message):
    (files / "folder.mp4").mkdir(exist_ok=True)
    options = {"source": "face.png", "driving": "clip.mp4", "out": str(tmp_path / "out.mp4"),
               "model": str(TRAINED)} | change  # fmt: skip
    paths = ("source", "driving", "pose", "audio", "out", "model")
    command = [
        f"--{k}"
        if v is True
        else f"--{k}={files / v if k in paths and v not in ('still', 'natural') else v}"
        for k, v in options.items()
        if v is not None
    ]

    result = CliRunner().invoke(app, ["animate", *command])

    assert result.exit_code == 1, result.output
    assert message in result.output
    assert list(tmp_path.iterdir()) == []


def test_existing_video_is_replaced_only_by_a_complete_one(files, tmp_path):
    model = FixTalk(TINY)
    model.backbone.decoupling.lip[-1].bias.data.fill_(float("nan"))
    save_checkpoint(model, tmp_path / "broken", {})
    (tmp_path / "out.mp4").write_bytes(b"older")

    with pytest.raises(ValueError, match="NaN in frames 0 to 7"):
        made(files, tmp_path / "out.mp4", model=tmp_path / "broken")
    kept = (tmp_path / "out.mp4").read_bytes()
    made(files, tmp_path / "out.mp4", model=files / "tiny", mark=False)

    assert kept == b"older"
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert "comment" not in container.metadata
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken", "out.mp4"]


@pytest.mark.slow
def test_real_portrait_moves_as_a_real_head(real_clips, tmp_path):
    driving = real_clips / "hdtf" / "WDA_AlexandriaOcasioCortez_000.mp4"
    source = real_clips / "edtalk" / "identity_source.jpg"
    out = tmp_path / "out.mp4"

    animate(
        AnimateConfig(source=source, driving=driving, relative=True, model=TRAINED, out=out), str
    )

    faces = detector()
    across = [
        [faces(frame[None])[0][0].points[:2, 0].mean() / frame.shape[1] for frame in frames[::8]]
        for frames in (read_video(out), read_video(driving))
    ]
    assert np.corrcoef(*across)[0, 1] > 0.8  # where the eyes are


def peak_memory(files, out, model, **paths):
    """Megabytes that a process takes to make a video."""
    given = {"source": files / "face.png", "out": out, "model": files / model} | paths
    code = (
        "import resource; from pathlib import Path\n"
        "from pipelines.animate import AnimateConfig, animate\n"
        f"paths = { ({name: str(path) for name, path in given.items()})!r}\n"
        "paths = {name: Path(path) for name, path in paths.items()}\n"
        "animate(AnimateConfig(**paths, paste_back=True, smooth=True, batch=8), str)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return float(done.stdout.split()[-1])


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length(files, tmp_path):
    peaks = []
    for frames in (200, 2000):
        clip = write_clip(tmp_path / f"{frames}.mp4", frames)
        peaks.append(peak_memory(files, tmp_path / "out.mp4", "tiny", driving=clip))

    assert peaks[1] < 1.1 * peaks[0], peaks


@pytest.mark.slow
def test_ten_minutes_of_speech_take_no_more_memory_than_their_samples(files, tmp_path):
    peaks = []
    for seconds in (10, 600):
        noise = 0.1 * np.random.default_rng(0).normal(size=16000 * seconds).clip(-3, 3)
        sound = write_sound(tmp_path / f"{seconds}.wav", noise, 16000, "pcm_s16le")
        peaks.append(peak_memory(files, tmp_path / "out.mp4", "hears", audio=sound))

    assert probe(tmp_path / "out.mp4").frames == 15000
    samples = 16000 * 600 * 2 / 2**20  # megabytes; while they are read they are held twice
    assert peaks[1] - peaks[0] < 3 * samples, peaks


def test_head_that_outlives_its_speech_hears_silence(files, tmp_path):
    """Without sound it goes on, not backwards."""
    rng = np.random.default_rng(0)
    samples = np.concatenate([rng.normal(0, 0.2, 6400), np.zeros(9600)])  # of 1 s
    for name, sound in (("short", samples[:6400]), ("whole", samples)):
        path = write_sound(tmp_path / f"{name}.wav", sound, 16000, "pcm_s16le")
        made(files, tmp_path / f"{name}.mp4", audio=path, lips="driving", pose="natural",
             expression="heard", model=files / "hears")  # fmt: skip

    short, whole = (read_video(tmp_path / f"{name}.mp4") for name in ("short", "whole"))
    assert np.array_equal(short, whole)
    assert not np.array_equal(short[10], short[8])
