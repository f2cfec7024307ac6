"""Runs of the label job, and what they write."""

import json
import subprocess
import sys
from pathlib import Path

from helpers import ROOT
from helpers.models import COLORS, image_file
from pipeline import transforms
from pipeline.__main__ import main
from pipeline.errors import RunError

# The files of a run that has ended.
WHOLE = [
    "failures-00000-of-00001.jsonl",
    "labels-00000-of-00001.jsonl",
    "report.html",
    "run.yaml",
    "summary.json",
]


def rows(output, name):
    """All rows of the shards of that name."""
    shards = sorted(Path(output).glob(f"{name}-*-of-*.jsonl"))
    assert shards
    return [json.loads(line) for shard in shards for line in shard.read_text().splitlines()]


def summary(output):
    return json.loads((Path(output) / "summary.json").read_text())


def write_colors(folder, count=3):
    """Write images of one color each, in turn; return their number."""
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


def files(folder):
    """The names of the files in a folder, in order."""
    return sorted(path.name for path in Path(folder).iterdir())


def nights(output):
    """The folders of incremental runs, in order."""
    return sorted(Path(output).glob("run=*"))


def break_off(monkeypatch, flags, *argv, after=4):
    """A run that ends after so many images, with the rows of some of them kept."""
    original, count = transforms.label_image, 0

    def killing(*args, **kwargs):
        nonlocal count
        count += 1
        if count > after:
            raise RunError("killed")
        return original(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(transforms, "label_image", killing)
        assert run(*argv, **flags, checkpoint_every=2, batch_size=1) == 1
