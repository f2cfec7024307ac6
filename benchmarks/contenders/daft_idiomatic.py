"""Daft 0.7.26 as its manual shows it: ``download``, ``decode_image``, ``resize``, then the model.

Each step is an expression of Daft's own, run by its native runner; the model is a ``daft.cls``
whose batch method receives the resized images. Daft's resize is bilinear and antialiased, where
this package's is bicubic, so the pixels differ. Nothing is set but the batch size, and that it
shows no progress and reports nothing home.
"""

from __future__ import annotations

import os

# Read when Daft is imported.
os.environ["DO_NOT_TRACK"] = "1"
os.environ["DAFT_PROGRESS_BAR"] = "0"

import daft
import numpy as np
from common import BATCH_SIZE, SIZE, arguments, load, write
from daft import DataType, col
from daft.functions import decode_image, download, resize


@daft.cls
class Classifier:
    """The model, loaded once."""

    def __init__(self, model: str):
        self.predict = load(model)

    @daft.method.batch(return_dtype=DataType.int64(), batch_size=BATCH_SIZE)
    def classify(self, pixels: daft.Series) -> np.ndarray:
        """The classes of a batch of images."""
        return self.predict(pixels.to_pylist()).astype(np.int64)


if __name__ == "__main__":
    paths, model, rows = arguments()
    pixels = resize(decode_image(download(col("image"))), SIZE, SIZE)
    table = daft.from_pydict({"image": paths})
    table = table.with_column("class_id", Classifier(model).classify(pixels))
    answers = table.select("image", "class_id").to_pydict()
    write(rows, zip(answers["image"], answers["class_id"], strict=True))
    os._exit(0)  # Daft 0.7 sometimes crashes while Python ends, with its work done
