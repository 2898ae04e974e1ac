"""Cutting: exact frames, sound in step, boxes in pixels, and videos that end too early."""

import random
from fractions import Fraction

import av
import numpy as np
import pytest

from fixtalk.media import MediaError, probe, read_audio
from pipelines.sources.cutting import Region, cut, inspect, join, region_around, square_in
from tests.fake_videos import beeps, film, numbers_of

FPS = Fraction(30000, 1001)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("cutting") / "film.mp4"
    film(path)
    return path


@pytest.mark.parametrize(("first", "last"), [(0, 40), (61, 150), (149, 239)])
def test_exact_frames_are_cut(video, tmp_path, first, last):
    clip = tmp_path / "clip.mp4"

    made = cut(video, None, float(first / FPS), float((last + 1) / FPS), None, clip)

    assert numbers_of(clip) == [number % 30 for number in range(first, last + 1)]
    assert made.frames == last + 1 - first
    assert probe(clip).fps == pytest.approx(float(FPS), abs=0.01)
    assert made.has_audio
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


@pytest.mark.parametrize("start", [0.0, 2.25, 5.4])
def test_sound_stays_in_step(video, tmp_path, start):
    clip = tmp_path / "clip.mp4"

    cut(video, None, start, start + 2, None, clip)

    heard = read_audio(clip, 50).astype(float)
    said = beeps(8, 16000)[round(start * 16000) :][: len(heard)].astype(float)
    lags = range(-400, 401, 4)
    likeness = [(np.roll(heard, lag) * said).sum() for lag in lags]
    assert abs(lags[int(np.argmax(likeness))]) <= 16  # 1 ms
    loud, silent = np.abs(said) > 4000, np.convolve(np.abs(said), np.ones(2400), "same") == 0
    assert np.abs(heard[loud]).mean() > 4000
    assert np.abs(heard[silent]).mean() < 200


def test_sound_of_another_file_and_no_sound(tmp_path):
    film(tmp_path / "picture.mp4", has_sound=False)
    film(tmp_path / "sound.mp4")

    silent = cut(tmp_path / "picture.mp4", None, 1, 3, None, tmp_path / "silent.mp4")
    spoken = cut(
        tmp_path / "picture.mp4", tmp_path / "sound.mp4", 1, 3, None, tmp_path / "spoken.mp4"
    )
    joined = join(tmp_path / "picture.mp4", tmp_path / "sound.mp4", tmp_path / "joined.mp4")

    assert not silent.has_audio
    assert spoken.has_audio
    assert joined.has_audio
    assert numbers_of(tmp_path / "joined.mp4") == numbers_of(tmp_path / "picture.mp4")


def test_region_keeps_pixels(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    pixels = pixels.repeat(4, 0).repeat(4, 1)
    with av.open(str(tmp_path / "still.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        stream.options = {"crf": "4"}
        for _ in range(10):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))

    region = region_around((101, 81, 181, 161), 320, 240)
    cut(tmp_path / "still.mp4", None, 0, 0.4, region, tmp_path / "part.mp4")

    assert region == Region(80, 60, 120, 120)
    assert square_in((101, 81, 181, 161), region) == [21, 21, 80]
    with av.open(str(tmp_path / "part.mp4")) as container:
        seen = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert np.abs(seen.astype(int) - pixels[60:180, 80:200]).mean() < 12


@pytest.mark.parametrize(
    ("box", "region", "square"),
    [
        ((0, 0, 100, 100), Region(0, 0, 124, 124), [0, 0, 100]),
        ((250, 150, 330, 250), Region(224, 124, 96, 116), [16, 26, 100]),
    ],
)
def test_region_ends_at_the_border(box, region, square):
    assert region_around(box, 320, 240) == region
    assert square_in(box, region) == square


def test_box_outside_is_an_error():
    with pytest.raises(MediaError, match="outside of 320x240"):
        region_around((500, 0, 600, 100), 320, 240)


def test_mutated_videos_are_cut_or_told(tmp_path):
    film(tmp_path / "film.mp4", seconds=1, width=64, height=48)
    content, chance = (tmp_path / "film.mp4").read_bytes(), random.Random(3)
    header, mutant = content.index(b"mdat"), tmp_path / "mutant.mp4"
    region, told = Region(10, 10, 32, 32), 0

    for number in range(100):
        mutated = bytearray(content)
        for _ in range(chance.choice((1, 4, 20))):
            end = header if chance.random() < 0.7 else len(content)
            mutated[chance.randrange(end)] = chance.randrange(256)
        mutant.write_bytes(mutated[: None if number % 5 else chance.randrange(len(content))])
        for work in (
            lambda: cut(mutant, None, 0.2, 0.8, region, tmp_path / "cut.mp4"),
            lambda: join(mutant, tmp_path / "film.mp4", tmp_path / "joined.mp4"),
            lambda: join(tmp_path / "film.mp4", mutant, tmp_path / "joined.mp4"),
        ):
            try:
                work()
            except MediaError:
                told += 1

    assert 50 < told < 250
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_video_that_ends_early_or_is_damaged(video, tmp_path):
    content = video.read_bytes()
    (tmp_path / "torn.mp4").write_bytes(content[: len(content) // 2])

    with pytest.raises(MediaError, match=r"ends after 8\.\d+ s, the clip lasts to 12") as early:
        cut(video, None, 6, 12, None, tmp_path / "clip.mp4")
    with pytest.raises(MediaError) as torn:
        cut(tmp_path / "torn.mp4", None, 6, 7.5, None, tmp_path / "clip.mp4")

    assert early.value.reason == "too early an end"
    assert torn.value.reason == "undecodable"
    assert [path.name for path in tmp_path.iterdir()] == ["torn.mp4"]
    assert inspect(video).frames == 240


@pytest.mark.parametrize(
    ("start", "stop", "shown"),
    [
        (1, 7, [*range(25, 50), *range(125, 175)]),  # 75 frames in 6 s
        (1, 4, [*range(25, 50), 49]),
        (3, 6, [49, *range(125, 150)]),
        (3, 4, [49, 49]),
        (6, 8, [*range(150, 200)]),
    ],
)
def test_picture_that_stands_still_is_not_taken_for_damage(tmp_path, start, stop, shown):
    film(tmp_path / "film.mp4", fps=25, still=(2, 5))

    made = cut(tmp_path / "film.mp4", None, start, stop, None, tmp_path / "clip.mp4")

    assert numbers_of(tmp_path / "clip.mp4") == [number % 30 for number in shown]
    assert made.seconds == pytest.approx(stop - start, abs=0.05)


def test_frames_that_cannot_be_decoded_are_damage(tmp_path):
    film(tmp_path / "film.mp4", has_sound=False)
    content = bytearray((tmp_path / "film.mp4").read_bytes())
    begin = content.index(b"mdat") + 4
    length = (len(content) - begin) // 2
    content[begin + length // 2 : begin + length // 2 + length] = bytes(length)
    (tmp_path / "film.mp4").write_bytes(content)

    with pytest.raises(MediaError, match=r"frames from -0\.02 to 7\.\d+ s can be decoded"):
        cut(tmp_path / "film.mp4", None, 0, 8, None, tmp_path / "clip.mp4")
