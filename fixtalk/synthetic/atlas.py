"""Head → for every texel of the skin texture: where it lies on the mean face, and the masks."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import ndimage

from fixtalk.shapes import Float
from fixtalk.synthetic.head import BODY, Head, load_head
from fixtalk.synthetic.raster import interpolate, rasterise


@dataclass(frozen=True)
class Atlas:
    """Maps of `resolution` × `resolution` texels; texels beside the skin repeat the nearest."""

    resolution: int
    position: Float[np.ndarray, "texels texels 3"]
    masks: dict[str, Float[np.ndarray, "texels texels"]]


@cache
def load_atlas(resolution: int) -> Atlas:
    """The atlas of the skin, baked once in a process."""
    head = load_head(0)
    position = _bake_positions(head, resolution)
    zoom = {
        name: ndimage.zoom(mask, resolution / len(mask), order=1, grid_mode=True, mode="nearest")
        for name, mask in head.masks.items()
    }
    zoom["ears"] = np.clip(ndimage.gaussian_filter(zoom["ears"], resolution / 150) * 2.2, 0, 1)
    return Atlas(resolution, position, zoom)


def _bake_positions(head: Head, resolution: int) -> Float[np.ndarray, "texels texels 3"]:
    is_body = head.material == BODY
    corners = head.texcoords[is_body].reshape(-1, 2) * resolution
    screen = np.concatenate([corners, np.ones((len(corners), 1))], axis=1).astype(np.float32)
    triangles = np.arange(len(corners), dtype=np.int32).reshape(-1, 3)
    a, b, c = (corners[triangles[:, i]] for i in range(3))
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    triangles[area > 0] = triangles[area > 0][:, [0, 2, 1]]
    ids = np.empty((resolution, resolution), np.int32)
    rasterise(screen, triangles, ids, np.empty((resolution, resolution), np.float32))
    position = np.zeros((resolution, resolution, 3), np.float32)
    interpolate(screen, triangles, ids, head.neutral[head.triangles[is_body].ravel()], position)
    nearest = ndimage.distance_transform_edt(ids < 0, return_distances=False, return_indices=True)
    return np.ascontiguousarray(position[nearest[0], nearest[1]])
