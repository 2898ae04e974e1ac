"""Labels of two frames of a person → where each pixel of one lies in the other."""

from collections.abc import Sequence
from typing import NamedTuple, no_type_check

import numpy as np
from numba import njit

from fixtalk.shapes import Bool, Float, Int
from fixtalk.synthetic.camera import Camera
from fixtalk.synthetic.head import Head
from fixtalk.synthetic.pose import pose_vertices
from fixtalk.synthetic.raster import rasterise, weights_at
from fixtalk.synthetic.shape import build_shape
from fixtalk.synthetic.traits import sample_traits

DEPTH_FINENESS = 2  # samples of the source's depth map per pixel side
DEPTH_TOLERANCE = 0.06  # decimetres behind the visible surface that still count as visible


class FaceGeometry:
    """Shape of one person without colours: all that these labels need; worth keeping."""

    def __init__(self, head: Head, identity_seed: int) -> None:
        self.head = head
        self.identity_seed = identity_seed
        self.shape = build_shape(head, sample_traits(identity_seed))


class CroppedFrame(NamedTuple):
    """Labels of a frame and the crop it is seen through."""

    arkit: Float[np.ndarray, "52"]
    pose: Float[np.ndarray, "6"]
    box: Sequence[float | int]  # x0, y0, side in raw pixels


def correspondence(
    geometry: FaceGeometry,
    camera: Camera,
    source: CroppedFrame,
    driver: CroppedFrame,
    resolution: int,
) -> tuple[Float[np.ndarray, "resolution resolution 2"], Bool[np.ndarray, "resolution resolution"]]:
    """Flow and validity: sampling the source crop at `flow` gives the driver crop where valid.

    The wall behind the head stands still: between equal crops its flow is the identity.

    Args:
        geometry: the person of both frames.
        camera: of the raw frames.
        source: frame to sample from.
        driver: frame whose pixels are explained.
        resolution: pixels, side of both crops.

    Returns:
        flow: x, y in [-1, 1] as torch's `grid_sample(align_corners=True)` reads them, 0 where
            invalid.
        valid: whether the pixel shows a surface point, or a piece of wall, that the source crop
            shows too.
    """
    head, shape = geometry.head, geometry.shape
    driver_vertices = pose_vertices(head, shape, driver.arkit, driver.pose)
    source_vertices = pose_vertices(head, shape, source.arkit, source.pose)
    driver_screen = camera.project(driver_vertices, resolution, driver.box)
    fine = resolution * DEPTH_FINENESS
    source_screen = camera.project(source_vertices, fine, source.box)
    driver_ids, _ = _nearest(driver_screen, shape.triangles, resolution)
    source_ids, source_nearness = _nearest(source_screen, shape.triangles, fine)
    flow = np.zeros((resolution, resolution, 2), np.float32)
    valid = np.zeros((resolution, resolution), np.bool_)
    _trace(driver_screen, source_screen, shape.triangles, driver_ids, source_nearness, flow, valid)
    if source.box == driver.box:
        wall = (driver_ids < 0) & (source_ids[::DEPTH_FINENESS, ::DEPTH_FINENESS] < 0)
        line = np.linspace(-1, 1, resolution, dtype=np.float32)
        flow[wall] = np.stack(np.meshgrid(line, line), axis=-1)[wall]
        valid |= wall
    return flow, valid


def _nearest(
    screen: Float[np.ndarray, "vertices 3"], triangles: Int[np.ndarray, "triangles 3"], side: int
) -> tuple[Int[np.ndarray, "side side"], Float[np.ndarray, "side side"]]:
    """Triangle that each pixel shows, -1 for none, and its nearness."""
    ids = np.empty((side, side), np.int32)
    nearness = np.empty((side, side), np.float32)
    rasterise(screen, triangles, ids, nearness)
    return ids, nearness


@no_type_check
@njit(cache=True, fastmath=True)
def _faces_camera(screen: Float[np.ndarray, "vertices 3"], triangle: Int[np.ndarray, "3"]) -> bool:
    a, b, c = triangle[0], triangle[1], triangle[2]
    ux, uy = screen[b, 0] - screen[a, 0], screen[b, 1] - screen[a, 1]
    vx, vy = screen[c, 0] - screen[a, 0], screen[c, 1] - screen[a, 1]
    return ux * vy - uy * vx < 0


@no_type_check
@njit(cache=True, fastmath=True)
def _trace(
    driver_screen: Float[np.ndarray, "vertices 3"],
    source_screen: Float[np.ndarray, "vertices 3"],
    triangles: Int[np.ndarray, "triangles 3"],
    driver_ids: Int[np.ndarray, "resolution resolution"],
    nearness: Float[np.ndarray, "fine fine"],
    flow: Float[np.ndarray, "resolution resolution 2"],
    valid: Bool[np.ndarray, "resolution resolution"],
) -> None:
    """Carries the surface point of each driver pixel over to the source."""
    resolution, fine = driver_ids.shape[0], nearness.shape[0]
    step = fine // resolution
    for y in range(resolution):
        for x in range(resolution):
            t = driver_ids[y, x]
            if t < 0:
                continue
            if not _faces_camera(source_screen, triangles[t]):
                continue
            weights = weights_at(driver_screen, triangles[t], x + 0.5, y + 0.5)
            across = down = depth = 0.0
            for corner in range(3):
                v = triangles[t, corner]
                # place times depth is linear on the surface, the place alone is not
                share = weights[corner] / source_screen[v, 2]
                depth += share
                across += share * source_screen[v, 0]
                down += share * source_screen[v, 1]
            across, down = across / depth, down / depth
            column, row = across / step - 0.5, down / step - 0.5
            if column < 0 or row < 0 or column > resolution - 1 or row > resolution - 1:
                continue
            front = nearness[int(down), int(across)]
            # no surface there: the point lies on a side that the source does not show
            if front <= 0 or depth - 1 / front > DEPTH_TOLERANCE:
                continue
            flow[y, x, 0] = 2 * column / (resolution - 1) - 1
            flow[y, x, 1] = 2 * row / (resolution - 1) - 1
            valid[y, x] = True
