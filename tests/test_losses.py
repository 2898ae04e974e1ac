"""Loss terms by hand: values, bounds, and where gradients go and do not go."""

import math

import pytest
import torch

from fixtalk import losses
from fixtalk.losses import edges

HALF = math.log(2)


@pytest.fixture
def frames():
    torch.manual_seed(0)
    return torch.rand(4, 3, 64, 64) * 2 - 1


def identity_warp(side):
    line = torch.linspace(-1, 1, side)
    return torch.stack(torch.meshgrid(line, line, indexing="xy"), -1)[None]


def addresses(seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.softmax(torch.randn(5, 16, generator=generator), 1)


def test_equal_frames_cost_nothing(frames):
    assert losses.l_rec(frames, frames) == 0
    assert losses.l_per(frames, frames, edges) == 0


def test_reconstruction_is_the_mean_difference(frames):
    assert losses.l_rec(frames + 0.25, frames) == pytest.approx(0.25)


def test_mouth_loss_is_the_mean_difference_in_each_box(frames):
    mouth = torch.zeros(4, 64, 64, dtype=torch.bool)
    mouth[0, 10:20, 30:40] = True  # 100 pixels that are 0.5 off
    mouth[1, :2, :2] = True  # 4 pixels, one of which is 0.4 off in one colour
    mouth[2] = True  # nothing is off
    fake = frames.clone()
    fake[0, :, 10:20, 30:40] += 0.5
    fake[1, 0, 0, 0] -= 0.4
    fake[:, :, 50:, 50:] += torch.tensor([1.0, 1.0, 0.0, 1.0])[:, None, None, None]

    # the fourth has no mouth in its frame: it counts as an item that costs nothing
    wanted = (0.5 + 0.4 / 3 / 4 + 0 + 0) / 4
    assert losses.l_mouth(fake, frames, mouth).item() == pytest.approx(wanted, rel=1e-5)
    shares = [losses.l_mouth(fake[i : i + 2], frames[i : i + 2], mouth[i : i + 2]) for i in (0, 2)]
    assert sum(shares).item() / 2 == pytest.approx(wanted, rel=1e-5)


def test_points_count_everywhere_and_the_shapes_of_mouth_and_brows_once_more():
    real = torch.rand(2, 68, 2)
    nose, raised, moved, opened = (real.clone() for _ in range(4))
    nose[:, 30, 1] += 0.68
    raised[:, 17:27, 1] -= 0.1  # of eyes that stay
    raised[:, :17, 1] += 0.1
    moved[:, 48:] += 0.1  # a mouth in another place keeps its shape
    opened[:, 48:58, 1] -= 0.1
    opened[:, 58:, 1] += 0.1

    assert losses.l_points(real, real) == 0
    assert losses.l_points(nose, real) == pytest.approx(0.005)
    assert losses.l_points(raised, real) == pytest.approx(0.05 * 27 / 68 + 0.05, rel=1e-5)
    assert losses.l_points(real + 0.1, real) == pytest.approx(0.1, rel=1e-5)
    assert losses.l_points(moved, real) == pytest.approx(0.1 * 20 / 68, rel=1e-5)
    assert losses.l_points(opened, real) == pytest.approx(0.05 * 20 / 68 + 0.05, rel=1e-5)


def test_perception_averages_scales_and_adds_maps(frames):
    # a constant offset survives every scale of the colours and none of the edges
    one = losses.l_per(frames + 0.25, frames, edges)
    two = losses.l_per(frames + 0.25, frames, lambda x: [x, 2 * x])

    assert one == pytest.approx(0.25, rel=1e-4)
    assert two == pytest.approx(0.75, rel=1e-4)


@pytest.mark.parametrize(("side", "sides"), [(64, [64, 32, 16, 8]), (20, [20, 10]), (8, [8])])
def test_perception_looks_at_four_scales_down_to_eight_pixels(side, sides):
    seen = []

    def look(frames):
        seen.append(frames.shape[-1])
        return [frames]

    losses.l_per(torch.zeros(1, 3, side, side), torch.ones(1, 3, side, side), look)

    assert seen == [s for s in sides for _ in "rf"]


def test_edges_see_a_step_where_colours_agree_on_average():
    flat, step = torch.zeros(1, 3, 8, 8), torch.ones(1, 3, 8, 8)
    step[..., :4] = -1

    colour, down, right = (m.abs().sum() for m in edges(step))

    assert (colour, down, right) == (3 * 64, 0, 3 * 8 * 2)
    assert losses.l_per(step, flat, edges) == pytest.approx(1 + 2 / 7)


def test_perception_teaches_the_fake_alone(frames):
    fake, real = frames.clone().requires_grad_(), frames.flip(0).requires_grad_()

    losses.l_per(fake, real, edges).backward()

    assert fake.grad.abs().sum() > 0
    assert real.grad is None


def test_dissimilarity_counts_only_what_exceeds_the_margin():
    source = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    driver = torch.tensor([[2.0, 0.0], [0.0, 3.0], [1.0, 1.0]])
    everybody = torch.ones(3, dtype=torch.bool)
    some = torch.tensor([False, True, True])

    assert losses.l_dis(source, driver, 0.2, everybody) == pytest.approx(
        (0.8 + 0 + math.sqrt(0.5) - 0.2) / 3
    )
    assert losses.l_dis(source, driver, 0.2, some) == pytest.approx((math.sqrt(0.5) - 0.2) / 3)


def test_dissimilarity_below_the_margin_has_no_gradient():
    source = torch.tensor([[1.0, 0.1], [1.0, 0.0]], requires_grad=True)
    driver = torch.tensor([[0.1, 1.0], [-1.0, 0.5]], requires_grad=True)

    loss = losses.l_dis(source, driver, 0.2, torch.ones(2, dtype=torch.bool))
    loss.backward()

    assert loss == 0
    assert (source.grad == 0).all()
    assert (driver.grad == 0).all()


def test_dissimilarity_of_nobody_is_zero_with_a_gradient_of_zero():
    code = torch.ones(3, 4, requires_grad=True)

    loss = losses.l_dis(code, code, 0.0, torch.zeros(3, dtype=torch.bool))
    loss.backward()

    assert loss == 0
    assert (code.grad == 0).all()


def test_dissimilarity_reaches_both_codes():
    source = torch.tensor([[1.0, 0.0]], requires_grad=True)
    driver = torch.tensor([[1.0, 1.0]], requires_grad=True)

    losses.l_dis(source, driver, 0.2, torch.ones(1, dtype=torch.bool)).backward()

    assert source.grad[0, 1] > 0  # downhill turns the source away from the driver
    assert driver.grad.abs().sum() > 0


@pytest.mark.parametrize("direction", ["student||teacher", "teacher||student"])
def test_alignment_is_zero_for_equal_addresses_and_positive_otherwise(direction):
    for seed in range(20):
        student, teacher = addresses(seed), addresses(seed + 100)

        assert losses.l_align(student, student.clone(), direction) == 0
        assert losses.l_align(student, teacher, direction) > 0


def test_alignment_by_hand_in_both_directions():
    student = torch.tensor([[0.5, 0.5], [1.0, 0.0]])
    teacher = torch.tensor([[0.25, 0.75], [0.5, 0.5]])
    forward = (0.5 * math.log(2) + 0.5 * math.log(2 / 3) + math.log(2)) / 2

    assert losses.l_align(student, teacher, "student||teacher") == pytest.approx(forward)
    backward = losses.l_align(student[:1], teacher[:1], "teacher||student")
    assert backward == pytest.approx(0.25 * math.log(0.5) + 0.75 * math.log(1.5))


def test_alignment_moves_the_student_and_not_the_teacher():
    for direction in ("student||teacher", "teacher||student"):
        student, teacher = addresses(1).requires_grad_(), addresses(2).requires_grad_()

        losses.l_align(student, teacher, direction).backward()

        assert student.grad.abs().sum() > 0
        assert teacher.grad is None


@pytest.mark.parametrize("loss", [losses.l_d_mem, losses.imitation])
def test_distance_to_a_teacher_is_a_mean_square_that_leaves_it_alone(loss):
    read = torch.zeros(2, 3, requires_grad=True)
    token = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 1.0]], requires_grad=True)

    value = loss(read, token)
    value.backward()

    assert float(value.detach()) == pytest.approx(1.0)
    assert read.grad.abs().sum() > 0
    assert token.grad is None


def test_feature_loss_falls_from_e_to_its_floor():
    own = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])

    assert losses.l_fea(own, 5 * own) == pytest.approx(1 / math.e)
    assert losses.l_fea(own, -own) == pytest.approx(math.e)
    assert losses.l_fea(own, own.flip(1)) == pytest.approx(1)
    # what all frames share does not count
    assert losses.l_fea(own + 100, 100 - own) == pytest.approx(math.e, rel=1e-3)


def test_shape_is_told_to_the_first_coefficients():
    shape = torch.tensor([[1.0, -1.0], [0.0, 2.0]])
    lips = torch.cat([shape, torch.randn(2, 3)], 1)

    assert losses.shape_truth(lips, shape) == 0
    assert losses.shape_truth(lips + 0.5, shape) == pytest.approx(0.25)
    assert losses.shape_truth(lips[:, :1] + 2, shape) == pytest.approx(4)


def test_adversarial_losses_by_hand():
    zero, high = torch.zeros(2), torch.full((2,), 20.0)
    real = torch.rand(2, 3, 4, 4, requires_grad=True)

    assert losses.l_adv(zero) == pytest.approx(HALF)
    assert losses.l_adv(high) == pytest.approx(0, abs=1e-6)
    assert losses.discrimination(high, -high) == pytest.approx(0, abs=1e-6)
    assert losses.discrimination(zero, zero) == pytest.approx(2 * HALF)
    # logit = 3 · sum of pixels: its gradient is 3 everywhere, 48 values, squared norm 9 · 48
    assert losses.gradient_penalty(real, 3 * real.sum((1, 2, 3))) == pytest.approx(432)


def test_losses_of_half_precision_are_single(frames):
    half = frames.bfloat16()
    code, address = half.flatten(1), addresses(1).bfloat16()
    everybody = torch.ones(4, dtype=torch.bool)

    values = [
        losses.l_rec(half, half),
        losses.l_per(half, half, edges),
        losses.l_adv(code[:, 0]),
        losses.l_dis(code, code, 0.2, everybody),
        losses.l_d_mem(code, code),
        losses.l_align(address, address, "student||teacher"),
        losses.l_fea(code, code),
        losses.imitation(code, code),
    ]

    assert {(value.dtype, value.shape) for value in values} == {(torch.float32, torch.Size([]))}


def test_true_flow_costs_nothing():
    truth = identity_warp(64) - torch.tensor([8 / 63, 0])
    valid = truth.abs().amax(-1) <= 1

    exact = losses.warp_truth([truth], truth, valid)
    shifted = losses.warp_truth([truth + 0.1], truth, valid)

    assert exact == pytest.approx(0, abs=1e-6)
    assert shifted == pytest.approx(0.2, abs=1e-5)


@pytest.mark.parametrize("side", [8, 16, 32, 64])
def test_identity_is_the_true_warp_of_a_still_pair_at_every_side(side):
    valid = torch.ones(1, 64, 64, dtype=torch.bool)

    loss = losses.warp_truth([identity_warp(side)], identity_warp(64), valid)

    assert loss == pytest.approx(0, abs=1e-5)


def test_invalid_pixels_do_not_count():
    truth = identity_warp(64)
    valid = torch.ones(1, 64, 64, dtype=torch.bool)
    valid[:, :, :20] = False
    holed = truth.where(valid[..., None], torch.tensor(math.nan))

    assert losses.warp_truth([truth], holed, valid) == pytest.approx(0, abs=1e-6)
