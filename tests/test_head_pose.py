"""Which way a head looks and how far its mouth is open: against what is known of drawn faces."""

import numpy as np
import pytest

from fixtalk.head_pose import MODEL, head_angles, mouth_opening
from fixtalk.synthetic.camera import Camera
from fixtalk.synthetic.correspondence import FaceGeometry
from fixtalk.synthetic.head import LANDMARK_VERTICES, load_head
from fixtalk.synthetic.pose import pose_vertices, rotation

PEOPLE = 12


def seen(yaw, pitch, roll, distance=20.0):
    """The mean face through a pinhole camera, in a picture of 512 pixels."""
    turned = (MODEL - MODEL.mean(axis=0)) @ rotation(yaw, pitch, roll).T
    return 256 + 100 * turned[:, :2] * [1, -1] * distance / (distance - turned[:, 2:])


@pytest.mark.parametrize("distance", [12.0, 20.0, 60.0])
@pytest.mark.parametrize("yaw", [-0.9, -0.4, 0.0, 0.2, 0.7])
def test_the_mean_face_is_read_whatever_the_camera(yaw, distance):
    angles = head_angles(seen(yaw, 0.15, -0.1, distance)[None])[0]

    # angles are believed a little less than they are seen: most heads look ahead
    assert np.degrees(angles - [yaw, 0.15, -0.1]) == pytest.approx([0, 0, 0], abs=6)


def test_place_and_size_in_the_picture_do_not_matter():
    points = np.stack([seen(0.3, -0.1, 0.2), seen(-0.5, 0.2, 0.0)])

    assert head_angles(points * 3.7 - 900) == pytest.approx(head_angles(points), abs=1e-4)


def test_a_mirrored_face_turns_the_other_way():
    points = seen(0.4, 0.1, 0.2)
    mirrored = (points * [-1, 1])[[1, 0, 2, 4, 3]]

    expected = head_angles(points[None]) * [-1, 1, -1]
    assert head_angles(mirrored[None]) == pytest.approx(expected, abs=1e-4)


def test_points_of_people_give_their_angles_within_a_few_degrees():
    """Bounds of what is told in docs/clips.md: people differ in noses, and nods show little."""
    rng, head, camera = np.random.default_rng(0), load_head(0), Camera(512)
    poses = np.zeros((PEOPLE * 8, 6), np.float32)
    poses[:, :3] = rng.uniform(-1, 1, (len(poses), 3)) * [0.6, 0.25, 0.25]
    people = [FaceGeometry(head, seed).shape for seed in range(PEOPLE)]
    marks = [
        camera.project(
            pose_vertices(head, people[number % PEOPLE], np.zeros(52, np.float32), pose)[
                list(LANDMARK_VERTICES)
            ]
        )[:, :2]
        for number, pose in enumerate(poses)
    ]
    marks = np.array(marks, float)
    eyes = marks[:, 36:42].mean(axis=1), marks[:, 42:48].mean(axis=1)
    points = np.stack([*eyes, marks[:, 30], marks[:, 48], marks[:, 54]], axis=1)

    missed = np.degrees(np.abs(head_angles(points) - poses[:, :3])).mean(axis=0)

    assert missed[0] < 6
    assert missed[1] < 8
    assert missed[2] < 2


def test_degenerate_points_give_finite_angles():
    points = np.stack([np.zeros((5, 2)), np.full((5, 2), 7.0), np.eye(5)[:, :2]])

    assert np.isfinite(head_angles(points)).all()
    assert head_angles(np.zeros((0, 5, 2))).shape == (0, 3)


def test_mouth_opening_is_the_gap_in_eye_distances():
    landmarks = np.zeros((2, 68, 2))
    landmarks[:, 45, 0] = 80
    landmarks[:, [61, 62, 63], 1] = 100
    landmarks[:, [67, 66, 65], 1] = [[100], [120]]

    assert mouth_opening(landmarks).tolist() == [0, 0.25]
    assert mouth_opening(landmarks * 4).tolist() == [0, 0.25]
