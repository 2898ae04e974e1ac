"""Source and driving files → where their faces are, and what will not come out well."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from fixtalk.face import Detection, FaceDetector, SquareBox, head_square, outside_share
from fixtalk.media import FPS, MediaError, VideoReader, probe
from fixtalk.shapes import Float, UInt8
from fixtalk.tracks import find_tracks, main_tracks

# As the crop stage's in params.yaml: the model has seen faces framed like this only.
MARGIN, DETECT_RESOLUTION, MIN_PROBABILITY, DETECT_EVERY = 0.1, 256, 0.9, 8
LOOKED_AT = 4 * FPS  # frames of a clip that its square is made from
LOOKED_AGAIN = 2 * FPS  # frames between looks at whether the head is still in its square
NOSE = 0.6  # of the distance of the eyes, by which the tip of a nose stands before them
NEARLY = 5.0  # degrees of yaw that make no difference
LARGE_YAW = 30.0  # degrees, beyond which a picture does not show half of the face
MUCH_OUTSIDE = 0.1  # of the square
FEW_FPS = 20


@dataclass(frozen=True, kw_only=True)
class Framing:
    """A face that was found: the square to cut out, and what the user should know."""

    box: SquareBox
    found: str  # in words
    warnings: list[str]
    frames: int = 1  # at 25 fps
    neutral: int = 0  # number of the first frame that shows the face from about the front


def detector() -> FaceDetector:
    """The crop stage's."""
    return FaceDetector(DETECT_RESOLUTION, MIN_PROBABILITY)


def frame_picture(
    picture: UInt8[np.ndarray, "height width 3"],
    name: str,
    faces: FaceDetector,
    resolution: int,
    number: int,
) -> Framing:
    """The square around a face of the source picture.

    Args:
        picture: upright.
        name: for messages.
        faces: detector.
        resolution: pixels, the model's.
        number: 1 takes the largest face, 2 the next.

    Raises:
        MediaError: no face, or fewer than `number`.
    """
    found = faces(picture[None])[0]
    if not found:
        raise MediaError(
            f"{name}: no face found; choose an upright picture that shows one face from the front, "
            "larger than a sixth of the picture"
        )
    if number > len(found):
        raise MediaError(f"{name}: {len(found)} faces found, face {number} asked for")
    box = head_square([found[number - 1].box], MARGIN)
    warnings = list(_doubts(box, picture.shape[:2], found[number - 1 : number], resolution))
    if len(found) > 1:
        which = "the largest" if number == 1 else f"number {number} by size"
        warnings.insert(0, f"{len(found)} faces: {which} is taken (--face takes another)")
    return Framing(
        box=box,
        found=f"{_size(picture.shape[:2])}, {_face([found[number - 1]])}",
        warnings=[f"{name}: {warning}" for warning in warnings],
    )


def frame_clip(path: Path, faces: FaceDetector, resolution: int) -> Framing:
    """One square for a whole driving clip, from the face in its first seconds.

    The clip is decoded to its end, a frame at a time: its length and its damage are known then.

    Raises:
        MediaError: not a video, or no face in its first seconds.
    """
    info, reader = probe(path), VideoReader(path)
    frames = iter(reader)
    tracks, others = main_tracks(find_tracks(islice(frames, LOOKED_AT), faces, DETECT_EVERY))
    if not tracks:
        raise MediaError(
            f"{path}: no face in the first {LOOKED_AT // FPS} s; cut the clip so that it begins "
            "with an upright face"
        )
    track = max(tracks, key=lambda track: track.weight)
    box = head_square([one.box for one in track.detections], MARGIN)
    lost, shape = _lost(frames, faces, box), (info.height, info.width)
    warnings = list(_doubts(box, shape, track.detections, resolution))
    if others:
        warnings.append("several faces: the one shown longest and largest is taken")
    if lost:
        warnings.append(
            f"at {', '.join(f'{second:g}' for second in lost[:5])} s no face lies in the square of "
            f"the first {LOOKED_AT // FPS} s: cut the clip there"
        )
    if reader.damage:
        warnings.append(f"damaged: {reader.damage}; what can be decoded is used")
    if info.fps < FEW_FPS:
        warnings.append(f"{info.fps:.4g} frames a second: frames are repeated to {FPS}")
    seconds = f"{info.fps:.4g} → {FPS} fps, {reader.frames / FPS:.2f} s"
    sound = "with sound" if info.has_audio else "no sound"
    return Framing(
        box=box,
        found=f"{_size(shape)}, {seconds}, {sound}, {_face(track.detections)}",
        warnings=[f"{path}: {warning}" for warning in warnings],
        frames=reader.frames,
        neutral=track.frames[_frontal(track.detections)],
    )


def yaw(points: Float[np.ndarray, "5 2"]) -> float:
    """Degrees by which a head is turned, about; positive where the nose points to the right.

    Args:
        points: eyes, nose, mouth corners, as detected.
    """
    (left, right), nose = points[:2], points[2]
    eyes = right - left
    shift = float((nose - (left + right) / 2) @ eyes) / max(float(eyes @ eyes), 1e-6)
    return float(np.degrees(np.arctan(shift / NOSE)))


def _lost(
    frames: Iterator[UInt8[np.ndarray, "height width 3"]], faces: FaceDetector, box: SquareBox
) -> list[float]:
    """Seconds at which no face lies within the square; reads all that follows the first look."""
    low = np.array([box.x0, box.y0])
    lost = []
    for number, frame in enumerate(frames, start=LOOKED_AT):
        if number % LOOKED_AGAIN:
            continue
        inside = [
            (one.box[:2] >= low).all() and (one.box[2:] <= low + box.side).all()
            for one in faces(frame[None])[0]
        ]
        if not any(inside):
            lost.append(number / FPS)
    return lost


def _frontal(detections: Sequence[Detection]) -> int:
    """The first one nearly as frontal as any."""
    turned = np.abs([yaw(one.points) for one in detections])
    return int(np.flatnonzero(turned <= turned.min() + NEARLY)[0])


def _doubts(
    box: SquareBox, shape: tuple[int, int], detections: Sequence[Detection], resolution: int
) -> Iterator[str]:
    outside = outside_share(box, shape[1], shape[0])
    turned = max(abs(yaw(one.points)) for one in detections)
    if box.side < resolution:
        yield f"the head's square is {box.side} px, the model's {resolution}: enlarged, so blurred"
    if outside > MUCH_OUTSIDE:
        yield f"{outside:.0%} of the head's square lies outside the picture: its edge is repeated"
    if turned > LARGE_YAW:
        yield f"the head is turned by {turned:.0f}°: what it hides has to be guessed"


def _size(shape: tuple[int, int]) -> str:
    return f"{shape[1]}x{shape[0]} px"


def _face(detections: Sequence[Detection]) -> str:
    heights = [one.box[3] - one.box[1] for one in detections]
    turns = [yaw(one.points) for one in detections]
    span = f"{min(turns):.0f}°" if len(turns) == 1 else f"{min(turns):.0f}° to {max(turns):.0f}°"
    return f"face {np.mean(heights):.0f} px high, turned {span}"
