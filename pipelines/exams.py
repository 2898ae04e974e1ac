"""A trained judge and the clips of held-out people → how often it is right about them."""

from typing import Any

import torch
from scipy.stats import rankdata
from torch import Tensor

from metrics.emotion import EMOTIONS, accuracy, wilson_interval
from metrics.landmarks import normalised_landmark_distance
from metrics.local import LocalEmotion, LocalIdentity, LocalLandmarks, LocalSync
from metrics.sync import sync_scores
from pipelines.practice import Material

IDENTITY_EVERY = 8  # frames: those between look alike
SHIFTS = (-10, -6, -3, 0, 3, 6, 10)  # frames by which the sound is late
MAX_SHIFT = 15


def examine_identity(judge: LocalIdentity, material: Material) -> dict[str, Any]:
    """Area under the ROC curve of telling one person from two, 0.5 is chance.

    The pairs in which light and background do not help: one person's in different sessions, two
    persons' in the same.
    """
    names = sorted({row["person"] for row in material.clips})
    sessions = sorted({row["session"] for row in material.clips})
    embeddings, people, places = [], [], []
    for row in material.clips:
        embeddings.append(judge.embed(row["video"][::IDENTITY_EVERY]))
        people += [names.index(row["person"])] * len(embeddings[-1])
        places += [sessions.index(row["session"])] * len(embeddings[-1])
    likeness = torch.cat(embeddings) @ torch.cat(embeddings).T
    people, places = torch.tensor(people), torch.tensor(places)
    same_person = people[:, None] == people
    same_place = places[:, None] == places
    once = torch.ones_like(same_person).triu(1)
    positives = likeness[once & same_person & ~same_place]
    negatives = likeness[once & ~same_person & same_place]
    return {
        "verification_auc": _area_under_curve(positives, negatives),
        "people": len(names),
        "pairs": len(positives) + len(negatives),
    }


def examine_landmarks(judge: LocalLandmarks, material: Material) -> dict[str, Any]:
    """Mean distance from the true points, in shares of the true distance between the eyes."""
    errors = []
    for row in material.clips:
        true = torch.tensor(row["landmarks"])
        errors.append(normalised_landmark_distance(judge.points(row["video"]), true, "face"))
    return {"nme_interocular": float(torch.cat(errors).mean()), "frames": len(material.frames)}


def examine_emotion(judge: LocalEmotion, material: Material) -> dict[str, Any]:
    """Share of the videos whose emotion is recognised, 1/8 is chance; and its 95 % interval."""
    guesses = [judge.probabilities(row["video"]).argmax() for row in material.clips]
    true = torch.tensor([EMOTIONS.index(row["emotion"]) for row in material.clips])
    correct = int(accuracy(torch.stack(guesses), true).sum())
    return {
        "accuracy": correct / len(true),
        "interval": list(wilson_interval(correct, len(true))),
        "videos": len(true),
    }


def examine_sync(judge: LocalSync, material: Material) -> dict[str, Any]:
    """Share of the clips, their sound shifted in turn, whose offset is found to a frame."""
    found, confidences = [], []
    for row in material.clips:
        lips, sound = judge.embed_video(row["video"]), judge.embed_audio(row["audio"])
        for late in SHIFTS:
            cut = len(lips) - abs(late)
            if cut < 2 * abs(late):  # too short: the sound of most of its lips is cut off
                continue
            lips_cut = lips[max(0, late) :][:cut]
            scores = sync_scores(lips_cut, sound[max(0, -late) :][:cut], MAX_SHIFT)
            found.append(abs(scores.offset + late) <= 1)
            if late == 0:
                confidences.append(scores.confidence)
    return {
        "offset_within_1_frame": sum(found) / len(found),
        "clips": len(material.clips),
        "trials": len(found),
        "mean_confidence": sum(confidences) / len(confidences),
    }


def _area_under_curve(positives: Tensor, negatives: Tensor) -> float | None:
    """Share of all (positive, negative) in which the positive is larger; None without a pair."""
    if not len(positives) or not len(negatives):
        return None
    ranks = rankdata(torch.cat([positives, negatives]).numpy())[: len(positives)]
    wins = ranks.sum() - len(positives) * (len(positives) + 1) / 2
    return float(wins / (len(positives) * len(negatives)))
