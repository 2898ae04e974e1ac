"""What training and validation are fed with: shares of the batch, and the sampler's pairs."""

from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load

from fixtalk.container import SAMPLES_PER_FRAME
from pipelines.cluster import ray_session
from pipelines.config import load_config
from pipelines.feed import Reader, find_corpus, share_of, stream, training_pairs, validation_pairs
from pipelines.recipe import TrainConfig
from tests.drawn_faces import face_points
from tests.training_runs import FRAMES, PEOPLE, write_clips, write_params

PHASES = [{"warp": 20}, {"decouple": 20}, {"hear": 5}]  # each needs other arrays


@pytest.fixture
def clips(tmp_path):
    walk = np.arange(FRAMES, dtype=np.float32)[:, None, None] * np.array([1, 0], np.float32)
    noise = np.random.default_rng(0).integers(-9000, 9000, FRAMES * SAMPLES_PER_FRAME)
    audio = noise.astype("<i2").tobytes()
    return write_clips(tmp_path / "clips", landmarks=face_points() + walk, audio=audio)


@pytest.fixture
def config(tmp_path):
    return load_config(TrainConfig, "train", write_params(tmp_path / "params.yaml", PHASES))


def sampled(config, corpus, step, lanes):
    """What the sampler gives at a step of the schedule above."""
    sampler = training_pairs(config, corpus)
    if step >= 40:
        return sampler.talks(step, lanes)
    return sampler.arrays(step, lanes, warps=True, swaps=step >= 20)


def is_same(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize("microbatches", [1, 2, 3, 7, 8])
@pytest.mark.parametrize("workers", [1, 2, 3, 5, 8])
def test_mean_over_workers_is_the_mean_over_all_microbatches(workers, microbatches):
    shares = [share_of(rank, workers, microbatches) for rank in range(workers)]

    counted = sorted(place for share in shares for place, weight in share if weight)
    assert counted == list(range(microbatches))
    assert len({len(share) for share in shares}) == 1, "gradients are exchanged in rounds"
    values = np.random.default_rng(0).random(microbatches)
    sums = [sum(values[place] * weight for place, weight in share) for share in shares]
    assert np.mean(sums) == pytest.approx(values.mean())


@pytest.mark.parametrize(
    ("steps", "new"), [(range(17, 23), {"lip", "pose"}), (range(37, 43), {"speech", "sound"})]
)
def test_reader_gives_the_pairs_of_the_sampler_in_each_phase(config, clips, steps, new):
    corpus = find_corpus(config, clips)
    spans = {"first": np.array([steps[0]]), "end": np.array([steps[-1] + 1])}
    spans["lanes"] = np.array([[4, 5, 6, 7]])

    rows = list(Reader(config, corpus, config.schedule("base"))(spans))

    assert [row["step"] for row in rows] == [[step] for step in steps]
    for step, row in zip(steps, rows, strict=True):
        assert is_same(load(row["pairs"][0]), sampled(config, corpus, step, [4, 5, 6, 7]))
    assert new <= set(load(rows[-1]["pairs"][0])) - set(load(rows[0]["pairs"][0]))


def test_people_for_validation_are_not_trained_on(config, clips):
    corpus = find_corpus(config.model_copy(update={"validation_people": 3}), clips)

    training, validation = (
        {person for page in pages for person in page.people}
        for pages in (corpus.training, corpus.validation)
    )
    assert validation == {"P0", "P1", "P2"}
    assert training == {f"P{index}" for index in range(3, PEOPLE)}
    assert corpus.clips == 3 * len(training)
    assert validation_pairs(config, replace(corpus, validation=[])) is None
    one, other = (validation_pairs(config, corpus) for _ in range(2))
    assert one.source.equal(other.source)
    assert one.driver.equal(other.target), "the driver of a validation is not augmented"


def test_tags_tell_what_labels_make_possible(config, clips, tmp_path):
    bare = write_clips(tmp_path / "bare")

    assert find_corpus(config, clips).tags == {
        "warp_truth": "off: 21 of 21 clips have no exact labels",
        "motion_gate": "on",
        "l_mouth": "on",
        "lip_truth": "on",
        "pose_truth": "on",
        "expression_truth": "on",
        "l_lids": "on",
        "speech": "on",
    }
    for name in ("motion_gate", "l_mouth", "lip_truth", "pose_truth", "expression_truth"):
        assert find_corpus(config, bare).tags[name] == "off: 21 of 21 clips have no landmarks"
    assert find_corpus(config, bare).tags["l_lids"].startswith("in part off: 21 of 21 clips")
    assert find_corpus(config, bare).tags["speech"] == "without 21 of 21 clips: no speech"


def test_two_datasets_are_trained_on_together(config, clips):
    write_clips(clips, "others", people="Q")
    both = config.model_copy(update={"datasets": ["synthetic", "others"]})

    corpus = find_corpus(both, clips)

    assert corpus.clips == 3 * (2 * PEOPLE - 1)
    assert corpus.missing["landmarks"] == 3 * PEOPLE
    trained = {page.shard.parent.parent.name for page in corpus.training}
    assert trained == {"synthetic", "others"}
    assert {name for page in corpus.validation for name in page.people} == {"P0"}
    (clips / "others" / "shards" / "00000.parquet").unlink()
    with pytest.raises(FileNotFoundError, match=r"others/shards holds no .* run the crop stage"):
        find_corpus(both, clips)


def test_clips_that_cannot_be_trained_on_are_refused(config, clips, tmp_path):
    large = config.model_copy(update={"model": replace(config.model, resolution=128)})
    lonely = config.model_copy(update={"validation_people": 7})
    others = write_clips(tmp_path / "others", split="test")

    with pytest.raises(
        ValueError,
        match=r"synthetic holds 64 px clips, train.model.resolution is 128: set it equal",
    ):
        find_corpus(large, clips)
    with pytest.raises(
        ValueError, match=r"8 people .* 7 of them for validation.* at least 2 must remain"
    ):
        find_corpus(lonely, clips)
    with pytest.raises(ValueError, match=r"others/synthetic: no clip of split 'train'; take"):
        find_corpus(config, others)


@pytest.mark.slow
def test_stream_gives_every_step_in_order_and_errors_of_their_own_kind(config, clips):
    corpus, lanes = find_corpus(config, clips), [0, 1, 6, 7]
    begun = (config, corpus, config.schedule("base"), 3, lanes)

    with ray_session():
        streamed = list(stream(*begun))
        shard = corpus.training[0].shard
        intact = shard.read_bytes()
        shard.write_bytes(intact[:-50])
        with pytest.raises(ValueError, match=f"{shard} cannot be read .* crop stage again"):
            next(stream(*begun))
        shard.write_bytes(intact)

    expected = [sampled(config, corpus, step, lanes) for step in range(3, 45)]
    assert all(map(is_same, streamed, expected))
    assert len(streamed) == len(expected)
