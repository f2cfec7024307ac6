"""Runs of the label job, and what they have written."""

import json
import subprocess
import sys
from pathlib import Path

from helpers import ROOT
from helpers.models import COLORS, image_file
from pipeline.__main__ import main


def rows(output, name):
    """All rows of the shards of that name."""
    shards = sorted(Path(output).glob(f"{name}-*-of-*.jsonl"))
    assert shards
    return [json.loads(line) for shard in shards for line in shard.read_text().splitlines()]


def summary(output):
    return json.loads((Path(output) / "summary.json").read_text())


def write_colors(folder, count=3):
    """Images of one color each, in turn; their number is returned."""
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(count):
        color = list(COLORS)[n % 3]
        (folder / f"{color}-{n}.png").write_bytes(image_file(color))
    return str(folder)


def run(*argv, **flags):
    """The exit code of ``label`` with these arguments."""
    return main(["label", *argv, *(f"--{name}={value}" for name, value in flags.items())])


def run_process(*argv, **options):
    """``label`` as a user runs it, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "pipeline", "label", *argv],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        **options,
    )


def comparable(output):
    """The rows of a run, by image, without what differs from run to run."""
    found = rows(output, "labels") + rows(output, "failures")
    for row in found:
        del row["run_id"]
        row.pop("labeled_at", None)
    by_image = {row["image"]: row for row in found}
    assert len(by_image) == len(found)  # nothing twice
    return by_image
