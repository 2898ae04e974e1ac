"""Where faces are, and warnings: what users learn before a video is made."""

import numpy as np
import pytest
import yaml

from fixtalk.media import MediaError
from pipelines import preflight
from pipelines.preflight import frame_clip, frame_picture, yaw
from tests.conftest import ROOT
from tests.talkers import NTSC, portrait, write_clip


@pytest.fixture(scope="module")
def faces():
    return preflight.detector()


def test_faces_are_framed_as_those_that_the_model_has_seen():
    crop = yaml.safe_load((ROOT / "params.yaml").read_text())["crop"]

    assert crop["margin"] == preflight.MARGIN
    assert crop["detect_resolution"] == preflight.DETECT_RESOLUTION
    assert crop["min_probability"] == preflight.MIN_PROBABILITY
    assert crop["detect_every"] == preflight.DETECT_EVERY


@pytest.mark.parametrize("degrees", [-50.0, 0.0, 20.0])
@pytest.mark.parametrize("roll", [0.0, 30.0])
def test_yaw_of_a_turned_head_whatever_its_tilt(degrees, roll):
    turn, tilt = np.radians(degrees), np.radians(roll)
    eyes, nose = np.cos(turn) / 2, 0.6 * np.sin(turn)  # eyes 1 apart, nose 0.6 before them
    points = np.array([[-eyes, 0], [eyes, 0], [nose, 0.5], [-0.2, 1], [0.2, 1]])
    rotation = np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]])

    assert yaw(40 * points @ rotation + 100) == pytest.approx(degrees)


def test_largest_of_several_faces_is_taken_and_said(faces):
    two = np.zeros((200, 330, 3), np.uint8)
    two[:120, :120], two[:200, 130:330] = portrait(120), portrait(200)

    first = frame_picture(two, "two.png", faces, 64, 1)
    second = frame_picture(two, "two.png", faces, 64, 2)

    assert first.box.x0 > 130 > second.box.x0 + second.box.side
    assert "two.png: 2 faces: the largest is taken (--face takes another)" in first.warnings
    with pytest.raises(MediaError, match="2 faces found, face 3 asked for"):
        frame_picture(two, "two.png", faces, 64, 3)


def test_small_and_cut_off_heads_are_doubted(faces):
    small = frame_picture(portrait(64), "small.png", faces, 512, 1)
    cut = frame_picture(portrait(200)[50:, 30:], "cut.png", faces, 64, 1)

    assert any("enlarged, so blurred" in warning for warning in small.warnings)
    assert any("lies outside the picture" in warning for warning in cut.warnings)


def test_clip_is_measured_to_its_end_and_its_frames_share_a_square(faces, tmp_path):
    path = write_clip(tmp_path / "a.mp4", frames=59, fps=NTSC)

    framing = frame_clip(path, faces, 64)

    assert framing.frames == 50  # 59 * 1001 / 30000 s
    assert "29.97 → 25 fps, 2.00 s, no sound" in framing.found
    assert not framing.warnings
    assert framing.box.side > frame_picture(portrait(), "", faces, 64, 1).box.side  # it sways


def test_head_that_leaves_its_square_is_noticed(faces, tmp_path, monkeypatch):
    monkeypatch.setattr(preflight, "LOOKED_AT", 10)
    monkeypatch.setattr(preflight, "LOOKED_AGAIN", 10)
    left, right = np.zeros((2, 128, 256, 3), np.uint8)
    left[:, :128] = right[:, 128:] = portrait()
    clip = write_clip(tmp_path / "a.mp4", 40, pictures=lambda n: left if n < 25 else right)

    framing = frame_clip(clip, faces, 64)

    assert framing.frames == 40
    assert any("at 1.2 s no face lies in the square" in warning for warning in framing.warnings)


def test_damaged_clip_is_said_to_be(faces, tmp_path):
    path = write_clip(tmp_path / "a.ts", frames=60)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] + bytes(400) + whole[len(whole) // 2 + 400 :])

    framing = frame_clip(path, faces, 64)

    assert any("damaged" in warning for warning in framing.warnings)


def test_clip_without_a_face_is_refused(faces, tmp_path):
    path = write_clip(tmp_path / "a.mp4", 10, pictures=lambda n: np.zeros((64, 64, 3), np.uint8))

    with pytest.raises(MediaError, match=r"a\.mp4: no face in the first 4 s; cut the clip"):
        frame_clip(path, faces, 64)
