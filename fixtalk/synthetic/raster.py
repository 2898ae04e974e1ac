"""Screen-space triangles → nearest triangle and depth of every pixel (z-buffer)."""

import math
from typing import no_type_check

import numpy as np
from numba import njit

from fixtalk.shapes import Float, Int


@no_type_check
@njit(cache=True, fastmath=True)
def rasterise(
    screen: Float[np.ndarray, "vertices 3"],
    triangles: Int[np.ndarray, "triangles 3"],
    triangle_ids: Int[np.ndarray, "height width"],
    nearness: Float[np.ndarray, "height width"],
) -> None:
    """Fills `triangle_ids` (-1: nothing) and `nearness` (larger is nearer) in place.

    Pixel centres lie at +0.5. Triangles that turn away (clockwise on the picture) are skipped.

    Args:
        screen: x, y in pixels and a nearness that is linear on the picture (1 / depth).
        triangles: vertex indices.
        triangle_ids: output, index of the nearest triangle.
        nearness: output, nearness of that triangle, 0 where there is none.
    """
    height, width = triangle_ids.shape
    triangle_ids[:] = -1
    nearness[:] = 0
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ax, ay = screen[a, 0], screen[a, 1]
        bx, by = screen[b, 0], screen[b, 1]
        cx, cy = screen[c, 0], screen[c, 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area >= -1e-9:
            continue
        x0 = max(0, math.ceil(min(ax, bx, cx) - 0.5))
        x1 = min(width - 1, math.floor(max(ax, bx, cx) - 0.5))
        y0 = max(0, math.ceil(min(ay, by, cy) - 0.5))
        y1 = min(height - 1, math.floor(max(ay, by, cy) - 0.5))
        if x1 < x0 or y1 < y0:
            continue
        inverse = 1.0 / area
        na, nb, nc = screen[a, 2], screen[b, 2], screen[c, 2]
        for y in range(y0, y1 + 1):
            py = y + 0.5
            for x in range(x0, x1 + 1):
                px = x + 0.5
                wa = ((bx - px) * (cy - py) - (by - py) * (cx - px)) * inverse
                wb = ((cx - px) * (ay - py) - (cy - py) * (ax - px)) * inverse
                wc = 1.0 - wa - wb
                if wa < 0 or wb < 0 or wc < 0:
                    continue
                near = wa * na + wb * nb + wc * nc
                if near > nearness[y, x]:
                    nearness[y, x] = near
                    triangle_ids[y, x] = t


@no_type_check
@njit(cache=True, fastmath=True)
def weights_at(
    screen: Float[np.ndarray, "vertices 3"],
    triangle: Int[np.ndarray, "3"],
    px: float,
    py: float,
) -> tuple[float, float, float]:
    """Perspective-correct weights of the three corners at a point of the picture."""
    a, b, c = triangle[0], triangle[1], triangle[2]
    ax, ay = screen[a, 0], screen[a, 1]
    bx, by = screen[b, 0], screen[b, 1]
    cx, cy = screen[c, 0], screen[c, 1]
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    wa = ((bx - px) * (cy - py) - (by - py) * (cx - px)) / area
    wb = ((cx - px) * (ay - py) - (cy - py) * (ax - px)) / area
    wc = 1.0 - wa - wb
    wa *= screen[a, 2]
    wb *= screen[b, 2]
    wc *= screen[c, 2]
    scale = 1.0 / (wa + wb + wc)
    return wa * scale, wb * scale, wc * scale


@no_type_check
@njit(cache=True, fastmath=True)
def interpolate(
    screen: Float[np.ndarray, "vertices 3"],
    triangles: Int[np.ndarray, "triangles 3"],
    triangle_ids: Int[np.ndarray, "height width"],
    values: Float[np.ndarray, "vertices channels"],
    picture: Float[np.ndarray, "height width channels"],
) -> None:
    """Fills `picture` with the values of the vertices, blended, where there is a triangle."""
    for y in range(triangle_ids.shape[0]):
        for x in range(triangle_ids.shape[1]):
            t = triangle_ids[y, x]
            if t < 0:
                continue
            wa, wb, wc = weights_at(screen, triangles[t], x + 0.5, y + 0.5)
            a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            for channel in range(values.shape[1]):
                picture[y, x, channel] = (
                    wa * values[a, channel] + wb * values[b, channel] + wc * values[c, channel]
                )


@no_type_check
@njit(cache=True, fastmath=True)
def vertex_normals(
    vertices: Float[np.ndarray, "vertices 3"],
    triangles: Int[np.ndarray, "triangles 3"],
    normals: Float[np.ndarray, "vertices 3"],
) -> None:
    """Fills `normals` in place: unit, outward, weighted by triangle area."""
    normals[:] = 0
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ux = vertices[b, 0] - vertices[a, 0]
        uy = vertices[b, 1] - vertices[a, 1]
        uz = vertices[b, 2] - vertices[a, 2]
        vx = vertices[c, 0] - vertices[a, 0]
        vy = vertices[c, 1] - vertices[a, 1]
        vz = vertices[c, 2] - vertices[a, 2]
        nx = uy * vz - uz * vy
        ny = uz * vx - ux * vz
        nz = ux * vy - uy * vx
        for corner in (a, b, c):
            normals[corner, 0] += nx
            normals[corner, 1] += ny
            normals[corner, 2] += nz
    for v in range(normals.shape[0]):
        nx, ny, nz = normals[v, 0], normals[v, 1], normals[v, 2]
        length = math.sqrt(nx * nx + ny * ny + nz * nz) + 1e-9
        normals[v, 0] = nx / length
        normals[v, 1] = ny / length
        normals[v, 2] = nz / length
