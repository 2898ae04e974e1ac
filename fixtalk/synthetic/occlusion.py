"""Shape of a person → how open each vertex lies (ambient occlusion)."""

import math
from typing import no_type_check

import numpy as np
from numba import njit

from fixtalk.shapes import Float, Int
from fixtalk.synthetic.head import EYE, LASH, TEETH, TONGUE, Head
from fixtalk.synthetic.pose import pose_vertices
from fixtalk.synthetic.raster import rasterise, vertex_normals
from fixtalk.synthetic.shape import Shape

RESOLUTION = 112
EXTENT = 5.2  # decimetres seen by a map
CENTRE = np.array([0, 7.0, 0.6], np.float32)
BIAS = 0.08
MAP_ORIGIN = np.array([RESOLUTION / 2, RESOLUTION / 2, 8])


def bake_occlusion(head: Head, shape: Shape, num_directions: int) -> Float[np.ndarray, " vertices"]:
    """Share of the surroundings each vertex sees, 0..1, measured with the mouth a little open."""
    arkit = np.zeros(len(head.expressions.names), np.float32)
    arkit[head.expressions.names.index("jawOpen")] = 0.25
    vertices = pose_vertices(head, shape, arkit, np.zeros(6, np.float32))
    normals = np.empty_like(vertices)
    vertex_normals(vertices, head.triangles[: head.num_outward], normals)
    triangles = shape.triangles[head.material[shape.kept] != LASH]
    ids = np.empty((RESOLUTION, RESOLUTION), np.int32)
    nearness = np.empty((RESOLUTION, RESOLUTION), np.float32)
    seen = np.zeros((2, len(vertices)), np.float32)
    for direction in _sphere(num_directions):
        map_points = (vertices - CENTRE) @ _view(direction).T
        screen = map_points * np.array([1, -1, EXTENT / RESOLUTION]) * (RESOLUTION / EXTENT)
        screen = (screen + MAP_ORIGIN).astype(np.float32)
        rasterise(screen, triangles, ids, nearness)
        _gather(screen, normals @ direction, nearness, seen)
    share = np.clip(seen[0] / np.maximum(seen[1], 1e-3), 0, 1)
    share = 0.12 + 0.88 * _blur(share, head.triangles[: head.num_outward]) ** 1.1
    share[head.vertex_material == TEETH] *= 0.75
    share[head.vertex_material == TONGUE] *= 0.6
    share[head.vertex_material == EYE] = 0.9
    return share.astype(np.float32)


def _sphere(count: int) -> Float[np.ndarray, "count 3"]:
    """Evenly spread directions (Fibonacci spiral)."""
    index = np.arange(count) + 0.5
    height = 1 - 2 * index / count
    turn = math.pi * (1 + math.sqrt(5)) * index
    radius = np.sqrt(1 - height**2)
    return np.stack([np.cos(turn) * radius, height, np.sin(turn) * radius], 1).astype(np.float32)


def _view(direction: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 3"]:
    """Rows: right, up and towards the viewer when looking from `direction`."""
    up = np.array([0, 1, 0] if abs(direction[1]) < 0.9 else [1, 0, 0], np.float32)
    right = np.cross(up, direction)
    right = right / np.linalg.norm(right)
    return np.stack([right, np.cross(direction, right), direction]).astype(np.float32)


def _blur(
    share: Float[np.ndarray, " vertices"], triangles: Int[np.ndarray, "triangles 3"]
) -> Float[np.ndarray, " vertices"]:
    ends = triangles[:, [0, 1, 2, 1, 2, 0]].ravel()
    others = triangles[:, [1, 2, 0, 0, 1, 2]].ravel()
    degree = np.maximum(np.bincount(ends, minlength=len(share)), 1)
    for _ in range(2):
        around = np.bincount(ends, weights=share[others], minlength=len(share))
        share = 0.5 * share + 0.5 * around / degree
    return share


@no_type_check
@njit(cache=True, fastmath=True)
def _gather(
    screen: Float[np.ndarray, "vertices 3"],
    cosines: Float[np.ndarray, " vertices"],
    nearness: Float[np.ndarray, "height width"],
    seen: Float[np.ndarray, "2 vertices"],
) -> None:
    """Adds to `seen` the cosines of vertices that are visible, and of all that face the view."""
    height, width = nearness.shape
    for v in range(screen.shape[0]):
        cosine = cosines[v]
        if cosine <= 0:
            continue
        x = min(width - 1, max(0, int(screen[v, 0])))
        y = min(height - 1, max(0, int(screen[v, 1])))
        seen[1, v] += cosine
        if nearness[y, x] < screen[v, 2] + BIAS:
            seen[0, v] += cosine
