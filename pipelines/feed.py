"""Clips → the pairs that training and validation are fed with."""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from fixtalk.dataset import read_clips
from fixtalk.media import probe
from fixtalk.pairs import Augmentation, PairSampler, Place, Row, Truth, WarpTruth

if TYPE_CHECKING:
    from fixtalk.reenactment import Batch
    from pipelines.train import TrainConfig

VALIDATION_PAIRS = 32


def split_people(config: "TrainConfig", clips: Path) -> tuple[list[Row], list[Row]]:
    """Training rows, and the rows of the people that validate.

    Raises:
        ValueError: clips of another resolution than the model, or too few people.
    """
    rows = read_clips(clips, "train")
    if not rows:
        raise ValueError(f"{clips}: no clip of split 'train'; train.dataset={config.dataset!r}")
    side, wanted = probe(rows[0]["video"]).width, config.model.resolution
    if side != wanted:
        raise ValueError(
            f"{clips} holds {side} px clips, train.model.resolution is {wanted}: "
            "set it equal to crop.resolution"
        )
    people = sorted({row["person"] for row in rows})
    if len(people) - config.validation_people < 2:
        raise ValueError(
            f"{clips}: {len(people)} people to train on, {config.validation_people} of them for "
            "validation (train.validation_people): at least 2 must remain"
        )
    kept = set(people[config.validation_people :])
    training = [row for row in rows if row["person"] in kept]
    return training, [row for row in rows if row["person"] not in kept]


def training_pairs(config: "TrainConfig", rows: list[Row]) -> PairSampler:
    """Pairs of the rows, with exact warps where the data knows them."""
    truth = _exact_warp(config.model.resolution) if not _without_warp(rows) else None
    return PairSampler(
        rows,
        seed=config.seed,
        distance=config.distance,
        gate=config.motion_gate,
        augmentation=config.augmentation,
        strangers=config.strangers,
        truth=truth,
    )


def validation_pairs(config: "TrainConfig", rows: list[Row]) -> "Batch | None":
    """Fixed pairs of people left out of training, as they are."""
    if not rows:
        return None
    plain = Augmentation(flip=0.0, colour=0.0, driver_colour=0.0, driver_stretch=0.0)
    sampler = PairSampler(
        rows,
        seed=config.seed,
        distance=config.distance,
        gate=config.motion_gate,
        augmentation=plain,
    )
    return sampler.batch(0, range(VALIDATION_PAIRS))


def label_tags(rows: list[Row]) -> dict[str, str]:
    """What the rows' labels make possible, or why not: exact warps, and the gate of L_dis."""
    without = _without_warp(rows)
    pointless = sum(row["landmarks"] is None for row in rows)
    return {
        "warp_truth": f"off: {without} of {len(rows)} clips have no exact labels"
        if without
        else "on",
        "motion_gate": f"off: {pointless} of {len(rows)} clips have no landmarks"
        if pointless
        else "on",
    }


def _without_warp(rows: list[Row]) -> int:
    needed = ("identity_seed", "arkit", "pose", "box", "camera")
    return sum(any(row[name] is None for name in needed) for row in rows)


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
