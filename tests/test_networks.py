"""The networks of the small judges, and the judges that ask them."""

import pytest
import torch
from torch.nn.functional import avg_pool2d, interpolate

from metrics.emotion import EMOTIONS
from metrics.local import (
    AT_ONCE,
    LocalEmotion,
    LocalIdentity,
    LocalLandmarks,
    LocalSync,
    face_pictures,
    lip_pictures,
)
from metrics.networks import (
    FACE,
    EmotionNetwork,
    IdentityNetwork,
    LandmarkNetwork,
    Look,
    SyncNetwork,
    crop,
    upright,
)


def seeded(network_class):
    torch.manual_seed(0)
    return network_class()


def smooth_clip(frames, height=64, width=64):
    """Soft random pictures, so that another resolution shows the same."""
    torch.manual_seed(1)
    rough = torch.rand(frames, 3, 8, 8)
    shape = (height, width)
    return (interpolate(rough, shape, mode="bicubic").clamp(0, 1) * 255).round().to(torch.uint8)


def speech(frames):
    torch.manual_seed(2)
    return (torch.randn(frames * 640) * 3000).to(torch.int16)


def answers():
    """What each judge says of a clip, a row a frame or window."""
    sync = LocalSync(seeded(SyncNetwork), "0")
    return {
        "identity": LocalIdentity(seeded(IdentityNetwork), "0").embed,
        "landmarks": LocalLandmarks(seeded(LandmarkNetwork), "0").points,
        "emotion": LocalEmotion(seeded(EmotionNetwork), "0").features,
        "lips": sync.embed_video,
    }


@pytest.mark.parametrize(
    ("name", "shape"),
    [("identity", (7, 128)), ("landmarks", (7, 68, 2)), ("emotion", (7, 52)), ("lips", (3, 256))],
)
def test_a_row_for_each_frame_or_window(name, shape):
    rows = answers()[name](smooth_clip(7))

    assert rows.shape == shape
    assert rows.isfinite().all()


@pytest.mark.parametrize("name", ["identity", "landmarks", "emotion", "lips"])
def test_what_is_said_of_a_frame_does_not_depend_on_the_others(name):
    ask = answers()[name]
    clip = smooth_clip(AT_ONCE + 6)

    whole = ask(clip)

    assert torch.allclose(ask(clip[-5:])[-1], whole[-1], atol=1e-4)


@pytest.mark.parametrize("name", ["identity", "emotion", "lips"])
def test_another_resolution_of_the_same_picture_says_nearly_the_same(name):
    ask = answers()[name]

    small, large = ask(smooth_clip(5)), ask(smooth_clip(5, 150, 130))

    assert (small - large).abs().mean() < 0.1 * small.std()


def test_points_are_in_pixels_of_the_frame_that_is_given():
    judge = LocalLandmarks(seeded(LandmarkNetwork), "0")

    small, large = judge.points(smooth_clip(2)), judge.points(smooth_clip(2, 256, 128))

    assert torch.allclose(large, small * torch.tensor([2.0, 4.0]), atol=2.0)


def test_identity_and_probabilities_are_normalised():
    clip = smooth_clip(3)

    lengths = answers()["identity"](clip).norm(dim=1)
    probabilities = LocalEmotion(seeded(EmotionNetwork), "0").probabilities(clip)

    assert torch.allclose(lengths, torch.ones(3))
    assert probabilities.shape == (len(EMOTIONS),)
    assert float(probabilities.sum()) == pytest.approx(1)


def test_emotion_of_a_video_piece_by_piece_is_that_of_the_whole():
    judge = LocalEmotion(seeded(EmotionNetwork), "0")
    clip = smooth_clip(9)

    pieces = torch.cat([judge.features(clip[:4]), judge.features(clip[4:])])

    assert torch.allclose(judge.pool(pieces), judge.probabilities(clip), atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (50, 71), (300, 256)])
def test_pooled_lips_are_those_of_the_large_picture(height, width):
    clip = smooth_clip(2, height, width)
    large = interpolate(clip.flip(1).float(), (224, 224), mode="bilinear", antialias=True)

    pooled = lip_pictures(clip)

    assert torch.allclose(pooled, avg_pool2d(large, 4), atol=1e-3)


def test_pictures_of_lips_have_a_gradient_in_a_process_that_has_judged():
    frames = torch.rand(1, 3, 50, 50) * 255  # of a size that no other test has
    with torch.inference_mode():
        lip_pictures(frames)
    frames.requires_grad_()

    lip_pictures(frames).sum().backward()

    assert frames.grad.abs().sum() > 0


def test_embedding_a_video_is_syncnets_layout_frame_by_frame():
    network = seeded(SyncNetwork)
    clip = smooth_clip(7)
    large = interpolate(clip.flip(1).float(), (224, 224), mode="bilinear", antialias=True)
    windows = torch.stack([large[start : start + 5].transpose(0, 1) for start in range(3)])

    embeddings = LocalSync(network, "0").embed_video(clip)

    with torch.inference_mode():
        assert torch.allclose(embeddings, network.forward_lip(windows), atol=1e-4)


def test_sound_has_an_embedding_for_each_window_of_lips():
    judge = LocalSync(seeded(SyncNetwork), "0")

    sound = judge.embed_audio(speech(11))

    assert sound.shape == judge.embed_video(smooth_clip(11)).shape
    # far from the zeros beyond the ends: as far as two embeddings can be on average
    assert torch.allclose(sound.norm(dim=1), torch.full((7,), 2**0.5))


def test_too_few_frames_for_a_window_are_named():
    with pytest.raises(ValueError, match="4 frames: a window needs 5"):
        LocalSync(seeded(SyncNetwork), "0").embed_video(smooth_clip(4))


@pytest.mark.parametrize("name", ["identity", "landmarks", "emotion", "lips"])
def test_frames_that_are_no_pictures_are_refused(name):
    with pytest.raises(ValueError, match="at least one frame"):
        answers()[name](smooth_clip(5)[:0])


def test_weights_of_another_network_are_refused():
    with pytest.raises(RuntimeError, match="state_dict"):
        LocalEmotion(seeded(IdentityNetwork).state_dict(), "0")


def test_a_state_dict_gives_the_judge_of_its_network():
    network = seeded(IdentityNetwork)
    clip = smooth_clip(2)

    again = LocalIdentity(network.state_dict(), "abc")

    assert torch.equal(again.embed(clip), LocalIdentity(network, "abc").embed(clip))
    assert again.sha256 == "abc"


def test_a_turned_face_is_set_upright():
    # eyes left and right of (0.3, 0.5), mouth to their right: a face lying on its side
    anchors = torch.tensor([[[0.3, 0.6], [0.3, 0.4], [0.5, 0.5]]])
    picture = torch.zeros(1, 3, 64, 64)
    picture[:, :, 30:34, 30:34] = 255  # the mouth

    crops = crop(picture, upright(anchors, Look(centre=0.5, zoom=1.0, side=32)), 32)

    row, column = divmod(int(crops[0, 0].flatten().argmax()), 32)
    assert abs(column - 15.5) <= 2
    assert abs(row - 23.5) <= 2  # half an eye-mouth distance below the centre


def test_pictures_of_the_trained_size_are_not_touched():
    clip = smooth_clip(2)

    assert torch.equal(face_pictures(clip), clip.float())
    assert FACE.side < clip.shape[-1]
