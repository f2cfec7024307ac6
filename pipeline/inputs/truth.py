"""Derives the true class of an image from its folder.

For an image in a folder of class folders, it is the name of the class folder; for any other image,
the name of the folder that it is in. Tables and TFRecord files have it beside the image's name.
"""

from __future__ import annotations

import posixpath

# The argument that says so for all images.
PARENT = "parent"


def parent(uri: str) -> str | None:
    """Return the name of the folder that an image is in; None if there is none."""
    return posixpath.basename(posixpath.dirname(uri)) or None


def class_folder(uri: str, root: str) -> str | None:
    """Return the name of the class folder that an image is in, however deep; None if it is in none.

    Args:
      uri: of the image.
      root: the folder of the class folders, without a slash at its end.
    """
    folder, _, rest = uri[len(root) + 1 :].partition("/")
    return folder if rest else None
