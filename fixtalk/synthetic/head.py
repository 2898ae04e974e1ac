"""The CC0 head asset → one `Head`: topology, shape targets and expressions shared by all people."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from fixtalk.shapes import Float, Int, UInt8
from fixtalk.synthetic.noise import smoothstep
from fixtalk.synthetic.subdivision import catmull_clark, refine_texcoords

ASSET = Path(__file__).with_name("head_cc0.npz")
BODY, EYE, LASH, TEETH, TONGUE, HAIR = range(6)
HAIR_COLUMNS, HAIR_ROWS = 40, 18
LOWER_LASH_HEIGHT = 7.285  # lash faces below look like black bars: left out
# Base mesh vertices in the order of iBUG 300-W: jaw, brows, nose, eyes, outer and inner lips.
LANDMARK_VERTICES = (
    2333, 2354, 2175, 911, 739, 741, 743, 921, 732, 3393, 3233, 3231,
    3229, 3383, 4598, 4775, 4754,
    232, 224, 222, 205, 208, 2753, 2750, 2766, 2768, 2775,
    134, 1818, 291, 1809, 288, 352, 312, 2883, 2827,
    21, 6, 54, 67, 47, 36, 2621, 2608, 2560, 2575, 2590, 2601,
    426, 2109, 456, 466, 2985, 4535, 2956, 3003, 3015, 492, 490, 478,
    443, 471, 474, 2997, 2973, 3007, 494, 482,
)  # fmt: skip


@dataclass(frozen=True)
class Expressions:
    """Sparse offsets of the 52 ARKit coefficients: entries starts[i]:starts[i+1] belong to i."""

    names: tuple[str, ...]
    starts: Int[np.ndarray, " bounds"]
    vertices: Int[np.ndarray, " entries"]
    offsets: Float[np.ndarray, "entries 3"]


@dataclass(frozen=True)
class Head:
    """What all people share; vertices are in decimetres, y up, z towards the viewer."""

    level: int  # Catmull-Clark refinements
    cage: Float[np.ndarray, "cage 3"]  # mean shape before refinement
    cage_quads: Int[np.ndarray, "quads 4"]
    cage_material: UInt8[np.ndarray, " quads"]
    first_hair: int  # cage vertices from here on are the grid of long hair
    target_names: tuple[str, ...]
    targets: Float[np.ndarray, "targets skin 3"]  # of cage[:first_hair]
    refine: Any  # sparse (vertices × cage)
    neutral: Float[np.ndarray, "vertices 3"]  # mean shape: where on the face a vertex lies
    triangles: Int[np.ndarray, "triangles 3"]  # the last ones repeat long hair, turned inside out
    num_outward: int  # triangles before the repeated ones
    texcoords: Float[np.ndarray, "triangles 3 2"]
    material: UInt8[np.ndarray, " triangles"]
    vertex_material: UInt8[np.ndarray, " vertices"]
    expressions: Expressions
    follow: Float[np.ndarray, " vertices"]  # share of the head's pose, 0 on the shoulders
    pivot: Float[np.ndarray, "3"]  # the head turns around it
    masks: dict[str, Float[np.ndarray, "height width"]]


@cache
def load_head(level: int) -> Head:
    """The head at a refinement level, read once in a process.

    Args:
        level: 0 (14k triangles) or more, each four times as many.
    """
    with np.load(ASSET) as asset:
        data = {name: asset[name] for name in asset.files}
    cage, quads, texcoords, material = _add_hair_grid(data)
    first_hair = len(data["base"])
    refine, cage_quads, cage_material = sparse.identity(len(cage), format="csr"), quads, material
    for _ in range(level):
        matrix, quads = catmull_clark(refine.shape[0], quads)
        refine = (matrix @ refine).tocsr()
        texcoords, material = refine_texcoords(texcoords), np.repeat(material, 4)
    refine = refine.astype(np.float32)
    neutral = np.ascontiguousarray(refine @ cage)
    triangles, corners, triangle_material, num_outward = _split_quads(quads, texcoords, material)
    vertex_material = np.zeros(len(neutral), np.uint8)
    vertex_material[triangles.ravel()] = np.repeat(triangle_material, 3)
    joints = dict(zip(data["joint_names"].tolist(), data["joints"], strict=True))
    return Head(
        level=level,
        cage=cage,
        cage_quads=cage_quads,
        cage_material=cage_material,
        first_hair=first_hair,
        target_names=tuple(data["ident_names"].tolist()),
        targets=data["ident"].astype(np.float32),
        refine=refine,
        neutral=neutral,
        triangles=triangles,
        num_outward=num_outward,
        texcoords=corners,
        material=triangle_material,
        vertex_material=vertex_material,
        expressions=_sparse_expressions(data, refine, first_hair),
        follow=_follow(neutral, vertex_material),
        pivot=(joints["joint-neck"] + [0, 0.45, 0.1]).astype(np.float32),
        masks={
            name.removeprefix("mask_"): values.astype(np.float32) / 255
            for name, values in data.items()
            if name.startswith("mask_")
        },
    )


def hair_grid() -> tuple[Float[np.ndarray, " points"], Float[np.ndarray, " points"]]:
    """Around (-1..1, 0 at the nape) and down (0 crown, 1 tips) of each vertex of long hair."""
    around, down = np.meshgrid(
        np.linspace(-1, 1, HAIR_COLUMNS + 1), np.linspace(0, 1, HAIR_ROWS + 1)
    )
    return around.ravel(), down.ravel()


def _add_hair_grid(data: dict[str, np.ndarray]) -> tuple[np.ndarray, ...]:
    """The base mesh without its hair helper and lower lashes, with the grid of long hair."""
    base, quads, texcoords = data["base"], data["quads"], data["uvq"].astype(np.float32)
    material = data["mat"]
    is_low = (material == LASH) & (base[quads][..., 1].mean(1) < LOWER_LASH_HEIGHT)
    keep = (material != HAIR) & ~is_low
    around, down = hair_grid()
    places = np.arange(len(around)).reshape(HAIR_ROWS + 1, HAIR_COLUMNS + 1)
    grid = np.stack(
        [places[:-1, :-1], places[1:, :-1], places[1:, 1:], places[:-1, 1:]], axis=-1
    ).reshape(-1, 4)
    grid_texcoords = np.stack([(around + 1) / 2, 1 - down], axis=-1)[grid]
    angle = np.pi * (1 + around)
    placeholder = np.stack([np.sin(angle), 8.3 - 2.7 * down, 0.1 + np.cos(angle)], axis=-1)
    return (
        np.concatenate([base, placeholder]).astype(np.float32),
        np.concatenate([quads[keep], grid + len(base)]).astype(np.int32),
        np.concatenate([texcoords[keep], grid_texcoords]).astype(np.float32),
        np.concatenate([material[keep], np.full(len(grid), HAIR, np.uint8)]),
    )


def _split_quads(
    quads: np.ndarray, texcoords: np.ndarray, material: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Triangles, their texture coordinates (v down) and materials; hair gets a back side."""
    triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    corners = np.concatenate([texcoords[:, [0, 1, 2]], texcoords[:, [0, 2, 3]]])
    corners = corners * np.array([1, -1], np.float32) + np.array([0, 1], np.float32)
    materials = np.concatenate([material, material])
    is_hair = materials == HAIR
    turned = [0, 2, 1]
    return (
        np.concatenate([triangles, triangles[is_hair][:, turned]]).astype(np.int32),
        np.concatenate([corners, corners[is_hair][:, turned]]).astype(np.float32),
        np.concatenate([materials, materials[is_hair]]),
        len(triangles),
    )


def _sparse_expressions(
    data: dict[str, np.ndarray], refine: sparse.csr_matrix, first_hair: int
) -> Expressions:
    skin = refine[:, :first_hair]
    starts, vertices, offsets = [0], [], []
    for dense in data["expr"].astype(np.float32):
        moved = skin @ dense
        touched = np.flatnonzero(np.abs(moved).max(1) > 1e-5)
        vertices.append(touched)
        offsets.append(moved[touched])
        starts.append(starts[-1] + len(touched))
    return Expressions(
        names=tuple(data["expr_names"].tolist()),
        starts=np.array(starts, np.int32),
        vertices=np.concatenate(vertices).astype(np.int32),
        offsets=np.concatenate(offsets).astype(np.float32),
    )


def _follow(neutral: np.ndarray, vertex_material: np.ndarray) -> np.ndarray:
    """The neck bends: full pose above the jaw, none on the shoulders."""
    follow = smoothstep(5.7, 6.75, neutral[:, 1] + 0.45 * (neutral[:, 2] - 0.1))
    follow[(vertex_material != BODY) & (vertex_material != HAIR)] = 1
    is_hair = vertex_material == HAIR
    follow[is_hair] = smoothstep(5.4, 7.0, neutral[is_hair, 1])
    return follow.astype(np.float32)
