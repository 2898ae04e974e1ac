"""Identity, light, ARKit coefficients and pose → the frame and its exact labels."""

from dataclasses import dataclass
from functools import cache

import numpy as np

from fixtalk.shapes import Float, UInt8
from fixtalk.synthetic.appearance import build_look
from fixtalk.synthetic.atlas import load_atlas
from fixtalk.synthetic.camera import Camera
from fixtalk.synthetic.head import LANDMARK_VERTICES, LASH, Head
from fixtalk.synthetic.light import Light
from fixtalk.synthetic.occlusion import bake_occlusion
from fixtalk.synthetic.pose import pose_vertices
from fixtalk.synthetic.raster import rasterise, vertex_normals
from fixtalk.synthetic.shading import Look, Scene, Shadow, Surface, develop, shade
from fixtalk.synthetic.shape import Shape, build_shape
from fixtalk.synthetic.traits import sample_traits

SHADOW_EXTENT = 4.6  # decimetres seen by the shadow map
SHADOW_CENTRE = np.array([0, 7.1, 0.6])


@dataclass(frozen=True)
class Person:
    """All that one identity seed decides, ready to render."""

    identity_seed: int
    shape: Shape
    look: Look
    occlusion: Float[np.ndarray, " vertices"]


def build_person(head: Head, identity_seed: int, resolution: int) -> Person:
    """The person of a seed, with a texture fine enough for frames of `resolution` pixels."""
    traits = sample_traits(identity_seed)
    shape = build_shape(head, traits)
    texels, num_directions = (256, 24) if resolution < 96 else (512, 40)
    return Person(
        identity_seed=identity_seed,
        shape=shape,
        look=build_look(load_atlas(texels), traits),
        occlusion=bake_occlusion(head, shape, num_directions),
    )


class Renderer:
    """Draws frames of one head topology through one camera; buffers are reused."""

    def __init__(self, head: Head, camera: Camera, supersampling: int) -> None:
        self.head = head
        self.camera = camera
        self.rows = camera.resolution * supersampling
        self.triangle_ids = np.empty((self.rows, self.rows), np.int32)
        self.nearness = np.empty((self.rows, self.rows), np.float32)
        self.normals = np.empty((len(head.neutral), 3), np.float32)
        shadow_side = 160 if camera.resolution <= 128 else 320
        self.shadow_ids = np.empty((shadow_side, shadow_side), np.int32)
        self.shadow_nearness = np.empty((shadow_side, shadow_side), np.float32)

    def frame(
        self,
        person: Person,
        light: Light,
        arkit: Float[np.ndarray, "52"],
        pose: Float[np.ndarray, "6"],
    ) -> tuple[UInt8[np.ndarray, "height width 3"], Float[np.ndarray, "68 2"]]:
        """The picture and its landmarks in raw pixels, in the order of iBUG 300-W."""
        head, shape = self.head, person.shape
        vertices = pose_vertices(head, shape, arkit, pose)
        vertex_normals(vertices, head.triangles[: head.num_outward], self.normals)
        screen = self.camera.project(vertices, self.rows)
        rasterise(screen, shape.triangles, self.triangle_ids, self.nearness)
        surface = Surface(
            screen=screen,
            position=vertices,
            normal=self.normals,
            neutral=head.neutral,
            occlusion=person.occlusion,
            triangles=shape.triangles,
            texcoords=head.texcoords[shape.kept],
            material=head.material[shape.kept],
        )
        shadow = self._shadow(vertices, shape, light)
        samples = light.background(self.rows)
        scene = Scene(surface, person.look, light.lamps, shadow, self.camera.position)
        shade(scene, self.triangle_ids, samples)
        picture = np.empty((self.camera.resolution, self.camera.resolution, 3), np.uint8)
        develop(samples, _tone_curve(), picture)
        landmarks = self.camera.project(vertices[list(LANDMARK_VERTICES)])[:, :2]
        return picture, landmarks

    def _shadow(
        self, vertices: Float[np.ndarray, "vertices 3"], shape: Shape, light: Light
    ) -> Shadow:
        towards = light.lamps.directions[0].astype(np.float64)
        right = np.cross([0, 1, 0], towards)
        right /= np.linalg.norm(right)
        up = np.cross(towards, right)
        side = len(self.shadow_ids)
        scale = side / SHADOW_EXTENT
        rows = np.stack([right * scale, -up * scale, towards])
        shift = np.array([side / 2, side / 2, 8]) - rows @ SHADOW_CENTRE
        matrix = np.concatenate([rows, shift[:, None]], axis=1).astype(np.float32)
        screen = np.ascontiguousarray(vertices @ matrix[:, :3].T + matrix[:, 3])
        triangles = shape.triangles[self.head.material[shape.kept] != LASH]
        rasterise(screen, triangles, self.shadow_ids, self.shadow_nearness)
        return Shadow(matrix, self.shadow_nearness)


@cache
def _tone_curve() -> UInt8[np.ndarray, " entries"]:
    """Linear light 0..4 to 8-bit sRGB, highlights rolled off."""
    light = (np.arange(4096) + 0.5) / 1024 * 1.1
    rolled = np.clip(light * (1 + light / 9) / (1 + 0.55 * light), 0, 1)
    srgb = np.where(rolled < 0.0031308, 12.92 * rolled, 1.055 * rolled ** (1 / 2.4) - 0.055)
    return (srgb * 255 + 0.5).astype(np.uint8)
