"""Ray Data 2.60 as its manual shows it: ``read_images``, and a class in ``map_batches``.

Ray reads and resizes the files in tasks of its own, with Pillow's bilinear filter, so the pixels
differ a little from this package's; they then pass through the object store to the one actor that
holds the model. Only what would disturb the measurement is set: no dashboard, no progress bars, no
usage statistics.
"""

from __future__ import annotations

import numpy as np
from common import BATCH_SIZE, SIZE, arguments, load, write
from ray_start import ray, start


class Classifier:
    """The model in an actor."""

    def __init__(self, model: str):
        self.predict = load(model)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The classes of a batch of images, with their paths."""
        return {"image": batch["path"], "class_id": self.predict(batch["image"])}


if __name__ == "__main__":
    paths, model, rows = arguments()
    start()
    answers = ray.data.read_images(paths, size=(SIZE, SIZE), mode="RGB", include_paths=True)
    answers = answers.map_batches(
        Classifier,
        fn_constructor_args=(model,),
        batch_size=BATCH_SIZE,
        compute=ray.data.ActorPoolStrategy(size=1),
    )
    write(rows, ((row["image"], row["class_id"]) for row in answers.iter_rows()))
    ray.shutdown()
