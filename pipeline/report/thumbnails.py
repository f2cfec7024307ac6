"""Makes thumbnails of images, as many as the time allows."""

from __future__ import annotations

import concurrent.futures
import io
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from PIL import Image

from pipeline import storage
from pipeline.errors import ImageError
from pipeline.html import data_uri
from pipeline.html.figures import Thumbnail
from pipeline.images.decode import decode
from pipeline.limits import DEFAULT_LIMITS
from pipeline.report.aggregates import Picture

SIDE = 160
BUDGET_SECONDS = 20.0

# The most that a thumbnail takes of the page; noise would take four times as much at first.
MAX_BYTES = 7_000
_QUALITIES = (70, 50, 30, 10)

# Less than the run allowed, since a picture may be left out: sixteen are in memory at a time.
_THREADS = 16
_MAX_IMAGE_BYTES = 32 * 2**20


def load_thumbnails(
    pictures: Iterable[Picture], seconds: float = BUDGET_SECONDS
) -> dict[str, Thumbnail]:
    """Make thumbnails, as many as the time allows, and return them by image.

    Args:
      pictures: the most important first.
      seconds: time after which the missing thumbnails are left out.
    """
    pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="thumbnail")
    try:
        futures = {
            image: pool.submit(make_thumbnail, picture, seconds)
            for image, picture in {picture.image: picture for picture in pictures}.items()
        }
        concurrent.futures.wait(futures.values(), seconds)
        done = {image: future.result() for image, future in futures.items() if future.done()}
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return {image: thumbnail for image, thumbnail in done.items() if thumbnail is not None}


def make_thumbnail(picture: Picture, seconds: float) -> Thumbnail | None:
    """Make the thumbnail of one image; None if it cannot be made, or the image has changed.

    Args:
      picture: the image.
      seconds: time for each attempt to read it from a store or server, and for each wait if that is
        busy.
    """
    if min(picture.width, picture.height) < 1:
        return None
    if not storage.is_unchanged(picture.image, picture.version, seconds, seconds):
        return None
    scale = min(SIDE / max(picture.width, picture.height), 1.0)
    width, height = (max(round(side * scale), 1) for side in (picture.width, picture.height))
    try:
        data = storage.read_bytes(picture.image, _MAX_IMAGE_BYTES, seconds, seconds)
        decoded = decode(data, height, width, max_pixels=DEFAULT_LIMITS.max_image_pixels)
    except ImageError:
        return None
    if (decoded.width, decoded.height) != (picture.width, picture.height):
        return None
    return encode(Image.fromarray(decoded.pixels))


def encode(image: Image.Image) -> Thumbnail | None:
    """Make a thumbnail of a small RGB image; None if it takes too much of the page even so."""
    for quality in _QUALITIES:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        if file.tell() <= MAX_BYTES:
            return Thumbnail(data_uri("image/jpeg", file.getvalue()), image.width, image.height)
    return None
