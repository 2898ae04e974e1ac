"""A subject and its material → the weights of a network that knows it, and its marks."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import nn

from metrics.local import LocalEmotion, LocalIdentity, LocalLandmarks, LocalSync
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
    """What there is to learn, how it is examined, and the judge who then knows it."""

    teach: Callable[[Material, Course], tuple[nn.Module, list[float]]]
    examine: Callable[[Any, Material], dict[str, Any]]
    judge: type


# the longest first, so that two cores finish together
SUBJECTS = {
    "emotion": Subject(lessons.teach_emotion, exams.examine_emotion, LocalEmotion),
    "landmarks": Subject(lessons.teach_landmarks, exams.examine_landmarks, LocalLandmarks),
    "identity": Subject(lessons.teach_identity, exams.examine_identity, LocalIdentity),
    "sync": Subject(lessons.teach_sync, exams.examine_sync, LocalSync),
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
    material = read_material(job.clips, "train", for_experts=job.for_experts)
    network, losses = subject.teach(material, job.course)
    content = save({name: values.contiguous() for name, values in network.state_dict().items()})
    job.weights.write_bytes(content)
    examined = subject.judge(network, hashlib.sha256(content).hexdigest())
    accuracy = subject.examine(examined, read_material(job.clips, "test"))
    return {"sha256": examined.sha256, "accuracy": accuracy}, losses
