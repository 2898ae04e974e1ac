"""Clips of the training people → trained networks of the judges, one lesson for each."""

from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize, one_hot

from metrics.local import face_pictures, lip_pictures
from metrics.networks import (
    COEFFICIENTS,
    FACE,
    LIPS,
    SYNC_SHARPNESS,
    EmotionNetwork,
    IdentityNetwork,
    LandmarkNetwork,
    SyncNetwork,
    crop,
)
from metrics.sync import FRAMES_PER_WINDOW, mfcc_windows
from pipelines import practice
from pipelines.practice import Course, Material

MARGIN, SHARPNESS = 0.2, 20.0  # of the cosine loss between people
OWN_BACKGROUND = 0.3  # share of the pictures that keep theirs
CLIPS_AT_ONCE = 8  # of the lip-sync lesson, each with all of its windows
SOUND_NOISE = 0.5  # in units of the coefficients of sound
RARE = 0.05  # added to the spread of a coefficient: one that hardly moves must not weigh more
# iBUG points of a mirrored face, by the places they are then at
MIRROR = [
    *range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1),
    *range(45, 41, -1), 47, 46, *range(39, 35, -1), 41, 40,
    *range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), *range(67, 64, -1),
]  # fmt: skip


def teach_identity(material: Material, course: Course) -> tuple[nn.Module, list[float]]:
    """An IdentityNetwork and its losses; people are classes, kept apart by a cosine margin.

    A person has one light and background only. Backgrounds are therefore exchanged within the
    batch and colours and shades varied, or the network would learn those.
    """
    num_people = int(material.people.max()) + 1
    network = practice.new(IdentityNetwork, course)
    chance = torch.Generator().manual_seed(course.seed)
    network.centres = nn.Parameter(torch.randn(num_people, 128, generator=chance))

    def loss() -> Tensor:
        chosen = practice.draw(material, course.batch, chance)
        faces = face_pictures(material.frames[chosen])
        kept = torch.rand(len(faces), 1, 1, 1, generator=chance) < OWN_BACKGROUND
        masks = torch.where(kept, 1.0, practice.heads(material.points[chosen], faces.shape[-1]))
        order = torch.randperm(len(faces), generator=chance)
        faces = masks * faces + (1 - masks) * faces[order]
        whole = torch.tensor(practice.WHOLE).expand(len(faces), -1, -1)
        faces = crop(faces, practice.shaken(whole, chance, flip=0.5)[0], faces.shape[-1])
        cosines = network(practice.disturbed(faces, chance)) @ normalize(network.centres).T
        people = material.people[chosen]
        return cross_entropy(SHARPNESS * (cosines - MARGIN * one_hot(people, num_people)), people)

    losses = practice.practise(network, course, loss)
    del network.centres
    return network, losses


def teach_landmarks(material: Material, course: Course) -> tuple[nn.Module, list[float]]:
    """A LandmarkNetwork and its losses: mean error in shares of the crop."""
    network = practice.new(LandmarkNetwork, course)
    chance = torch.Generator().manual_seed(course.seed)
    course = practice.teach_locator(network.locator, material, course, chance, face_pictures)

    def loss() -> Tensor:
        chosen = practice.draw(material, course.batch, chance)
        crops, matrices, mirrored = practice.closer(
            material, chosen, FACE, face_pictures, chance, flip=0.5
        )
        found = network.points_in(crops)
        points = practice.within(matrices, material.points[chosen])
        points = torch.where(mirrored[:, None, None], points[:, MIRROR], points)
        return (found - points).abs().mean() / 2

    return network, practice.practise(network, course, loss)


def teach_emotion(material: Material, course: Course) -> tuple[nn.Module, list[float]]:
    """An EmotionNetwork and its losses.

    The picture is read as coefficients only: an emotion that had a say in that would be learnt
    as the few faces that show it.
    """
    network = practice.new(EmotionNetwork, course)
    chance = torch.Generator().manual_seed(course.seed)
    course = practice.teach_locator(network.locator, material, course, chance, face_pictures)
    spread = material.coefficients.std(dim=0) + RARE

    def loss() -> Tensor:
        chosen = practice.draw(material, course.batch, chance)
        crops, _, _ = practice.closer(material, chosen, FACE, face_pictures, chance)
        read = network.coefficients_in(crops)
        error = ((read - material.coefficients[chosen]) / spread).square().mean()
        return error + cross_entropy(network.emotion(read.detach()), material.emotions[chosen])

    return network, practice.practise(network, course, loss)


def teach_sync(material: Material, course: Course) -> tuple[nn.Module, list[float]]:
    """A SyncNetwork and its losses: each window's sound is picked among all of its clip.

    Looks and sounds are also read as coefficients, by two layers that are thrown away: it takes
    the network a fraction of the time to find out what lips are.
    """
    network = practice.new(SyncNetwork, course)
    network.by_sight = practice.new(partial(nn.Linear, 128, COEFFICIENTS), course)
    network.by_ear = practice.new(partial(nn.Linear, 256, COEFFICIENTS), course)
    chance = torch.Generator().manual_seed(course.seed)
    course = practice.teach_locator(network.locator, material, course, chance, lip_pictures)
    lengths = [len(row["video"]) for row in material.clips]
    starts = np.cumsum([0, *lengths])
    sounds = [mfcc_windows(row["audio"]) for row in material.clips]
    spread = material.coefficients.std(dim=0) + RARE

    def loss() -> Tensor:
        order = torch.randperm(len(lengths), generator=chance)[:CLIPS_AT_ONCE].tolist()
        chosen = torch.cat([torch.arange(starts[n], starts[n + 1]) for n in order])
        sizes = [lengths[n] for n in order]
        crops, _, _ = practice.closer(material, chosen, LIPS, lip_pictures, chance, sizes=sizes)
        looks = network.look_at(crops)
        windows = [part.unfold(0, FRAMES_PER_WINDOW, 1).mT for part in looks.split(sizes)]
        lips = network.embed_looks(torch.cat(windows))
        heard = torch.cat([sounds[n] for n in order])
        sound = network.forward_aud(
            heard + torch.randn(heard.shape, generator=chance) * SOUND_NOISE
        )
        true = material.coefficients[chosen] / spread
        middles = torch.cat([part[2:-2] for part in true.split(sizes)])
        seen_error = (network.by_sight(looks) - true).square().mean()
        heard_error = (network.by_ear(sound) - middles).square().mean()
        counts = [size - FRAMES_PER_WINDOW + 1 for size in sizes]
        pairs = zip(lips.split(counts), sound.split(counts), strict=True)
        return torch.stack([_picked(*pair) for pair in pairs]).mean() + seen_error + heard_error

    losses = practice.practise(network, course, loss)
    del network.by_sight, network.by_ear
    return network, losses


def _picked(lips: Tensor, sound: Tensor) -> Tensor:
    """How surely each window of one finds its own of the other, both ways."""
    closeness = -SYNC_SHARPNESS * torch.cdist(lips.float(), sound.float())
    own = torch.arange(len(lips))
    return (cross_entropy(closeness, own) + cross_entropy(closeness.T, own)) / 2
