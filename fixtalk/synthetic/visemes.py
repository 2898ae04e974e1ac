"""Phonemes with their times → mouth coefficients and the viseme of each frame."""

import numpy as np
from scipy.ndimage import gaussian_filter1d

from fixtalk.shapes import Float

FPS = 25
OVERSAMPLING = 8
LEAD_SECONDS = 0.04  # lips move before the sound
SPREAD_SECONDS = 0.032  # of the co-articulation filter


def both_sides(**coefficients: float) -> dict[str, float]:
    """Coefficients of which those that end in `_` apply to both sides."""
    spread: dict[str, float] = {}
    for name, value in coefficients.items():
        sides = ("Left", "Right") if name.endswith("_") else ("",)
        spread |= {name.rstrip("_") + side: value for side in sides}
    return spread


VISEMES: dict[str, dict[str, float]] = {
    "sil": {},
    "PP": both_sides(mouthClose=0.1, mouthPress_=0.55, mouthRollLower=0.35, mouthRollUpper=0.3),
    "FF": both_sides(jawOpen=0.06, mouthRollLower=0.75, mouthUpperUp_=0.22),
    "TH": both_sides(jawOpen=0.16, tongueOut=0.55, mouthLowerDown_=0.2),
    "DD": both_sides(jawOpen=0.14, mouthLowerDown_=0.25, mouthUpperUp_=0.12),
    "kk": both_sides(jawOpen=0.2, mouthLowerDown_=0.18),
    "CH": both_sides(jawOpen=0.12, mouthFunnel=0.65, mouthPucker=0.15),
    "SS": both_sides(jawOpen=0.05, mouthStretch_=0.3, mouthLowerDown_=0.35, mouthUpperUp_=0.15),
    "RR": both_sides(jawOpen=0.14, mouthFunnel=0.4, mouthPucker=0.2),
    "aa": both_sides(jawOpen=0.62, mouthLowerDown_=0.25, mouthUpperUp_=0.1),
    "E": both_sides(jawOpen=0.36, mouthStretch_=0.25, mouthLowerDown_=0.25),
    "ih": both_sides(jawOpen=0.22, mouthSmile_=0.22, mouthLowerDown_=0.2),
    "iy": both_sides(jawOpen=0.12, mouthSmile_=0.38, mouthStretch_=0.2),
    "oh": both_sides(jawOpen=0.38, mouthFunnel=0.55, mouthPucker=0.25),
    "ou": both_sides(jawOpen=0.16, mouthPucker=0.8, mouthFunnel=0.25),
    "ax": both_sides(jawOpen=0.28, mouthLowerDown_=0.12),
}
# Beginnings of IPA symbols of each viseme; two-letter ones are tried first.
SOUNDS = {
    "CH": "tʃ dʒ ʃ ʒ",
    "aa": "aɪ aʊ æ ɑ a ʌ",
    "E": "eɪ ɛ e",
    "oh": "oʊ ɔɪ ɔ o ɒ",
    "PP": "p b m",
    "FF": "f v",
    "TH": "θ ð",
    "DD": "t d n l ɾ",
    "kk": "k ɡ g ŋ h",
    "SS": "s z",
    "RR": "ɹ r ɚ ɜ",
    "ou": "w u ʊ",
    "iy": "j i",
    "ih": "ɪ ᵻ",
    "ax": "ə ɐ",
}
_BEGINNINGS = sorted(
    ((sound, viseme) for viseme, sounds in SOUNDS.items() for sound in sounds.split()),
    key=lambda pair: -len(pair[0]),
)


def viseme_of(phoneme: str) -> str:
    """The viseme of an IPA symbol, "sil" for silence and the unknown."""
    bare = phoneme.lstrip("ˈˌ")
    return next((viseme for sound, viseme in _BEGINNINGS if bare.startswith(sound)), "sil")


def mouth_curves(
    phonemes: tuple[tuple[float, str], ...], num_frames: int, names: tuple[str, ...]
) -> tuple[Float[np.ndarray, "frames 52"], list[str]]:
    """Coefficients of the mouth at 25 fps and the viseme that sounds in each frame.

    A frame's viseme is that of the phoneme at the frame's middle; the curves lead the sound.
    """
    rate = FPS * OVERSAMPLING
    fine = np.zeros((num_frames * OVERSAMPLING, len(names)), np.float32)
    labels = ["sil"] * num_frames
    ends = [start for start, _ in phonemes[1:]] + [num_frames / FPS]
    for (start, phoneme), end in zip(phonemes, ends, strict=True):
        viseme = viseme_of(phoneme)
        strength = 1.15 if phoneme.startswith("ˈ") else 1.0
        first = max(0, round((start - LEAD_SECONDS) * rate))
        last = max(0, round((end - LEAD_SECONDS) * rate))
        for name, value in VISEMES[viseme].items():
            fine[first:last, names.index(name)] = value * strength
        for frame in range(num_frames):
            if start <= (frame + 0.5) / FPS < end:
                labels[frame] = viseme
    smooth = gaussian_filter1d(fine, SPREAD_SECONDS * rate, axis=0, truncate=3, mode="nearest")
    return smooth[OVERSAMPLING // 2 :: OVERSAMPLING], labels
