"""Writes the sample's images: ``python -m tools.sample.write_images``.

Class folders with drawings that the model has not seen, in all sizes and formats, and three bad
files as in every large collection: empty, cut off, and a web page under an image's name.
"""

from __future__ import annotations

import io
import shutil

import numpy as np

from pipeline.sample import IMAGES_DIR
from tools.sample.drawings import LABELS, draw

IMAGES_PER_CLASS = 12
SEED = 2
# Most photographs are JPEGs; each class has one file of each of the others.
FORMATS = {"png": {"optimize": True}, "webp": {"quality": 80}, "gif": {}, "jpg": {"quality": 85}}


def encode(label: str, number: int) -> tuple[str, bytes]:
    """Make the suffix and content of an image file."""
    rng = np.random.default_rng((SEED, LABELS.index(label), number))
    suffix = [*FORMATS][min(number, len(FORMATS) - 1)]
    size = 128 if suffix in ("png", "gif") else int(rng.integers(180, 300))  # noise packs badly
    file = io.BytesIO()
    image_format = "JPEG" if suffix == "jpg" else suffix
    draw(label, rng, size).save(file, image_format, **FORMATS[suffix])  # type: ignore[arg-type]
    return suffix, file.getvalue()


def main() -> None:
    """Replace the folder's content."""
    shutil.rmtree(IMAGES_DIR, ignore_errors=True)
    for label in LABELS:
        folder = IMAGES_DIR / label
        folder.mkdir(parents=True)
        for number in range(IMAGES_PER_CLASS):
            suffix, data = encode(label, number)
            (folder / f"{label}-{number + 1:02}.{suffix}").write_bytes(data)
    _, whole = encode("fish", IMAGES_PER_CLASS)
    (IMAGES_DIR / "fish" / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (IMAGES_DIR / "house" / "empty.jpg").write_bytes(b"")
    (IMAGES_DIR / "tree" / "web-page.jpg").write_bytes(
        b"<!DOCTYPE html>\n<title>404</title>\n<p>The picture that you asked for is not here.\n"
    )
    files = [path for path in IMAGES_DIR.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    print(f"{len(files)} files with {size:,} bytes in {IMAGES_DIR}")


if __name__ == "__main__":
    main()
