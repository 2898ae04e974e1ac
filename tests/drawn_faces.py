"""Flat faces with 68 landmarks and a mouth of a chosen shade: a swap shows in few pixels."""

import numpy as np

MOUTH_CENTRE = np.array([32.0, 46.0])  # at 64 px


def face_points():
    """Landmarks of an upright face at 64 px, pixel centres at +0.5."""
    turns = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    circle = np.stack([np.cos(turns), np.sin(turns)], 1)
    points = np.tile(np.array([32.0, 36.0]), (68, 1))
    points[36:42] = [22, 26] + 2 * circle[:18:3]
    points[42:48] = [42, 26] + 2 * circle[:18:3]
    points[48:60] = MOUTH_CENTRE + circle[[*range(0, 20, 2), 5, 15]] * [8, 4]
    points[60:68] = MOUTH_CENTRE + circle[[0, 3, 5, 7, 10, 13, 15, 17]] * [6, 2]
    return points.astype(np.float32)


def flat_face(skin, mouth, shift=0, side=64):
    """A frame of grey `skin` with a mouth of `mouth` times that, `shift` pixels to the right."""
    frame = np.full((side, side, 3), skin, np.uint8)
    frame[42:50, 24 + shift : 40 + shift] = round(skin * mouth)
    return frame
