"""Puts any number of names through the whole label job, with images and a model that cost nothing.

    python benchmarks/many_names.py NAMES [LAYOUT]

A process of its own serves the names (``synthetic_bucket.py``). Listing, shuffles, decoding, the
model's calls, rows and summary are those of a real run on this machine; but every image is the same
tiny JPEG, which is in memory, and the model is a mean of 8 × 8 pixels. Prints one line of JSON: the
times, the memory of this process, and what each shuffle takes.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import synthetic_bucket
from apache_beam.runners.portability.fn_api_runner import execution
from PIL import Image

from pipeline import __main__ as command_line
from pipeline.models.tensorflow_import import tf
from pipeline.storage import read
from pipeline.storage.http import Content

_SECONDS_BETWEEN_SAMPLES = 5.0


@contextlib.contextmanager
def served(names: int, layout: str) -> Iterator[str]:
    """Serve the bucket in a process of its own; yields its address."""
    argv = [sys.executable, synthetic_bucket.__file__, str(names), layout]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.kill()


def save_model(folder: Path) -> None:
    """Save a model of three classes that does next to nothing."""
    images = tf.TensorSpec((None, 8, 8, 3), tf.float32, "images")
    module = tf.train.Checkpoint(weight=tf.Variable(1.0))
    call = tf.function(lambda images: 10.0 * tf.reduce_mean(images, [1, 2]), [images])
    module.__call__ = call
    tf.saved_model.save(module, str(folder), signatures=call)
    (folder / "assets").mkdir(exist_ok=True)
    (folder / "assets" / "labels.txt").write_text("red\ngreen\nblue\n")


def photograph() -> bytes:
    """Make the image that every name stands for."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (200, 30, 30)).save(file, "JPEG")
    return file.getvalue()


def count_shuffled() -> dict[str, Counter[str]]:
    """Have the runner count the elements and bytes that each shuffle takes; see the result."""
    counts: dict[str, Counter[str]] = {}
    get_buffer, append = execution.BundleContextManager.get_buffer, execution.GroupingBuffer.append

    def get(self: Any, buffer_id: bytes, transform_id: str) -> Any:
        buffer = get_buffer(self, buffer_id, transform_id)
        if isinstance(buffer, execution.GroupingBuffer):
            transforms = self.execution_context.pipeline_components.transforms
            _, name = execution.split_buffer_id(buffer_id)
            unique = transforms[name].unique_name
            buffer.counted = counts.setdefault(unique, Counter())  # type: ignore[attr-defined]
        return buffer

    def add(self: Any, data: bytes) -> None:
        before = sum(map(len, self._table.values())) if len(self._table) < 100 else None
        self.counted["bytes"] += len(data)
        append(self, data)
        self.counted["keys"] = len(self._table)
        if before is not None:
            self.counted["elements"] = sum(map(len, self._table.values()))

    execution.BundleContextManager.get_buffer = get  # type: ignore[method-assign]
    execution.GroupingBuffer.append = add  # type: ignore[method-assign]
    return counts


def memory() -> int:
    """Return the megabytes of memory that this process has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 2**20


def measure(names: int, layout: str) -> dict[str, Any]:
    """Run the job once; return what it took."""
    read._read_remote = lambda *_, **__: Content(photo)  # type: ignore[assignment]
    photo, shuffled = photograph(), count_shuffled()
    samples, ended = [], threading.Event()

    def sample() -> None:
        while not ended.wait(_SECONDS_BETWEEN_SAMPLES):
            samples.append((round(time.monotonic() - started), memory()))

    with tempfile.TemporaryDirectory() as name, served(names, layout) as url:
        os.environ["STORAGE_EMULATOR_HOST"] = url
        folder = Path(name)
        save_model(folder / "model")
        flags = {
            "input": f"gs://bucket/{synthetic_bucket.PREFIX}",
            "model": folder / "model",
            "output": folder / "out",
        }
        argv = ["label", "--anonymous", *(f"--{flag}={value}" for flag, value in flags.items())]
        started = time.monotonic()
        threading.Thread(target=sample, daemon=True).start()
        code = command_line.main(argv)
        seconds = time.monotonic() - started
        assert code == 0
        summary = json.loads((folder / "out" / "summary.json").read_text())
        assert summary["labeled"] == names == summary["found"]
        written = sum(path.stat().st_size for path in (folder / "out").glob("labels-*"))
    return {
        "names": names,
        "layout": layout,
        "seconds": round(seconds, 1),
        "microseconds_per_image": round(seconds / names * 1e6),
        "peak_mb": max(mb for _, mb in samples) if samples else memory(),
        "row_bytes": round(written / names),
        "memory": samples[:: max(len(samples) // 20, 1)],
        "shuffles": {
            name: {**counts, "bytes_per_name": round(counts["bytes"] / names, 1)}
            for name, counts in sorted(shuffled.items(), key=lambda one: -one[1]["bytes"])
        },
    }


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]), *(sys.argv[2:] or ["numbered"]))))
