"""What the formats' decoders share: an image that is opened and not decoded yet, what opens it.

Libraries besides Pillow and simplejpeg are imported when the first file needs them, which is in the
sandbox.
"""

from __future__ import annotations

import importlib
import io
import types
import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image

from pipeline.errors import ImageError
from pipeline.records import Reason

# Pillow loads its plugins at the first file that needs one, which is not safe in several threads.
Image.init()

# Pillow warns about odd metadata once per file; such a file is labeled, or fails with a reason.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

# Otherwise Pillow would refuse what a larger limit allows. pipeline.images.containers bounds what
# it allocates while it opens a file, before the size is checked.
Image.MAX_IMAGE_PIXELS = None


class Opened(NamedTuple):
    """An image whose size is known.

    ``load``: decodes it, in any mode of Pillow's that is not a palette of colors that are not
    known; of what can be decoded at a smaller scale, at the smallest that still has as many pixels
    on each side as its argument. ``kept``: for an argument, how many pixels are in memory
    meanwhile. ``exif``: EXIF data, in case ``Essentials`` leave the orientation to that.
    """

    width: int
    height: int
    load: Callable[[int], Image.Image]
    kept: Callable[[int], int]
    exif: bytes = b""


def open_with_pillow(data: bytes, *, plugin: str) -> Opened:
    """Open what one of Pillow's plugins reads.

    Raises:
      one of those that ``decode`` takes for damage: the plugin does not take it.
    """
    # Not by Image.open, which keeps to itself what is wrong with a file.
    return open_image(Image.OPEN[plugin][0](io.BytesIO(data), ""))


def open_image(image: Image.Image) -> Opened:
    """Wrap an image that decodes itself when it is loaded."""
    pixels = image.width * image.height
    exif = image.info.get("exif", b"")
    return Opened(image.width, image.height, lambda _: _loaded(image), lambda _: pixels, exif)


def _loaded(image: Image.Image) -> Image.Image:
    image.load()
    return image


def library(name: str, what: str) -> types.ModuleType:
    """Import a library that not every platform has.

    Raises:
      ImageError: this platform does not have it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.replace("_", "-")
        raise ImageError(
            Reason.UNSUPPORTED_FORMAT,
            f"{what} is read with a package that is not installed here: pip install {package}",
        ) from error


def image_of(samples: np.ndarray, most: int, four: str) -> Image.Image:
    """Make an 8-bit image of samples ``[height, width]`` or ``[height, width, channels]``.

    Args:
      samples: uint8 or uint16, from 0 to ``most``; or floats, in which 1 is white.
      most: the value of white.
      four: the mode of four channels.
    """
    if samples.dtype.kind == "f":
        samples, most = np.nan_to_num(samples, posinf=1.0).clip(0, 1), 1
    if most != 255 or samples.dtype != np.uint8:
        scale = 255.0 / most
        eight_bit = np.empty(samples.shape, np.uint8)
        for row, into in zip(samples, eight_bit, strict=True):
            into[...] = (row * np.float32(scale)).round().clip(0, 255)
        samples = eight_bit
    if samples.ndim == 3 and samples.shape[2] == 1:
        samples = samples[..., 0]
    modes = {1: "L", 2: "LA", 3: "RGB", 4: four}
    channels = samples.shape[2] if samples.ndim == 3 else 1
    if channels not in modes:
        raise ImageError(Reason.UNSUPPORTED_FORMAT, f"images of {channels} channels are not read")
    image = Image.frombytes(modes[channels], samples.shape[1::-1], np.ascontiguousarray(samples))
    return image
