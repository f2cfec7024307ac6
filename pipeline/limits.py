"""What no image may take more of, so that one cannot hold up or bring down a run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits for each image; beyond them it fails, alone, with a reason of its own.

    Attributes:
      max_image_bytes: of the file. By default far above any photograph; what is larger is something
        else under an image's name.
      max_image_pixels: width × height. By default Pillow's own limit, a quarter of a gigabyte of
        RGB.
      read_timeout_seconds: for each attempt to read it from a store or server.
    """

    max_image_bytes: int = 256 * 2**20
    max_image_pixels: int = 89_478_485
    read_timeout_seconds: float = 30.0


DEFAULT_LIMITS = Limits()
