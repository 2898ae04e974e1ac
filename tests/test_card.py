"""The card of a dataset: what it says follows from the clips, and it is the same every time."""

import numpy as np
import pyarrow as pa
import pytest

from fixtalk.dataset import clip_schema, to_blob
from fixtalk.media import encode_video
from fixtalk.shards import ShardWriter, coverage_of
from fixtalk.sheet import read_picture
from pipelines.card import write_card

FRAMES, SIDE = 6, 64
SPLIT = "0123456789abcdef"
LEAKS = {"sound": None, "identity": {"bound": 0.7, "not_done": "facenet is not in models/weights"}}


def film(number):
    return encode_video(np.full((FRAMES, SIDE, SIDE, 3), 8 * number, np.uint8), crf=20, gop=3)


def written(folder, count, known, licence="CC0-1.0", emotion="happy"):
    """A card of clips whose heads turn by 20 degrees and are believed to turn by 30."""
    (folder / "shards").mkdir(parents=True)
    writer = ShardWriter(folder / "shards", 256.0)
    true, believed = np.zeros((FRAMES, 6)), np.zeros((FRAMES, 3))
    true[:, 0], believed[:, 0] = np.radians([20, 30])
    for number in range(count):
        row = dict.fromkeys(clip_schema().names) | {
            "clip": f"P{number % 3}/{number}", "person": f"P{number % 3}", "frames": FRAMES,
            "split": "test" if number % 3 == 2 else "train", "emotion": [emotion, None][number % 2],
            "video": film(number), "audio": b"", "box": [0.0, 0.0, 64.0], "sharpness": 0.01,
            "pose": to_blob(true) if known else None, "head_pose": to_blob(believed),
            "mouth": to_blob(np.full(FRAMES, 0.1)) if known else None,
            "face_probability": 0.99, "face_pixels": 100.0 + number, "speech": 0.5,
        }  # fmt: skip
        writer.add(pa.RecordBatch.from_pylist([row], clip_schema()))
    index = writer.close()
    piece = {"silent": True, "padded": 0.0, "enlarged": False}
    drop = {"clip": "x", "video": "x.mp4", "reason": "blurred", "detail": "0.001"}
    reports = [
        {"clip": "a", "video": "a", "cuts": 2, "licence": licence, "dropped": [drop],
         "pieces": [piece] * count}
    ]  # fmt: skip
    coverage = coverage_of(reports, index) | {"leaks": LEAKS, "split_hash": SPLIT}
    write_card(folder, "mine", coverage, index)
    return folder / "card"


def test_the_card_says_what_is_there(tmp_path):
    card = written(tmp_path, 30, known=True)

    text = (card / "README.md").read_text()
    assert "# mine\n\n30 clips, 0.00 hours, of 1 of 1 videos (100.0%); 2 cuts" in text
    assert "| test | 1 | 10 | 0.00 |\n| train | 2 | 20 | 0.00 |" in text
    assert f"Hash of the splits: `{SPLIT}`." in text
    assert "CC0-1.0 (1 videos)" in text
    assert "| blurred | 1 |" in text
    assert "- sound: not looked for" in text
    assert "- identity: **not done**: facenet is not in models/weights" in text
    assert "misses it by 10.0°, pitch by 0.0°, roll by 0.0°" in text
    assert read_picture(card / "faces.png").shape[1] > 6 * 128


def test_a_licence_is_no_heading_no_cell_and_no_html(tmp_path):
    card = written(tmp_path, 1, known=False, licence="<b>mine</b>\n# Free | yes")

    text = (card / "README.md").read_text()
    assert r"states them: &lt;b&gt;mine&lt;/b&gt; # Free \| yes (1 videos)." in text


def test_a_long_emotion_takes_no_more_place_than_sixteen_letters(tmp_path):
    cards = [
        written(tmp_path / end, 2, known=True, emotion="x" * 15 + end) for end in ("yy", "zzz" * 30)
    ]

    assert len({(card / "histograms.png").read_bytes() for card in cards}) == 1


def test_the_card_is_the_same_every_time(tmp_path):
    cards = [written(tmp_path / name, 30, known=True) for name in ("one", "two")]

    for name in ("README.md", "faces.png", "histograms.png"):
        assert len({(card / name).read_bytes() for card in cards}) == 1


@pytest.mark.parametrize("count", [1, 5, 9])
def test_few_clips_without_labels_have_a_card(tmp_path, count):
    card = written(tmp_path, count, known=False)

    assert "Yaw is estimated of five points" in (card / "README.md").read_text()
    sheet = read_picture(card / "faces.png")
    assert sheet.shape[0] > 128
    assert (card / "histograms.png").stat().st_size > 1000
