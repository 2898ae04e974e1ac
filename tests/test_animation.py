"""`fixtalk.animate`: frames as they come, each component from its own driver."""

from dataclasses import replace
from itertools import count, islice

import numpy as np
import pytest
import torch

import fixtalk
from fixtalk.control import Smoothing
from fixtalk.media import to_float, to_uint8
from fixtalk.model import FixTalk
from tests.conftest import ROOT, TINY, TINY_FIXTALK
from tests.discs import disc
from tests.test_backbone import KeyPointModel


@pytest.fixture(scope="module", params=["trained base", "untrained fixtalk"])
def model(request):
    if request.param == "trained base":
        return fixtalk.load_checkpoint(ROOT / "baselines" / "model" / "checkpoint")
    torch.manual_seed(0)
    model = FixTalk(TINY_FIXTALK).eval()
    with torch.no_grad():
        for weight in model.backbone.generator.parameters():
            weight += 0.1 * torch.randn_like(weight)  # untrained flows and masks start at zero
    return model


def driver(person, frames=10, start=0, **options):
    pictures = [disc(person, start + n, 64) for n in range(frames)]
    return fixtalk.Driver(frames=pictures, **options)


SOURCE = disc(0, 0, 64)


def frames(model, *drivers, **options):
    return np.stack(list(fixtalk.animate(model, SOURCE, drivers, **options)))


def as_tensor(pictures):
    return to_float(torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2))


def test_one_driver_gives_what_the_model_gives(model):
    drivers = driver(1)

    made = frames(model, drivers, batch=10)

    with torch.inference_mode():
        person = model.encode_source(as_tensor([SOURCE]))
        expected = to_uint8(model.animate(person, model.motion(as_tensor(drivers.frames))))
    assert np.array_equal(made, expected.permute(0, 2, 3, 1).numpy())
    assert made.std(axis=0).max() > 0  # it moves


def test_frames_come_before_the_driver_has_ended(model):
    asked = []

    def endless():
        for number in count():
            asked.append(number)
            yield disc(1, number % 20, 64)

    stream = fixtalk.animate(model, SOURCE, [fixtalk.Driver(frames=endless())])

    assert len(list(islice(stream, 3))) == 3
    assert len(asked) == 3


def test_batches_do_not_show(model):
    once = frames(model, driver(1), smoothing=Smoothing(), batch=10)

    pieces = frames(model, driver(1), smoothing=Smoothing(), batch=3)

    assert np.abs(once.astype(int) - pieces).max() <= 1  # the network's sums, not the filter's


def test_consumers_gradients_stay_on(model):
    stream = fixtalk.animate(model, SOURCE, [driver(1)])
    next(stream)

    assert not torch.is_inference_mode_enabled()
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("component", ["lip", "pose", "expression"])
def test_each_component_has_its_own_driver(model, component):
    others = tuple(c for c in ("lip", "pose", "expression") if c != component)
    rest, own = driver(1, components=others), {"components": (component,)}
    a = frames(model, rest, driver(1, **own), batch=10)

    b = frames(model, rest, driver(2, start=8, **own), batch=10)
    still = frames(model, rest, batch=10)
    silent = frames(model, rest, driver(2, **own), gains={component: 0.0}, batch=10)
    louder = frames(model, rest, driver(2, start=8, **own), gains={component: 3.0}, batch=10)

    assert not np.array_equal(a, b)
    assert np.array_equal(silent, still)  # the source's own
    assert not np.array_equal(louder, b)


def test_relative_motion_starts_from_the_source(model):
    with torch.inference_mode():
        person = model.encode_source(as_tensor([SOURCE]))
        itself = to_uint8(model.animate(person, person.motion))[0].permute(1, 2, 0).numpy()

    made = frames(model, driver(1, neutral=disc(1, 0, 64)))

    assert np.abs(made[0].astype(int) - itself).max() <= 1
    assert not np.array_equal(made[5], made[0])


def test_shorter_driver_goes_to_and_fro_and_the_first_says_the_length(model):
    lips = fixtalk.Driver(frames=[SOURCE] * 9, components=("lip",))

    made = frames(model, lips, driver(1, frames=3, components=("pose",)))

    assert len(made) == 9
    for later, earlier in ((3, 1), (4, 0), (5, 1), (6, 2)):
        assert np.array_equal(made[later], made[earlier])
    assert not np.array_equal(made[1], made[2])


def test_another_backbone_is_driven_by_its_own_kind_of_motion():
    torch.manual_seed(0)
    model = FixTalk(TINY_FIXTALK, backbone=KeyPointModel()).eval()
    drivers = driver(1, components=("points",))

    made = frames(model, drivers, batch=4)
    options = {"gains": {"points": 2.0}, "smoothing": Smoothing()}
    changed = frames(model, replace(drivers, neutral=disc(1, 0, 64)), batch=4, **options)

    assert made.shape == changed.shape == (10, 64, 64, 3)
    assert not np.array_equal(made, changed)


@pytest.mark.parametrize(
    ("drivers", "options", "message"),
    [
        ([], {}, "nothing moves"),
        ([driver(1, components=("gaze",))], {}, "'gaze': this model has lip, pose, expression"),
        ([driver(1), driver(2, components=("lip",))], {}, "'lip' has 2 drivers"),
        ([driver(1)], {"gains": {"pose": -1.0}}, "gain -1.0 of pose"),
        ([driver(1, components=("lip",)), driver(2, 0, components=("pose",))], {}, "no frames"),
        ([fixtalk.Driver(frames=[disc(1, 0, 32)])], {}, "crop it to 64x64"),
    ],
)
def test_impossible_requests_are_refused(model, drivers, options, message):
    with pytest.raises(ValueError, match=message):
        frames(model, *drivers, **options)


def test_broken_model_is_named():
    model = FixTalk(TINY).eval()
    with torch.no_grad():
        model.backbone.decoupling.lip[-1].bias.fill_(float("nan"))

    with pytest.raises(ValueError, match="NaN in frames 0 to 0: its training diverged"):
        frames(model, driver(1))
