"""The training step: exactness of resume, what each phase moves, its loss curves, NaN.

After a wanted change of a phase, `python -m tests.test_training` records its curve anew.
"""

import copy
import dataclasses
import json
import math
import platform
from datetime import UTC, datetime
from functools import cache
from typing import NamedTuple

import pytest
import torch
from torch import distributed

from fixtalk.checkpoint import save_checkpoint, start_from_base
from fixtalk.phases import Stretch, parts, stretch_at
from fixtalk.reenactment import Reenactment
from fixtalk.terms import loss_terms
from fixtalk.training import Microbatch, train_step
from pipelines.feed import share_of
from pipelines.worker import parallel
from tests.conftest import (
    METHOD,
    ROOT,
    TINY,
    TINY_BASE,
    TINY_EMI,
    Ears,
    pictures_that_move,
    recipe_of_params,
    state_of,
    talks_that_move,
)

CURVES = ROOT / "tests" / "golden" / "curves.json"
PHASES = tuple(recipe_of_params().phases)


class Course(NamedTuple):
    """A phase in float64, as CPUs round float32 differently: twenty steps, after three of texture.

    The three give all parts a say: layers behind one that starts at zero wait until it has moved.
    """

    history: list[dict[str, float]]
    moved: dict[str, list[bool]]  # part → which of its weights the first four steps move
    graded: dict[str, bool]  # part → whether a weight has a gradient then


def fit_for(phase, batch):
    """The batch, or one with speech for a phase that needs it."""
    return talks_that_move() if phase.speaks else batch


def in_float64(batch, times=1):
    """The batch, so many times over."""
    tensors = {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
    given = {name: torch.cat([t] * times) for name, t in tensors.items() if t is not None}
    return type(batch)(
        **{name: t.double() if t.is_floating_point() else t for name, t in given.items()}
    )


def state_in_float64():
    state = state_of()
    for network in (state.model, state.average, state.discriminator):
        network.double()
    return state


def steps(state, batch, schedule, count):
    history = []
    for _ in range(count):
        fit = fit_for(stretch_at(schedule, state.step)[0].phase, batch)
        if next(state.model.parameters()).dtype == torch.float64:
            fit = in_float64(fit)
        history.append(train_step(state, [Microbatch(fit, 1.0)], schedule, METHOD))
    return history


def stretch(recipe, name, count=3):
    return Stretch(name, recipe.phases[name], count)


def snapshot(state):
    return {
        part: [weight.detach().clone() for weight in weights]
        for part, weights in parts(state.model).items()
    }


@cache
def course(name):
    recipe, state, batch = recipe_of_params(), state_in_float64(), pictures_that_move()
    schedule = [stretch(recipe, "texture", 3), stretch(recipe, name, 20)]
    steps(state, batch, schedule, 3)
    before = snapshot(state)
    history = steps(state, batch, schedule, 4)
    moved = {
        part: [not torch.equal(a, b) for a, b in zip(before[part], weights, strict=True)]
        for part, weights in parts(state.model).items()
    }
    graded = {
        part: any(weight.grad is not None for weight in weights)
        for part, weights in parts(state.model).items()
    }
    return Course(history + steps(state, batch, schedule, 16), moved, graded)


@pytest.mark.parametrize("name", PHASES)
def test_phase_moves_all_that_it_trains_and_nothing_else(recipe, name):
    for part, moved in course(name).moved.items():
        if recipe.phases[name].trained(part):
            assert all(moved), f"{part}: {moved.count(False)} of {len(moved)} did not move"
        else:
            assert not any(moved), f"{part} is frozen"
            assert not course(name).graded[part]


@pytest.mark.parametrize("name", PHASES)
def test_loss_curve_is_the_recorded_one(name):
    golden = json.loads(CURVES.read_text())["curves"][name]

    history = course(name).history

    assert {term for step in history for term in step} == set(golden)
    for term, values in golden.items():
        found = [step[term] for step in history if term in step]
        assert found == pytest.approx(values, rel=1e-5, abs=1e-7), term


def test_resumed_run_equals_the_uninterrupted_one(recipe, tiny_state, batch):
    schedule = [stretch(recipe, "motion", 2), stretch(recipe, "joint", 2)]
    straight = state_of()
    steps(straight, batch, schedule, 4)
    steps(tiny_state, batch, schedule, 3)
    saved = copy.deepcopy(tiny_state.state_dict())
    expected = torch.rand(3)

    resumed = state_of(seed=7)
    resumed.load_state_dict(saved)
    assert torch.equal(torch.rand(3), expected)
    steps(resumed, batch, schedule, 1)

    assert resumed.step == 4
    for network in ("model", "average", "discriminator"):
        pairs = zip(
            getattr(straight, network).parameters(),
            getattr(resumed, network).parameters(),
            strict=True,
        )
        assert all(torch.equal(a, b) for a, b in pairs), network


def test_variants_start_as_the_base_they_go_on_from(recipe, batch, tmp_path):
    base = state_of(TINY_BASE)
    steps(base, batch, [stretch(recipe, "texture")], 3)
    save_checkpoint(base.model, tmp_path, {}, base.discriminator)
    varied = state_of(seed=2)

    start_from_base(varied, tmp_path)

    for name, weight in base.model.state_dict().items():
        assert torch.equal(weight, varied.model.state_dict()[name])
        assert torch.equal(weight, varied.average.state_dict()[name])
    for ours, theirs in zip(
        varied.discriminator.parameters(), base.discriminator.parameters(), strict=True
    ):
        assert torch.equal(ours, theirs)


def test_every_weight_belongs_to_one_optimiser(tiny_state):
    turned, others = (
        [weight for group in optimiser.param_groups for weight in group["params"]]
        for optimiser in (tiny_state.matrix_optimiser, tiny_state.optimiser)
    )

    assert {*turned, *others} == set(tiny_state.model.parameters())
    assert len(turned) + len(others) == len(list(tiny_state.model.parameters()))
    assert tiny_state.model.backbone.encoder.head.weight in set(turned)
    assert tiny_state.model.speech.encoder.layers[0].weight in set(turned)
    assert not any(weight in set(turned) for weight in parts(tiny_state.model)["enhancement"])


def test_base_of_another_architecture_is_refused_by_what_differs(tmp_path):
    narrow = dataclasses.replace(TINY, widest=8)
    save_checkpoint(state_of(narrow).model, tmp_path, {})

    with pytest.raises(ValueError, match="widest 8 ≠ 16"):
        start_from_base(state_of(TINY), tmp_path)


def test_a_few_steps_lower_the_loss(recipe, tiny_state, batch):
    history = steps(tiny_state, batch, [stretch(recipe, "warp", 30)], 30)

    assert history[-1]["l_rec"] < 0.8 * history[0]["l_rec"]
    assert history[-1]["warp_truth"] < history[0]["warp_truth"]


def test_discriminator_moves_in_its_phases_only(recipe, tiny_state, batch):
    schedule = [stretch(recipe, "warp", 1), stretch(recipe, "texture", 1)]
    before = [p.clone() for p in tiny_state.discriminator.parameters()]

    first = steps(tiny_state, batch, schedule, 1)
    still = [p.clone() for p in tiny_state.discriminator.parameters()]
    second = steps(tiny_state, batch, schedule, 1)

    assert all(torch.equal(a, b) for a, b in zip(before, still, strict=True))
    assert "discrimination" not in first[0]
    assert "discrimination" in second[0]
    assert all(
        not torch.equal(a, b)
        for a, b in zip(still, tiny_state.discriminator.parameters(), strict=True)
    )


def test_pairs_that_hardly_move_do_not_shape_l_dis(recipe, batch):
    # the fourth pair stands still: changing its source must leave l_dis as it is
    still = dataclasses.replace(batch, moves=torch.tensor([False, False, False, True]))
    only_last = state_of(dataclasses.replace(TINY, emi=TINY_EMI))
    others = state_of(dataclasses.replace(TINY, emi=TINY_EMI))
    source = batch.source.clone()
    source[:3] = 0

    first = steps(only_last, still, [stretch(recipe, "joint")], 1)[0]
    second = steps(
        others, dataclasses.replace(still, source=source), [stretch(recipe, "joint")], 1
    )[0]

    assert first["l_dis"] == pytest.approx(second["l_dis"], abs=1e-6)
    assert first["l_rec"] != pytest.approx(second["l_rec"], abs=1e-6)


def test_terms_of_a_missing_indicator_do_not_exist(recipe, batch):
    values = steps(state_of(TINY), batch, [stretch(recipe, "joint")], 1)[0]

    assert not {"l_dis", "l_d_mem", "l_align"} & set(values)
    assert {"l_rec", "l_per", "l_adv"} <= set(values)


def test_points_of_made_frames_learn_from_those_of_targets(recipe, batch):
    learns = []

    def points(frames):
        learns.append(frames.requires_grad)
        return frames.flatten(1)[:, : 68 * 2].unflatten(1, (68, 2))

    def values(method):
        share = [Microbatch(batch, 1.0)]
        return train_step(state_of(TINY), share, [stretch(recipe, "decouple")], method)

    with_, without = values(dataclasses.replace(METHOD, points=points)), values(METHOD)

    assert learns == [False, True]
    assert set(with_) - set(without) == {"l_points"}
    assert with_["l_points"] > 0


def test_each_component_is_told_its_own_part_of_the_face(recipe, batch):
    phase, model = recipe.phases["decouple"], state_of(TINY).model
    seen = Reenactment(model)(batch, phase, torch.ones(4, dtype=torch.bool))

    terms = dict(loss_terms(model, state_of(TINY).discriminator, phase, batch, seen, METHOD))

    with torch.no_grad():
        driver, lip, pose = (
            model.motion(frames) for frames in (batch.driver, batch.lip, batch.pose)
        )
    for name, told, both in (
        ("lip_truth", batch.lips, (driver.lip, lip.lip)),
        ("pose_truth", batch.head, (driver.pose, pose.pose)),
        ("expression_truth", batch.brows, (driver.expression, pose.expression)),
    ):
        count = min(told.shape[1], both[0].shape[1])
        errors = [(read[:, :count] - told[:, :count]).square().mean() for read in both]
        assert terms[name].item() == pytest.approx(float(sum(errors)) / 2, rel=1e-3)


def test_items_take_turns_in_whose_lips_and_whose_head_they_have(recipe, batch):
    model, phase = state_of(TINY).model, recipe.phases["decouple"]
    asked, render = [], model.backbone.render
    model.backbone.render = lambda latent, maps, motion: (
        asked.append(motion) or render(latent, maps, motion)
    )

    Reenactment(model)(batch, phase, torch.ones(4, dtype=torch.bool))

    with torch.no_grad():
        driver, lip, pose = (
            model.motion(frames) for frames in (batch.driver, batch.lip, batch.pose)
        )
    for item, (lips, head) in enumerate(
        [(driver, pose), (lip, driver), (lip, pose), (driver, pose)]
    ):
        assert torch.allclose(asked[0].lip[item], lips.lip[item], atol=1e-4)
        assert torch.allclose(asked[0].pose[item], head.pose[item], atol=1e-4)
        assert torch.allclose(asked[0].expression[item], head.expression[item], atol=1e-4)


def test_phase_without_anything_to_train_is_refused(recipe, batch):
    with pytest.raises(ValueError, match="phase warmup trains no part of this model"):
        steps(state_of(TINY), batch, [stretch(recipe, "warmup")], 1)


def test_nan_ends_training_with_step_and_phase(recipe, tiny_state, batch):
    broken = dataclasses.replace(batch, target=torch.full_like(batch.target, math.nan))

    with pytest.raises(FloatingPointError, match="step 0, phase warp"):
        steps(tiny_state, broken, [stretch(recipe, "warp")], 1)


def record_curves():
    """Write the golden curves anew, after a change of a phase."""
    torch.set_num_threads(1)
    curves = {}
    for name in PHASES:
        history = course(name).history
        terms = {term for step in history for term in step}
        curves[name] = {
            term: [round(step[term], 9) for step in history if term in step]
            for term in sorted(terms)
        }
    made = {
        "tool": f"torch {torch.__version__}, {platform.machine()}, one thread, float64",
        "date": datetime.now(UTC).date().isoformat(),
        "tolerance": "1e-5 of each value, or 1e-7",
    }
    CURVES.write_text(json.dumps(made | {"curves": curves}, indent=1) + "\n")


def shared_steps(rank, workers, folder, recipe):
    """Steps of a worker on its share of four microbatches; rank 0 writes the mean losses."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", f"file://{folder}/group{workers}", rank=rank, world_size=workers
    )
    pictures, talks = in_float64(pictures_that_move(), 2), in_float64(talks_that_move(), 2)
    pictures.shows_target[5] = False
    method = dataclasses.replace(METHOD, sync=Ears().double())
    state = state_in_float64()
    if workers > 1:
        state.wrap = parallel
    names = ("decouple", "texture", "hear", "speak", "joint")
    schedule = [stretch(recipe, name, 3) for name in names]
    history = []
    for step in range(3 * len(names)):
        phase = stretch_at(schedule, step)[0].phase
        parts = (talks if phase.speaks else pictures).split(2)
        share = [Microbatch(parts[p], weight) for p, weight in share_of(rank, workers, len(parts))]
        values = train_step(state, share, schedule, method)
        told = torch.tensor([values[name] for name in sorted(values)], dtype=torch.float64)
        distributed.all_reduce(told)
        history.append(dict(zip(sorted(values), (told / workers).tolist(), strict=True)))
    if rank == 0:
        (folder / f"{workers}.json").write_text(json.dumps(history))
    distributed.destroy_process_group()


def test_number_of_workers_does_not_change_the_losses(recipe, tmp_path):
    for workers in (1, 2, 3):  # three workers share four microbatches unevenly
        torch.multiprocessing.spawn(shared_steps, (workers, tmp_path, recipe), workers)
    alone, *together = (json.loads((tmp_path / f"{n}.json").read_text()) for n in (1, 2, 3))

    for history in together:
        for step, (ours, theirs) in enumerate(zip(alone, history, strict=True)):
            assert theirs == pytest.approx(ours, abs=1e-5, rel=1e-5), step
    assert {"l_sync", "l_lip", "l_pose", "l_mouth"} <= set(alone[11])
    for first, last, term in ((6, 8, "l_lip"), (9, 11, "l_lip"), (12, 14, "l_rec")):
        assert alone[last][term] != pytest.approx(alone[first][term], rel=1e-4), "nothing is learnt"


if __name__ == "__main__":
    record_curves()
