"""Traits of a person → the neutral face, hair and clothes as vertices, without any colour."""

from dataclasses import dataclass

import numpy as np

from fixtalk.shapes import Float, Int
from fixtalk.synthetic.head import BODY, EYE, HAIR, TEETH, Head, hair_grid
from fixtalk.synthetic.noise import noise, smoothstep
from fixtalk.synthetic.raster import vertex_normals
from fixtalk.synthetic.traits import ANCESTRIES, HAIR_THICKNESS, Traits

# Endings of shape targets that come in opposite pairs, and their direction.
DIRECTIONS = {
    "-incr": 1,
    "-decr": -1,
    "-up": 1,
    "-down": -1,
    "-in": 1,
    "-out": -1,
    "-forward": 1,
    "-backward": -1,
    "-convex": 1,
    "-concave": -1,
    "-uncompress": 1,
    "-compress": -1,
}
STRENGTHS = {
    "head": 0.55,
    "nose": 0.6,
    "mouth": 0.45,
    "chin": 0.6,
    "eyes": 0.45,
    "ears": 0.5,
    "cheek": 0.6,
    "eyebrows": 0.5,
    "forehead": 0.5,
    "neck": 0.25,
}


@dataclass(frozen=True)
class Shape:
    """A person at rest."""

    vertices: Float[np.ndarray, "vertices 3"]
    expression_scale: float  # expression offsets are multiplied by this
    kept: Int[np.ndarray, " kept"]  # triangles of the head this person has
    triangles: Int[np.ndarray, "kept 3"]


def build_shape(head: Head, traits: Traits) -> Shape:
    """The shape of a person at the refinement level of `head`."""
    rng = np.random.default_rng([traits.seed, 1])
    weights = _target_weights(head.target_names, traits, rng)
    used = np.flatnonzero(weights)
    skin = head.cage[: head.first_hair] + np.einsum("t,tvc->vc", weights[used], head.targets[used])
    skin, scale = _normalise(head, skin, 1 + 0.03 * rng.normal())
    cage = np.concatenate([skin, _long_hair(head, skin, traits, rng)]).astype(np.float32)
    vertices = np.ascontiguousarray(head.refine @ cage)
    normals = np.empty_like(vertices)
    vertex_normals(vertices, head.triangles[: head.num_outward], normals)
    vertices += normals * _thickness(head, traits)[:, None]
    is_kept = head.material != HAIR
    if traits.hair_style == "long":
        is_kept = np.ones(len(head.material), bool)
    kept = np.flatnonzero(is_kept).astype(np.int32)
    return Shape(vertices, scale, kept, np.ascontiguousarray(head.triangles[kept]))


def hair_cover(
    points: Float[np.ndarray, "*shape 3"], traits: Traits
) -> Float[np.ndarray, "*shape"]:
    """Share of hair, 0..1, at places of the mean head."""
    x, y, z = points[..., 0], points[..., 1], points[..., 2]
    front = 7.93 + 0.5 * traits.hairline
    front = front + 0.6 * traits.recession * smoothstep(0.1, 0.5, np.abs(x))
    front = front - 0.30 * smoothstep(0.35, 0.75, np.abs(x))
    nape = 7.93 - 1.75 * smoothstep(0.95, 0.05, z)
    line = np.where(z < 0.55, np.minimum(front, nape), front)
    return smoothstep(-0.06, 0.06, y - line + 0.05 * noise(points, traits.seed + 5, 6.0, 2))


def cloth_cover(
    points: Float[np.ndarray, "*shape 3"], traits: Traits, softness: float
) -> Float[np.ndarray, "*shape"]:
    """Share of clothes, 0..1, at places of the mean head."""
    x, y, z = points[..., 0], points[..., 1], points[..., 2]
    return smoothstep(0.0, softness, traits.neckline - (y + 0.10 * z - 0.14 * np.abs(x)))


def _target_weights(
    names: tuple[str, ...], traits: Traits, rng: np.random.Generator
) -> Float[np.ndarray, " targets"]:
    weights = np.zeros(len(names), np.float32)
    place = {name: index for index, name in enumerate(names)}
    sex = "male" if traits.is_male else "female"
    extreme = "maxweight" if traits.weight > 0 else "minweight"
    amount = 0.6 * abs(traits.weight)
    for stage, share in (("young", 1 - traits.age), ("old", traits.age)):
        for ancestry, part in zip(ANCESTRIES, traits.ancestry, strict=True):
            weights[place[f"macro/{ancestry}-{sex}-{stage}"]] = part * share
        body = f"macro/universal-{sex}-{stage}-averagemuscle-"
        weights[place[body + "averageweight"]] = share * (1 - amount)
        weights[place[body + extreme]] = share * amount
    for (folder, stem), directions in _opposites(names).items():
        latent = float(np.clip(rng.normal(0, 0.6), -1.2, 1.2)) * STRENGTHS[folder]
        if len(directions) == 1:
            latent = abs(latent) * 0.6 * (rng.random() < 0.35)
        if "trans" in stem and folder in ("neck", "head"):
            continue
        for name in directions.get(1 if latent > 0 else -1, []):
            weights[place[name]] += abs(latent)
    return weights


def _opposites(names: tuple[str, ...]) -> dict[tuple[str, str], dict[int, list[str]]]:
    """Local targets by (folder, what they change), split by direction; left and right together."""
    groups: dict[tuple[str, str], dict[int, list[str]]] = {}
    for name in sorted(names):
        folder, _, rest = name.partition("/")
        if folder == "macro":
            continue
        stem = rest[2:] if rest[:2] in ("l-", "r-") else rest
        ending = next((ending for ending in DIRECTIONS if stem.endswith(ending)), "")
        direction = DIRECTIONS.get(ending, 1)
        groups.setdefault((folder, stem.removesuffix(ending)), {}).setdefault(direction, []).append(
            name
        )
    return groups


def _normalise(
    head: Head, skin: Float[np.ndarray, "skin 3"], spread: float
) -> tuple[Float[np.ndarray, "skin 3"], float]:
    """Eyes at the mean place, eyes to teeth as far as in the mean times `spread`."""
    mean = head.cage[: head.first_hair]
    eyes = head.cage_quads[head.cage_material == EYE].ravel()
    teeth = head.cage_quads[head.cage_material == TEETH].ravel()
    centre, target = skin[eyes].mean(0), mean[eyes].mean(0)
    distance = np.linalg.norm(skin[teeth].mean(0) - centre)
    scale = float(np.linalg.norm(mean[teeth].mean(0) - target) / distance * spread)
    return (skin - centre) * scale + target, scale


def _long_hair(
    head: Head, skin: Float[np.ndarray, "skin 3"], traits: Traits, rng: np.random.Generator
) -> Float[np.ndarray, "grid 3"]:
    """The grid of long hair, laid around this person's skull and open at the face."""
    around, down = hair_grid()
    mean = head.cage[: head.first_hair]
    is_body = np.zeros(len(mean), bool)
    is_body[head.cage_quads[head.cage_material == BODY].ravel()] = True
    is_side = is_body & (mean[:, 1] > 6.7) & (mean[:, 1] < 7.9) & (mean[:, 2] < 0.9)
    is_back = is_body & (mean[:, 1] > 7.2) & (mean[:, 1] < 8.0)
    half_width = np.abs(skin[is_side, 0]).max() + 0.05
    back = skin[is_back, 2].min() - 0.12
    front = 0.62 + 0.15 * rng.random()
    crown = skin[is_body, 1].max() + 0.10
    tips = traits.hair_tips
    height = crown - (crown - tips) * down
    shoulder = crown - 0.85
    cap = np.sqrt(np.clip(1 - (np.clip(height - shoulder, 0, None) / 0.88) ** 2, 0.02, 1))
    opening = 1 - 0.25 * rng.uniform(0.75, 1.2)
    angle = around * np.pi * opening
    waves = 1 + 0.035 * down * np.sin(angle * rng.integers(5, 9) + rng.uniform(0, 6) + 3 * down)
    waves = waves + 0.03 * down * np.sin(9 * down + rng.uniform(0, 6) + angle)
    flare = 1 + 0.10 * rng.uniform(0.3, 1.3) * np.sin(np.pi * np.clip(1.1 * down, 0, 1))
    reach = cap * waves * flare
    depth, middle = (front - back) / 2, (front + back) / 2
    return np.stack(
        [np.sin(angle) * half_width * reach, height, middle - np.cos(angle) * depth * reach],
        axis=-1,
    )


def _thickness(head: Head, traits: Traits) -> Float[np.ndarray, " vertices"]:
    """How far hair and clothes stand off the skin."""
    points = head.neutral
    x, y, z = points[:, 0], points[:, 1], points[:, 2]
    is_body = head.vertex_material == BODY
    # The crown is fuller than the temples, ears stay free.
    is_ear = (np.abs(x) > 0.70) & (y > 6.75) & (y < 7.45) & (z < 0.75) & (z > 0.1)
    rise = smoothstep(0.0, 0.45, y - 7.68 + 0.9 * np.clip(0.55 - z, 0, 2))
    bumps = 1 + 0.35 * noise(points, traits.seed + 1, 1.4, 2)
    hair = hair_cover(points, traits) * rise * ~is_ear * HAIR_THICKNESS[traits.hair_style] * bumps
    return (is_body * (hair + 0.035 * cloth_cover(points, traits, 0.04))).astype(np.float32)
