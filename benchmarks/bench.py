"""Labels the same photographs with every contender, by turns, and says how they compare.

    python benchmarks/bench.py [--fixtures FOLDER] [--images 1000] [--rounds 3] [--only PROGRAM …]

Run by ``make bench``, which makes the contenders' environments first. Each contender is a process
of its own that reads a list of JPEG files, labels them with MobileNetV2 and writes rows, see
``contenders/common.py``. Measured for each, medians over the rounds:

- the whole process, start-up included, in images per second;
- the steady rate, from the end of the first batch to the end of the last;
- CPU time of the whole machine, in ms per image: nothing else should run;
- peak memory of the process and all its children (proportional set size, so that what they share
  counts once), sampled once a second;
- the fraction of the images with the bound's label.

The table is printed, and written with the raw figures to ``results.json`` and ``results.png``.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import platform
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).parent
ENVIRONMENTS = HERE / "environments"
SAMPLE_SECONDS = 1.0


@dataclasses.dataclass(frozen=True)
class Contender:
    """A program in ``contenders/``, the environment it runs in, and more flags for it.

    ``environment``: a folder in ``environments/``, None for this project's own.
    ``package_decode``: whether it decodes with this package instead of plain Pillow.
    """

    name: str
    program: str
    environment: str | None
    flags: tuple[str, ...] = ()
    package_decode: bool = False


BOUND = Contender("bound: no engine", "bound.py", None, package_decode=True)
THIS = Contender("this package", "this_package.py", None)
CONTENDERS = (
    BOUND,
    THIS,
    Contender("Daft, tuned, this package's decode", "daft_tuned.py", "daft", package_decode=True),
    Contender("Daft, tuned", "daft_tuned.py", "daft"),
    Contender("Daft, as documented", "daft_idiomatic.py", "daft"),
    Contender("Ray Data, tuned, this package's decode", "ray_tuned.py", "ray", package_decode=True),
    Contender("Ray Data, tuned", "ray_tuned.py", "ray"),
    Contender("Ray Data, read_images", "ray_read_images.py", "ray"),
    Contender("Beam's example style", "beam_example.py", "beam"),
    Contender("tf.data + model.predict", "tf_data.py", "tensorflow"),
)


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of a contender. Times in seconds, memory in MB, ``labels`` by path."""

    seconds: float
    steady_images_per_second: float
    cpu_seconds: float
    peak_megabytes: float
    labels: dict[str, int]


def prepare(fixtures: Path, images: int, folder: Path) -> tuple[Path, Path]:
    """A list of so many photographs, copies by links, and the model's folder, with its labels."""
    photographs = sorted((fixtures / "photos").glob("*.JPEG"))
    links = folder / "photographs"
    links.mkdir()
    for number in range(images):
        photograph = photographs[number % len(photographs)]
        (links / f"{number:06d}.jpeg").symlink_to(photograph.resolve())
    listing = write_list(folder, f"{links}/", images)
    model = folder / "model"
    with tarfile.open(fixtures / "models" / "mobilenet_v2_classification.tar.gz") as archive:
        archive.extractall(model, filter="data")
    labels = (fixtures / "labels" / "imagenet_labels.txt").read_bytes()
    (model / "assets").mkdir(exist_ok=True)
    (model / "assets" / "labels.txt").write_bytes(labels)
    return listing, model


def write_list(folder: Path, prefix: str, images: int) -> Path:
    """A list of the first so many photographs, with their folder's path or address in front."""
    listing = folder / "list.txt"
    listing.write_text("".join(f"{prefix}{number:06d}.jpeg\n" for number in range(images)))
    return listing


def measure(contender: Contender, listing: Path, model: Path, folder: Path) -> Run:
    """Run a contender once.

    Raises:
      RuntimeError: it failed; with the end of what it printed.
    """
    marks, rows, log = (folder / name for name in ("marks", "rows.jsonl", "log"))
    for file in (marks, rows):
        file.unlink(missing_ok=True)
    python = sys.executable
    if contender.environment:
        python = str(ENVIRONMENTS / contender.environment / "bin" / "python")
    environment = os.environ | {
        "BENCHMARK_DECODE": "package" if contender.package_decode else "pillow",
        "BENCHMARK_MARKS": str(marks),
        "PYTHONPATH": f"{HERE.parent}:{HERE / 'contenders'}",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_ENABLE_ONEDNN_OPTS": "1",
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
    command = [python, str(HERE / "contenders" / contender.program)]
    with log.open("wb") as output:
        busy = _busy_seconds()
        started = time.monotonic()
        process = psutil.Popen(
            [*command, str(listing), str(model), str(rows), *contender.flags],
            stdout=output,
            stderr=output,
            env=environment,
        )
        peak = 0.0
        running = True
        while running:
            peak = max(peak, _megabytes(process))
            with suppress(psutil.TimeoutExpired):
                process.wait(SAMPLE_SECONDS)
                running = False
        seconds = time.monotonic() - started
        busy = _busy_seconds() - busy
    if process.returncode:
        raise RuntimeError(f"{contender.name} failed:\n{log.read_text()[-3000:]}")
    written = [json.loads(line) for line in rows.read_text().splitlines()]
    return Run(
        seconds,
        _steady(marks),
        busy,
        peak,
        {row["image"]: row["class_id"] for row in written},
    )


def _megabytes(process: psutil.Process) -> float:
    total = 0
    for part in _family(process):
        with suppress(psutil.Error):
            total += part.memory_full_info().pss
    return total / 1e6


def _family(process: psutil.Process) -> Iterator[psutil.Process]:
    with suppress(psutil.Error):
        yield process
        yield from process.children(recursive=True)


def _busy_seconds() -> float:
    """CPU seconds that all cores together have been busy since they were started."""
    times = psutil.cpu_times()
    return times.user + times.nice + times.system + times.irq + times.softirq


def _steady(marks: Path) -> float:
    """Images per second between the end of the first batch and that of the last; NaN if unknown."""
    if not marks.exists():  # processes that this package itself starts leave none
        return math.nan
    lines = sorted(line.split() for line in marks.read_text().splitlines())
    times = [float(when) for when, _ in lines]
    images = sum(int(count) for _, count in lines[1:])
    return images / (times[-1] - times[0])


def compare(runs: dict[str, list[Run]], images: int) -> list[dict[str, Any]]:
    """Make one row per contender, with medians over its runs."""
    reference = runs[BOUND.name][0].labels
    bound = statistics.median(run.steady_images_per_second for run in runs[BOUND.name])
    table = []
    for name, measured in runs.items():
        seconds = statistics.median(run.seconds for run in measured)
        steady = statistics.median(run.steady_images_per_second for run in measured)
        same = sum(measured[0].labels.get(image) == label for image, label in reference.items())
        table.append(
            {
                "contender": name,
                "seconds": round(seconds, 1),
                "images_per_second": round(images / seconds, 1),
                "steady_images_per_second": round(steady, 1),
                "steady_ratio_to_bound": round(steady / bound, 2),
                "cpu_milliseconds_per_image": round(
                    statistics.median(run.cpu_seconds for run in measured) / images * 1000, 1
                ),
                "peak_megabytes": round(statistics.median(run.peak_megabytes for run in measured)),
                "rows": len(measured[0].labels),
                "same_labels": round(same / len(reference), 4),
            }
        )
    return table


def as_markdown(table: list[dict[str, Any]], images: int) -> str:
    """The table for people."""
    lines = [
        f"| {images:,} photographs | seconds | images/s | steady | of bound | CPU ms/image "
        "| peak MB | rows | same labels |",
        "| --- " * 9 + "|",
    ]
    lines += ["| " + " | ".join(str(value) for value in row.values()) + " |" for row in table]
    return "\n".join(lines)


def plot(table: list[dict[str, Any]], path: Path) -> None:
    """Bars of both rates, the fastest on top."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = sorted(table, key=lambda row: row["images_per_second"])
    figure, axes = pyplot.subplots(figsize=(8, 0.55 * len(rows) + 1.2), layout="constrained")
    places = range(len(rows))
    for key, label, shift, color in (
        ("steady_images_per_second", "once it runs", 0.2, "#9dbbd8"),
        ("images_per_second", "with start-up", -0.2, "#24567f"),
    ):
        values = [row[key] for row in rows]
        bars = axes.barh([place + shift for place in places], values, 0.38, color=color)
        axes.bar_label(bars, fmt="%.0f", padding=3, fontsize=8)
        bars.set_label(label)
    axes.set_yticks(places, [row["contender"] for row in rows])
    axes.set_xlabel("images per second")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = os.environ.get("LABELING_FIXTURES", HERE.parent.parent / "shared" / "fixtures")
    parser.add_argument("--fixtures", type=Path, default=Path(default))
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", metavar="PROGRAM", help="besides the bound")
    parser.add_argument("--output", type=Path, default=HERE / "results")
    arguments = parser.parse_args()
    contenders = [
        contender
        for contender in CONTENDERS
        if contender is BOUND or not arguments.only or contender.program in arguments.only
    ]
    runs: dict[str, list[Run]] = {contender.name: [] for contender in contenders}
    with tempfile.TemporaryDirectory() as scratch:
        listing, model = prepare(arguments.fixtures, arguments.images, Path(scratch))
        for round_ in range(arguments.rounds):
            for contender in contenders:
                run = measure(contender, listing, model, Path(scratch))
                runs[contender.name].append(run)
                print(
                    f"round {round_ + 1} of {arguments.rounds}: {contender.name}: "
                    f"{run.seconds:.1f} s, steady {run.steady_images_per_second:.1f} images/s",
                    file=sys.stderr,
                )
    table = compare(runs, arguments.images)
    print(as_markdown(table, arguments.images))
    results = {
        "images": arguments.images,
        "machine": {"cores": os.cpu_count(), "processor": _processor(), "os": platform.platform()},
        "table": table,
        "runs": {
            name: [
                {key: value for key, value in vars(run).items() if key != "labels"}
                for run in measured
            ]
            for name, measured in runs.items()
        },
    }
    arguments.output.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    plot(table, arguments.output.with_suffix(".png"))


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    simd = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16") if flag in flags]
    return f"{names[0] if names else platform.machine()} ({', '.join(simd)})"


if __name__ == "__main__":
    main()
