"""ARKit's 52 coefficients of a face: which of them are the mouth's, and how a mirror sees them."""

import numpy as np

from fixtalk.shapes import Float

# in the order of the corpus: brows, cheeks, eyes, jaw and mouth, nose, tongue
MOUTH = slice(22, 49)
UPPER = [*range(22), 49, 50]
MIRRORED = (
    (0, 1), (3, 4), (6, 7), (8, 9), (10, 11), (12, 13), (14, 15), (16, 17), (18, 19), (20, 21),
    (23, 25), (27, 28), (29, 30), (32, 38), (33, 34), (35, 36), (43, 44), (45, 46), (47, 48),
    (49, 50),
)  # fmt: skip


def mirrored(muscles: Float[np.ndarray, "... 52"]) -> Float[np.ndarray, "... 52"]:
    """The same of the mirrored face."""
    order = np.arange(muscles.shape[-1])
    for left, right in MIRRORED:
        order[[left, right]] = right, left
    return muscles[..., order]
