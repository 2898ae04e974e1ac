"""Visible triangles, look and lamps → linear RGB per sample, and samples → the 8-bit frame."""

import math
from typing import NamedTuple, no_type_check

import numpy as np
from numba import njit

from fixtalk.shapes import Float, Int, UInt8
from fixtalk.synthetic.head import BODY, EYE, HAIR, LASH, TEETH
from fixtalk.synthetic.raster import weights_at

SHADOW_BIAS = 0.035  # decimetres, against a surface shading itself


class Surface(NamedTuple):
    """Geometry of one frame."""

    screen: Float[np.ndarray, "vertices 3"]  # x, y in samples, 1 / depth
    position: Float[np.ndarray, "vertices 3"]
    normal: Float[np.ndarray, "vertices 3"]
    neutral: Float[np.ndarray, "vertices 3"]  # where on the mean face
    occlusion: Float[np.ndarray, " vertices"]  # 1 open, 0 buried
    triangles: Int[np.ndarray, "triangles 3"]
    texcoords: Float[np.ndarray, "triangles 3 2"]
    material: UInt8[np.ndarray, " triangles"]


class Look(NamedTuple):
    """Colours of one person; they move with the surface."""

    skin: Float[np.ndarray, "texels texels 5"]  # red, green, blue, shine, softness
    strands: Float[np.ndarray, "rows columns"]  # brightness of long hair
    hair: Float[np.ndarray, "3"]
    sclera: Float[np.ndarray, "3"]
    iris: Float[np.ndarray, "3"]
    lash: Float[np.ndarray, "3"]
    teeth: Float[np.ndarray, "3"]
    tongue: Float[np.ndarray, "3"]
    eye_angles: Float[np.ndarray, "2"]  # radians from the axis to the edge of iris and pupil
    eye_centres: Float[np.ndarray, "2 3"]  # left, right, on the mean face


class Lamps(NamedTuple):
    """Three lamps at infinity and an ambient that fades from ground to sky."""

    directions: Float[np.ndarray, "3 3"]  # towards the lamp; the first one casts shadows
    colours: Float[np.ndarray, "3 3"]
    ground: Float[np.ndarray, "3"]
    sky: Float[np.ndarray, "3"]


class Shadow(NamedTuple):
    """Depth map seen from the first lamp."""

    matrix: Float[np.ndarray, "3 4"]  # world to map x, y, nearness
    nearness: Float[np.ndarray, "height width"]


class Scene(NamedTuple):
    """All that decides the colour of a sample."""

    surface: Surface
    look: Look
    lamps: Lamps
    shadow: Shadow
    eye: Float[np.ndarray, "3"]  # where the camera is


Three = tuple[float, float, float]
Four = tuple[float, float, float, float]
Five = tuple[float, float, float, float, float]
Six = tuple[float, float, float, float, float, float]
Seven = tuple[float, float, float, float, float, float, float]


@no_type_check
@njit(cache=True, fastmath=True)
def _skin_colour(skin: Float[np.ndarray, "texels texels 5"], u: float, v: float) -> Five:
    """Bilinear lookup of red, green, blue, shine and softness."""
    height, width = skin.shape[0], skin.shape[1]
    x = min(max(u * width - 0.5, 0.0), width - 1.001)
    y = min(max(v * height - 0.5, 0.0), height - 1.001)
    i, j = int(x), int(y)
    fx, fy = x - i, y - j
    a, b = (1 - fx) * (1 - fy), fx * (1 - fy)
    c, d = (1 - fx) * fy, fx * fy
    p, q, r, s = skin[j, i], skin[j, i + 1], skin[j + 1, i], skin[j + 1, i + 1]
    return (
        a * p[0] + b * q[0] + c * r[0] + d * s[0],
        a * p[1] + b * q[1] + c * r[1] + d * s[1],
        a * p[2] + b * q[2] + c * r[2] + d * s[2],
        a * p[3] + b * q[3] + c * r[3] + d * s[3],
        a * p[4] + b * q[4] + c * r[4] + d * s[4],
    )


@no_type_check
@njit(cache=True, fastmath=True)
def _eye_colour(look: Look, kx: float, ky: float, kz: float) -> Four:
    """Colour and shade of the upper lid at a point of the eyeball of the mean face."""
    side = 0 if kx > 0 else 1
    dx = kx - look.eye_centres[side, 0]
    dy = ky - look.eye_centres[side, 1]
    dz = kz - look.eye_centres[side, 2]
    length = math.sqrt(dx * dx + dy * dy + dz * dz) + 1e-9
    angle = math.acos(min(1.0, dz / length))
    iris, pupil = look.eye_angles[0], look.eye_angles[1]
    shade = 0.6 + 0.4 * min(1.0, max(0.0, 0.75 - 1.1 * dy / length))
    if angle < iris:
        part = angle / iris
        turn = math.atan2(dy, dx)
        fibre = 0.8 + 0.2 * math.sin(turn * 17.0 + part * 9.0)
        rim = 0.3 + 0.7 * min(1.0, (1.0 - part) / 0.18)
        keep = 1.0 - 0.97 * min(1.0, max(0.0, (pupil - angle) / 0.04))
        gain = fibre * rim * keep * (1.25 if part < 0.55 else 1.0)
        return look.iris[0] * gain, look.iris[1] * gain, look.iris[2] * gain, shade
    blend = min(1.0, (angle - iris) / 0.06)
    vein = 1.0 - 0.1 * min(1.0, max(0.0, (angle - iris) / 0.6))
    edge = 0.3 * (1.0 - blend)
    return (
        look.sclera[0] * blend + look.iris[0] * edge,
        look.sclera[1] * blend * vein + look.iris[1] * edge,
        look.sclera[2] * blend * vein + look.iris[2] * edge,
        shade,
    )


@no_type_check
@njit(cache=True, fastmath=True)
def _lit_share(shadow: Shadow, x: float, y: float, z: float) -> float:
    """Share of the first lamp that reaches a point: 3 x 3 taps of the shadow map."""
    m = shadow.matrix
    sx = m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3]
    sy = m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3]
    near = m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3] + SHADOW_BIAS
    side = shadow.nearness.shape[0]
    if sx < 2 or sy < 2 or sx > side - 3 or sy > side - 3:
        return 1.0
    i, j = int(sx), int(sy)
    free = 0.0
    for dj in range(-1, 2):
        for di in range(-1, 2):
            if shadow.nearness[j + dj, i + di] < near:
                free += 1.0
    return free / 9.0


@no_type_check
@njit(cache=True, fastmath=True)
def _illuminate(lamps: Lamps, normal: Three, view: Three, finish: Four, lit: float) -> Six:
    """Diffuse and mirrored light: (red, green, blue, mirrored red, green, blue)."""
    nx, ny, nz = normal
    vx, vy, vz = view
    shine, gloss, softness, occlusion = finish
    up = 0.5 + 0.5 * ny
    dr = (lamps.ground[0] * (1 - up) + lamps.sky[0] * up) * occlusion
    dg = (lamps.ground[1] * (1 - up) + lamps.sky[1] * up) * occlusion
    db = (lamps.ground[2] * (1 - up) + lamps.sky[2] * up) * occlusion
    mr = mg = mb = 0.0
    # Light that enters skin comes out redder and beyond the edge of the shade.
    wr, wg, wb = 0.1 + 0.25 * softness, 0.1 + 0.06 * softness, 0.1
    for i in range(3):
        lx, ly, lz = lamps.directions[i, 0], lamps.directions[i, 1], lamps.directions[i, 2]
        cosine = nx * lx + ny * ly + nz * lz
        share = lit if i == 0 else 1.0
        bleed = 1.0 - share
        dr += lamps.colours[i, 0] * max(0.0, (cosine + wr) / (1 + wr)) * (share + 0.1 * bleed)
        dg += lamps.colours[i, 1] * max(0.0, (cosine + wg) / (1 + wg)) * (share + 0.03 * bleed)
        db += lamps.colours[i, 2] * max(0.0, (cosine + wb) / (1 + wb)) * (share + 0.02 * bleed)
        if cosine <= 0 or shine <= 0:
            continue
        hx, hy, hz = lx + vx, ly + vy, lz + vz
        scale = 1.0 / math.sqrt(hx * hx + hy * hy + hz * hz + 1e-12)
        lobe = gloss * ((nx * hx + ny * hy + nz * hz) * scale - 1.0)
        if lobe < -6:
            continue
        graze = 1.0 - max(0.0, (vx * hx + vy * hy + vz * hz) * scale)
        fresnel = 0.04 + 0.96 * graze * graze * graze * graze * graze
        mirror = shine * fresnel * (gloss + 2) / 8 * math.exp(lobe) * share * max(cosine, 0.15)
        mr += lamps.colours[i, 0] * mirror
        mg += lamps.colours[i, 1] * mirror
        mb += lamps.colours[i, 2] * mirror
    return dr, dg, db, mr, mg, mb


@no_type_check
@njit(cache=True, fastmath=True)
def _material(
    surface: Surface, look: Look, t: int, corner_weights: Three, occlusion: float
) -> Seven:
    """Red, green, blue, shine, gloss, softness and occlusion of a point of triangle t."""
    wa, wb, wc = corner_weights
    kind = surface.material[t]
    if kind in (BODY, HAIR):
        uv = surface.texcoords[t]
        u = wa * uv[0, 0] + wb * uv[1, 0] + wc * uv[2, 0]
        v = wa * uv[0, 1] + wb * uv[1, 1] + wc * uv[2, 1]
        if kind == BODY:
            red, green, blue, shine, softness = _skin_colour(look.skin, u, v)
            return red, green, blue, shine, 9 + 19 * softness, softness, occlusion
        rows, columns = look.strands.shape
        row = min(rows - 1, max(0, int(v * rows)))
        gain = look.strands[row, min(columns - 1, max(0, int(u * columns)))]
        hair = look.hair
        return hair[0] * gain, hair[1] * gain, hair[2] * gain, 0.2 * occlusion, 9, 0, occlusion
    if kind == EYE:
        a, b, c = surface.triangles[t, 0], surface.triangles[t, 1], surface.triangles[t, 2]
        k = surface.neutral
        red, green, blue, shade = _eye_colour(
            look,
            wa * k[a, 0] + wb * k[b, 0] + wc * k[c, 0],
            wa * k[a, 1] + wb * k[b, 1] + wc * k[c, 1],
            wa * k[a, 2] + wb * k[b, 2] + wc * k[c, 2],
        )
        return red, green, blue, 1.4, 160, 0.4, occlusion * shade
    if kind == LASH:
        return look.lash[0], look.lash[1], look.lash[2], 0.0, 9, 0, occlusion
    if kind == TEETH:
        return look.teeth[0], look.teeth[1], look.teeth[2], 0.5, 50, 0.6, occlusion
    return look.tongue[0], look.tongue[1], look.tongue[2], 0.4, 30, 1, occlusion


@no_type_check
@njit(cache=True, fastmath=True)
def _shade_point(scene: Scene, t: int, px: float, py: float) -> Three:
    """Linear red, green, blue of the point of triangle t seen at a place of the picture."""
    surface, look, lamps, shadow, eye = scene
    weights = weights_at(surface.screen, surface.triangles[t], px, py)
    wa, wb, wc = weights
    a, b, c = surface.triangles[t, 0], surface.triangles[t, 1], surface.triangles[t, 2]
    n, p = surface.normal, surface.position
    nx = wa * n[a, 0] + wb * n[b, 0] + wc * n[c, 0]
    ny = wa * n[a, 1] + wb * n[b, 1] + wc * n[c, 1]
    nz = wa * n[a, 2] + wb * n[b, 2] + wc * n[c, 2]
    x = wa * p[a, 0] + wb * p[b, 0] + wc * p[c, 0]
    y = wa * p[a, 1] + wb * p[b, 1] + wc * p[c, 1]
    z = wa * p[a, 2] + wb * p[b, 2] + wc * p[c, 2]
    vx, vy, vz = eye[0] - x, eye[1] - y, eye[2] - z
    scale = 1.0 / math.sqrt(vx * vx + vy * vy + vz * vz)
    vx, vy, vz = vx * scale, vy * scale, vz * scale
    scale = 1.0 / math.sqrt(nx * nx + ny * ny + nz * nz + 1e-12)
    if surface.material[t] == HAIR and nx * vx + ny * vy + nz * vz < 0:
        scale = -scale
    nx, ny, nz = nx * scale, ny * scale, nz * scale
    open_share = wa * surface.occlusion[a] + wb * surface.occlusion[b] + wc * surface.occlusion[c]
    red, green, blue, shine, gloss, softness, occlusion = _material(
        surface, look, t, weights, open_share
    )
    lit = 1.0 if surface.material[t] == EYE else _lit_share(shadow, x, y, z)
    dr, dg, db, mr, mg, mb = _illuminate(
        lamps, (nx, ny, nz), (vx, vy, vz), (shine, gloss, softness, occlusion), lit
    )
    return red * dr + mr, green * dg + mg, blue * db + mb


@no_type_check
@njit(cache=True, fastmath=True)
def shade(
    scene: Scene,
    triangle_ids: Int[np.ndarray, "rows columns"],
    samples: Float[np.ndarray, "rows columns 3"],
) -> None:
    """Writes the linear colour of every sample that shows a triangle; leaves the others."""
    for y in range(triangle_ids.shape[0]):
        for x in range(triangle_ids.shape[1]):
            t = triangle_ids[y, x]
            if t >= 0:
                red, green, blue = _shade_point(scene, t, x + 0.5, y + 0.5)
                samples[y, x, 0] = red
                samples[y, x, 1] = green
                samples[y, x, 2] = blue


@no_type_check
@njit(cache=True, fastmath=True)
def develop(
    samples: Float[np.ndarray, "rows columns 3"],
    curve: UInt8[np.ndarray, " entries"],
    frame: UInt8[np.ndarray, "height width 3"],
) -> None:
    """Fills `frame`: the mean of the samples of a pixel through a tone curve over [0, 4)."""
    height, width = frame.shape[0], frame.shape[1]
    rate = samples.shape[0] // height
    gain = curve.shape[0] / (4.0 * rate * rate)
    for y in range(height):
        for x in range(width):
            for channel in range(3):
                total = 0.0
                for j in range(rate):
                    for i in range(rate):
                        total += samples[y * rate + j, x * rate + i, channel]
                frame[y, x, channel] = curve[min(curve.shape[0] - 1, int(total * gain))]
