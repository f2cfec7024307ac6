"""What decodes the pixels of each format: a library's call, and what to make of its result.

Each ``open_…`` takes what ``containers`` left of a file, and returns an image that is not decoded
yet. Libraries besides Pillow and simplejpeg are imported when the first file needs them, which is
in the sandbox.
"""

from __future__ import annotations

import importlib
import io
import re
import types
import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import simplejpeg
from PIL import Image, ImageChops

from pipeline.errors import ImageError
from pipeline.images.containers.common import exif_orientation
from pipeline.images.containers.heif import CODECS, primary_image
from pipeline.images.containers.jpeg import Kind, kind_of
from pipeline.images.containers.jpeg_xl import jpeg_xl_size
from pipeline.records import Reason

# Pillow loads its plugins when it meets the first file that needs them, which is no thing to do in
# several threads at once.
Image.init()

# Pillow warns of odd metadata once per file; such a file is either labeled or a named failure.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

# Else Pillow would refuse what a larger limit allows; what it makes while it opens a file, before
# the size is checked, is kept in bounds by pipeline.images.containers.
Image.MAX_IMAGE_PIXELS = None

# Cameras and web servers leave a byte or two behind a scan; more is what remains of damaged pixels.
_EXTRANEOUS = re.compile(r"(\d+) extraneous bytes")
_MOST_EXTRANEOUS = 2
# What libjpeg says of files whose pixels are right all the same.
_HARMLESS = ("Invalid SOS parameters", "Inconsistent progression", "unknown JFIF", "Unknown Adobe")
_ADOBE = re.compile(rb"\xff\xee..Adobe", re.DOTALL)  # who inverts CMYK
_SCAN, _END = b"\xff\xda", b"\xff\xd9"
_NOT_IMPLEMENTED = ("nsupported", "not implemented", "not supported")


class Opened(NamedTuple):
    """An image whose size is known.

    ``load``: decodes it, in any mode of Pillow's that is not a palette of colors that are not
    known; of what can be decoded at a smaller scale, at the smallest that still has as many pixels
    on each side as its argument. ``kept``: for an argument, how many pixels are in memory
    meanwhile. ``orientation``: see ``Essentials``; None where that has it.
    """

    width: int
    height: int
    load: Callable[[int], Image.Image]
    kept: Callable[[int], int]
    orientation: int | None = None


def open_with_pillow(data: bytes, *, plugin: str) -> Opened:
    """Open what one of Pillow's plugins reads.

    Raises:
      one of those that ``decode`` takes for damage: the plugin does not take it.
    """
    # Not by Image.open, which keeps to itself what is wrong with a file.
    return open_image(Image.OPEN[plugin][0](io.BytesIO(data), ""))


def open_image(image: Image.Image) -> Opened:
    """Take an image that decodes itself when it is loaded."""
    pixels = image.width * image.height
    orientation = exif_orientation(image.info.get("exif", b""))
    return Opened(
        image.width, image.height, lambda _: _loaded(image), lambda _: pixels, orientation
    )


def _loaded(image: Image.Image) -> Image.Image:
    image.load()
    return image


def open_jpeg(data: bytes) -> Opened:
    """Open a JPEG of any kind.

    Raises:
      ValueError: it has no frame.
      ImageError: it has one of a kind that is not read.
    """
    kind = kind_of(data)
    if kind is None:
        raise ValueError("it has no header that says how many pixels it has")
    if not kind.everyday:
        return _open_rare_jpeg(data, kind)
    width, height = kind.width, kind.height
    mode = {1: "GRAY", 4: "CMYK"}.get(kind.components, "RGB")

    def scaled(least: int) -> tuple[int, int]:
        scale = next(n for n in (8, 4, 2, 1) if n == 1 or min(width, height) >= n * least)
        return -(-width // scale), -(-height // scale)

    def load(least: int) -> Image.Image:
        return _load_jpeg(data, mode, *scaled(least))

    def kept(least: int) -> int:
        # Of a progressive JPEG all coefficients are kept, however small it is decoded.
        across, down = (width, height) if kind.process == "progressive" else scaled(least)
        return across * down

    return Opened(width, height, load, kept)


def _load_jpeg(data: bytes, mode: str, width: int, height: int) -> Image.Image:
    """Decode an everyday JPEG at the scale that gives this size.

    Raises:
      ValueError: pixels are missing, or wrong.
    """
    decode = simplejpeg.decode_jpeg
    try:
        pixels = decode(data, mode, min_width=width, min_height=height)
    except ValueError as error:
        if not _is_harmless(str(error), data):
            raise
        pixels = decode(data, mode, min_width=width, min_height=height, strict=False)
    if mode == "GRAY":
        return Image.fromarray(pixels[..., 0])
    if mode == "CMYK":
        image = Image.fromarray(pixels, "CMYK")
        return ImageChops.invert(image) if _ADOBE.search(data[: data.find(_SCAN)]) else image
    return Image.fromarray(pixels)


def _is_harmless(said: str, data: bytes) -> bool:
    """Whether what libjpeg says first of a file leaves its pixels what they are."""
    extraneous = _EXTRANEOUS.search(said)
    if extraneous is not None:
        count = int(extraneous[1])
        end = data.find(b"\xff\xd9")
        return count <= _MOST_EXTRANEOUS or data[:end].endswith(bytes(count))
    return any(words in said for words in _HARMLESS)


def _open_rare_jpeg(data: bytes, kind: Kind) -> Opened:
    """Open a JPEG of 12 bits, a lossless or an arithmetic-coded one, or a JPEG-LS."""
    if _END not in data[data.find(_SCAN) :]:
        raise ImageError(Reason.TRUNCATED, f"the file, {kind.name}, ends before its pixels do")
    imagecodecs = _library("imagecodecs", kind.name)

    is_ls = kind.process == "JPEG-LS"

    def load(_: int) -> Image.Image:
        decode = imagecodecs.jpegls_decode if is_ls else imagecodecs.jpeg8_decode
        try:
            pixels = decode(data)
        except RuntimeError as error:
            is_known = any(words in str(error) for words in _NOT_IMPLEMENTED)
            reason = Reason.UNSUPPORTED_FORMAT if is_known else Reason.CORRUPT
            raise ImageError(reason, f"{kind.name}: {error}") from error
        image = _image_of(pixels, 2**kind.bits - 1, "CMYK")
        if image.mode == "CMYK" and _ADOBE.search(data[: data.find(_SCAN)]):
            return ImageChops.invert(image)
        return image

    pixels = kind.width * kind.height
    return Opened(kind.width, kind.height, load, lambda _: pixels)


def open_jpeg_xl(data: bytes) -> Opened:
    """Open the first frame of a JPEG XL; its decoder turns it upright."""
    imagecodecs = _library("imagecodecs", "JPEG XL")
    width, height = jpeg_xl_size(data)

    def load(_: int) -> Image.Image:
        try:
            samples = imagecodecs.jpegxl_decode(data, index=0, numthreads=1)
        except RuntimeError as error:
            cut = "NEED_MORE_INPUT" in str(error)
            raise ImageError(Reason.TRUNCATED if cut else Reason.CORRUPT, str(error)) from error
        return _image_of(samples, 255 if samples.dtype == np.uint8 else 65535, "RGBA")

    return Opened(width, height, load, lambda _: width * height)


def open_heif(data: bytes) -> Opened:
    """Open the image of a HEIC or AVIF that is meant to be shown, cropped and turned as it says.

    Raises:
      ImageError: it is coded in a way that is not read.
    """
    primary = primary_image(data)
    if primary is None or primary.codec == b"av01":
        opened = open_with_pillow(data, plugin="AVIF")
        return opened if primary is None or primary.crop is None else _cropped(opened, primary.crop)
    if primary.codec not in (b"hvc1", b"hev1"):
        codec = CODECS.get(primary.codec, repr(primary.codec))
        raise ImageError(
            Reason.UNSUPPORTED_FORMAT, f"the HEIF file holds an image that is coded as {codec}"
        )
    pi_heif = _library("pi_heif", "HEIC")
    pi_heif.options.THUMBNAILS = pi_heif.options.DEPTH_IMAGES = pi_heif.options.AUX_IMAGES = False
    pi_heif.options.DECODE_THREADS = 1
    file = pi_heif.open_heif(data)
    width, height = file.size

    def load(_: int) -> Image.Image:
        image: Image.Image = file.to_pillow()
        image.info.clear()
        return image

    return Opened(width, height, load, lambda _: width * height, 1)


def _cropped(opened: Opened, box: tuple[int, int, int, int]) -> Opened:
    def load(least: int) -> Image.Image:
        return opened.load(least).crop(box)

    return opened._replace(width=box[2] - box[0], height=box[3] - box[1], load=load)


def _library(name: str, what: str) -> types.ModuleType:
    """A library that not every platform has.

    Raises:
      ImageError: this one does not.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.replace("_", "-")
        raise ImageError(
            Reason.UNSUPPORTED_FORMAT,
            f"{what} is read with a package that is not installed here: pip install {package}",
        ) from error


def _image_of(samples: np.ndarray, most: int, four: str) -> Image.Image:
    """Decoded samples ``[height, width]`` or ``[height, width, channels]`` as an 8-bit image.

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
