"""One video of a manifest → its clips as rows, and a report on what was left out and why."""

import json
import zlib
from collections.abc import Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fixtalk.dataset import ARRAYS, clip_schema, to_blob
from fixtalk.face import (
    FaceDetector,
    SquareBox,
    crop_frame,
    head_square,
    outside_share,
    to_crop_pixels,
)
from fixtalk.head_pose import head_angles, mouth_opening
from fixtalk.media import (
    SAMPLES_PER_FRAME,
    MediaError,
    VideoReader,
    encode_video,
    probe,
    read_audio,
)
from fixtalk.quality import speech_share
from fixtalk.shots import CutFinder
from fixtalk.tracks import (
    Track,
    cut_track,
    find_tracks,
    main_tracks,
    spans_without_face,
    split_tracks,
    tracks_inside,
)
from pipelines.files import replacing
from pipelines.marks import mark_faces

if TYPE_CHECKING:
    from pipelines.crop import CropConfig

LARGEST_BOX = 4  # longer sides of the picture: more is a mistake that costs gigabytes a frame


class Job(NamedTuple):
    """One video to crop: everything a worker needs, and where its result goes."""

    config: "CropConfig"
    entry: dict[str, Any]
    raw: Path
    result: Path


class Piece(NamedTuple):
    """Frames start..stop-1 of a track, one clip: what of it to keep and how to cut it out."""

    start: int
    stop: int
    box: SquareBox
    track: Track

    @property
    def face_pixels(self) -> float:
        """Median shorter side of the face in the video."""
        sides = [np.ptp(one.box.reshape(2, 2), axis=0) for one in self._seen]
        return float(np.median(np.min(sides, axis=1)))

    @property
    def sharpness(self) -> float:
        """Median over the detections."""
        return float(np.median([one.sharpness for one in self._seen]))

    @property
    def points(self) -> np.ndarray:
        """Eyes, nose, corners of the mouth (frames, 5, 2) in pixels of the video."""
        return self.track.points(self.start, self.stop)

    @property
    def _seen(self) -> list[Any]:
        return self.track.seen(self.start, self.stop)


def crop_video(job: Job) -> None:
    """Write the clips of one video and, as metadata, the report on it to `job.result`."""
    report = {
        "clip": job.entry["clip"],
        "video": job.entry["video"],
        "licence": job.entry.get("licence") or "not stated",
        "cuts": 0,
        "dropped": [],
        "pieces": [],
    }
    with (
        replacing(job.result) as temporary,
        pq.ParquetWriter(temporary, clip_schema(), compression="none") as writer,
    ):
        try:
            for row in _clips(job, report):
                writer.write_table(pa.Table.from_pylist([row], clip_schema()))
        except MediaError as error:
            _drop(report, error.reason, str(error))
        writer.add_key_value_metadata({"report": json.dumps(report)})


def _clips(job: Job, report: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Rows of one video; what is left out goes into the report."""
    config, entry, clip = job.config, job.entry, job.entry["clip"]
    if entry["status"] != "ok":
        _drop(report, f"manifest: {entry['status']}", entry.get("reason"))
        return
    video = job.raw / entry["video"]
    info = probe(video)
    if entry.get("box") and entry["box"][2] > LARGEST_BOX * max(info.width, info.height):
        detail = f"a side of {entry['box'][2]:g} pixels in a picture of {info.width}x{info.height}"
        raise MediaError(f"{video}: the manifest's box has {detail}; correct it", "box")
    reader = VideoReader(video)
    pieces = list(_pieces(config, report, _tracks(job, report, reader), entry.get("box")))
    if not pieces:
        return
    labels = _read_labels(job, reader.frames)
    audio = read_audio(video, reader.frames)
    if not audio.any():
        audio = audio[:0]  # a sound track of zeros is no sound
    frames, position = iter(VideoReader(video)), 0
    for number, piece in enumerate(pieces):
        heard = audio[piece.start * SAMPLES_PER_FRAME : piece.stop * SAMPLES_PER_FRAME]
        measured = _measure(piece, heard, labels)
        reason, detail = config.filters.refuse(measured)
        if reason:
            _drop(report, reason, f"{_frames(piece.start, piece.stop)}: {detail}")
            continue
        name = clip if len(pieces) == 1 else f"{clip}#{number}"
        chosen = islice(frames, piece.start - position, piece.stop - position)
        position = piece.stop
        row = _row(job, piece, chosen, labels)
        padded = outside_share(piece.box, info.width, info.height)
        enlarged = piece.box.side < config.resolution
        report["pieces"].append({"silent": not audio.size, "padded": padded, "enlarged": enlarged})
        yield row | {
            "clip": name,
            "source_fps": info.fps,
            "audio": heard.astype("<i2").tobytes(),
            **{key: measured[key] for key in ("face_pixels", "sharpness", "speech")},
        }


def _tracks(job: Job, report: dict[str, Any], reader: VideoReader) -> list[Track]:
    """Tracks of the one face to crop; other faces and stretches without it are reported."""
    config, box = job.config, job.entry.get("box")
    detector = _detector(config.detect_resolution, config.min_probability)
    if config.scene_change is None:
        tracks = find_tracks(reader, detector, config.detect_every)
    else:
        shots = CutFinder(reader, config.scene_change)
        tracks = split_tracks(find_tracks(shots, detector, config.detect_every), shots.cuts)
        report["cuts"] = len(shots.cuts)
    report["damage"] = reader.damage
    if box:
        tracks, strangers = tracks_inside(tracks, _published(box))
        for track in strangers:
            _drop(report, "outside the box", _frames(track.start, track.stop))
    tracks, others = main_tracks(tracks)
    for track in others:
        _drop(report, "several faces", _frames(track.start, track.stop))
    if not tracks and not report["dropped"]:
        _drop(report, "no face", _frames(0, reader.frames))
    for start, stop in spans_without_face(tracks, reader.frames) if tracks else []:
        if stop - start >= config.min_frames:
            _drop(report, "face lost", _frames(start, stop))
    return tracks


def _pieces(
    config: "CropConfig",
    report: dict[str, Any],
    tracks: list[Track],
    given: list[float] | None,
) -> Iterator[Piece]:
    """Tracks cut to at most max_frames, with one box for a whole track; short ones reported.

    A box that the manifest gives is taken, rounded to pixels: datasets publish them, and clips of
    one session must share theirs to be compared pixel by pixel.
    """
    for track in tracks:
        boxes = [detection.box for detection in track.detections]
        box = _published(given) if given else head_square(boxes, config.margin)
        for start, stop in cut_track(track, config.max_frames):
            if stop - start < config.min_frames:
                reason = "too short" if start == track.start else "tail too short"
                _drop(report, reason, _frames(start, stop))
            else:
                yield Piece(start, stop, box, track)


def _published(box: list[float]) -> SquareBox:
    x0, y0, side = map(round, box)
    return SquareBox(x0=x0, y0=y0, side=side)


@cache
def _detector(resolution: int, min_probability: float) -> FaceDetector:
    """One detector a worker process."""
    return FaceDetector(resolution, min_probability)


def _measure(piece: Piece, heard: np.ndarray, labels: dict[str, Any]) -> dict[str, float]:
    """What the filters look at: yaw is the farthest turn, true where labels tell it."""
    used = slice(piece.start, piece.stop)
    angles = labels["pose"][used] if labels else head_angles(piece.points)
    return {
        "face_pixels": piece.face_pixels,
        "sharpness": piece.sharpness,
        "yaw": float(np.degrees(np.abs(angles[:, 0]).max())),
        "speech": speech_share(heard),
    }


def _read_labels(job: Job, frames: int) -> dict[str, Any]:
    """Label arrays of the whole video, in picture pixels; empty without labels."""
    if not job.entry.get("labels"):
        return {}
    path = job.raw / job.entry["labels"]
    try:
        with np.load(path, allow_pickle=False) as stored:
            labels = {name: stored[name] for name in ("landmarks", "arkit", "pose", "camera")}
    except (OSError, KeyError, ValueError, EOFError, BadZipFile, zlib.error) as error:
        raise MediaError(f"{path}: not readable as labels: {error}", "labels") from None
    for name in ("landmarks", "arkit", "pose"):
        wanted = (frames, *ARRAYS[name][1:])
        if labels[name].shape != wanted:
            found = f"{name} have the shape {labels[name].shape}"
            raise MediaError(f"{path}: {found}, {frames} frames need {wanted}", "labels")
        if labels[name].dtype.kind not in "fiu" or not np.isfinite(labels[name]).all():
            raise MediaError(f"{path}: {name} hold what is no finite number", "labels")
    return labels


def _row(
    job: Job, piece: Piece, frames: Iterator[np.ndarray], labels: dict[str, Any]
) -> dict[str, Any]:
    """One clip of the schema, but for its name, its sound and what was measured."""
    config, entry, box = job.config, job.entry, piece.box
    used = slice(piece.start, piece.stop)
    motion = entry.get("motion")
    if motion is not None and piece.start:
        # Equal motion ids promise equal frames: a piece that starts later is another motion.
        motion = f"{motion}@{piece.start}"
    pictures = (crop_frame(frame, box, config.resolution) for frame in frames)
    marks: list[np.ndarray] = []
    if labels:
        marks = list(to_crop_pixels(labels["landmarks"][used], box, config.resolution))
    elif config.landmarks == "dlib68":
        corners = piece.track.boxes(*piece[:2]).reshape(-1, 2, 2)
        faces = to_crop_pixels(corners, box, config.resolution).reshape(-1, 4)
        pictures = mark_faces(pictures, faces, marks)
    video = encode_video(pictures, crf=config.crf, gop=config.gop)
    landmarks = np.stack(marks).astype(np.float32) if marks else None
    return {
        **{name: entry[name] for name in ("person", "split")},
        **{
            name: entry.get(name)
            for name in ("session", "emotion", "level", "sentence", "identity_seed")
        },
        "motion": motion,
        "frames": piece.stop - piece.start,
        "video": video,
        "box": [box.x0, box.y0, box.side],
        "landmarks": to_blob(landmarks),
        "arkit": to_blob(labels["arkit"][used]) if labels else None,
        "pose": to_blob(labels["pose"][used]) if labels else None,
        "camera": str(labels["camera"]) if labels else None,
        "face_probability": piece.track.probability(*piece[:2]),
        "points": to_blob(to_crop_pixels(piece.points, box, config.resolution)),
        "head_pose": to_blob(head_angles(piece.points)),
        "mouth": None if landmarks is None else to_blob(mouth_opening(landmarks)),
    }


def _frames(start: int, stop: int) -> str:
    return f"frames {start} to {stop - 1}"


def _drop(report: dict[str, Any], reason: str, detail: str | None) -> None:
    one = {"clip": report["clip"], "video": report["video"], "reason": reason, "detail": detail}
    report["dropped"].append(one)
