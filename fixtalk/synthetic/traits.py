"""Identity seed → traits of a person: plain numbers that shape and appearance follow."""

from dataclasses import dataclass

import numpy as np

from fixtalk.shapes import Float

ANCESTRIES = ("african", "asian", "caucasian")
SKIN_TONES = np.array(
    [
        [0.86, 0.62, 0.50],
        [0.80, 0.55, 0.42],
        [0.70, 0.45, 0.32],
        [0.58, 0.35, 0.23],
        [0.42, 0.24, 0.15],
        [0.27, 0.15, 0.095],
        [0.19, 0.10, 0.065],
    ]
)
TONE_OF_ANCESTRY = np.array([4.6, 1.6, 0.9])
HAIR_COLOURS = {
    "black": (0.018, 0.015, 0.014),
    "dark": (0.045, 0.028, 0.018),
    "brown": (0.12, 0.065, 0.035),
    "auburn": (0.20, 0.07, 0.03),
    "blond": (0.42, 0.29, 0.15),
    "grey": (0.38, 0.37, 0.36),
    "white": (0.62, 0.61, 0.60),
}
HAIR_SHARES = (0.25, 0.25, 0.2, 0.08, 0.12, 0.06, 0.04)
IRIS_COLOURS = {
    "brown": (0.13, 0.06, 0.025),
    "dark": (0.06, 0.03, 0.015),
    "hazel": (0.20, 0.14, 0.05),
    "green": (0.14, 0.20, 0.09),
    "blue": (0.16, 0.28, 0.42),
    "grey": (0.25, 0.30, 0.33),
}
IRIS_SHARES_LIGHT = (0.3, 0.12, 0.15, 0.13, 0.2, 0.1)
IRIS_SHARES_DARK = (0.45, 0.45, 0.1, 0, 0, 0)
STYLES_MALE = {"bald": 0.12, "buzz": 0.2, "short": 0.4, "volume": 0.18, "long": 0.1}
STYLES_FEMALE = {"short": 0.15, "volume": 0.2, "long": 0.65}
HAIR_THICKNESS = {"bald": 0.0, "buzz": 0.015, "short": 0.12, "volume": 0.24, "long": 0.13}


@dataclass(frozen=True)
class Traits:
    """One person in numbers; lengths in decimetres, colours linear RGB."""

    seed: int
    is_male: bool
    age: float  # 0 young, 1 old
    ancestry: Float[np.ndarray, "3"]  # shares of ANCESTRIES
    weight: float  # -1 thin, 1 heavy
    hair_style: str
    hair_colour: Float[np.ndarray, "3"]
    hairline: float  # shift of the front hairline
    recession: float  # how far the corners of the hairline go back
    hair_tips: float  # height of the tips of long hair
    neckline: float  # height of the clothes at the front
    skin: Float[np.ndarray, "3"]
    iris: Float[np.ndarray, "3"]


def sample_traits(identity_seed: int) -> Traits:
    """The traits of a seed, with plausible dependences (grey hair with age, and so on)."""
    rng = np.random.default_rng([identity_seed, 0])
    is_male = bool(rng.random() < 0.5)
    age = float(rng.beta(1.2, 2.2))
    ancestry = rng.dirichlet([0.35] * 3)
    styles = STYLES_MALE if is_male else STYLES_FEMALE
    colours = list(HAIR_COLOURS)
    is_greying = age > 0.6
    shares = (0.0, 0.25, 0.25, 0.0, 0.0, 0.25, 0.25) if is_greying else HAIR_SHARES
    tone = float(np.clip(ancestry @ TONE_OF_ANCESTRY + rng.normal(0, 0.7), 0, 5.999))
    step = int(tone)
    skin = SKIN_TONES[step] * (1 - tone + step) + SKIN_TONES[step + 1] * (tone - step)
    irises = IRIS_SHARES_LIGHT if tone < 2 else IRIS_SHARES_DARK
    return Traits(
        seed=identity_seed,
        is_male=is_male,
        age=age,
        ancestry=ancestry,
        weight=float(np.clip(rng.normal(0, 0.5), -1, 1)),
        hair_style=str(rng.choice(list(styles), p=list(styles.values()))),
        hair_colour=np.array(HAIR_COLOURS[str(rng.choice(colours, p=shares))])
        * rng.uniform(0.8, 1.25),
        hairline=float(rng.uniform(-0.12, 0.12)),
        recession=float(0.5 * age * rng.random()) if is_male else 0.0,
        hair_tips=float(rng.uniform(4.9, 6.4)),
        neckline=float(5.52 + rng.uniform(-0.08, 0.18)),
        skin=skin * rng.uniform(0.93, 1.05, 3),
        iris=np.array(IRIS_COLOURS[str(rng.choice(list(IRIS_COLOURS), p=irises))])
        * rng.uniform(0.8, 1.3),
    )
