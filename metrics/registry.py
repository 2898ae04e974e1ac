"""Name of an official network → where its weights come from, their layout, the built network."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

import torchvision_cpu

MAX_LISTED = 3  # keys named in an error message
UNTRAINED = "num_batches_tracked"  # older checkpoints lack it and evaluation does not use it


@dataclass(frozen=True)
class Weights:
    """One file of published weights.

    Attributes:
        name: of the network, as the command line knows it.
        file: name below the folder of weights.
        url: of the file, or of the page that holds it.
        sha256: published checksum, in full or its beginning; None where none is published.
        num_bytes: published length; None where none is.
        licence: terms of the weights, as far as their authors state them.
        purpose: what needs them.
        build: the network with weights of its own.
        note: how to get at the file where the URL alone is not enough.
    """

    name: str
    file: str
    url: str
    sha256: str | None
    num_bytes: int | None
    licence: str
    purpose: str
    build: Callable[[], nn.Module]
    note: str = ""


def layout(name: str) -> dict[str, tuple[int, ...]]:
    """Shape of each tensor that the weights of `name` hold."""
    with torch.device("meta"):
        network = OFFICIAL[name].build()
    return {key: tuple(value.shape) for key, value in network.state_dict().items()}


def check_layout(name: str, state_dict: Mapping[str, Tensor]) -> None:
    """Refuse weights that are not those of the network `name`.

    Raises:
        ValueError: a tensor is missing, unknown or of another shape; the message names the first.
    """
    expected = layout(name)
    missing = [
        key for key in expected if key not in state_dict and not key.endswith("." + UNTRAINED)
    ]
    extra = [key for key in state_dict if key not in expected]
    misshaped = [
        f"{key} {tuple(state_dict[key].shape)} instead of {shape}"
        for key, shape in expected.items()
        if key in state_dict and tuple(state_dict[key].shape) != shape
    ]
    kinds = {"missing": missing, "unknown": extra, "misshaped": misshaped}
    problems = [f"{len(keys)} {kind}: {_listed(keys)}" for kind, keys in kinds.items() if keys]
    if problems:
        raise ValueError(f"these are not the weights of {name}: " + "; ".join(problems))


def build(name: str, state_dict: Mapping[str, Tensor]) -> nn.Module:
    """The network `name` with these weights, for evaluation only.

    Raises:
        ValueError: a tensor is missing, unknown or of another shape.
    """
    check_layout(name, state_dict)
    network = OFFICIAL[name].build()
    network.load_state_dict(state_dict, strict=False)
    return network.eval().requires_grad_(False)


def plain_state_dict(checkpoint: Any) -> dict[str, Tensor]:
    """Tensors of a checkpoint by name, without the wrapping that training left around them.

    Raises:
        ValueError: it is no table of tensors.
    """
    if isinstance(checkpoint, Mapping) and "state_dict" in checkpoint:
        checkpoint = checkpoint["state_dict"]
    if not isinstance(checkpoint, Mapping):
        raise ValueError(f"expected a table of tensors, got {type(checkpoint).__name__}")
    strangers = [key for key, value in checkpoint.items() if not isinstance(value, Tensor)]
    if strangers or not checkpoint:
        raise ValueError(f"expected a table of tensors, got others: {_listed(strangers)}")
    return {key.removeprefix("module."): value for key, value in checkpoint.items()}


def _listed(keys: list[str]) -> str:
    return ", ".join(keys[:MAX_LISTED]) + (", …" if len(keys) > MAX_LISTED else "")


def _syncnet() -> nn.Module:
    torchvision_cpu.install()
    from syncnet_python.SyncNetModel import S

    return S()


def _s3fd() -> nn.Module:
    torchvision_cpu.install()
    from syncnet_python.detectors.s3fd.nets import S3FDNet

    return S3FDNet(device="cpu")


def _inception() -> nn.Module:
    """Network of pytorch-fid; piq's own constructor would download, its blocks do not."""
    torchvision_cpu.install()
    from piq.feature_extractors import fid_inception as fid

    network = fid.models.inception_v3(num_classes=1008, aux_logits=False, init_weights=False)
    network.Mixed_5b = fid.FIDInceptionA(192, pool_features=32)
    network.Mixed_5c = fid.FIDInceptionA(256, pool_features=64)
    network.Mixed_5d = fid.FIDInceptionA(288, pool_features=64)
    network.Mixed_6b = fid.FIDInceptionC(768, channels_7x7=128)
    network.Mixed_6c = fid.FIDInceptionC(768, channels_7x7=160)
    network.Mixed_6d = fid.FIDInceptionC(768, channels_7x7=160)
    network.Mixed_6e = fid.FIDInceptionC(768, channels_7x7=192)
    network.Mixed_7b = fid.FIDInceptionE1(1280)
    network.Mixed_7c = fid.FIDInceptionE2(2048)
    return network


def _facenet() -> nn.Module:
    torchvision_cpu.install()
    from facenet_pytorch import InceptionResnetV1

    network = InceptionResnetV1(classify=True, num_classes=8631)
    network.classify = False  # the classifier is in the file; embeddings come from before it
    return network


def _vgg19() -> nn.Module:
    network = nn.Module()
    layers: list[nn.Module] = []
    inputs = 3
    for outputs, repeats in ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4)):
        for _ in range(repeats):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
            inputs = outputs
        layers.append(nn.MaxPool2d(2))
    network.features = nn.Sequential(*layers)
    network.classifier = nn.Sequential(
        nn.Linear(512 * 7 * 7, 4096), nn.ReLU(), nn.Dropout(),
        nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(),
        nn.Linear(4096, 1000),
    )  # fmt: skip
    return network


def _emotion_fan() -> nn.Module:
    from metrics.emotion_fan import FrameAttentionNetwork

    return FrameAttentionNetwork()


OXFORD = "https://www.robots.ox.ac.uk/~vgg/software/lipsync/data/"
_ALL = (
    Weights(
        name="syncnet",
        file="syncnet_v2.model",
        url=OXFORD + "syncnet_v2.model",
        sha256="961e8696f888fce4f3f3a6c3d5b3267cf5b343100b238e79b2659bff2c605442",
        num_bytes=54_573_114,
        licence="for research under Creative Commons Attribution, says its page",
        purpose="sync_conf_syncnet, sync_dist_syncnet, sync_offset_syncnet",
        build=_syncnet,
    ),
    Weights(
        name="s3fd",
        file="sfd_face.pth",
        url=OXFORD + "sfd_face.pth",
        sha256="d54a87c2b7543b64729c9a25eafd188da15fd3f6e02f0ecec76ae1b30d86c491",
        num_bytes=89_844_381,
        licence="none stated for this file; published beside SyncNet for research",
        purpose="face boxes as SyncNet's own script crops real videos",
        build=_s3fd,
    ),
    Weights(
        name="inception",
        file="pt_inception-2015-12-05-6726825d.pth",
        url="https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
        "pt_inception-2015-12-05-6726825d.pth",
        sha256="6726825d",
        num_bytes=None,
        licence="Apache-2.0; trained on ImageNet",
        purpose="fid_inception",
        build=_inception,
    ),
    Weights(
        name="facenet",
        file="20180402-114759-vggface2.pt",
        url="https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9/"
        "20180402-114759-vggface2.pt",
        sha256=None,
        num_bytes=None,
        licence="MIT; trained on VGGFace2, whose terms are for research",
        purpose="csim_facenet",
        build=_facenet,
    ),
    Weights(
        name="vgg19",
        file="vgg19-dcbb9e9d.pth",
        url="https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
        sha256="dcbb9e9d",
        num_bytes=None,
        licence="BSD-3-Clause; trained on ImageNet",
        purpose="perceptual loss of the paper; judges nothing",
        build=_vgg19,
    ),
    Weights(
        name="emotion_fan",
        file="self_relation-attention_61_84.3655",
        url="https://drive.google.com/file/d/1qJdAphOQbMTnXTUlv7mMb1kRnCwQ2xDT/view",
        sha256=None,
        num_bytes=None,
        licence="none stated; trained on MEAD, whose terms are for research",
        purpose="acc_emo_fan",
        build=_emotion_fan,
        note="download the zip with a browser, unpack it, and import with --from its file "
        "model_training_name/self_relation-attention_61_84.3655*",
    ),
)
OFFICIAL: Mapping[str, Weights] = MappingProxyType({weights.name: weights for weights in _ALL})
