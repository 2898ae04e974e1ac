"""Frame → its brightness, as a grey picture of whole numbers."""

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

RED, GREEN, BLUE = 19595, 38470, 7471  # 0.299, 0.587, 0.114 in units of 2**-16


def luma(frame: UInt8[Tensor, "3 height width"]) -> UInt8[np.ndarray, "height width"]:
    """Brightness of each pixel, 0-255, equal to Pillow's mode "L"; grey stays what it is.

    Source: ITU-R BT.601 in the 16-bit integers of python-pillow/Pillow src/libImaging/Convert.c.
    """
    red, green, blue = frame.cpu().int()
    return (red * RED + green * GREEN + blue * BLUE + 2**15 >> 16).byte().numpy()
