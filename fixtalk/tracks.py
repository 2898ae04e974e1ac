"""Frames of a whole video → tracks, each one face over time → pieces of usable length."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from fixtalk.face import Detection, SquareBox, overlap
from fixtalk.quality import sharpness
from fixtalk.shapes import Float, UInt8

# A tube lives while it overlaps its first box by this much (Siarohin's video preprocessing).
LINK_OVERLAP = 0.25
MISSES_BRIDGED = 2  # detections in a row that a blur or a hand may cost before the face is lost
DETECTED_AT_ONCE = 16  # frames, or as many as hold HELD_BYTES: two of 3840x2160 pixels
HELD_BYTES = 64 * 2**20

Detector = Callable[[UInt8[np.ndarray, "frames height width 3"]], list[list[Detection]]]
Span = tuple[int, int]


@dataclass
class Track:
    """One face over time: where and how surely it was detected, at rising frame numbers."""

    frames: list[int] = field(default_factory=list)
    detections: list[Detection] = field(default_factory=list)

    @property
    def start(self) -> int:
        """First frame with the face."""
        return self.frames[0]

    @property
    def stop(self) -> int:
        """One past the last frame with the face."""
        return self.frames[-1] + 1

    @property
    def weight(self) -> float:
        """How much face there is: frames times mean box height."""
        heights = [detection.box[3] - detection.box[1] for detection in self.detections]
        return (self.stop - self.start) * float(np.mean(heights))

    def probability(self, start: int, stop: int) -> float:
        """Mean detector probability over frames, linear between detections."""
        known = [[detection.probability] for detection in self.detections]
        return float(self._between(known, start, stop).mean())

    def points(self, start: int, stop: int) -> Float[np.ndarray, "frames 5 2"]:
        """Eyes, nose and corners of the mouth in picture pixels, linear between detections."""
        known = [detection.points.ravel() for detection in self.detections]
        return self._between(known, start, stop).reshape(-1, 5, 2)

    def boxes(self, start: int, stop: int) -> Float[np.ndarray, "frames 4"]:
        """Face boxes as x0, y0, x1, y1 in picture pixels, linear between detections."""
        return self._between([detection.box for detection in self.detections], start, stop)

    def seen(self, start: int, stop: int) -> list[Detection]:
        """Detections within frames; the nearest where there is none."""
        pairs = list(zip(self.frames, self.detections, strict=True))
        within = [detection for frame, detection in pairs if start <= frame < stop]
        middle = (start + stop - 1) / 2
        return within or [min(pairs, key=lambda pair: abs(pair[0] - middle))[1]]

    def _between(
        self, known: Sequence[Sequence[float] | np.ndarray], start: int, stop: int
    ) -> Float[np.ndarray, "frames values"]:
        frames = np.arange(start, stop)
        columns = np.asarray(known, np.float64).T
        return np.stack([np.interp(frames, self.frames, column) for column in columns], axis=1)


def find_tracks(
    frames: Iterable[UInt8[np.ndarray, "height width 3"]], detector: Detector, every: int
) -> list[Track]:
    """Tracks of the faces in every n-th frame and the last, a few pictures in memory at a time."""
    numbers: list[int] = []
    found: list[list[Detection]] = []
    waiting: list[np.ndarray] = []
    number, last = -1, None
    for number, last in enumerate(frames):
        if number % every == 0:
            numbers.append(number)
            waiting.append(last)
        if len(waiting) == min(DETECTED_AT_ONCE, max(1, HELD_BYTES // last.nbytes)):
            found += _detect(detector, waiting)
            waiting = []
    if last is not None and numbers[-1] != number:
        numbers.append(number)
        waiting.append(last)
    if waiting:
        found += _detect(detector, waiting)
    return link_tracks(numbers, found)


def _detect(detector: Detector, frames: Sequence[np.ndarray]) -> list[list[Detection]]:
    """Detections of each frame, with how sharp the faces are."""
    return [
        [replace(one, sharpness=sharpness(frame, one.box)) for one in found]
        for frame, found in zip(frames, detector(np.stack(frames)), strict=True)
    ]


def link_tracks(frames: Iterable[int], detections: Iterable[Sequence[Detection]]) -> list[Track]:
    """Tracks of all faces, in order of their first frame.

    A detection joins the track whose first box it overlaps most, if by more than LINK_OVERLAP;
    otherwise it starts a track. A track ends at its last detection once MISSES_BRIDGED more
    detections went without it.

    Args:
        frames: frame numbers at which the detector ran, rising.
        detections: faces found there.
    """
    tracks: list[Track] = []
    alive: list[tuple[Track, int]] = []
    for frame, found in zip(frames, detections, strict=True):
        scores = np.array(
            [[overlap(t.detections[0].box, d.box) for d in found] for t, _ in alive]
        ).reshape(len(alive), len(found))
        taken = {}
        while scores.size and scores.max() > LINK_OVERLAP:
            row, column = np.unravel_index(scores.argmax(), scores.shape)
            taken[int(column)] = int(row)
            scores[row], scores[:, column] = 0, 0
        kept = [
            (track, misses + 1)
            for row, (track, misses) in enumerate(alive)
            if row not in taken.values() and misses < MISSES_BRIDGED
        ]
        for column, detection in enumerate(found):
            if column in taken:
                track = alive[taken[column]][0]
            else:
                track = Track()
                tracks.append(track)
            track.frames.append(frame)
            track.detections.append(detection)
            kept.append((track, 0))
        alive = kept
    return tracks


def split_tracks(tracks: Iterable[Track], cuts: Sequence[int]) -> list[Track]:
    """The tracks, none over a cut: it ends at its last detection before and begins at the next.

    Args:
        tracks: of a whole video.
        cuts: first frames of all shots but the first, rising.
    """
    parts: dict[tuple[int, int], Track] = {}
    for number, track in enumerate(tracks):
        for frame, detection in zip(track.frames, track.detections, strict=True):
            shot = int(np.searchsorted(cuts, frame, side="right"))
            part = parts.setdefault((number, shot), Track())
            part.frames.append(frame)
            part.detections.append(detection)
    return list(parts.values())


def tracks_inside(tracks: Iterable[Track], box: SquareBox) -> tuple[list[Track], list[Track]]:
    """Tracks whose face has its middle in the box, on average, and the others."""
    inside: list[Track] = []
    others: list[Track] = []
    for track in tracks:
        middle = np.mean([d.box.reshape(2, 2).mean(axis=0) for d in track.detections], axis=0)
        place = (middle - [box.x0, box.y0]) / box.side
        (inside if (place >= 0).all() and (place < 1).all() else others).append(track)
    return inside, others


def main_tracks(tracks: Iterable[Track]) -> tuple[list[Track], list[Track]]:
    """Tracks in which at most one face is shown at a time, in time order, and the others.

    Of faces seen together the one with the greater weight (longer, larger) stays.
    """
    kept: list[Track] = []
    others: list[Track] = []
    for track in sorted(tracks, key=lambda track: -track.weight):
        apart = all(track.stop <= other.start or other.stop <= track.start for other in kept)
        (kept if apart else others).append(track)
    return sorted(kept, key=lambda track: track.start), others


def spans_without_face(tracks: Sequence[Track], frames: int) -> list[Span]:
    """Stretches (first frame, one past the last) of a video of `frames` that no track covers."""
    edges = [0, *(edge for track in tracks for edge in (track.start, track.stop)), frames]
    spans = zip(edges[::2], edges[1::2], strict=True)
    return [(start, stop) for start, stop in spans if stop > start]


def cut_track(track: Track, max_frames: int) -> list[Span]:
    """Pieces (first frame, one past the last) of at most `max_frames`; the last may be short."""
    starts = range(track.start, track.stop, max_frames)
    return [(start, min(start + max_frames, track.stop)) for start in starts]
