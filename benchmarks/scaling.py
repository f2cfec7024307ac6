"""Measures rate and memory with more images, a slow store, and more processes.

    python benchmarks/scaling.py [--fixtures FOLDER] [--rounds 3]

Run by ``make scaling``. This package labels, by turns, 1,000, 2,000 and 20,000 local files (the
last once), 2,000 objects from a server that takes 80 ms for each (``slow_store.py``, on the same
cores), and 2,000 files in two processes. Measured as in ``bench.py``; written to
``scaling.json``.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench import HERE, THIS, Contender, Run, measure, prepare, write_list

MILLISECONDS = 80
MANY = 20_000
PROCESSES = Contender(
    "two processes",
    THIS.program,
    None,
    ("--direct_running_mode=multi_processing", "--direct_num_workers=2"),
)


def main() -> None:
    """Measure, print the table, write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = os.environ.get("LABELING_FIXTURES", HERE.parent.parent / "shared" / "fixtures")
    parser.add_argument("--fixtures", type=Path, default=Path(default))
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _, model = prepare(arguments.fixtures, MANY, folder)
        server = subprocess.Popen(
            [sys.executable, str(HERE / "slow_store.py"), str(folder), str(MILLISECONDS)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        cases = (
            ("1,000 files", THIS, f"{folder}/photographs/", 1000),
            ("2,000 files", THIS, f"{folder}/photographs/", 2000),
            (f"2,000 objects, {MILLISECONDS} ms each", THIS, f"{address}/photographs/", 2000),
            ("2,000 files, two processes", PROCESSES, f"{folder}/photographs/", 2000),
            (f"{MANY:,} files", THIS, f"{folder}/photographs/", MANY),
        )
        runs: dict[str, list[Run]] = {case: [] for case, *_ in cases}
        try:
            for round_ in range(arguments.rounds):
                for case, contender, prefix, images in cases:
                    if images == MANY and round_:
                        continue
                    listing = write_list(folder, prefix, images)
                    run = measure(contender, listing, model, folder)
                    assert len(run.labels) == images, f"{case}: {len(run.labels)} labels"
                    runs[case].append(run)
                    print(f"{case}: {run.seconds:.1f} s", file=sys.stderr)
        finally:
            server.kill()
            server.wait()
    table: list[dict[str, Any]] = [
        {
            "case": case,
            "seconds": round(statistics.median(run.seconds for run in measured), 1),
            "steady_images_per_second": round(
                statistics.median(run.steady_images_per_second for run in measured), 1
            ),
            "cpu_milliseconds_per_image": round(
                statistics.median(run.cpu_seconds / len(run.labels) for run in measured) * 1000, 2
            ),
            "peak_megabytes": round(statistics.median(run.peak_megabytes for run in measured)),
        }
        for case, measured in runs.items()
    ]
    for row in table:
        if math.isnan(row["steady_images_per_second"]):
            row["steady_images_per_second"] = None
    print("| case | seconds | steady images/s | CPU ms/image | peak MB |")
    print("| --- " * 5 + "|")
    for row in table:
        print("| " + " | ".join(str(value) for value in row.values()) + " |")
    (HERE / "scaling.json").write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
