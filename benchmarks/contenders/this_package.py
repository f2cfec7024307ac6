"""This package's label command, with a mark after each batch; and its rows as the others' are."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import arguments, mark, write

from pipeline import __main__ as command_line
from pipeline.records import TopK


def mark_batches() -> None:
    """Have the classifier note each batch."""
    ImageClassifier = command_line._import("pipeline.models.predictors").ImageClassifier
    call = ImageClassifier.__call__

    def call_and_mark(self: Any, pixels: Sequence[np.ndarray]) -> list[TopK]:
        answers = call(self, pixels)
        mark(len(answers))
        return answers

    ImageClassifier.__call__ = call_and_mark


if __name__ == "__main__":
    _, model, rows = arguments()
    with tempfile.TemporaryDirectory() as output:
        mark_batches()
        flags = ["--input", sys.argv[1], "--model", model, "--output", output]
        if status := command_line.main(["label", *flags, *sys.argv[4:]]):
            sys.exit(status)
        labels = [
            json.loads(line)
            for shard in Path(output).glob("labels-*.jsonl")
            for line in shard.read_text().splitlines()
        ]
        write(rows, ((row["image"], row["class_id"]) for row in labels))
