"""Measures a night with --incremental after many others: time, memory, and what it reads.

    .venv/bin/python benchmarks/nights.py --nights 364 --rows 10000 --new 10000 FOLDER

The first night is a run on real, tiny images. The others are copies of it, with rows of images
that are no longer there. Then two more nights are run, each with new images, and measured: the
first derives the ledger of all nights before, and the second has it.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Make the nights, if they are not there, and measure two more."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--nights", type=int, default=364)
    parser.add_argument("--rows", type=int, default=10_000, help="of each night but the first")
    parser.add_argument("--new", type=int, default=10_000, help="images of the nights that are run")
    parser.add_argument("--model", default="sample")
    parser.add_argument("--root", type=Path, default=ROOT, help="of the package to measure")
    args = parser.parse_args()
    images, output = args.folder / "images", args.folder / "out"
    if not output.exists():
        _draw(images / "0", args.new)
        _run(args, images, output)
        [first] = output.glob("run=*")
        for night in range(1, args.nights):
            _copy(first, night, args.rows)
    for _ in range(2):
        _draw(images / str(time.time_ns()), args.new)
        before = len(list(output.glob("run=*")))
        seconds, cpu, peak, read = _run(args, images, output)
        print(
            f"night {before + 1}: {seconds:.1f} s, {cpu:.1f} s of CPU, {peak / 2**20:,.0f} MiB, "
            f"{read / 2**20:,.0f} MiB read",
            flush=True,
        )


def _draw(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    for n in range(count):
        Image.new("RGB", (8, 8), (n % 256, n // 256 % 256, 0)).save(folder / f"{n}.png")


def _run(args: argparse.Namespace, images: Path, output: Path) -> tuple[float, float, int, int]:
    """Run a night; return its seconds, those of CPU, its peak of memory, and the bytes it read."""
    command = [sys.executable, "-m", "pipeline", "label", "--incremental", f"--input={images}"]
    command += [f"--model={args.model}", f"--output={output}", "--batch_size=64"]
    start, read = time.monotonic(), 0
    log = args.folder / "log.txt"
    with log.open("w") as file:
        process = subprocess.Popen(command, cwd=args.root, stdout=file, stderr=file)
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        with contextlib.suppress(OSError, ValueError):  # it has just ended
            counters = Path(f"/proc/{process.pid}/io").read_text()
            read = int(counters.partition("rchar: ")[2].partition("\n")[0])
        time.sleep(0.1)
    if status:
        raise SystemExit(log.read_text())
    cpu = usage.ru_utime + usage.ru_stime
    return time.monotonic() - start, cpu, usage.ru_maxrss * 1024, read


def _copy(first: Path, night: int, rows: int) -> None:
    """Make a night out of the first one, so many days before it, with other images."""
    summary = json.loads((first / "summary.json").read_text())
    day = datetime.datetime(2020, 1, 1, 2, tzinfo=datetime.timezone.utc)
    day += datetime.timedelta(days=night)
    folder = first.parent / f"run={day:%Y-%m-%dT%H-%M-%SZ}"
    folder.mkdir()
    run_id = f"{day:%Y-%m-%dT%H-%M-%SZ}-abcdef"
    summary |= {"run_id": run_id, "labeled": rows, "failed": 0, "found": rows}
    summary |= dict.fromkeys(("started_at", "finished_at"), f"{day:%Y-%m-%dT%H:%M:%SZ}")
    with (first / "labels-00000-of-00001.jsonl").open() as file:
        row = json.loads(file.readline()) | {"run_id": run_id}
    with (folder / "labels-00000-of-00001.jsonl").open("w") as file:
        for n in range(rows):
            name = hashlib.sha256(f"{night} {n}".encode()).hexdigest()
            row |= {"image": f"gs://bucket/photos/{night}/{name}.jpg", "version": f"{n} {night}"}
            file.write(json.dumps(row) + "\n")
    (folder / "summary.json").write_text(json.dumps(summary))


if __name__ == "__main__":
    main()
