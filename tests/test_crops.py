"""Crops: pixels of the originals, where known points go, and frames without a usable face."""

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from skimage.data import astronaut
from skimage.transform import SimilarityTransform

import torchvision_cpu
from metrics.crops import (
    EAT_TEMPLATE,
    eat_crop,
    pcavs_crop,
    pcavs_track,
    similarity,
    syncnet_crop,
    syncnet_track,
)

GOLDEN = Path(__file__).parent / "golden"
FACE_BOX = [175.0, 76.0, 265.0, 166.0]


def stored(name):
    with np.load(GOLDEN / "crops.npz") as arrays:
        return torch.from_numpy(arrays[name])


@pytest.fixture
def points():
    return stored("points").double()


@pytest.fixture
def picture():
    return torch.from_numpy(astronaut()).permute(2, 0, 1)


def walk(frames):
    """Boxes of a face that wanders and changes its size and shape from frame to frame."""
    steps = torch.randn(frames, 4, generator=torch.Generator().manual_seed(0)) * 9
    return torch.tensor(FACE_BOX) + steps


def turned(points, degrees, scale, shift):
    angle = torch.deg2rad(torch.tensor(degrees, dtype=torch.float64))
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()]).reshape(2, 2)
    return scale * points @ turn.T + torch.tensor(shift)


@pytest.mark.parametrize(("name", "top", "left"), [("whole", 0, 0), ("border", 60, 190)])
def test_crop_equals_eat(name, top, left, picture, points):
    frame = picture[:, top:, left:]

    crop = eat_crop(frame, points - torch.tensor([left, top]))

    expected = stored(name).permute(2, 0, 1)
    assert (crop.int() - expected.int()).abs().max() <= 1


def test_crop_is_black_outside_the_frame(picture, points):
    shifted = points - torch.tensor([190, 60])

    crop = eat_crop(picture[:, 60:, 190:], shifted)

    assert torch.all(crop[:, :, :8] == 0)
    assert torch.all(crop[:, 40:, 60:].amax(dim=0) > 0)


def test_nose_lands_on_the_template():
    everywhere = torch.zeros(68, 2, dtype=torch.float64)
    everywhere[27:45] = torch.tensor(EAT_TEMPLATE)
    points = turned(everywhere, 20.0, 2.5, [90.0, -7.0])
    column, row = points[30].round().int().tolist()
    dot = torch.zeros(3, 512, 512, dtype=torch.uint8)
    dot[:, row - 3 : row + 4, column - 3 : column + 4] = 255

    crop = eat_crop(dot, points)[0].double()

    rows, columns = torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="ij")
    seen = [((grid * crop).sum() / crop.sum()).item() for grid in (columns, rows)]
    assert seen == pytest.approx([EAT_TEMPLATE[3][0] - 1, EAT_TEMPLATE[3][1] - 1], abs=0.3)


def test_similarity_equals_scikit_image():
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(18, 2, generator=generator, dtype=torch.float64)
    end = torch.randn(18, 2, generator=generator, dtype=torch.float64)

    matrix = similarity(start, end)

    expected = SimilarityTransform.from_estimate(start.numpy(), end.numpy()).params
    torch.testing.assert_close(matrix, torch.from_numpy(expected[:2]))


def test_similarity_recovers_turn_scale_and_shift():
    start = torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 3.0]], dtype=torch.float64)

    matrix = similarity(start, turned(start, 90.0, 2.0, [5.0, 6.0]))

    expected = torch.tensor([[0.0, -2.0, 5.0], [2.0, 0.0, 6.0]], dtype=torch.float64)
    torch.testing.assert_close(matrix, expected)


def test_similarity_never_mirrors():
    start = torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 3.0]])

    matrix = similarity(start, start * torch.tensor([-1.0, 1.0]))

    assert torch.linalg.det(matrix[:, :2]) > 0


def test_coinciding_points_are_refused(picture):
    with pytest.raises(ValueError, match="all 18 points coincide"):
        eat_crop(picture, torch.full((68, 2), 40.0))


def test_frame_without_a_face_is_refused(picture):
    with pytest.raises(ValueError, match="NaN"):
        eat_crop(picture, torch.full((68, 2), torch.nan))


@pytest.mark.usefixtures("unchecked")
def test_other_frames_and_points_are_refused(picture, points):
    with pytest.raises(TypeError, match="uint8"):
        eat_crop(picture.float(), points)
    with pytest.raises(ValueError, match=r"expected \(68, 2\) points, got \(5, 2\)"):
        eat_crop(picture, points[:5])
    with pytest.raises(ValueError, match=r"\(frames, 3, height, width\), got \(1, 1, 512, 512\)"):
        eat_crop(picture[:1], points)


def crops_of_the_installed_syncnet(frames, boxes, folder, monkeypatch):
    """Frames that syncnet-python hands to its video writer."""
    torchvision_cpu.install()
    from syncnet_python.syncnet_pipeline import PipelineConfig, SyncNetPipeline

    written = []
    writer = SimpleNamespace(write=written.append, release=lambda: None)
    monkeypatch.setattr(cv2, "VideoWriter", lambda *_: writer)
    paths = [str(folder / f"{index}.png") for index in range(len(frames))]
    for path, frame in zip(paths, frames, strict=True):
        cv2.imwrite(path, frame.permute(1, 2, 0).numpy())
    pipeline = SimpleNamespace(cfg=PipelineConfig(ffmpeg_bin=str(folder / "absent")))
    track = {"frame": np.arange(len(frames)), "bbox": boxes.double().numpy()}
    with pytest.raises(RuntimeError, match="FFmpeg not found"):
        SyncNetPipeline._crop(pipeline, track, paths, folder / "none.wav", folder / "crop")
    return torch.from_numpy(np.stack(written)).permute(0, 3, 1, 2)


@pytest.mark.parametrize(("frames", "top", "left"), [(7, 0, 0), (20, 0, 0), (20, 100, 200)])
def test_crops_equal_the_installed_syncnet(frames, top, left, picture, tmp_path, monkeypatch):
    clip = picture[None, :, top:, left:].repeat(frames, 1, 1, 1)
    boxes = walk(frames) - torch.tensor([left, top, left, top])
    expected = crops_of_the_installed_syncnet(clip, boxes, tmp_path, monkeypatch)

    crops = syncnet_crop(clip, syncnet_track(boxes))

    assert crops.shape == (frames, 3, 224, 224)
    assert (crops.int() - expected.int()).abs().max() <= 1


def test_syncnet_crop_of_a_known_box():
    clip = torch.zeros(13, 3, 300, 300, dtype=torch.uint8)
    clip[:, :, :, 100:200] = 255
    boxes = torch.tensor([[100.0, 150.0, 200.0, 250.0]]).repeat(13, 1)

    middle = syncnet_crop(clip, syncnet_track(boxes))[6, 0]

    # Half box 50, centre (150, 200): columns 80-220, rows 150-290, 1.6 pixels for each one.
    assert middle[0, :31].max() == 0
    assert middle[0, 33:191].min() == 255
    assert middle[0, 193:].max() == 0


def test_syncnet_crop_is_grey_outside_the_frame():
    clip = torch.zeros(13, 3, 100, 100, dtype=torch.uint8)
    boxes = torch.tensor([[30.0, 30.0, 70.0, 90.0]]).repeat(13, 1)

    middle = syncnet_crop(clip, syncnet_track(boxes))[6]

    # Half box 30, centre (50, 60): rows 30-114 of 100, 84 pixels over 224.
    assert torch.all(middle[:, :185] == 0)
    assert torch.all(middle[:, 189:] == 110)


def test_one_wild_box_changes_nothing(picture):
    clip = picture[None, :, :300, :400].repeat(25, 1, 1, 1)
    boxes = torch.tensor([FACE_BOX]).repeat(25, 1)
    wild = boxes.clone()
    wild[12] = torch.tensor([5.0, 5.0, 45.0, 45.0])

    assert torch.equal(
        syncnet_crop(clip, syncnet_track(wild))[7:18],
        syncnet_crop(clip, syncnet_track(boxes))[7:18],
    )


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        (torch.zeros(9, 3), r"expected \(frames, 4\) boxes, got \(9, 3\)"),
        (torch.tensor([FACE_BOX] * 8 + [[torch.nan] * 4]), "boxes: 1 frames hold NaN"),
        (torch.tensor([FACE_BOX] * 8 + [[30.0, 30.0, 30.0, 40.0]]), r"box 8 .* at least 2 pixels"),
        (torch.tensor([FACE_BOX] * 6), "6 frames: the running median needs at least 7"),
    ],
)
def test_unusable_boxes_are_refused(boxes, message):
    with pytest.raises(ValueError, match=message):
        syncnet_track(boxes)


def test_a_face_that_leaves_the_frame_is_cut_at_its_edge(picture):
    beyond, edge = (torch.tensor([[40.0, x, 100.0]]) for x in (650.0, 512.0))

    assert torch.equal(syncnet_crop(picture[None], beyond), syncnet_crop(picture[None], edge))


def test_pcavs_crop_keeps_the_mouth_in_its_place(points, picture):
    wandering = torch.stack([points + 5 * step for step in range(4)])
    clip = torch.stack([picture.roll((5 * step, 5 * step), (1, 2)) for step in range(4)])

    track = pcavs_track(wandering)
    crops = pcavs_crop(clip, track)

    eyes = [wandering[0, part].mean(dim=0) for part in (slice(36, 42), slice(42, 48))]
    first, last = (track[0, :, :2] @ eye + track[0, :, 2] for eye in eyes)
    mouth = track[0, :, :2] @ wandering[0, 60:].mean(dim=0) + track[0, :, 2]
    assert mouth.tolist() == pytest.approx([112, 120], abs=1e-9)
    assert (last - first).tolist() == pytest.approx([50, 0], abs=8)  # three points, one similarity
    # the shift follows by four fifths a frame: it lags a fifth of the last step behind
    lag = track[3, :, :2] @ wandering[3, 60:].mean(dim=0) + track[3, :, 2]
    step = track[0, :, :2] @ torch.full((2,), 5.0).double()
    expected = step * (0.2 + 0.2**2 + 0.2**3)
    assert (lag - torch.tensor([112.0, 120.0])).tolist() == pytest.approx(expected.tolist())
    assert crops.shape == (4, 3, 224, 224)
    assert (crops[0].int() - crops[3].int()).abs().float().mean() < 12
