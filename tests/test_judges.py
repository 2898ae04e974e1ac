"""Judges: layouts of the published files, and the features of the packages they stand in for."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import python_speech_features
import skimage.data
import torch
from torch import nn

import torchvision_cpu
from metrics import judges, registry
from metrics.emotion_fan import face_chip
from metrics.registry import OFFICIAL, build, layout
from metrics.sync import sync_scores
from pipelines.weights import read

GOLDEN = json.loads((Path(__file__).parent / "golden" / "judges.json").read_text())
WEIGHTED = (nn.Conv2d, nn.Conv3d, nn.Linear)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@pytest.fixture(scope="module", autouse=True)
def torchvision():
    """Made importable before the packages that need it, whichever test comes first."""
    torchvision_cpu.install()


@pytest.fixture(scope="module")
def astronaut():
    """One picture of a face as a clip of one frame."""
    return as_clip(skimage.data.astronaut())


@pytest.fixture(scope="module")
def dlib68():
    pytest.importorskip("dlib", reason="make dlib installs it")
    return judges.Dlib68()


def as_clip(picture):
    return torch.from_numpy(picture).permute(2, 0, 1)[None].contiguous()


def as_array(frame):
    return frame.permute(1, 2, 0).contiguous().numpy()


def noise(frames, height, width):
    """Random frames with some detail: squeezing and cropping have something to do."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(frames, 3, 48, 48, generator=generator)
    smooth = nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
    return (smooth * 255).to(torch.uint8)


def assert_near(found, expected):
    """Equal to 1e-5 of the largest value."""
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def seeded(name):
    """A network of random weights that pass the picture on to the last layer."""
    torch.manual_seed(0)
    network = OFFICIAL[name].build().eval()
    for module in network.modules():
        if isinstance(module, WEIGHTED):
            nn.init.kaiming_uniform_(module.weight)
        if isinstance(module, BATCH_NORMS):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network


@pytest.fixture
def seat(monkeypatch, tmp_path):
    """Sends a network's weights through a file and back, into the judge that asks it."""

    def through_file(judge, name, network):
        path = tmp_path / OFFICIAL[name].file
        torch.save(network.state_dict(), path)
        entry = replace(OFFICIAL[name], sha256=None)
        monkeypatch.setattr(registry, "OFFICIAL", {name: entry})
        state, sha256 = read(name, tmp_path)
        return judge(build(name, state), sha256)

    return through_file


@pytest.mark.parametrize("name", ["syncnet", "s3fd"])
def test_layout_is_that_of_the_published_file(name):
    published = {key: tuple(shape) for key, shape in GOLDEN[f"{name}_layout"].items()}

    assert layout(name) == published


def test_layouts_of_the_other_files_hold_what_their_authors_name():
    from torchvision.models import vgg19

    with torch.device("meta"):
        vgg = {key: tuple(value.shape) for key, value in vgg19().state_dict().items()}

    assert layout("vgg19") == vgg
    assert layout("inception")["fc.weight"] == (1008, 2048)
    assert layout("facenet")["logits.weight"] == (8631, 512)
    assert layout("emotion_fan")["pred_fc2.weight"] == (8, 1024)


def test_wrong_weights_are_refused_by_name():
    state = OFFICIAL["emotion_fan"].build().state_dict()
    state["alpha.0.bias"] = torch.ones(2)
    state["pred_fc3.bias"] = state.pop("pred_fc2.bias")

    with pytest.raises(ValueError, match="these are not the weights of emotion_fan") as refusal:
        build("emotion_fan", state)

    for problem in ("missing: pred_fc2.bias", "unknown: pred_fc3.bias", "alpha.0.bias (2,)"):
        assert problem in str(refusal.value)


def test_built_networks_neither_train_nor_learn(seat):
    judge = seat(judges.EmotionFan, "emotion_fan", seeded("emotion_fan"))

    assert not judge.network.training
    assert not any(parameter.requires_grad for parameter in judge.network.parameters())
    assert len(judge.sha256) == 64


def test_syncnet_gives_the_embeddings_and_scores_of_its_package(seat):
    from syncnet_python.SyncNetInstance import calc_pdist

    network = seeded("syncnet")
    frames = noise(14, 90, 120)
    audio = np.random.default_rng(0).integers(-9000, 9000, 14 * 640).astype(np.int16)
    pictures = [cv2.resize(as_array(frame)[..., ::-1], (224, 224)) for frame in frames]
    film = torch.from_numpy(np.stack(pictures).astype(float)).permute(3, 0, 1, 2)[None].float()
    columns = torch.from_numpy(python_speech_features.mfcc(audio, 16_000).T).float()
    with torch.no_grad():
        lips = [network.forward_lip(film[:, :, i : i + 5]) for i in range(9)]
        sounds = [network.forward_aud(columns[None, None, :, 4 * i : 4 * i + 20]) for i in range(9)]
    lips, sounds = torch.cat(lips), torch.cat(sounds)

    judge = seat(judges.SyncNet, "syncnet", network)
    video, sound = judge.embed_video(frames), judge.embed_audio(torch.from_numpy(audio))
    scores = sync_scores(video[:9], sound[:9], max_shift=5)

    assert video.shape == sound.shape == (10, 1024)
    assert_near(video[:9], lips)
    assert_near(sound[:9], sounds)
    means = torch.stack(calc_pdist(lips, sounds, vshift=5), 1).mean(1)
    assert scores.distance == pytest.approx(means.min().item(), rel=1e-5)
    assert scores.confidence == pytest.approx(
        (means.median() - means.min()).item(), abs=1e-5 * scores.distance
    )
    assert scores.offset == 5 - means.argmin().item()


def test_syncnet_refuses_a_clip_without_a_window(seat):
    judge = seat(judges.SyncNet, "syncnet", seeded("syncnet"))

    with pytest.raises(ValueError, match="4 frames: SyncNet needs 5"):
        judge.embed_video(noise(4, 32, 32))


def test_facenet_gives_the_embeddings_of_its_package(seat):
    from facenet_pytorch.models.utils.detect_face import extract_face

    network = seeded("facenet")
    frames = noise(9, 200, 240)
    boxes = torch.tensor([[30.7, 20.2, 180.9, 190.4]]).repeat(9, 1)
    boxes[1] = torch.tensor([-20.0, -5.0, 300.0, 250.0])
    boxes[2] = torch.nan
    boxes[3] = torch.tensor([250.0, 10.0, 280.0, 60.0])
    seen = [0, 1, 4, 5, 6, 7, 8]
    faces = [extract_face(as_array(frames[i]), boxes[i].numpy()) for i in seen]
    with torch.no_grad():
        expected = network((torch.stack(faces) - 127.5) / 128)

    embeddings = seat(judges.FaceNet, "facenet", network).embed(frames, boxes)

    assert_near(embeddings[seen], expected)
    assert embeddings[2:4].isnan().all()


def test_inception_gives_the_features_of_piq(seat, monkeypatch):
    from piq.feature_extractors import fid_inception

    network = seeded("inception")
    # piq's constructor would download these
    monkeypatch.setattr(
        fid_inception, "load_state_dict_from_url", lambda *_, **__: network.state_dict()
    )
    reference = fid_inception.InceptionV3().eval()
    frames = noise(2, 400, 320)
    with torch.no_grad():
        expected = reference(frames.float() / 255)[0].flatten(1)

    features = seat(judges.Inception, "inception", network).features(frames)

    assert features.shape == (2, 2048)
    assert_near(features, expected)


def test_emotion_fan_is_a_resnet18_under_two_attentions(seat, astronaut):
    from torchvision.models import resnet18

    network = seeded("emotion_fan")
    for head in (network.alpha[0], network.beta[0], network.pred_fc2):
        head.weight.data /= 100  # no sigmoid or softmax at its end
    points = torch.tensor(GOLDEN["dlib68_points"], dtype=torch.float64)
    frames = astronaut.repeat(10, 1, 1, 1)
    marks = torch.stack([points + shift for shift in range(10)])
    marks[4] = torch.nan
    trunk = resnet18().eval()
    trunk.load_state_dict(network.state_dict(), strict=False)
    trunk.fc = nn.Identity()
    faces = [face_chip(frames[i], marks[i]) / 255 for i in range(10) if i != 4]
    with torch.no_grad():
        features = trunk(torch.stack(faces))
        alpha = network.alpha(features)
        mean = (alpha * features).sum(0) / alpha.sum()
        related = torch.stack([torch.cat([feature, mean]) for feature in features])
        weight = (alpha * network.beta(related)).sum()
        expected = network.pred_fc2((alpha * related).sum(0) / weight).softmax(0)

    judge = seat(judges.EmotionFan, "emotion_fan", network)
    probabilities = judge.pool(judge.features(frames, marks))
    pieces = torch.cat(
        [judge.features(frames[:3], marks[:3]), judge.features(frames[3:], marks[3:])]
    )

    assert_near(probabilities, expected)
    assert_near(judge.pool(pieces), expected)
    assert judge.pool(judge.features(frames[4:5], marks[4:5])).isnan().all()


@pytest.mark.parametrize("scale", [1, 2.5, 4])
def test_face_chip_is_the_one_of_dlib(astronaut, scale):
    dlib = pytest.importorskip("dlib", reason="make dlib installs it")
    picture = cv2.resize(as_array(astronaut[0]), None, fx=scale, fy=scale)
    points = (torch.tensor(GOLDEN["dlib68_points"]) * float(scale)).round()
    five = [dlib.point(*map(int, points[number])) for number in (45, 42, 36, 39, 33)]
    face = dlib.full_object_detection(dlib.rectangle(0, 0, 9, 9), five)
    expected = dlib.get_face_chip(picture, face, size=224, padding=0.25)

    chip = face_chip(as_clip(picture)[0], points)

    assert np.abs(as_array(chip).astype(int) - expected).max() <= 2


def test_s3fd_gives_the_boxes_of_its_package(seat, astronaut):
    from syncnet_python.detectors.s3fd import S3FD

    network = seeded("s3fd")
    nn.init.constant_(network.conf[5].bias, 0)
    network.conf[5].bias.data[1] = 9  # a face wherever the coarsest map looks
    frames = torch.cat([astronaut, noise(1, 512, 512)])
    expected = [
        S3FD(network, "cpu").detect_faces(as_array(frame), conf_th=0.9, scales=[0.25])
        for frame in frames
    ]

    boxes = seat(judges.S3fd, "s3fd", network).boxes(frames)

    assert len(boxes[0]) > 0
    for found, reference in zip(boxes, expected, strict=True):
        np.testing.assert_allclose(found.numpy(), reference, atol=1e-4)


@pytest.mark.parametrize(("height", "width", "asked"), [(109, 300, 0), (300, 64, 0), (110, 110, 1)])
def test_s3fd_finds_no_face_in_frames_too_small_for_it(seat, height, width, asked):
    judge, looked = seat(judges.S3fd, "s3fd", seeded("s3fd")), []
    judge.network.register_forward_hook(lambda *_: looked.append(1))

    boxes = judge.boxes(noise(2, height, width))

    assert [faces.shape[1] for faces in boxes] == [5, 5]
    assert len(looked) == 2 * asked


def test_dlib68_gives_its_points_to_the_pixel(dlib68, astronaut):
    box = torch.tensor([GOLDEN["dlib68_rectangle"]]) + 0.3

    detected = dlib68.detect(astronaut)
    points = dlib68.points_in(astronaut, box)

    assert detected.tolist() == [GOLDEN["dlib68_detected"]]
    assert points.tolist() == [GOLDEN["dlib68_points"]]


def test_dlib68_falls_back_on_the_given_box(dlib68, astronaut):
    frames = torch.cat([astronaut, torch.zeros_like(astronaut), torch.zeros_like(astronaut)])
    boxes = torch.tensor([[0.0, 0.0, 9.0, 9.0], [60.0, 60.0, 160.0, 160.0], [torch.nan] * 4])

    points = dlib68.points(frames, boxes)

    torch.testing.assert_close(points[:1], dlib68.points(astronaut))
    assert points[1].isfinite().all()
    assert points[2].isnan().all()


def test_dlib68_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "face_recognition_models", None)

    with pytest.raises(judges.JudgeMissingError, match=r"pip install 'fixtalk\[dlib\]'"):
        judges.Dlib68()


@pytest.mark.parametrize(("picture", "label"), GOLDEN["efficientnet_lite0_classes"].items())
def test_efficientnet_recognises_what_it_was_trained_on(picture, label):
    judge = judges.EfficientNetLite0.from_package()

    features = judge.features(as_clip(getattr(skimage.data, picture)()))

    assert features.shape == (1, 1280)
    assert judge.network._fc(features).argmax().item() == label


@pytest.mark.parametrize(
    ("judge", "name"),
    [(judges.Inception, "inception"), (judges.EmotionFan, "emotion_fan")],
)
def test_neighbours_in_a_batch_do_not_matter(seat, judge, name):
    frames = noise(10, 64, 64)
    extra = []
    if name == "emotion_fan":
        extra = [torch.tensor(GOLDEN["dlib68_points"], dtype=torch.float64).expand(10, -1, -1) / 8]
    features = seat(judge, name, seeded(name)).features

    together = features(frames, *extra)
    alone = [features(frames[i : i + 1], *(values[i : i + 1] for values in extra)) for i in (0, 9)]

    assert_near(together[[0, 9]], torch.cat(alone))


def test_wrong_input_is_told_apart(seat, unchecked):
    judge = seat(judges.FaceNet, "facenet", seeded("facenet"))
    frames = noise(2, 32, 32)

    with pytest.raises(TypeError, match=r"expected uint8 frames 0-255, got torch\.float32"):
        judge.embed(frames / 255, torch.zeros(2, 4))
    with pytest.raises(ValueError, match=r"boxes: expected \(2, 4\), got \(1, 4\)"):
        judge.embed(frames, torch.zeros(1, 4))
    with pytest.raises(ValueError, match="expected at least one frame"):
        judge.embed(frames[:0], torch.zeros(0, 4))
