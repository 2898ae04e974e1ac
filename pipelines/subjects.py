"""A subject and its material → the weights of a network that knows it, and its marks."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import nn

from metrics.local import LocalEmotion, LocalIdentity, LocalLandmarks, LocalSync
from metrics.networks import FACE_SIDE, LIP_SIDE
from pipelines import exams, lessons
from pipelines.practice import Course, Material, read_material


class Schooling(Protocol):
    """What the configurations of judges and experts have in common."""

    seed: int
    batch: int
    learning_rate: float
    precision: str


def course(config: Schooling, steps: int) -> Course:
    """What a lesson of so many steps needs to know."""
    return Course(
        steps=steps,
        batch=config.batch,
        learning_rate=config.learning_rate,
        seed=config.seed,
        bfloat16=config.precision == "bfloat16",
    )


class Subject(NamedTuple):
    """What there is to learn, how it is examined, the judge who then knows it, what that sees."""

    teach: Callable[[Material, Course], tuple[nn.Module, list[float]]]
    examine: Callable[[Any, Material], dict[str, Any]]
    judge: type
    side: int  # pixels of a frame, at most


# the longest first, so that two cores finish together
SUBJECTS = {
    "emotion": Subject(lessons.teach_emotion, exams.examine_emotion, LocalEmotion, FACE_SIDE),
    "landmarks": Subject(
        lessons.teach_landmarks, exams.examine_landmarks, LocalLandmarks, FACE_SIDE
    ),
    "identity": Subject(lessons.teach_identity, exams.examine_identity, LocalIdentity, FACE_SIDE),
    "sync": Subject(lessons.teach_sync, exams.examine_sync, LocalSync, LIP_SIDE),
}


@dataclass(frozen=True)
class Job:
    """One network to train, all that a fresh process needs for it."""

    name: str  # of its subject
    course: Course
    clips: Path
    weights: Path
    for_experts: bool = False  # learns from the people that no judge learns from


def learn(job: Job) -> tuple[dict[str, Any], list[float]]:
    """Write the weights of one network; their digest and its marks, and the losses on the way.

    Raises:
        UnlabelledError: a clip lacks a label that rendered people have.
    """
    from safetensors.torch import save

    torch.set_num_threads(1)  # several learn side by side, and sums keep their order
    subject = SUBJECTS[job.name]
    read = partial(read_material, job.clips, side=subject.side)
    network, losses = subject.teach(read("train", for_experts=job.for_experts), job.course)
    content = save({name: values.contiguous() for name, values in network.state_dict().items()})
    job.weights.write_bytes(content)
    examined = subject.judge(network, hashlib.sha256(content).hexdigest())
    accuracy = subject.examine(examined, read("test"))
    return {"sha256": examined.sha256, "accuracy": accuracy}, losses
