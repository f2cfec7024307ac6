"""Ray Data 2.60, tuned: one actor reads, decodes and predicts, so no pixels are ever stored.

Only paths go in and rows come out of ``map_batches``. Within a call of 1,024 paths four threads
decode two model batches ahead of the prediction, which TensorFlow spreads over both cores.

Tried, one run each of 402 photographs on two cores with a little other load, in seconds for
the whole process and images per second after the first batch: this, 27.2 and 128; two threads and
calls of 256, 26.7 and 94; two actors of one TensorFlow thread each, 34.3 and 78, as each imports
TensorFlow and loads the model for itself. No prestarted workers: no gain. Two thirds of the time
for 1,005 photographs pass before the first batch is done, in starting Ray and its workers.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import numpy as np
from common import BATCH_SIZE, arguments, decode, load, write
from ray_start import ray, start

THREADS = 4
AHEAD = 2 * BATCH_SIZE
CALL = 16 * BATCH_SIZE


class Labeler:
    """The model and the decoding threads, in an actor."""

    def __init__(self, model: str):
        self.threads = ThreadPoolExecutor(THREADS)
        self.predict = load(model)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        """The classes of many files, with their paths."""
        paths = batch["item"]
        remaining = iter(paths)
        pending = deque(self.threads.submit(decode, path) for path in islice(remaining, AHEAD))
        class_ids: list[int] = []
        while pending:
            pixels = [pending.popleft().result() for _ in range(min(BATCH_SIZE, len(pending)))]
            pending.extend(self.threads.submit(decode, p) for p in islice(remaining, len(pixels)))
            class_ids.extend(self.predict(pixels))
        return {"image": paths, "class_id": class_ids}


if __name__ == "__main__":
    paths, model, rows = arguments()
    start()
    answers = ray.data.from_items(paths, override_num_blocks=-(-len(paths) // CALL))
    answers = answers.map_batches(
        Labeler,
        fn_constructor_args=(model,),
        batch_size=CALL,
        compute=ray.data.ActorPoolStrategy(size=1),
        num_cpus=2,
    )
    write(rows, ((row["image"], row["class_id"]) for row in answers.iter_rows()))
    ray.shutdown()
