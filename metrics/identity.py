"""Embeddings of two or three clips → whose identity the frames show."""

import torch
from jaxtyping import Float
from torch import Tensor

from metrics.inputs import check_numbers


def cosine_similarity(
    a: Float[Tensor, "frames features"], b: Float[Tensor, "frames features"]
) -> Float[Tensor, " frames"]:
    """Cosine between the embeddings of each frame, from -1 to 1; higher is better.

    A zero embedding has no direction: its frame is `nan`.

    Args:
        a: embeddings of the generated frames.
        b: embeddings of the person they should show, aligned one to one with `a`.

    Raises:
        ValueError: shapes differ, no frame, or NaN.

    Source: CSIM of ArcFace-style evaluations; equal to 1e-9 (tests/golden/identity.json).
    """
    check_numbers(a=a, b=b)
    a, b = a.double(), b.double()
    return (a * b).sum(dim=1) / (a.norm(dim=1) * b.norm(dim=1))


def identity_leakage(
    generated: Float[Tensor, "frames features"],
    source: Float[Tensor, "frames features"],
    driver: Float[Tensor, "frames features"],
) -> Float[Tensor, " frames"]:
    """Share of the driver's identity in each generated frame: 0 none, 1 fully the driver.

    Source and driver must both show the driving motion, so that only identity differs between
    them. Values outside 0 to 1 are possible. Where source and driver agree there is nothing to
    leak: the frame is `nan`, and the caller leaves it out and counts it.

    Args:
        generated: embeddings of the generated frames.
        source: embeddings of the source person in the driving motion (the ground truth).
        driver: embeddings of the driving frames.

    Raises:
        ValueError: shapes differ, no frame, or NaN.

    Source: <g - s, d - s> / |d - s|², defined by this project.
    """
    check_numbers(generated=generated, source=source, driver=driver)
    origin = source.double()
    towards_driver = driver.double() - origin
    reach = towards_driver.square().sum(dim=1)
    projection = ((generated.double() - origin) * towards_driver).sum(dim=1)
    return torch.where(reach > 0, projection / reach, torch.nan)
