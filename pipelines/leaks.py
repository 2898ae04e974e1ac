"""Clips of two splits → recordings and faces that are in both, and an error that names them."""

import json
from collections import Counter
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from pydantic import Field

from fixtalk.dataset import Row, find_shards, read_clips, read_shard
from fixtalk.face import FaceDetector
from fixtalk.fingerprint import Prints, fingerprint, shared_recordings
from fixtalk.media import decode_frames
from fixtalk.pages import Page, find_pages, read_page
from fixtalk.shapes import Float
from pipelines.cluster import map_parallel
from pipelines.config import StageConfig
from pipelines.weights import WeightsMissingError, read

if TYPE_CHECKING:
    from metrics.judges import FaceNet

CLIPS_PER_PERSON = 4  # whose middle frames stand for the person
DETECT_RESOLUTION, MIN_PROBABILITY = 256, 0.9
LISTED = 20  # pairs that an error names
REMEDY = (
    "Whoever is in both splits is scored on what was trained on: give both clips one split in the "
    "download stage, or take one off the list. If they differ after all, raise {key} "
    "(null: no check)."
)


class LeakConfig(StageConfig):
    """What must not be in train and in test; null: not looked for."""

    sound: float | None = Field(gt=0, le=1, description="share of a clip's sound that is the same")
    identity: float | None = Field(gt=-1, le=1, description="cosine of two people's FaceNet means")


class LeakError(ValueError):
    """Train and test share a recording or a face; the message names the clips and the remedy."""


class Face(NamedTuple):
    """A clip, whose it is, and its embedding."""

    clip: str
    person: str
    split: str
    embedding: Float[np.ndarray, " 512"]


def find_leaks(config: LeakConfig, clips: Path, weights: Path) -> dict[str, Any]:
    """For sound and identity: null if not looked for, a reason if that was not possible, or pairs.

    Beside the pairs stands how many clips (sound) or people (identity) of each split were
    compared: those without sound or without a face are not.

    Faces are compared by FaceNet only. The project's own judges know rendered people and are
    never asked here.

    Args:
        config: bounds.
        clips: folder with shards.
        weights: folder of FaceNet's weights.
    """
    splits = Counter(row["split"] for row in read_clips(clips, columns=["split"]))
    checks = {
        "sound": (config.sound, partial(_sound_pairs, clips)),
        "identity": (config.identity, partial(_face_pairs, clips, weights)),
    }
    found: dict[str, Any] = {}
    for name, (bound, look) in checks.items():
        if bound is None:
            found[name] = None
        elif len(splits) < 2:
            found[name] = {"bound": bound, "not_done": f"all clips are of {', '.join(splits)}"}
        else:
            try:
                report = look(bound)
            except WeightsMissingError as error:
                report = {"not_done": str(error)}
            found[name] = {"bound": bound, **report}
    return found


def require_no_leak(coverage: dict[str, Any], clips: Path) -> None:
    """Stop if something is in both splits, leaving the coverage beside the missing clips.

    Raises:
        LeakError: names pairs of clips.
    """
    lines = []
    for name, check in coverage["leaks"].items():
        pairs = (check or {}).get("pairs", [])
        lines += [
            f"  {name}: {pair['train']} (train) and {pair['test']} (test), {pair['share']:.3f}"
            for pair in pairs[:LISTED]
        ]
        lines += [REMEDY.format(key=f"crop.leaks.{name}")] if pairs else []
    if lines:
        report = clips.with_name(f"{clips.name}.coverage.json")
        report.write_text(json.dumps(coverage, indent=1) + "\n", encoding="utf-8")
        raise LeakError("\n".join([f"train and test overlap; all pairs are in {report}:", *lines]))


def _compared(train: int, test: int, pairs: list[dict[str, Any]]) -> dict[str, Any]:
    """Pairs and what they were looked for among; a reason where there was nothing to compare."""
    if not train or not test:
        return {"not_done": f"{train} of train and {test} of test have what is compared"}
    return {"compared": {"train": train, "test": test}, "pairs": pairs}


def _sound_pairs(clips: Path, bound: float) -> dict[str, Any]:
    rows = [one for some in map_parallel(_prints, find_shards(clips), "listen") for one in some]
    train, test = (
        [(clip, prints) for clip, of, prints in rows if of == split and len(prints.hashes)]
        for split in ("train", "test")
    )
    matches = shared_recordings([p for _, p in test], [p for _, p in train], bound)
    pairs = [
        {"train": train[match.other][0], "test": test[match.one][0], "share": match.share}
        for match in matches
    ]
    return _compared(len(train), len(test), pairs)


def _prints(shard: Path) -> list[tuple[str, str, Prints]]:
    rows = read_shard(shard, columns=["clip", "split", "audio"])
    return [
        (row["clip"], row["split"], fingerprint(np.frombuffer(row["audio"] or b"", "<i2")))
        for row in rows
    ]


def _face_pairs(clips: Path, weights: Path, bound: float) -> dict[str, Any]:
    _facenet(weights)  # missing weights are told before anything is decoded
    pages = [page for split in ("train", "test") for page in find_pages(clips, split)]
    embed = partial(_faces, weights)
    faces = [face for some in map_parallel(embed, _few(pages), "compare") for face in some]
    people = {split: {f.person for f in faces if f.split == split} for split in ("train", "test")}
    return _compared(len(people["train"]), len(people["test"]), similar_people(faces, bound))


def _few(pages: Sequence[Page]) -> list[Page]:
    """The pages with the first clips of each person only."""
    seen: Counter[str] = Counter()
    few = []
    for page in pages:
        kept = []
        for row, person in zip(page.rows, page.people, strict=True):
            seen[person] += 1
            if seen[person] <= CLIPS_PER_PERSON:
                kept.append((row, person))
        if kept:
            rows, people = zip(*kept, strict=True)
            few.append(page._replace(rows=rows, people=people))
    return few


def similar_people(faces: Sequence[Face], bound: float) -> list[dict[str, Any]]:
    """People of train and test whose mean embeddings have a cosine of at least `bound`.

    Args:
        faces: any number of each person.
        bound: the least cosine.

    Returns:
        A clip of each person and the cosine, the most similar first.
    """
    clips: dict[str, dict[str, str]] = {"train": {}, "test": {}}
    sums: dict[str, np.ndarray] = {}
    for face in faces:
        clips[face.split].setdefault(face.person, face.clip)
        sums[face.person] = sums.get(face.person, 0) + face.embedding
    if not clips["train"] or not clips["test"]:
        return []
    train, test = (
        np.stack([sums[person] / np.linalg.norm(sums[person]) for person in clips[split]])
        for split in ("train", "test")
    )
    cosines = train @ test.T
    names = {split: list(of.values()) for split, of in clips.items()}
    pairs = [
        {"train": names["train"][i], "test": names["test"][j], "share": float(cosines[i, j])}
        for i, j in np.argwhere(cosines >= bound)
    ]
    return sorted(pairs, key=lambda pair: -pair["share"])


def _faces(weights: Path, page: Page) -> list[Face]:
    return [face for row in read_page(page) for face in _embed(weights, row)]


def _embed(weights: Path, row: Row) -> list[Face]:
    """The face in the middle of a clip; none where the detector sees none."""
    import torch

    frame = decode_frames(row["video"], [row["frames"] // 2])
    found = _detector()(frame)[0]
    if not found:
        return []
    box = torch.from_numpy(found[0].box)[None].float()
    pictures = torch.from_numpy(frame).permute(0, 3, 1, 2)
    embedding = _facenet(weights).embed(pictures, box)[0].numpy()
    return [Face(row["clip"], row["person"], row["split"], embedding)]


@cache
def _detector() -> FaceDetector:
    return FaceDetector(DETECT_RESOLUTION, MIN_PROBABILITY)


@cache
def _facenet(weights: Path) -> "FaceNet":
    from metrics.judges import FaceNet
    from metrics.registry import build

    state, sha256 = read("facenet", weights)
    return FaceNet(build("facenet", state), sha256)
