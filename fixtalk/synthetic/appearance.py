"""Traits of a person → colours: texture of skin, brows, beard, lips, scalp, clothes; eyes."""

import numpy as np

from fixtalk.shapes import Float
from fixtalk.synthetic.atlas import Atlas
from fixtalk.synthetic.noise import noise, smoothstep
from fixtalk.synthetic.shading import Look
from fixtalk.synthetic.shape import cloth_cover, hair_cover
from fixtalk.synthetic.traits import Traits

EYE_CENTRES = np.array([[0.30775, 7.28415, 1.24535], [-0.30775, 7.28415, 1.24535]], np.float32)
SKIN_SHINE, LIP_SHINE, HAIR_SHINE = 0.25, 0.6, 0.22


class Layers:
    """A texture under construction: colour, shine and softness, painted layer by layer."""

    def __init__(self, colour: Float[np.ndarray, "texels texels 3"]) -> None:
        self.colour = colour
        self.shine = np.full(colour.shape[:2], SKIN_SHINE)
        self.softness = np.ones(colour.shape[:2])

    def paint(
        self,
        cover: Float[np.ndarray, "texels texels"],
        colour: Float[np.ndarray, "*texels 3"],
        shine: float | None = None,
        softness: float | None = None,
    ) -> None:
        """Lays a colour, and a finish if given, over the texels by their share `cover`."""
        self.colour = self.colour + (colour - self.colour) * cover[..., None]
        if shine is not None:
            self.shine = self.shine + (shine - self.shine) * cover
        if softness is not None:
            self.softness = self.softness + (softness - self.softness) * cover

    def tint(
        self, cover: Float[np.ndarray, "texels texels"], loss: tuple[float, float, float]
    ) -> None:
        """Takes away a share of red, green and blue."""
        self.colour = self.colour * (1 - cover[..., None] * np.array(loss))

    def texture(self) -> Float[np.ndarray, "texels texels 5"]:
        """Red, green, blue, shine, softness."""
        stack = [np.clip(self.colour, 0.004, 1), self.shine[..., None], self.softness[..., None]]
        return np.concatenate(stack, axis=2).astype(np.float32)


def build_look(atlas: Atlas, traits: Traits) -> Look:
    """All colours of a person."""
    rng = np.random.default_rng([traits.seed, 2])
    skin = _skin_texture(atlas, traits, rng)
    return Look(
        skin=skin,
        strands=_strands(traits),
        hair=traits.hair_colour.astype(np.float32),
        sclera=np.array([0.72, 0.69, 0.66], np.float32),
        iris=traits.iris.astype(np.float32),
        lash=np.array([0.01, 0.008, 0.007], np.float32),
        teeth=(np.array([0.72, 0.68, 0.58]) * rng.uniform(0.85, 1.1)).astype(np.float32),
        tongue=np.array([0.45, 0.16, 0.15], np.float32),
        eye_angles=np.array([rng.uniform(0.43, 0.48), rng.uniform(0.16, 0.22)], np.float32),
        eye_centres=EYE_CENTRES,
    )


def _skin_texture(
    atlas: Atlas, traits: Traits, rng: np.random.Generator
) -> Float[np.ndarray, "texels texels 5"]:
    place, seed = atlas.position, traits.seed
    blotches = noise(place, seed + 11, 2.2, 3)[..., None]
    pores = noise(place, seed + 13, 16.0, 2)[..., None]
    layers = Layers(traits.skin * (1 + 0.06 * blotches + 0.06 * pores * np.array([0.6, 1, 1])))
    _blood_and_age(layers, atlas, traits, rng)
    _lips(layers, atlas, traits, rng)
    _brows(layers, atlas, traits, rng)
    if traits.is_male:
        _beard(layers, atlas, traits, rng)
    _scalp(layers, atlas, traits)
    _clothes(layers, atlas, traits, rng)
    return layers.texture()


def _blob(
    atlas: Atlas, x: float, y: float, width: float, height: float
) -> Float[np.ndarray, "texels texels"]:
    """A soft spot on both sides of the front of the face."""
    place = atlas.position
    across = (np.abs(place[..., 0]) - x) / width
    up = (place[..., 1] - y) / height
    return np.exp(-(across**2) - up**2) * (place[..., 2] > 0.5)


def _blood_and_age(layers: Layers, atlas: Atlas, traits: Traits, rng: np.random.Generator) -> None:
    """Red cheeks, nose, chin and ears; dark rings; freckles, moles; lines on the forehead."""
    place = atlas.position
    red = 0.5 * _blob(atlas, 0.46, 6.98, 0.2, 0.2) + 0.45 * _blob(atlas, 0.0, 6.98, 0.15, 0.13)
    red = red + 0.25 * _blob(atlas, 0.0, 6.45, 0.2, 0.12) + 0.4 * atlas.masks["ears"]
    layers.tint(red * min(1.0, 1.4 * traits.skin[0]), (0.02, 0.20, 0.18))
    layers.tint(
        _blob(atlas, 0.31, 7.20, 0.17, 0.09) * (0.25 + 0.4 * traits.age), (0.25, 0.32, 0.28)
    )
    freckles = smoothstep(1.0, 1.6, noise(place, traits.seed + 23, 26.0, 1))
    amount = rng.random() ** 3
    layers.tint(amount * freckles * _blob(atlas, 0.25, 7.05, 0.5, 0.3), (0.3, 0.5, 0.55))
    for _ in range(int(rng.integers(0, 5))):
        x, y, area = rng.uniform(-0.6, 0.6), rng.uniform(6.4, 7.9), rng.uniform(0.0002, 0.0009)
        distance = (place[..., 0] - x) ** 2 + (place[..., 1] - y) ** 2
        layers.tint(0.7 * np.exp(-distance / area) * (place[..., 2] > 0.6), (1.0, 1.0, 1.0))
    folds = smoothstep(0.35, 1.0, 0.5 + 0.5 * np.sin(46 * (place[..., 1])))
    layers.tint(0.18 * traits.age * folds * _blob(atlas, 0.0, 7.78, 0.45, 0.13), (1.0, 1.0, 1.0))


def _lips(layers: Layers, atlas: Atlas, traits: Traits, rng: np.random.Generator) -> None:
    strength = rng.uniform(0.25, 0.5) if traits.is_male else rng.uniform(0.4, 0.85)
    colour = np.array([0.62, 0.22, 0.20]) * rng.uniform(0.8, 1.15) * traits.skin
    colour = colour / np.array([0.75, 0.5, 0.4])
    cover = atlas.masks["lips"]
    layers.paint(cover * strength, colour)
    layers.shine = layers.shine + (LIP_SHINE - layers.shine) * cover
    layers.paint(atlas.masks["inside_mouth"], np.array([0.30, 0.09, 0.085]))


def _brows(layers: Layers, atlas: Atlas, traits: Traits, rng: np.random.Generator) -> None:
    x, y, z = (atlas.position[..., axis] for axis in range(3))
    strength = rng.uniform(0.55, 1.0) if traits.is_male else rng.uniform(0.45, 0.9)
    width = rng.uniform(0.032, 0.055) * (1.15 if traits.is_male else 0.85)
    along = (np.abs(x) - 0.12) / 0.46
    arch = rng.uniform(0.02, 0.07) * 0.8 * np.sin(np.clip(along, 0, 1) * np.pi * 0.72)
    line = 7.478 + rng.uniform(-0.02, 0.03) + arch - 0.035 * along
    width = width * (1.15 - 0.75 * np.clip(along, 0, 1))
    hairs = 0.65 + 0.5 * noise(
        np.stack([34 * x + 60 * y, 18 * y - 10 * x, 4 * z], -1), traits.seed + 29, 1.0, 2
    )
    cover = smoothstep(1.25, 0.55, np.abs(y - line) / width)
    cover = cover * smoothstep(-0.05, 0.1, along) * smoothstep(1.08, 0.86, along) * (z > 0.9)
    colour = np.minimum(np.minimum(traits.hair_colour, 0.16) * 0.8, traits.skin * 0.45)
    layers.paint(np.clip(cover * np.clip(hairs, 0, 1.2) * strength, 0, 1), colour)


def _beard(layers: Layers, atlas: Atlas, traits: Traits, rng: np.random.Generator) -> None:
    strength = rng.random() * (0.9 if rng.random() < 0.5 else 0.25)
    if strength < 0.05:
        return
    x, y, z = (np.asarray(atlas.position[..., axis]) for axis in range(3))
    cheek_line = y - 0.30 * smoothstep(0.35, 0.75, np.abs(x))
    jaw = smoothstep(6.98, 6.72, y) * smoothstep(5.95, 6.2, y + 0.1 * z) * (z > 0.25)
    jaw = jaw * smoothstep(6.95, 6.6, cheek_line)
    cover = np.clip(np.maximum(jaw, _blob(atlas, 0.0, 6.80, 0.26, 0.05)), 0, 1)
    hairs = 0.55 + 0.45 * np.clip(noise(atlas.position, traits.seed + 31, 38.0, 2) + 0.6, 0, 1)
    cover = cover * (1 - atlas.masks["lips"]) * hairs * strength
    layers.paint(np.clip(cover, 0, 1), np.minimum(traits.hair_colour, 0.2))


def _scalp(layers: Layers, atlas: Atlas, traits: Traits) -> None:
    x, y, z = (atlas.position[..., axis] for axis in range(3))
    cover = hair_cover(atlas.position, traits)
    cover = cover * (1 - smoothstep(0.35, 0.8, atlas.masks["ears"]))
    cover = cover * {"bald": 0.12, "buzz": 0.7}.get(traits.hair_style, 1.0)
    strands = 1 + 0.45 * noise(np.stack([30 * x, 5 * y, 9 * z], -1), traits.seed + 37, 1.0, 3)
    strands = strands + 0.2 * noise(atlas.position, traits.seed + 41, 3.0, 2)
    colour = traits.hair_colour * np.clip(strands, 0.35, 1.9)[..., None]
    layers.paint(cover, colour, HAIR_SHINE, 0.0)


def _clothes(layers: Layers, atlas: Atlas, traits: Traits, rng: np.random.Generator) -> None:
    first, second = rng.uniform(0.02, 0.5, 3), rng.uniform(0.02, 0.6, 3)
    colour = np.broadcast_to(first, atlas.position.shape)
    if rng.random() < 0.3:
        is_stripe = np.sin(40 * atlas.position[..., 1]) > 0.2
        colour = np.where(is_stripe[..., None], second, first)
    weave = 1 + 0.12 * noise(atlas.position, traits.seed + 43, 30.0, 1)[..., None]
    layers.paint(cloth_cover(atlas.position, traits, 0.02), colour * weave, 0.0, 0.0)


def _strands(traits: Traits) -> Float[np.ndarray, "rows columns"]:
    """Brightness of long hair: fine across, slow along the strand."""
    down, across = np.mgrid[0:64, 0:256].astype(np.float32)
    place = np.stack([across / 256 * 60, down / 64 * 3, np.zeros_like(down)], -1)
    return np.clip(1 + 0.55 * noise(place, traits.seed + 47, 1.0, 3), 0.3, 2).astype(np.float32)
