"""Define the limits for each image, so that one image cannot hold up or bring down a run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits for each image. An image beyond one of them fails alone, with a reason of its own.

    Attributes:
      max_image_bytes: size of the file. The default is far above any photograph; a larger file is
        something else under an image's name.
      max_image_pixels: width × height. The default is Pillow's own limit, a quarter of a gigabyte
        of RGB.
      read_timeout_seconds: time for each attempt to read the file from a store or server.
    """

    max_image_bytes: int = 256 * 2**20
    max_image_pixels: int = 89_478_485
    read_timeout_seconds: float = 30.0


DEFAULT_LIMITS = Limits()
