"""A clip and its truth, piece by piece → a value of every metric, or why there is none."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metrics import METRICS
from metrics.catalogue import (
    EMOTION_JUDGES,
    FEATURE_JUDGES,
    IDENTITY_JUDGES,
    LANDMARK_JUDGES,
    SYNC_JUDGES,
)
from metrics.crops import eat_crop
from metrics.emotion import EMOTIONS, accuracy
from metrics.protocol import Protocol
from metrics.sync import SAMPLES_PER_FRAME, SyncScores, sync_scores
from pipelines.evidence import MIN_SIDES, Evidence, Frames, of_finite
from pipelines.panel import Panel

PIXELS = ("psnr", "ssim", "ssim_gaussian")
UNHEARD = 5  # fewer windows than frames, as SyncNet scores them
LipCrop = Callable[[str, int, Frames], Frames]  # role, first frame, frames → what SyncNet sees
Found = tuple[str, Tensor, Tensor | None]  # metric, values of the generated and of the true frames

NO_DRIVER = "nobody else drives: nothing could leak"
NO_FACE = "no frame in which both faces were found"
NO_LEAK = "driver and truth look the same: nothing could leak"
UNDEFINED = "undefined in every frame"
FACIAL = {
    "facenet",
    "emotion_fan",
    *LANDMARK_JUDGES.values(),
}  # judges that answer only where a face is


@dataclass(frozen=True)
class ClipScores:
    """What one clip scored.

    Attributes:
        rows: one for each metric of a frame or a clip: value, truth, frames, left_out, reason.
        features: judge → features of some generated and of the same true frames, as arrays.
        missing: metric of a set of clips → why its judge cannot be asked.
        judges: name → sha256 of all judges on the panel.
    """

    rows: list[dict[str, Any]]
    features: dict[str, tuple[np.ndarray, np.ndarray]]
    missing: dict[str, str]
    judges: dict[str, str]


class ClipScorer:
    """Takes a clip in pieces of any length; memory grows by a few numbers a frame only.

    Args:
        panel: the judges.
        protocol: crop, intervals and thresholds.
        lip_crop: what SyncNet sees of some frames; None: the whole frames.
    """

    def __init__(self, panel: Panel, protocol: Protocol, lip_crop: LipCrop | None = None) -> None:
        self.panel, self.protocol, self.lip_crop = panel, protocol, lip_crop
        seen_by = _on_crops(panel) if protocol.crop == "eat128" else panel
        self.evidence = {
            role: Evidence(seen_by, protocol) for role in ("generated", "truth", "driver")
        }
        self.pixels: dict[str, list[Tensor]] = defaultdict(list)
        self.frames = 0  # given
        self.cropped = 0  # of these, those that are compared
        self.faceless = {"generated": 0, "truth": 0}  # frames that could not be aligned
        self.side = 0

    def add(self, generated: Frames, truth: Frames, driver: Frames | None = None) -> None:
        """The next frames: equally many, generated and truth of one size.

        Raises:
            ValueError: a driver under a protocol that crops: it would be seen uncropped.
        """
        if driver is not None and self.protocol.crop != "none":
            raise ValueError(f"protocol {self.protocol.name} crops faces: leave out the driver")
        start = self.frames
        self.frames += len(generated)
        for role, frames in (("generated", generated), ("truth", truth)):
            crop = self.lip_crop(role, start, frames) if self.lip_crop else frames
            self.evidence[role].see_lips(frames, crop)
        if self.protocol.crop == "eat128":
            generated, truth = self._aligned(generated, truth)
        if not len(generated):
            return
        is_looked = (torch.arange(len(generated)) + self.cropped) % self.protocol.detect_every == 0
        self.cropped += len(generated)
        self.side = min(generated.shape[2:])
        for name in PIXELS:
            self.pixels[name].append(METRICS[name].function(generated, truth))
        self.evidence["generated"].see(generated, is_looked)
        self.evidence["truth"].see(truth, is_looked)
        if driver is not None:
            self.evidence["driver"].see_person(driver[is_looked])
            flat = (frames.flatten(1).double() for frames in (generated, truth, driver))
            self.pixels["leak_pixels"].append(METRICS["leak_pixels"].function(*flat))

    def finish(
        self, audio: Tensor, emotion: str | None, true_audio: Tensor | None = None
    ) -> ClipScores:
        """Scores of all frames given.

        Args:
            audio: int16 mono at 16 kHz from the time of the first frame; empty for none.
            emotion: what the clip should show, a word of EMOTIONS; None if nobody said.
            true_audio: what the true lips said; None: the same.
        """
        sounds = {"generated": audio, "truth": audio if true_audio is None else true_audio}
        found = {name: (values, truth) for name, values, truth in self._values(sounds, emotion)}
        rows = []
        for name, metric in METRICS.items():
            if metric.per != "set":
                values, truth = found.get(name, (None, None))
                reason = None if name in found else self._reason(name, audio, emotion)
                rows.append({"metric": name, **self._row(name, values, truth, reason)})
        generated, truth = self.evidence["generated"], self.evidence["truth"]
        features = {
            judge: (generated[judge].numpy(), truth[judge].numpy())
            for judge in FEATURE_JUDGES
            if judge in generated
        }
        missing = {
            name: reason
            for name, metric in METRICS.items()
            if metric.per == "set" and (reason := self.panel.reason(metric.judge))
        }
        hashes = {name: judge.sha256 for name, judge in self.panel.judges.items()}
        return ClipScores(rows, features, missing, hashes)

    def _aligned(self, generated: Frames, truth: Frames) -> tuple[Frames, Frames]:
        """EAT's crops of the frames with both faces; emotions are seen in the whole ones."""
        judge, pairs = self.panel.judges["dlib68"], (generated, truth)
        points = [judge.points(frames) for frames in pairs]
        for role, frames, marks in zip(self.faceless, pairs, points, strict=True):
            self.evidence[role].see_emotion(frames, marks.double().cpu())
        has_face = [torch.isfinite(marks).all(dim=2).all(dim=1) for marks in points]
        for role, found in zip(self.faceless, has_face, strict=True):
            self.faceless[role] += int((~found).sum())
        chosen = (has_face[0] & has_face[1]).nonzero().flatten().tolist()
        if not chosen:
            return generated[:0], truth[:0]
        crops = [
            torch.stack([eat_crop(frames[n], marks[n]) for n in chosen])
            for frames, marks in zip(pairs, points, strict=True)
        ]
        return crops[0], crops[1]

    def _values(self, sounds: dict[str, Tensor], emotion: str | None) -> Iterator[Found]:
        generated, truth, driver = self.evidence.values()
        for name, values in self.pixels.items():
            yield name, torch.cat(values), None
        for name in MIN_SIDES:
            if name in generated:
                yield name, generated[name], truth[name]
        if "probabilities" in generated:
            yield "face_found", *(self._found(role) for role in ("generated", "truth"))
            points = generated["points5"], truth["points5"]
            yield "lmd_mtcnn5", of_finite("lmd_mtcnn5", *points), None
        for suffix, judge in IDENTITY_JUDGES.items():
            if judge in generated:
                people = [generated[judge], truth[judge]]
                yield f"csim_{suffix}", of_finite(f"csim_{suffix}", *people), None
                if judge in driver:
                    leak = of_finite(f"leak_{suffix}", *people, driver[judge])
                    yield f"leak_{suffix}", leak, None
        for suffix, judge in LANDMARK_JUDGES.items():
            if judge in generated:
                points = (generated[judge], truth[judge])
                for kind in ("f_lmd", "m_lmd", "f_lmd_iod"):
                    yield f"{kind}_{suffix}", of_finite(f"{kind}_{suffix}", *points), None
                if self.protocol.crop == "none":
                    shaking = (METRICS[f"jitter_{suffix}"].function(marks) for marks in points)
                    yield f"jitter_{suffix}", *shaking
        yield from self._sync(sounds)
        yield from self._emotion(emotion)

    def _found(self, role: str) -> Tensor:
        """1 for each look that found a face, else 0; 0 too where no face could be aligned."""
        probabilities = self.evidence[role]["probabilities"]
        looks = -(-self.faceless[role] // self.protocol.detect_every)
        probabilities = torch.cat([probabilities, torch.zeros(looks, dtype=torch.float64)])
        return METRICS["face_found"].function(probabilities, self.protocol.min_probability)

    def _sync(self, sounds: dict[str, Tensor]) -> Iterator[Found]:
        for suffix, judge in SYNC_JUDGES.items():
            scores = [self._sync_of(judge, role, audio) for role, audio in sounds.items()]
            if scores[0] is None:
                continue
            for name, part in (("conf", "confidence"), ("dist", "distance"), ("offset", "offset")):
                values = [
                    None if each is None else torch.tensor([float(getattr(each, part))])
                    for each in scores
                ]
                yield f"sync_{name}_{suffix}", *values

    def _sync_of(self, judge: str, role: str, audio: Tensor) -> SyncScores | None:
        """How well the lips of a role go with a sound; None without judge or enough of both."""
        windows = min(self.frames, len(audio) // SAMPLES_PER_FRAME) - UNHEARD
        if judge not in self.panel.judges or windows < 2:
            return None
        sound = self.panel.judges[judge].embed_audio(audio).float().cpu()
        lips = self.evidence[role][judge]
        return sync_scores(lips[:windows], sound[:windows], self.protocol.max_shift)

    def _emotion(self, emotion: str | None) -> Iterator[Found]:
        if emotion not in EMOTIONS:
            return
        true = torch.tensor([EMOTIONS.index(emotion)])
        for suffix, judge in EMOTION_JUDGES.items():
            if judge in self.evidence["generated"]:
                pool = self.panel.judges[judge].pool
                guesses = (pool(self.evidence[role][judge]) for role in ("generated", "truth"))
                yield f"acc_emo_{suffix}", *(_is_right(guess, true) for guess in guesses)

    def _reason(self, name: str, audio: Tensor, emotion: str | None) -> str:
        """Why a metric has no value at all in this clip."""
        missing = self.panel.reason(METRICS[name].judge)
        if missing:
            return missing
        if name.startswith("sync"):
            seconds = len(audio) / SAMPLES_PER_FRAME / 25
            few = f"{self.frames} frames and {seconds:.2f} s of sound: too short to search a shift"
            return few if len(audio) else "no sound"
        if name.startswith("acc_emo") and emotion not in EMOTIONS:
            known = ", ".join(EMOTIONS)
            return f"{emotion!r} is not one of {known}" if emotion else "no emotion label"
        if name.startswith("leak"):
            return NO_DRIVER
        if name.startswith("jitter"):
            return "frames are aligned one by one: nothing trembles"
        if name in MIN_SIDES:
            see = f"; see {name}_288" if name.startswith("niqe") else ""
            return f"{self.side} pixels a side, it needs {MIN_SIDES[name]}{see}"
        return NO_FACE

    def _left_out(self, name: str, values: Tensor) -> int:
        """Frames without a value that might have one; the ends of a clip never have jitter."""
        without = int((~torch.isfinite(values)).sum())
        if METRICS[name].per == "clip" or name == "face_found":
            return without
        if name.startswith("jitter"):
            return without - min(2, len(values))
        unaligned = self.frames - self.cropped
        is_looked = name == "lmd_mtcnn5" or METRICS[name].judge in IDENTITY_JUDGES.values()
        return without + (-(-unaligned // self.protocol.detect_every) if is_looked else unaligned)

    def _row(
        self, name: str, values: Tensor | None, truth: Tensor | None, reason: str | None
    ) -> dict[str, Any]:
        """Means over the frames that have a value, and how many have none."""
        if values is None:
            return {"value": None, "truth": None, "frames": 0, "left_out": 0, "reason": reason}
        finite = values[torch.isfinite(values)]
        counts = {"frames": len(finite), "left_out": self._left_out(name, values)}
        row = {"truth": None if truth is None else _finite_mean(truth), **counts, "reason": None}
        if len(finite):
            return {"value": finite.mean().item(), **row}
        if values.isinf().any():
            row["reason"] = "all frames are identical to the truth"
            return {"value": torch.inf, **row}
        is_facial = name == "lmd_mtcnn5" or METRICS[name].judge in FACIAL
        row["reason"] = NO_FACE if is_facial else UNDEFINED
        row["reason"] = NO_LEAK if name.startswith("leak") and not is_facial else row["reason"]
        return {"value": None, **row}


def _on_crops(panel: Panel) -> Panel:
    """The panel for EAT's crops, on which dlib looks at faces as large as they are."""
    judge = copy(panel.judges["dlib68"])
    judge.upsample = 0
    return Panel({**panel.judges, "dlib68": judge}, panel.missing)


def _is_right(guess: Tensor, true: Tensor) -> Tensor:
    """1 where the most probable emotion is the true one, else 0; NaN without a face to guess by."""
    if not torch.isfinite(guess).all():
        return torch.full((1,), torch.nan, dtype=torch.float64)
    return accuracy(guess.argmax()[None], true)


def _finite_mean(values: Tensor) -> float | None:
    finite = values[torch.isfinite(values)]
    return finite.mean().item() if len(finite) else None
