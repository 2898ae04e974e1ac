"""Clips → the pairs that training and validation are fed with, decoded ahead by Ray Data."""

import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fixtalk.augmentation import Augmentation
from fixtalk.media import probe
from fixtalk.pages import Page, find_pages, missing_labels, read_page
from fixtalk.pairs import PairSampler, Place, Truth, WarpTruth
from fixtalk.phases import SHAPE_TERMS, Stretch, stretch_at
from pipelines.cluster import portable, quiet_data

if TYPE_CHECKING:
    from fixtalk.reenactment import Batch
    from pipelines.recipe import TrainConfig

VALIDATION_PAIRS = 32
SPAN = 16  # steps that are decoded in one go
STREAM = 10_000  # steps that are planned in one go
EXACT = ("identity_seed", "arkit", "pose", "box", "camera")  # what an exact warp is made from


@dataclass(frozen=True)
class Corpus:
    """Pages that train and pages that validate, and how many of their clips lack a label."""

    training: list[Page]
    validation: list[Page]
    missing: dict[str, int]  # label → training clips without it

    @property
    def clips(self) -> int:
        """Number of training clips."""
        return sum(len(page.rows) for page in self.training)

    @property
    def tags(self) -> dict[str, str]:
        """What the labels make possible, or why not."""
        without = max(self.missing[name] for name in EXACT)
        pointless = self.missing["landmarks"]
        silent = sum(not speaks for page in self.training for speaks in page.speaks)
        exact = f"off: {without} of {self.clips} clips have no exact labels" if without else "on"
        blind = f"off: {pointless} of {self.clips} clips have no landmarks"
        labelled = blind if pointless else "on"
        return {
            "warp_truth": exact,
            "motion_gate": labelled,
            "l_mouth": labelled,
            **dict.fromkeys(SHAPE_TERMS, labelled),
            "l_lids": f"in part {blind}" if pointless else "on",
            "speech": f"without {silent} of {self.clips} clips: no speech" if silent else "on",
        }


def find_corpus(config: "TrainConfig", clips: Path) -> Corpus:
    """Pages of the training split of all datasets, the first few people kept for validation.

    Args:
        config: of the stage.
        clips: folder that holds one of the crop stage for each dataset.

    Raises:
        FileNotFoundError: a dataset has no clips.
        ValueError: clips of another resolution than the model, or too few people.
    """
    pages = [page for name in config.datasets for page in _pages(config, clips / name)]
    people = sorted({person for page in pages for person in page.people})
    if len(people) - config.validation_people < 2:
        raise ValueError(
            f"{clips}: {len(people)} people to train on, {config.validation_people} of them for "
            "validation (train.validation_people): at least 2 must remain"
        )
    kept_back = set(people[: config.validation_people])
    training, validation = (
        [page for name in config.datasets for page in find_pages(clips / name, "train", keep)]
        for keep in (lambda person: person not in kept_back, kept_back.__contains__)
    )
    return Corpus(training, validation, missing_labels(training, ("landmarks", *EXACT)))


def _pages(config: "TrainConfig", folder: Path) -> list[Page]:
    """Pages of the training split of one dataset, whose clips must fit the model."""
    pages = find_pages(folder, "train")
    if not pages:
        raise ValueError(f"{folder}: no clip of split 'train'; take it off train.datasets")
    side, wanted = probe(read_page(pages[0])[0]["video"]).width, config.model.resolution
    if side != wanted:
        raise ValueError(
            f"{folder} holds {side} px clips, train.model.resolution is {wanted}: "
            "set it equal to crop.resolution"
        )
    return pages


def training_pairs(config: "TrainConfig", corpus: Corpus) -> PairSampler:
    """Pairs of the corpus, with exact warps where the data knows them."""
    is_exact = not any(corpus.missing[name] for name in EXACT)
    return PairSampler(
        corpus.training,
        seed=config.seed,
        lanes=config.batch,
        visits=config.pairs_per_visit,
        distance=config.distance,
        gate=config.motion_gate,
        augmentation=config.augmentation,
        strangers=config.strangers,
        truth=_exact_warp(config.model.resolution) if is_exact else None,
        labelled=not corpus.missing["landmarks"],
    )


def validation_pairs(config: "TrainConfig", corpus: Corpus) -> "Batch | None":
    """Fixed pairs of people left out of training, as they are."""
    if not corpus.validation:
        return None
    plain = Augmentation(flip=0.0, colour=0.0, driver_colour=0.0, driver_stretch=0.0)
    sampler = PairSampler(
        corpus.validation,
        seed=config.seed,
        lanes=VALIDATION_PAIRS,
        visits=config.pairs_per_visit,
        distance=config.distance,
        gate=config.motion_gate,
        augmentation=plain,
        labelled=False,
    )
    return sampler.batch(0, range(VALIDATION_PAIRS))


def share_of(rank: int, workers: int, microbatches: int) -> list[tuple[int, float]]:
    """Microbatches of one worker, and what their means count.

    The mean over workers of the weighted sums is the mean over all microbatches. Where they
    cannot be dealt out evenly, some workers do one that counts nothing: all must take part in
    each exchange of gradients.
    """
    rounds = -(-microbatches // workers)
    places = (rank + turn * workers for turn in range(rounds))
    weight = workers / microbatches
    return [(p, weight) if p < microbatches else (p % microbatches, 0.0) for p in places]


class Reader:
    """Decodes the pairs of a worker's share: an actor of Ray Data, or called in place."""

    def __init__(self, config: "TrainConfig", corpus: Corpus, schedule: list[Stretch]) -> None:
        self.schedule = schedule
        self.sampler = training_pairs(config, corpus)

    def pairs(self, step: int, lanes: list[int]) -> dict[str, np.ndarray]:
        """Arrays of the share's items at a step, as its phase needs them."""
        phase = stretch_at(self.schedule, step)[0].phase
        if phase.speaks:
            return self.sampler.talks(step, lanes)
        return self.sampler.arrays(
            step, lanes, warps=phase.weighs("warp_truth"), swaps=phase.swaps_mouths
        )

    def __call__(self, spans: dict[str, np.ndarray]) -> Iterator[dict[str, list]]:
        """Steps of a span; phases differ in their arrays, so these travel as bytes.

        An error travels too: raised here, it would lose its kind.
        """
        from safetensors.numpy import save

        lanes = spans["lanes"][0].tolist()
        for step in range(int(spans["first"][0]), int(spans["end"][0])):
            try:
                arrays = self.pairs(step, lanes).items()
                # safetensors writes memory as it lies, whatever the order of the axes
                pairs = save({name: np.ascontiguousarray(array) for name, array in arrays})
                error = b""
            except Exception as own:
                pairs, error = b"", pickle.dumps(portable(own))
            yield {"step": [step], "pairs": [pairs], "error": [error]}


def stream(
    config: "TrainConfig", corpus: Corpus, schedule: list[Stretch], first: int, lanes: list[int]
) -> Iterator[dict[str, np.ndarray]]:
    """Pairs of a worker's lanes from step `first` to the end, read and decoded ahead.

    The reader is an actor on the worker's own node.
    """
    import ray
    from safetensors.numpy import load

    quiet_data()
    here = {f"node:{ray.util.get_node_ip_address()}": 0.001}
    last = sum(stretch.steps for stretch in schedule)
    for start in range(first, last, STREAM):
        end = min(start + STREAM, last)
        spans = [
            {"first": step, "end": min(step + SPAN, end), "lanes": lanes}
            for step in range(start, end, SPAN)
        ]
        steps = ray.data.from_items(spans, override_num_blocks=len(spans)).map_batches(
            Reader,
            fn_constructor_args=(config, corpus, schedule),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=1),
            num_cpus=0,  # it goes along with the worker that waits for it
            resources=here,
        )
        batches = steps.iter_batches(batch_size=1, batch_format="pyarrow", prefetch_batches=2)
        for step, batch in zip(range(start, end), batches, strict=True):
            found, arrays, error = (batch[name][0].as_py() for name in ("step", "pairs", "error"))
            if error:
                raise pickle.loads(error)
            if found != step:
                raise RuntimeError(f"the stream of pairs gave step {found} instead of {step}")
            yield load(arrays)


def _exact_warp(resolution: int) -> WarpTruth:
    """Exact warps between two frames of a row of the synthetic corpus."""
    from fixtalk.synthetic.camera import Camera
    from fixtalk.synthetic.correspondence import CroppedFrame, FaceGeometry, correspondence
    from fixtalk.synthetic.head import load_head

    head = load_head(0)
    geometry = cache(lambda identity_seed: FaceGeometry(head, identity_seed))

    def warp(source: Place, driver: Place) -> Truth:
        frames = (
            CroppedFrame(row["arkit"][i], row["pose"][i], tuple(row["box"]))
            for row, i in (source, driver)
        )
        person = geometry(source[0]["identity_seed"])
        return correspondence(person, Camera.from_json(source[0]["camera"]), *frames, resolution)

    return warp
