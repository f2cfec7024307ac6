"""Compares ways to call the model: batch sizes, precisions, XLA, XNNPACK, on this processor.

    python benchmarks/predict.py PHOTOS MODEL [RESULTS.json]

``PHOTOS`` is a folder of ImageNet photographs with ``truth.csv``, ``MODEL`` the folder of
MobileNetV2 as a SavedModel with ``assets/labels.txt``. The images are the photographs and four
crops of each. The ways take turns; the median of three rounds counts. Agreement is the part of the
images whose most probable class is that of float32 in batches of 64.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import photographs

from pipeline.images import decode as images
from pipeline.models.devices import Execution, set_precision
from pipeline.models.loading import load_classifier, load_probed
from pipeline.models.probing import probe_classifier
from pipeline.models.tensorflow_import import tf

ROUNDS = 3
FEW = 128  # images in a round of a way that is an order slower

Predict = Callable[[list[np.ndarray]], np.ndarray]


def classifier(model: str, execution: Execution) -> Predict:
    """This package's own."""
    loaded = load_classifier(probe_classifier(model), 5, execution)

    def predict(pixels: list[np.ndarray]) -> np.ndarray:
        set_precision(execution.precision)
        return np.array([answer.class_ids[0] for answer in loaded(pixels)])

    return predict


def xnnpack(model: str, batch: int) -> Predict:
    """The same network converted for TensorFlow Lite, which runs it with XNNPACK."""
    loaded = load_probed(probe_classifier(model))
    function = tf.function(lambda pixels: tf.argmax(loaded(tf.cast(pixels, tf.float32) / 255.0), 1))
    concrete = function.get_concrete_function(tf.TensorSpec((batch, 224, 224, 3), tf.uint8))
    converted = tf.lite.TFLiteConverter.from_concrete_functions([concrete], loaded).convert()
    interpreter = tf.lite.Interpreter(model_content=converted, num_threads=2)
    interpreter.allocate_tensors()
    (into,), (out,) = interpreter.get_input_details(), interpreter.get_output_details()

    def predict(pixels: list[np.ndarray]) -> np.ndarray:
        filled = np.zeros((batch, 224, 224, 3), np.uint8)
        filled[: len(pixels)] = pixels
        interpreter.set_tensor(into["index"], filled)
        interpreter.invoke()
        return interpreter.get_tensor(out["index"])[: len(pixels)]

    return predict


def main() -> None:
    """Measure, print the table, write it as JSON."""
    originals, truth = photographs.read(Path(sys.argv[1]))
    files = originals + photographs.crops(originals, each=4)
    pixels = [images.decode(data, 224, 224).pixels for data in files]
    model = sys.argv[2]
    plain = classifier(model, Execution())
    ways: dict[str, tuple[Predict, int, int]] = {
        f"float32, batches of {size}": (plain, size, FEW if size == 1 else len(pixels))
        for size in (64, 1, 8, 16, 32, 128, 256)
    }
    ways["bfloat16, batches of 64"] = (classifier(model, Execution("bfloat16")), 64, len(pixels))
    ways["float32 with XLA, batches of 64"] = (classifier(model, Execution(xla=True)), 64, FEW)
    ways["XNNPACK float32, batches of 64"] = (xnnpack(model, 64), 64, len(pixels))
    reference = np.empty(0)
    measured: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    quality: dict[str, tuple[float, float]] = {}
    for round_ in range(ROUNDS):
        for name, (predict, size, count) in ways.items():
            predict(pixels[:size])  # compiles for this size
            cpu, started = time.process_time(), time.perf_counter()
            starts = range(0, count, size)
            classes = np.concatenate([predict(pixels[at : min(at + size, count)]) for at in starts])
            wall = time.perf_counter() - started
            measured[name].append((wall / count, (time.process_time() - cpu) / count))
            if not len(reference):
                reference = classes
            if round_ == 0:
                right = classes[: len(truth)] == truth[:count]
                quality[name] = (
                    float(np.mean(right)),
                    float(np.mean(classes == reference[:count])),
                )
    rows = [
        {
            "way": name,
            "wall_milliseconds": round(statistics.median(wall for wall, _ in times) * 1000, 2),
            "cpu_milliseconds": round(statistics.median(cpu for _, cpu in times) * 1000, 2),
            "top_1": round(quality[name][0], 3),
            "agreement": round(quality[name][1], 4),
        }
        for name, times in measured.items()
    ]
    print(
        "| way | wall ms per image | CPU ms | top-1 | agreement |\n| --- | --- | --- | --- | --- |"
    )
    for row in rows:
        print("| " + " | ".join(str(value) for value in row.values()) + " |")
    if len(sys.argv) > 3:
        Path(sys.argv[3]).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
