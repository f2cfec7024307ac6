"""Names that people give to the columns of tables of images."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pipeline.formats.schema import ColumnError

# In lowercase, with _ between words; the first ones are the defaults.
IMAGES = (
    *("image", "file", "file_name", "filename", "path", "file_path", "filepath", "uri", "url"),
    *("image_file", "image_name", "image_path", "image_uri", "image_url", "img", "img_path"),
)
CLASSES = (
    *("label", "class", "category", "target", "truth", "ground_truth"),
    *("label_name", "class_name", "category_name"),
)

# In ``review.csv``, beside the model's own label: what a person says instead.
CORRECTED = "corrected"


def choose(wanted: str, usual: Sequence[str], names: Sequence[str]) -> str:
    """Choose a column: the wanted one; without it, the only one with a usual name, if there is one.

    Args:
      wanted: what it is called, as far as anybody said.
      usual: ``IMAGES`` or ``CLASSES``.
      names: the table's columns.

    Returns:
      Its name; ``wanted`` if no column has a usual name.

    Raises:
      ColumnError: several have.
    """
    if wanted in names:
        return wanted
    found = [name for name in dict.fromkeys(names) if _plain(name) in usual]
    if len(found) > 1:
        raise ColumnError(f"has no column {wanted!r}, but several like it: {', '.join(found)}")
    return found[0] if found else wanted


def _plain(name: str) -> str:
    return re.sub(r"[\s-]+", "_", name.strip()).casefold()
