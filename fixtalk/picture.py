"""Picture file of any kind a phone or a browser writes → upright RGB pixels."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from fixtalk.container import MAX_PIXELS, MediaError
from fixtalk.shapes import UInt8

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
SMALLEST_SIDE = 32  # pixels: no face can be told in less


def read_picture(path: Path | str) -> UInt8[np.ndarray, "height width 3"]:
    """RGB pixels of a picture, or of the first frame of a video.

    It is turned upright as its EXIF says; what is transparent becomes white; grey and 16-bit
    pictures become 8-bit colour.

    Raises:
        MediaError: missing, neither picture nor video, cut off, too large or too small.
    """
    path = Path(path)
    if not path.is_file():
        raise MediaError(f"{path}: not found; check the path", "not found")
    try:
        with Image.open(path, formats=FORMATS) as image:
            pixels = _upright(image, path)
    except UnidentifiedImageError:
        pixels = _first_frame(path)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise MediaError(f"{path}: damaged picture ({error}); save it again") from None
    height, width = pixels.shape[:2]
    if min(height, width) < SMALLEST_SIDE:
        raise MediaError(
            f"{path}: {width}x{height} pixels, at least {SMALLEST_SIDE} a side are needed; "
            "choose a larger picture"
        )
    return pixels


def _upright(image: Image.Image, path: Path) -> UInt8[np.ndarray, "height width 3"]:
    if image.width * image.height > MAX_PIXELS:
        raise MediaError(
            f"{path}: {image.width}x{image.height} pixels, at most {MAX_PIXELS}; scale it down"
        )
    turned = ImageOps.exif_transpose(image)
    if turned.mode.startswith("I"):  # 16-bit grey, which Pillow would clip instead of scaling
        high = (np.asarray(turned).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        turned = Image.fromarray(high)
    if turned.has_transparency_data:
        ground = Image.new("RGBA", turned.size, "white")
        turned = Image.alpha_composite(ground, turned.convert("RGBA"))
    return np.asarray(turned.convert("RGB"))


def _first_frame(path: Path) -> UInt8[np.ndarray, "height width 3"]:
    from fixtalk.media import VideoReader

    try:
        return next(iter(VideoReader(path)))
    except MediaError as error:
        raise MediaError(
            f"neither a picture ({', '.join(FORMATS)}) nor a video: {error}", error.reason
        ) from None
