"""A person at rest, ARKit coefficients and head pose → vertices of a frame."""

import math
from typing import no_type_check

import numpy as np
from numba import njit

from fixtalk.shapes import Float, Int
from fixtalk.synthetic.head import Head
from fixtalk.synthetic.shape import Shape


def rotation(yaw: float, pitch: float, roll: float) -> Float[np.ndarray, "3 3"]:
    """Matrix that turns the head: roll first, then pitch, then yaw, in radians.

    Positive yaw turns the face to the right of the picture, positive pitch downwards, positive
    roll tilts the crown to the left of the picture.
    """
    cy, sy = math.cos(yaw), math.sin(yaw)
    cp, sp = math.cos(pitch), math.sin(pitch)
    cr, sr = math.cos(roll), math.sin(roll)
    turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    nod = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    tilt = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return (turn @ nod @ tilt).astype(np.float32)


def pose_vertices(
    head: Head,
    shape: Shape,
    arkit: Float[np.ndarray, "52"],
    pose: Float[np.ndarray, "6"],
) -> Float[np.ndarray, "vertices 3"]:
    """Vertices of a frame in decimetres.

    Args:
        head: topology and expressions.
        shape: the person.
        arkit: coefficients in the order of `head.expressions.names`.
        pose: yaw, pitch, roll in radians, then shift in decimetres.
    """
    expressions = head.expressions
    vertices = shape.vertices.copy()
    coefficients = np.asarray(arkit, np.float32) * np.float32(shape.expression_scale)
    _move(vertices, coefficients, expressions.starts, expressions.vertices, expressions.offsets)
    _turn(
        vertices,
        head.follow,
        head.pivot,
        rotation(*map(float, pose[:3])),
        np.asarray(pose[3:6], np.float32),
    )
    return vertices


@no_type_check
@njit(cache=True, fastmath=True)
def _move(
    vertices: Float[np.ndarray, "vertices 3"],
    coefficients: Float[np.ndarray, "52"],
    starts: Int[np.ndarray, " bounds"],
    places: Int[np.ndarray, " entries"],
    offsets: Float[np.ndarray, "entries 3"],
) -> None:
    """Adds the offsets of the expressions in place."""
    for i in range(coefficients.shape[0]):
        amount = coefficients[i]
        if amount == 0:
            continue
        for entry in range(starts[i], starts[i + 1]):
            v = places[entry]
            vertices[v, 0] += amount * offsets[entry, 0]
            vertices[v, 1] += amount * offsets[entry, 1]
            vertices[v, 2] += amount * offsets[entry, 2]


@no_type_check
@njit(cache=True, fastmath=True)
def _turn(
    vertices: Float[np.ndarray, "vertices 3"],
    follow: Float[np.ndarray, " vertices"],
    pivot: Float[np.ndarray, "3"],
    matrix: Float[np.ndarray, "3 3"],
    shift: Float[np.ndarray, "3"],
) -> None:
    """Moves the head in place, each vertex by its share."""
    for v in range(vertices.shape[0]):
        share = follow[v]
        if share == 0:
            continue
        x = vertices[v, 0] - pivot[0]
        y = vertices[v, 1] - pivot[1]
        z = vertices[v, 2] - pivot[2]
        for axis in range(3):
            place = matrix[axis, 0] * x + matrix[axis, 1] * y + matrix[axis, 2] * z
            place += pivot[axis] + shift[axis]
            vertices[v, axis] += share * (place - vertices[v, axis])
