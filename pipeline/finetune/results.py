"""Writes what a training has led to: the export, the report and the summary."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import shutil
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import console, storage
from pipeline.config import yaml_file
from pipeline.config.commands import as_yaml
from pipeline.config.job_options import written
from pipeline.evaluation import Evaluation
from pipeline.finetune import export, features
from pipeline.finetune.examples import load, load_suspects, to_jsonl
from pipeline.finetune.mislabeled import Suspects
from pipeline.finetune.parts import Assigned
from pipeline.finetune.report import EXAMPLES, MISLABELED, SUSPECTS, page_of
from pipeline.finetune.temperature import Temperature
from pipeline.finetune.training import History, Part
from pipeline.finetune.unfrozen import Unfrozen
from pipeline.finetune.validation import Run
from pipeline.outputs import layout
from pipeline.records import TIME, ImageRef
from pipeline.redaction import name_of, redact_all
from pipeline.runners.identity import versions

# So many images prove that the export answers as the trained model does.
_PROOFS = 30


@dataclasses.dataclass(frozen=True)
class Trained:
    """What training has led to.

    ``refs``: of the test images. ``seen``: checksums of those that train and validate. ``store``:
    of the features. ``unfrozen``: None if only the head was trained. ``assigned``: what has become
    of images of the same picture. ``suspects``: images whose given class is improbable.
    ``suspected``: of each of them the image and its part. ``images``: numbers by part.
    ``images_of_classes``: the same by class, too. ``temperature``: of the classifier. ``seconds``:
    of each stage.
    """

    classifier: export.Classifier
    probabilities: np.ndarray
    test: Part
    refs: list[ImageRef]
    seen: frozenset[str]
    store: str
    history: History
    unfrozen: Unfrozen | None
    images: dict[str, int]
    images_of_classes: dict[str, dict[str, int]]
    assigned: Assigned
    suspects: Suspects
    suspected: list[tuple[ImageRef, str]]
    temperature: Temperature
    seconds: dict[str, float]


def version_of(run: Run) -> str:
    """The export's version: seconds since 1970, as TFX numbers its own."""
    return str(int(run.started.timestamp()))


def write_results(
    run: Run,
    trained: Trained,
    evaluation: Evaluation,
    verifier: export.Verifier,
    folder: Path,
) -> None:
    """Write the export, the report and the summary into a folder on this machine.

    Raises:
      RunError: the export does not answer as the trained model does.
    """
    labels = run.survey.labels
    examples, read = load(
        trained.refs,
        trained.test.classes,
        trained.probabilities,
        labels,
        run.spec,
        run.config.limits,
    )
    # What proves the export; noise is there even where no image can be read any more.
    shape = (2, run.spec.height, run.spec.width, 3)
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    pixels = np.stack([*read[:_PROOFS], *noise])
    exported = folder / "export" / version_of(run)
    export.save(trained.classifier, exported, labels, run.spec, trained.seen)
    verifier.give(exported, pixels)
    difference = verifier.compare(trained.classifier, pixels)
    console.say(f"export: reloaded in another process; scores differ by at most {difference}")
    (folder / "test_predictions.csv").write_text(
        table_of_predictions(trained, evaluation), encoding="utf-8", newline=""
    )
    rows = [row.to_json() + "\n" for row in features.failures(trained.store, run.run_id)]
    (folder / f"{layout.FAILURES}-00000-of-00001.jsonl").write_text("".join(rows))
    summary = summarize(run, trained, evaluation, difference)
    (folder / EXAMPLES).write_text(to_jsonl(examples), encoding="utf-8")
    (folder / MISLABELED).write_text(
        table_of_suspects(trained, labels), encoding="utf-8", newline=""
    )
    suspects = load_suspects(
        [ref for ref, _ in trained.suspected],
        trained.suspects,
        labels,
        run.spec,
        run.config.limits,
    )
    (folder / SUSPECTS).write_text(to_jsonl(suspects), encoding="utf-8")
    page = page_of(summary, examples, run.output, suspects)
    (folder / layout.REPORT).write_text(page, encoding="utf-8")
    (folder / yaml_file.NAME).write_text(as_yaml(run.config), encoding="utf-8")
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


def table_of_predictions(trained: Trained, evaluation: Evaluation) -> str:
    """Write the answers for the test images as CSV, in the order of the images' names."""
    labels = [scores.label for scores in evaluation.classes]
    predicted = trained.probabilities.argmax(1)
    file = io.StringIO()
    table = csv.writer(file)
    table.writerow(["image", "truth", "label", "score", "correct"])
    for ref, truth, label, scores in zip(
        trained.refs, trained.test.classes, predicted, trained.probabilities, strict=True
    ):
        correct = "true" if truth == label else "false"
        row = [name_of(ref.uri), labels[truth], labels[label], float(scores[label]), correct]
        table.writerow(row)
    return file.getvalue()


def table_of_suspects(trained: Trained, labels: Sequence[str]) -> str:
    """Write the images whose given class is improbable as CSV, the worst first."""
    file = io.StringIO()
    table = csv.writer(file)
    table.writerow(["image", "given", "suggested", "probability", "given_probability", "part"])
    found = trained.suspects
    for (ref, part), given, suggested, score, given_score in zip(
        trained.suspected,
        found.given,
        found.suggested,
        found.probabilities,
        found.given_probabilities,
        strict=True,
    ):
        scores = [float(score), float(given_score)]
        table.writerow([name_of(ref.uri), labels[given], labels[suggested], *scores, part])
    return file.getvalue()


def summarize(
    run: Run, trained: Trained, evaluation: Evaluation, difference: float
) -> dict[str, Any]:
    """The content of ``summary.json``; times in seconds."""
    finished = datetime.now(timezone.utc)
    return {
        "run_id": run.run_id,
        "found": run.survey.images,
        **run.survey.passed_over.to_json(),
        "images": trained.images,
        "images_of_classes": trained.images_of_classes,
        "split": run.survey.split or None,
        "same_pictures": {
            "pictures": trained.assigned.groups,
            "images": trained.assigned.alike,
            "moved": trained.assigned.moved,
            "left_out": trained.assigned.left_out,
        },
        "mislabeled": trained.suspects.to_json(),
        "labels": list(run.survey.labels),
        "test": evaluation.to_json(),
        "calibration": trained.temperature.to_json(),
        "unfrozen": trained.unfrozen and trained.unfrozen.to_json(),
        "reload_difference": difference,
        "started_at": f"{run.started:{TIME}}",
        "finished_at": f"{finished:{TIME}}",
        "seconds": round((finished - run.started).total_seconds(), 3),
        "stage_seconds": trained.seconds,
        "epochs": [epoch._asdict() for epoch in trained.history.epochs],
        "steps": [step._asdict() for step in trained.history.steps],
        "model": redact_all(dataclasses.asdict(run.spec)),
        "options": written(run.config),
        "versions": versions(),
    }


def publish(results: Path, output: str) -> None:
    """Move the results to where they are to be seen, in place of any earlier ones.

    The export appears as a whole where there are folders; in a bucket, its graph comes after its
    variables, without which it is no model. ``summary.json`` is last: it says that all is there.
    """
    _remove_earlier(output)
    files = [path for path in results.rglob("*") if path.is_file()]
    if not storage.is_remote(output):
        (source,) = (results / "export").iterdir()
        hidden = Path(output, "export", f".{source.name}")
        shutil.rmtree(hidden, ignore_errors=True)
        shutil.copytree(source, hidden)
        hidden.rename(hidden.with_name(source.name))
        files = [path for path in files if source not in path.parents]
    last = {"saved_model.pb": 1, "summary.json": 2}
    for path in sorted(files, key=lambda path: (last.get(path.name, 0), path)):
        target = storage.join(output, *path.relative_to(results).parts)
        storage.write_file(target, path.read_bytes())


def _remove_earlier(output: str) -> None:
    """Delete the summary of an earlier run and its export, if there are some.

    What else it left gets the names of the new results.
    """
    path = storage.join(output, layout.SUMMARY)
    if not storage.exists(path):
        return
    with storage.open_file(path) as file:
        summary = json.load(file)
    storage.delete([path])
    started = datetime.strptime(summary["started_at"], TIME).replace(tzinfo=timezone.utc)
    export = storage.join(output, "export", str(int(started.timestamp())))
    if storage.is_remote(output):
        storage.delete([file.path for file in storage.list_files(f"{export}/")])
    elif Path(export).is_dir():
        storage.delete([export])
