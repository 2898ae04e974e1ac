"""Pictures as users have them: phones, cut-outs, scans; and what cannot be used."""

import numpy as np
import pytest
from PIL import Image

from fixtalk.media import MediaError, write_video
from fixtalk.picture import read_picture
from tests.discs import disc


def gradient(height=40, width=60):
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 4, columns * 4, rows + columns], -1).astype(np.uint8)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "tiff"])
def test_kinds_of_files_are_read(tmp_path, suffix):
    Image.fromarray(gradient()).save(tmp_path / f"a.{suffix}", quality=95)

    found = read_picture(tmp_path / f"a.{suffix}")

    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - gradient()).max() <= (10 if suffix in ("jpg", "webp") else 0)


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_phone_photo_is_turned_upright(tmp_path, orientation, turns):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(gradient()).save(tmp_path / "a.png", exif=exif)

    assert np.array_equal(read_picture(tmp_path / "a.png"), np.rot90(gradient(), turns))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_white(tmp_path, mode):
    alpha = np.zeros((40, 60), np.uint8)
    alpha[:, 30:] = 255
    cut_out = Image.fromarray(np.dstack([np.full((40, 60, 3), 9, np.uint8), alpha]))
    cut_out.convert(mode).save(tmp_path / "a.png", **({"transparency": 0} if mode == "P" else {}))

    found = read_picture(tmp_path / "a.png")

    if mode != "P":  # its palette is Pillow's choice
        assert (found[:, :30] == 255).all()
        assert (found[:, 30:] == 9).all()
    assert found.shape == (40, 60, 3)


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path):
    wide = (np.arange(40 * 60).reshape(40, 60) * 27).astype(np.uint16)
    Image.fromarray(wide).save(tmp_path / "a.png")

    found = read_picture(tmp_path / "a.png")

    assert np.array_equal(found, np.repeat((wide >> 8).astype(np.uint8)[..., None], 3, -1))


@pytest.mark.parametrize("mode", ["L", "CMYK", "1"])
def test_grey_and_print_colours_become_rgb(tmp_path, mode):
    Image.fromarray(gradient()).convert(mode).save(tmp_path / "a.tiff")

    assert read_picture(tmp_path / "a.tiff").shape == (40, 60, 3)


def test_first_frame_of_a_video_is_a_picture(tmp_path):
    write_video(tmp_path / "a.mkv", [disc(0, n, 64) for n in range(3)], lossless=True)

    assert np.array_equal(read_picture(tmp_path / "a.mkv"), disc(0, 0, 64))


def made(tmp_path, name):
    path = tmp_path / name
    if name == "tiny.png":
        Image.fromarray(gradient(31, 60)).save(path)
    elif name == "cut.png":
        noise = np.random.default_rng(0).integers(0, 256, (90, 90, 3), np.uint8)
        Image.fromarray(noise).save(path)
        path.write_bytes(path.read_bytes()[:9000])
    elif name == "bomb.png":
        Image.new("1", (9000, 9000)).save(path)
    elif name == "text.jpg":
        path.write_text("not a picture")
    return path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.png", "not found"),
        ("tiny.png", "60x31 pixels, at least 32 a side"),
        ("cut.png", "damaged picture"),
        ("bomb.png", "at most"),
        ("text.jpg", "neither a picture .* nor a video"),
    ],
)
def test_unusable_pictures_are_named_with_the_reason(tmp_path, name, message):
    path = made(tmp_path, name)

    with pytest.raises(MediaError, match=message) as error:
        read_picture(path)
    assert str(path) in str(error.value)
