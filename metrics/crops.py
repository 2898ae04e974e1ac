"""Frames with facial points or boxes → the crops that published protocols score."""

import cv2
import torch
from jaxtyping import Float, UInt8
from skimage.transform import SimilarityTransform, warp
from torch import Tensor
from torch.nn.functional import pad

from metrics.inputs import check_clip, check_numbers, check_rows

EAT_POINTS = slice(27, 45)  # the nose, one whole eye and half of the other
EAT_TEMPLATE = (
    (65, 37), (65, 47), (65, 57), (66, 68), (54, 75), (60, 77), (66, 78), (71, 76), (77, 75),
    (28, 39), (35, 35), (43, 35), (50, 40), (43, 42), (34, 42), (79, 40), (86, 34), (94, 34),
)  # fmt: skip
EAT_SIDE = 128
EAT_WARP_SIDE = 163
EAT_MARGIN = 1  # pixels left of and above the part of the warped picture that is kept
SYNCNET_SIDE = 224
SYNCNET_GREY = 110
SYNCNET_MARGIN = 0.4  # of half the face: once left and right, twice below, none above
SYNCNET_MEDIAN = 13  # frames
PCAVS_PARTS = (slice(36, 42), slice(42, 48), slice(60, 68))  # right eye, left eye, inner mouth
PCAVS_TEMPLATE = ((87, 59), (137, 59), (112, 120))


def similarity(
    from_points: Float[Tensor, "points 2"], to_points: Float[Tensor, "points 2"]
) -> Float[Tensor, "2 3"]:
    """Turn, scale and shift that carry the first points nearest to the second, float64.

    Never a reflection. `matrix[:, :2] @ point + matrix[:, 2]` is where a point goes.

    Raises:
        ValueError: shapes differ, NaN, or points that all coincide.

    Source: Umeyama 1991, eq. 40-43, as skimage.transform.SimilarityTransform.
    """
    check_numbers(from_points=from_points, to_points=to_points)
    transform = SimilarityTransform.from_estimate(from_points.numpy(), to_points.numpy())
    if not transform:
        raise ValueError(f"all {len(from_points)} points coincide: no face is this small")
    return torch.from_numpy(transform.params[:2])


def eat_crop(
    frame: UInt8[Tensor, "3 height width"], points: Float[Tensor, "68 2"]
) -> UInt8[Tensor, "3 128 128"]:
    """Face of one frame, turned and scaled until nose and eyes lie on EAT's template.

    What lies outside the frame is black. The original picks one of two templates by how open the
    eyes are; both files hold the same numbers, so that there is one here. As each frame is
    aligned by its own points, scores of these crops do not see errors of head pose.

    Args:
        frame: RGB or BGR.
        points: of the face in iBUG order, in pixels of `frame`; dlib's are whole numbers.

    Raises:
        TypeError: not uint8.
        ValueError: not (3, height, width), not 68 points, NaN (no face), or coinciding points.

    Source: yuangan/evaluation_eat @e39b004 code/utils_crop.py, crop_and_align; equal to 1 grey
        level (tests/golden/crops.json).
    """
    check_clip(frame[None])
    matrix = pad(_template_to_frame(points), (0, 0, 0, 1))
    matrix[2, 2] = 1
    shape = (EAT_WARP_SIDE, EAT_WARP_SIDE)
    warped = warp(frame.permute(1, 2, 0).numpy(), matrix.numpy(), output_shape=shape)
    kept = slice(EAT_MARGIN, EAT_MARGIN + EAT_SIDE)
    grey_levels = torch.from_numpy(warped[kept, kept]) * 255
    return grey_levels.to(torch.uint8).permute(2, 0, 1).contiguous()


def syncnet_track(boxes: Float[Tensor, "frames 4"]) -> Float[Tensor, "frames 3"]:
    """Half size and centre x, y of the face in each frame, in pixels, smoothed over time.

    The running median of 13 frames takes zeros beyond both ends, as the original does: in the
    first and last six frames it leans to the upper left and to small faces.

    Args:
        boxes: of the face in each frame of a clip, left, top, right, bottom, in pixels.

    Raises:
        ValueError: not (frames, 4), NaN (no face), a box under 2 pixels, or fewer than 7 frames,
            where the median is zero.

    Source: joonson/syncnet_python run_pipeline.py, crop_video.
    """
    _check_boxes(boxes)
    low, high = boxes[:, :2].double(), boxes[:, 2:].double()
    track = torch.stack([(high - low).amax(dim=1) / 2, *((low + high) / 2).T])
    reach = SYNCNET_MEDIAN // 2
    return pad(track, (reach, reach)).unfold(1, SYNCNET_MEDIAN, 1).median(dim=-1).values.T


def syncnet_crop(
    frames: UInt8[Tensor, "frames 3 height width"], track: Float[Tensor, "frames 3"]
) -> UInt8[Tensor, "frames 3 224 224"]:
    """Face of a clip as SyncNet saw it in training: chin below the middle, grey beyond the frame.

    Args:
        frames: RGB or BGR.
        track: half size and centre of the face in each frame, from `syncnet_track`.

    Raises:
        TypeError: not uint8.
        ValueError: another number of frames than in the track, or NaN.

    Source: joonson/syncnet_python run_pipeline.py, crop_video, before its video codec.
    """
    check_clip(frames)
    check_rows("track", track, (len(frames), 3))
    check_numbers(track=track)
    places = zip(frames, track.tolist(), strict=True)
    return torch.stack([_cut(frame, half, x, y) for frame, (half, x, y) in places])


def pcavs_track(points: Float[Tensor, "frames 68 2"]) -> Float[Tensor, "frames 2 3"]:
    """Map from each frame of a clip to its PC-AVS crop, which keeps the mouth in its place.

    One turn and scale for the whole clip carries the mean eyes and mouth to their places; then
    each frame is shifted until its own mouth is there, a fifth of the shift taken from the frame
    before.

    Args:
        points: of the face in iBUG order, in pixels of the frames.

    Raises:
        ValueError: not (frames, 68, 2), no frame, or NaN (no face).

    Source: yuangan/evaluation_eat @e39b004 code/scripts/align_68.py, align_folder.
    """
    check_numbers(points=points)
    check_rows("points", points, (len(points), 68, 2))
    three = torch.stack([points[:, part].double().mean(dim=1) for part in PCAVS_PARTS], dim=1)
    matrix = similarity(three.mean(dim=0), torch.tensor(PCAVS_TEMPLATE).double())
    mouths = three[:, 2] @ matrix[:, :2].T + matrix[:, 2]
    wanted = torch.tensor(PCAVS_TEMPLATE[2]).double() - mouths
    shifts = [wanted[0]]
    for shift in wanted[1:]:
        shifts.append(0.2 * shifts[-1] + 0.8 * shift)
    maps = matrix.repeat(len(points), 1, 1)
    maps[:, :, 2] += torch.stack(shifts)
    return maps


def pcavs_crop(
    frames: UInt8[Tensor, "frames 3 height width"], track: Float[Tensor, "frames 2 3"]
) -> UInt8[Tensor, "frames 3 224 224"]:
    """Face of a clip as EAT shows it to SyncNet, black beyond the frame.

    Args:
        frames: RGB or BGR.
        track: map of each frame, from `pcavs_track`.

    Raises:
        TypeError: not uint8.
        ValueError: another number of frames than in the track, or NaN.

    Source: yuangan/evaluation_eat @e39b004 code/scripts/align_68.py, affine_align_img.
    """
    check_clip(frames)
    check_rows("track", track, (len(frames), 2, 3))
    check_numbers(track=track)
    side = (SYNCNET_SIDE, SYNCNET_SIDE)
    crops = [
        cv2.warpAffine(frame.permute(1, 2, 0).contiguous().numpy(), matrix.numpy(), side)
        for frame, matrix in zip(frames, track, strict=True)
    ]
    return torch.stack([torch.from_numpy(crop).permute(2, 0, 1) for crop in crops])


def _template_to_frame(points: Tensor) -> Tensor:
    if points.shape != (68, 2):
        raise ValueError(f"expected (68, 2) points, got {tuple(points.shape)}")
    # Single precision, as EAT: the last bits decide how grey levels are truncated.
    return similarity(torch.tensor(EAT_TEMPLATE).float(), points[EAT_POINTS].float())


def _check_boxes(boxes: Tensor) -> None:
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"expected (frames, 4) boxes, got {tuple(boxes.shape)}")
    if len(boxes) <= SYNCNET_MEDIAN // 2:
        raise ValueError(f"{len(boxes)} frames: the running median needs at least 7")
    check_numbers(boxes=boxes)
    small = ((boxes[:, 2:] - boxes[:, :2]).amin(dim=1) < 2).nonzero().flatten().tolist()
    if small:
        raise ValueError(
            f"box {small[0]} {boxes[small[0]].tolist()}: expected left, top, right, bottom of a "
            "face of at least 2 pixels"
        )


def _cut(frame: Tensor, half: float, x: float, y: float) -> Tensor:
    """One crop of the frame, grey beyond it; a centre beyond counts as at the edge."""
    margin = int(half * (1 + 2 * SYNCNET_MARGIN))
    picture = cv2.copyMakeBorder(
        frame.permute(1, 2, 0).numpy(), *4 * (margin,),
        borderType=cv2.BORDER_CONSTANT, value=3 * (SYNCNET_GREY,),
    )  # fmt: skip
    x, y = min(max(x, 0), frame.shape[2]) + margin, min(max(y, 0), frame.shape[1]) + margin
    rows = slice(int(y - half), int(y + half * (1 + 2 * SYNCNET_MARGIN)))
    columns = slice(int(x - half * (1 + SYNCNET_MARGIN)), int(x + half * (1 + SYNCNET_MARGIN)))
    crop = cv2.resize(picture[rows, columns], (SYNCNET_SIDE, SYNCNET_SIDE))
    return torch.from_numpy(crop).permute(2, 0, 1)
