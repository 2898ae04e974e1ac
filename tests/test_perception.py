"""VGG19 as L_per sees it: slices, scale and smallness of the frames."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import torchvision_cpu
from fixtalk.losses import l_per
from metrics import registry
from metrics.registry import OFFICIAL, layout
from pipelines.perception import vgg19
from pipelines.weights import WeightsMissingError

CPU = torch.device("cpu")
RELUS = {"relu1_1": 2, "relu2_1": 7, "relu3_1": 12, "relu4_1": 21, "relu5_1": 30}


@pytest.fixture(scope="module")
def state():
    """Random weights of the published layout; one number stands for each unused matrix."""
    torch.manual_seed(0)

    def draw(name, shape):
        if name.startswith("classifier"):
            return torch.zeros(1).expand(shape)
        weight = torch.empty(shape)
        return nn.init.kaiming_uniform_(weight) if len(shape) > 1 else weight.normal_(std=0.1)

    return {name: draw(name, shape) for name, shape in layout("vgg19").items()}


@pytest.fixture(scope="module")
def look(state, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    torch.save(state, folder / OFFICIAL["vgg19"].file)
    with pytest.MonkeyPatch.context() as patch:
        entry = replace(OFFICIAL["vgg19"], sha256=None)
        patch.setattr(registry, "OFFICIAL", {"vgg19": entry})
        return vgg19(folder, CPU)


@pytest.fixture(scope="module")
def reference(state):
    """The network of torchvision up to each of the five layers, on pixels as it wants them."""
    torchvision_cpu.install()
    from torchvision import models, transforms

    with torch.device("meta"):
        network = models.vgg19().eval()
    network.load_state_dict(state, assign=True)
    normalise = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

    def run(frames):
        pixels = normalise(frames / 2 + 0.5)
        with torch.no_grad():
            return [network.features[:count](pixels) for count in RELUS.values()]

    return run


def noise(seed, side=64):
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_maps_are_ten_times_those_of_torchvision(look, reference):
    ours, theirs = look(noise(1)), reference(noise(1))

    assert [tuple(m.shape[1:]) for m in ours] == [
        (64, 64, 64), (128, 32, 32), (256, 16, 16), (512, 8, 8), (512, 4, 4),
    ]  # fmt: skip
    for own, their in zip(ours, theirs, strict=True):
        assert their.abs().max() > 0.1
        assert torch.allclose(own, 10 * their, rtol=1e-5, atol=1e-4)


def test_four_times_the_loss_is_the_published_sum_over_slices_and_scales(look, reference):
    fake, real = noise(1, side=128), noise(2, side=128)
    published = 0.0
    for scale in (1, 2, 4, 8):
        small = (nn.functional.avg_pool2d(frames, scale) for frames in (fake, real))
        for one, other in zip(*map(reference, small), strict=True):
            published += 10 * (one - other).abs().mean()

    assert 4 * l_per(fake, real, look) == pytest.approx(float(published), rel=1e-4)


def test_frames_learn_and_weights_do_not(look):
    fake = noise(1, side=32).requires_grad_()

    l_per(fake, noise(2, side=32), look).backward()

    assert fake.grad.abs().sum() > 0
    with pytest.raises(RuntimeError, match="does not require grad"):
        sum(m.sum() for m in look(noise(1))).backward()


@pytest.mark.parametrize(("side", "maps"), [(16, 5), (8, 4)])
def test_frames_too_small_to_be_halved_four_times_end_earlier(look, side, maps):
    assert len(look(noise(1, side))) == maps


def test_weights_that_were_never_fetched_name_the_command(tmp_path):
    with pytest.raises(WeightsMissingError, match="fixtalk weights fetch vgg19 --accept-licence"):
        vgg19(tmp_path, CPU)
