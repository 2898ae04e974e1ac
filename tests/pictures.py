"""A published picture and a recipe → the very pixels that golden numbers were measured on."""

import hashlib
import io

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage import data

CROP = 224


def reference(case):
    """The picture a case starts from, a crop of 224 pixels a side where it names a corner."""
    picture = getattr(data, case["image"])()
    if case["crop_yx"] is None:
        return picture
    top, left = case["crop_yx"]
    return np.ascontiguousarray(picture[top : top + CROP, left : left + CROP])


def variant(case):
    """The picture of a case, checked against the bytes that were measured."""
    pixels = degrade(reference(case), case["recipe"])
    assert hashlib.sha256(pixels.tobytes()).hexdigest() == case["sha256"], "recipe changed"
    return pixels


def degrade(picture, recipe):
    wide = picture.astype(np.float64)
    if "blur_sigma" in recipe:
        sigma = [recipe["blur_sigma"]] * 2 + [0] * (picture.ndim - 2)
        return np.rint(gaussian_filter(wide, sigma, mode="reflect")).astype(np.uint8)
    if "noise_seed" in recipe:
        noise = np.random.default_rng(recipe["noise_seed"]).normal(0, 12, picture.shape)
        return np.clip(np.rint(wide + noise), 0, 255).astype(np.uint8)
    if "jpeg_quality" in recipe:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=recipe["jpeg_quality"])
        return np.asarray(Image.open(file))
    if "roll" in recipe:
        return np.roll(picture, recipe["roll"], axis=(0, 1))
    if "gain" in recipe:
        numerator, denominator, offset = recipe["gain"]
        scaled = picture.astype(np.int32) * numerator // denominator + offset
        return np.clip(scaled, 0, 255).astype(np.uint8)
    return picture


def as_clip(picture):
    colour = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=-1)
    return torch.from_numpy(np.array(colour)).permute(2, 0, 1)[None]
