"""One clip in pieces: equal scores whatever the pieces, SyncNet's crops, nulls with reasons."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from skimage.data import astronaut

from metrics import METRICS, Protocol
from metrics.judges import EfficientNetLite0
from metrics.sync import mfcc_windows
from pipelines.lips import NoLipsError, track_lips
from pipelines.measure import ClipScorer
from pipelines.panel import Panel
from tests.drawn_faces import face_points

FRAMES = 12
PROTOCOL = Protocol(name="self", resolution="160x160", codec="lossless", detector="", inputs="")


class Colours:
    """An identity, an emotion and a lip-sync judge that go by mean colours; easy to foresee."""

    sha256 = "colours"

    def embed(self, frames, boxes):
        """Mean colour of each frame."""
        return frames.double().mean(dim=(2, 3))

    def features(self, frames, points):
        """Happy in proportion to red, angry to the rest."""
        red = frames[:, 0].double().mean(dim=(1, 2)) / 255
        return torch.stack([red, 1 - red, *[torch.zeros_like(red)] * 6], dim=1)

    def pool(self, features):
        """Mean over the frames."""
        return features.mean(dim=0)

    def embed_video(self, frames):
        """Mean colour of five frames each."""
        return frames.double().mean(dim=(2, 3)).unfold(0, 5, 1).mean(dim=2)

    def embed_audio(self, audio):
        """Three coefficients of each window."""
        return mfcc_windows(audio).double()[:, 0, :3, 0]


class Boxes:
    """A detector that sees one face and, in every third frame, none."""

    def boxes(self, frames):
        """A face in the middle."""
        middle = torch.tensor([[60.0, 50.0, 110.0, 110.0, 0.99]], dtype=torch.float64)
        return [middle if n % 3 else middle[:0] for n in range(1, len(frames) + 1)]


@pytest.fixture(scope="module")
def panel():
    colours = dict.fromkeys(("local_identity", "local_emotion", "local_sync"), Colours())
    return Panel({**colours, "efficientnet_lite0": EfficientNetLite0.from_package()},
                 {"facenet": "no weights"})  # fmt: skip


@pytest.fixture(scope="module")
def clips():
    wide = astronaut()[20:180]
    truth = np.stack([wide[:, 150 - n : 310 - n] for n in range(FRAMES)])
    pair = [torch.from_numpy(v.copy()).permute(0, 3, 1, 2) for v in (truth // 2 + 60, truth)]
    return (*pair, pair[1].flip(0))


@pytest.fixture(scope="module")
def audio():
    return (torch.randn(FRAMES * 640, generator=torch.Generator().manual_seed(0)) * 3000).short()


def scored(panel, clips, audio, size, protocol=PROTOCOL, emotion="happy"):
    scorer = ClipScorer(panel, protocol)
    for start in range(0, FRAMES, size):
        scorer.add(*(clip[start : start + size] for clip in clips))
    return scorer.finish(audio, emotion)


@pytest.fixture(scope="module")
def whole(panel, clips, audio):
    """Scores of all frames at once."""
    return scored(panel, clips, audio, FRAMES)


def values(scores):
    return {row["metric"]: row for row in scores.rows}


@pytest.mark.parametrize("size", [1, 5, 7])
def test_pieces_do_not_matter(panel, clips, audio, whole, size):
    pieces = scored(panel, clips, audio, size)

    for name, row in values(whole).items():
        other = values(pieces)[name]
        assert (other["frames"], other["reason"]) == (row["frames"], row["reason"]), name
        for key in ("value", "truth"):
            known = row[key] is not None
            assert other[key] == (pytest.approx(row[key], rel=1e-6) if known else None), name
    for judge, features in whole.features.items():
        np.testing.assert_allclose(pieces.features[judge][0], features[0], rtol=1e-4, atol=1e-5)


def test_every_metric_has_a_row_with_a_value_or_a_reason(whole):
    rows = whole.rows

    assert [row["metric"] for row in rows] == [n for n, m in METRICS.items() if m.per != "set"]
    assert all((row["value"] is None) == bool(row["reason"]) for row in rows)


def test_looks_are_as_far_apart_as_the_protocol_says(panel, clips, audio):
    for every, looks in ((1, 12), (5, 3), (20, 1)):
        scores = scored(panel, clips, audio, 4, replace(PROTOCOL, detect_every=every))

        assert values(scores)["face_found"]["frames"] == looks
        assert len(scores.features["efficientnet_lite0"][0]) == looks
        assert values(scores)["psnr"]["frames"] == FRAMES


def test_emotion_is_judged_once_for_the_whole_clip_and_against_the_truth(panel, clips, audio):
    red, rest = (torch.zeros_like(clips[0]) for _ in range(2))
    red[:, 0] = 255

    row = values(scored(panel, (red, rest), audio, 5))["acc_emo_local"]

    assert (row["value"], row["truth"], row["frames"]) == (1.0, 0.0, 1)


@pytest.mark.parametrize(
    ("emotion", "reason"), [(None, "no emotion label"), ("bored", "'bored' is not one of happy")]
)
def test_unknown_emotions_are_told(panel, clips, audio, emotion, reason):
    row = values(scored(panel, clips, audio, FRAMES, emotion=emotion))["acc_emo_local"]

    assert row["value"] is None
    assert reason in row["reason"]


@pytest.mark.parametrize(("samples", "reason"), [(0, "no sound"), (3200, "too short to search")])
def test_too_little_sound_is_told(panel, clips, audio, samples, reason):
    row = values(scored(panel, clips, audio[:samples], FRAMES))["sync_conf_local"]

    assert row["value"] is None
    assert reason in row["reason"]


def test_nobody_leaks_where_nobody_else_drives(panel, clips, audio, whole):
    rows = values(scored(panel, clips[:2], audio, FRAMES))

    assert rows["leak_local"]["reason"] == "nobody else drives: nothing could leak"
    assert rows["leak_facenet"]["reason"] == "no weights"
    assert values(whole)["leak_local"]["value"] is not None


def test_syncnet_crop_follows_the_face_through_frames_without_one(clips):
    panel = Panel({"syncnet": Colours(), "s3fd": Boxes()}, {})

    lips = track_lips(panel, replace(PROTOCOL, sync_crop="s3fd"), [clips[:2]])
    whole = lips("truth", 0, clips[1])
    pieces = torch.cat([lips("truth", n, clips[1][n : n + 5]) for n in (0, 5, 10)])

    assert whole.shape == (FRAMES, 3, 224, 224)
    assert torch.equal(whole, pieces)


@pytest.fixture
def dlib68():
    pytest.importorskip("dlib", reason="dlib is not installed: make dlib")
    from metrics.judges import Dlib68

    return Dlib68()


def test_eat_shows_syncnet_an_upright_face(clips, dlib68):
    panel = Panel({"syncnet": Colours(), "dlib68": dlib68}, {})

    lips = track_lips(panel, replace(PROTOCOL, sync_crop="pcavs"), [clips[:2]])

    points = dlib68.points(lips("generated", 3, clips[0][3:6]))
    assert points[:, 60:68].mean(dim=(0, 1)).tolist() == pytest.approx([112, 120], abs=6)


def test_a_video_without_a_face_has_no_crop_and_says_so(dlib68):
    grey = torch.full((8, 3, 64, 64), 99, dtype=torch.uint8)
    panel = Panel({"syncnet": Colours(), "dlib68": dlib68}, {})

    with pytest.raises(NoLipsError, match="generated video: no face in any frame"):
        track_lips(panel, replace(PROTOCOL, sync_crop="pcavs"), [(grey, grey)])
    assert track_lips(panel, PROTOCOL, [(grey, grey)]) is None


def test_a_face_that_vanishes_has_no_landmarks_there(clips, dlib68):
    gone = clips[1].clone()
    gone[6:] = 99
    scorer = ClipScorer(Panel({"dlib68": dlib68}, {}), replace(PROTOCOL, detect_every=3))

    scorer.add(gone, clips[1])
    row = values(scorer.finish(torch.zeros(0, dtype=torch.int16), None))["f_lmd_dlib68"]

    assert (row["frames"], row["left_out"], row["value"]) == (6, 6, 0.0)


def test_aligned_frames_are_looked_at_though_the_first_show_no_face(dlib68, audio):
    wide = torch.from_numpy(astronaut()[:240, 60:420].copy()).permute(2, 0, 1)
    truth = torch.stack([wide.roll(n, 2) for n in range(FRAMES)])
    late = truth.clone()
    late[[0, 5, 10]] = 99
    scorer = ClipScorer(Panel({"dlib68": dlib68}, {}), replace(PROTOCOL, crop="eat128"))

    scorer.add(late, truth)
    rows = values(scorer.finish(audio, None))

    assert (rows["psnr"]["frames"], rows["psnr"]["left_out"]) == (0, FRAMES)
    assert rows["psnr"]["reason"] == "all frames are identical to the truth"
    assert (rows["lmd_mtcnn5"]["frames"], rows["lmd_mtcnn5"]["left_out"]) == (2, 1)
    assert rows["face_found"]["value"] == pytest.approx(2 / 3)
    assert rows["face_found"]["truth"] == 1.0
    assert (rows["f_lmd_dlib68"]["frames"], rows["f_lmd_dlib68"]["left_out"]) == (FRAMES - 3, 3)
    assert rows["jitter_dlib68"]["reason"] == "frames are aligned one by one: nothing trembles"


def test_emotions_of_aligned_clips_are_asked_of_whole_frames(clips, audio):
    asked = []

    class Marks:
        """Finds a face wherever a frame is not grey."""

        sha256, upsample = "marks", 1

        def points(self, frames, boxes=None):
            found = torch.from_numpy(face_points() * 2).expand(len(frames), -1, -1).clone()
            found[frames.flatten(1).float().std(dim=1) == 0] = torch.nan
            return found

    class Watcher(Colours):
        """Notes what it is shown."""

        def features(self, frames, points):
            asked.append((frames.shape, torch.isfinite(points).all(2).all(1).tolist()))
            return super().features(frames, points)

    truth = clips[1][:3]
    lost = truth.clone()
    lost[1] = 99
    panel = Panel({"dlib68": Marks(), "emotion_fan": Watcher()}, {})
    scorer = ClipScorer(panel, replace(PROTOCOL, crop="eat128"))

    scorer.add(lost, truth)
    row = values(scorer.finish(audio, "happy"))["acc_emo_fan"]

    assert asked == [(lost.shape, [True, False, True]), (truth.shape, [True] * 3)]
    assert row["frames"] == 1


def test_true_lips_are_judged_by_their_own_sound(panel, clips, audio):
    scorer = ClipScorer(panel, replace(PROTOCOL, max_shift=1))
    scorer.add(*clips[:2])

    shared, own, none = (
        values(scorer.finish(audio, None, true))["sync_dist_local"]
        for true in (None, audio.flip(0), audio[:0])
    )

    assert shared["value"] == own["value"] == none["value"]
    assert shared["truth"] != own["truth"]
    assert none["truth"] is None


def test_a_driver_of_a_cropped_protocol_is_refused(panel, clips):
    scorer = ClipScorer(Panel({**panel.judges, "dlib68": Boxes()}, {}),
                        replace(PROTOCOL, crop="eat128"))  # fmt: skip

    with pytest.raises(ValueError, match="leave out the driver"):
        scorer.add(*clips)


def test_a_video_without_a_face_has_no_emotion_rather_than_the_first(panel, clips, audio):
    class Blind(Colours):
        """Finds no face."""

        def features(self, frames, points):
            return torch.full((len(frames), 8), torch.nan)

    blind = Panel({**panel.judges, "local_emotion": Blind()}, {})

    row = values(scored(blind, clips[:2], audio, FRAMES, emotion="happy"))["acc_emo_local"]

    assert (row["value"], row["left_out"], row["reason"]) == (None, 1, "undefined in every frame")


def test_only_frames_that_could_have_jitter_are_left_out():
    class Points:
        sha256 = "points"

        def points(self, frames, boxes=None):
            marks = torch.zeros(len(frames), 68, 2)
            marks[4] = torch.nan
            return marks

    frames = torch.zeros(FRAMES, 3, 64, 64, dtype=torch.uint8)
    scorer = ClipScorer(Panel({"local_landmarks": Points()}, {}), PROTOCOL)
    scorer.add(frames, frames)

    row = values(scorer.finish(torch.zeros(0, dtype=torch.int16), None))["jitter_local"]

    assert (row["frames"], row["left_out"]) == (FRAMES - 2 - 3, 3)
