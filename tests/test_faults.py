"""Four faults in real clips: each moves the metrics that see it, and no other that is bound."""

from contextlib import suppress
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from fixtalk.media import VideoReader, read_audio
from metrics import METRICS, Protocol, mfcc
from metrics.judges import Dlib68, EfficientNetLite0, FaceNet, JudgeMissingError
from metrics.registry import OFFICIAL
from metrics.sync import mfcc_windows
from pipelines.evidence import describe_detector
from pipelines.measure import ClipScorer
from pipelines.panel import Panel
from pipelines.summary import Totals

FRAMES = 24
SIDE = 256
PROTOCOL = Protocol(
    name="faults", resolution="256x256", codec="lossless", detector=describe_detector(), inputs=""
)
UNMOVED = 1e-9
# Metrics of pictures that a fault must leave where they are, and how far they may stray.
BOUND = {
    "blur": {"face_found": 0.05},
    "swap": {"face_found": 0.05},
    "shift": dict.fromkeys(
        ["psnr", "ssim", "ssim_gaussian", "cpbd", "niqe_live", "niqe_skvideo", "face_found",
         "lmd_mtcnn5", "f_lmd_dlib68", "m_lmd_dlib68", "jitter_dlib68", "fd_efficientnet_lite0"],
        UNMOVED,
    ),
    "drop": {"cpbd": 0.02, "face_found": 0.05, "csim_facenet": 1e-4},
}  # fmt: skip


class IdealLipReader:
    """Knows the sound that belongs to the frames it sees, as a perfect SyncNet would."""

    sha256 = "ideal"

    def __init__(self, audio):
        self.windows = mfcc_windows(audio).flatten(1)

    def embed_video(self, frames):
        """What belongs to a whole clip, whatever it shows."""
        return self.windows[: len(frames) - 4]

    def embed_audio(self, audio):
        """What is heard."""
        return mfcc_windows(audio).flatten(1)


def read(path, frames=FRAMES):
    """The first frames of a clip at 256 pixels."""
    found = []
    for frame in VideoReader(path):
        found.append(cv2.resize(frame, (SIDE, SIDE), interpolation=cv2.INTER_AREA))
        if len(found) == frames:
            break
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2)


def encoded(frames):
    """What a good system would show: the truth with a little loss."""
    pictures = frames.permute(0, 2, 3, 1).numpy()
    coded = [cv2.imencode(".jpg", one, [cv2.IMWRITE_JPEG_QUALITY, 85])[1] for one in pictures]
    decoded = np.stack([cv2.imdecode(one, cv2.IMREAD_COLOR) for one in coded])
    return torch.from_numpy(decoded).permute(0, 3, 1, 2)


@pytest.fixture(scope="module")
def networks():
    torch.manual_seed(0)  # an untrained recogniser: enough to tell two people's pictures apart
    recogniser = FaceNet(OFFICIAL["facenet"].build().eval(), "untrained")
    judges = {"efficientnet_lite0": EfficientNetLite0.from_package(), "facenet": recogniser}
    with suppress(JudgeMissingError):  # its metrics are checked where it is: make dlib
        judges["dlib68"] = Dlib68()
    return judges


@pytest.fixture(scope="module")
def clip(real_clips):
    path = real_clips / "hdtf" / "WDA_AlexandriaOcasioCortez_000.mp4"
    truth = read(path)
    audio = torch.from_numpy(read_audio(path, FRAMES))
    return encoded(truth), truth, audio, read(real_clips / "anitalker" / "girl-lianliru.mp4")


def scores(networks, generated, truth, audio, heard):
    """Means of one clip by column; the lip reader knows the sound, the clip plays another."""
    panel = Panel({**networks, "local_sync": IdealLipReader(audio)}, {})
    scorer = ClipScorer(panel, replace(PROTOCOL, detect_every=2))
    scorer.add(generated, truth)
    total = Totals()
    total.add({"pair": "a", "person": "a"}, scorer.finish(heard, None))
    total.protocol = PROTOCOL
    return {name.partition("@")[0]: value for name, value in total.means().items()}


@pytest.fixture(scope="module")
def sound(clip, networks):
    """Scores without a fault."""
    generated, truth, audio, _ = clip
    return scores(networks, generated, truth, audio, audio)


def inject(fault, generated, audio, stranger):
    """Frames and sound with the fault in them."""
    if fault == "blur":
        pictures = generated.permute(0, 2, 3, 1).numpy()
        blurred = np.stack([cv2.GaussianBlur(one, (0, 0), 2) for one in pictures])
        return torch.from_numpy(blurred).permute(0, 3, 1, 2), audio
    if fault == "swap":
        return stranger, audio
    if fault == "shift":
        late = torch.cat([torch.zeros(3 * 640, dtype=torch.int16), audio[: -3 * 640]])
        return generated, late
    kept = [n for n in range(FRAMES) if n % 4]  # every fourth frame is lost, the rest moves up
    return torch.cat([generated[kept], generated[-1:].repeat(FRAMES - len(kept), 1, 1, 1)]), audio


@pytest.mark.parametrize("fault", ["blur", "swap", "shift", "drop"])
def test_fault_moves_what_sees_it_and_nothing_that_is_bound(fault, clip, networks, sound):
    generated, truth, audio, stranger = clip
    frames, heard = inject(fault, generated, audio, stranger)

    faulty = scores(networks, frames, truth, audio, heard)

    asked = [n for n, m in METRICS.items() if fault in m.sees and sound.get(n) is not None]
    assert asked, f"no metric claims to see {fault}"
    for name in asked:
        worse = faulty[name] - sound[name]
        if METRICS[name].higher_is_better is None:
            assert abs(faulty[name]) > abs(sound[name]), name
        else:
            assert (worse < 0) == METRICS[name].higher_is_better, (name, sound[name], faulty[name])
            # untrained embeddings are nearly parallel: their likeness is read from 1 downwards
            size = 1 - sound[name] if name == "csim_facenet" else 0.02 * abs(sound[name])
            assert abs(worse) > size, (name, sound[name], faulty[name])
    for name, most in BOUND[fault].items():
        if sound.get(name) is not None:
            assert abs(faulty[name] - sound[name]) <= most, (name, sound[name], faulty[name])


def test_shifted_sound_is_found_to_the_frame(clip, networks):
    generated, truth, audio, stranger = clip
    _, heard = inject("shift", generated, audio, stranger)

    values = scores(networks, generated, truth, audio, heard)

    assert values["sync_offset_local"] == -3.0
    assert torch.allclose(mfcc(heard)[14:80], mfcc(audio)[2:68], atol=1e-6)
