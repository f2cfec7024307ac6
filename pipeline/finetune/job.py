"""The finetune job: check, compute features, train, evaluate, export, report."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import console, storage
from pipeline.config import yaml_file
from pipeline.config.commands import as_yaml
from pipeline.config.finetune_options import FinetuneConfig
from pipeline.config.job_options import written
from pipeline.errors import InputError, RunError
from pipeline.evaluation import Evaluation, evaluate
from pipeline.finetune import dataset, export, features
from pipeline.finetune.dataset import TEST, TRAIN, VALIDATION, Survey
from pipeline.finetune.examples import MOST_WRONG, choose
from pipeline.finetune.networks import Head, WholeNetwork, number_of_weights
from pipeline.finetune.pictures import draw_confusion, draw_curves, draw_grid
from pipeline.finetune.report import render_report
from pipeline.finetune.training import History, Part, Phase, adam, class_weights, softmax
from pipeline.inputs import passed_over
from pipeline.inputs.kinds import Input
from pipeline.models.loading import load_probed
from pipeline.models.probing import probe_extractor
from pipeline.models.scaling import SCALES
from pipeline.models.signatures import as_unit_function
from pipeline.models.spec import ExtractorSpec
from pipeline.models.tensorflow_import import tf
from pipeline.outputs import layout
from pipeline.records import TIME, ImageRef, Reason
from pipeline.redaction import name_of, redact_all
from pipeline.runner import beam_options, new_pipeline, new_run_id, run_pipeline, versions
from pipeline.storage import cache

# Failures of reading that another run may not meet.
_RETRIED = {
    reason.value
    for reason in Reason
    if reason.is_transient or reason in (Reason.FORBIDDEN, Reason.UNREADABLE)
}

# Images a call of the frozen extractor.
_EXTRACTOR_BATCH = 64


@dataclasses.dataclass(frozen=True)
class Run:
    """A run that has been checked and may begin. ``started``: UTC."""

    config: FinetuneConfig
    inputs: list[Input]
    survey: Survey
    spec: ExtractorSpec
    output: str
    run_id: str
    started: datetime


@dataclasses.dataclass(frozen=True)
class Trained:
    """What training has led to.

    ``refs``: of the test images. ``store``: of the features. ``seconds``: of each stage.
    """

    classifier: export.Classifier
    probabilities: np.ndarray
    test: Part
    refs: list[ImageRef]
    store: str
    history: History
    images: dict[str, int]
    seconds: dict[str, float]


def run(config: FinetuneConfig) -> int:
    """Run the finetune job.

    Returns:
      0, or 1 if the test accuracy is below ``--min_accuracy``, in which case nothing is exported.

    Raises:
      UsageError: found before any image is read.
      RunError: the run failed.
    """
    checked = check(config)
    with export.Verifier() as verifier:
        return _run(checked, verifier)


def _run(checked: Run, verifier: export.Verifier) -> int:
    config = checked.config
    trained = train(checked)
    evaluation = evaluate(trained.test.classes, trained.probabilities, checked.survey.labels)
    low, high = evaluation.interval
    print(
        f"test accuracy {evaluation.accuracy:.3f} on {evaluation.images} images "
        f"(95 % interval {low:.3f} to {high:.3f})"
    )
    if evaluation.accuracy < config.min_accuracy:
        console.say(
            f"error: the test accuracy is below --min_accuracy {config.min_accuracy}; "
            "nothing is exported"
        )
        return 1
    with tempfile.TemporaryDirectory() as temporary:
        results = Path(temporary)
        write_results(checked, trained, evaluation, verifier, results)
        publish(results, checked.output)
    shutil.rmtree(_checkpoints(checked), ignore_errors=True)
    model = f"export/{_version(checked)}"
    for name in (model, "report.html", "summary.json"):
        print(storage.join(checked.output, name))
    print(
        "label with it: python -m pipeline label --input … --output … "
        f"--model {storage.join(checked.output, model)}"
    )
    return 0


def check(config: FinetuneConfig) -> Run:
    """Prove, as cheaply as possible, that the run can work; the output folder is made.

    Raises:
      UsageError: it cannot; the message says why and what to do.
    """
    started = datetime.now(timezone.utc)
    new_pipeline(config.beam_args)
    storage.configure(beam_options(config.beam_args))
    inputs = [
        dataset.identify(given, config.uri_column, config.truth_column) for given in config.input
    ]
    survey = dataset.survey(inputs)
    others = passed_over.in_words(survey.passed_over.to_json())
    if others:
        console.say(f"passed over: {others}")
    output = layout.prepare(config.output)
    layout.refuse_results(output)
    handle = "sample_features" if config.model == "sample" else config.model
    spec, classifies = probe_extractor(handle, config.stated)
    if not spec.scale_source:
        console.say(
            f"warning: nothing in the model {config.model} tells which values it takes for a "
            f"pixel; {SCALES[spec.scale].words} is assumed; if it takes others, give --scale"
        )
    console.say(f"the model takes {spec.scale_words}")
    if classifies:
        console.say(
            f"warning: --model {config.model} looks like a classifier; it works, but a model's "
            "feature vector is a better base than its classes; to label with the classes that it "
            f"has: python -m pipeline label --model {config.model} --input … --output …"
        )
    export.check(survey.labels, spec)
    if config.unfreeze:
        WholeNetwork(spec, Head(spec.outputs, len(survey.labels)))  # raises if it cannot be trained
    return Run(config, inputs, survey, spec, output, new_run_id(started), started)


def train(run: Run) -> Trained:
    """Compute or find the features, train the head, and the whole network if that is wanted."""
    config, spec, labels = run.config, run.spec, run.survey.labels
    seconds: dict[str, float] = {}
    store, seconds["features"] = _timed(
        lambda: _store(run, features.ComputeFeatures(spec, _EXTRACTOR_BATCH), spec.fingerprint)
    )
    _check_failures(run, store)
    with features.Records(store, np.float32, (spec.outputs,)) as records:
        values = records.values(range(len(records)))
    parts = _parts(records, labels, lambda indices: values[indices])
    head, history = Head(spec.outputs, len(labels)), History()
    weights = class_weights(parts[TRAIN].classes, len(labels))
    tensorboard = _tensorboard(run)

    def phase(
        name: str, network: Any, rate: float, parts: dict[str, Part], checkpoints: Path | None
    ) -> Phase:
        mixed_precision = network is not head and bool(tf.config.list_physical_devices("GPU"))
        return Phase(
            name,
            network,
            adam(rate, mixed_precision),
            parts[TRAIN],
            parts[VALIDATION],
            weights,
            config.batch_size,
            history,
            checkpoints,
            tensorboard,
        )

    console.say(
        f"head: {number_of_weights(head.variables):,} weights, {len(labels)} classes, "
        + ", ".join(f"{len(part)} {name}" for name, part in parts.items())
        + " images"
    )
    last = phase("head", head, config.learning_rate, parts, None)
    _, seconds["head"] = _timed(lambda: last.run(config.epochs))
    logits = last.predict(parts[TEST])
    owner = load_probed(spec)
    function = as_unit_function(owner, spec)
    if config.unfreeze:
        pixel_store, seconds["pixels"] = _timed(lambda: _store(run, features.PackPixels(), ""))
        network = WholeNetwork(spec, head)
        console.say(f"network: {number_of_weights(network.variables):,} weights")
        with features.Records(pixel_store, np.uint8, (spec.height, spec.width, 3)) as pixels:
            parts = _parts(pixels, labels, pixels.values)
            rate = config.unfreeze_learning_rate
            last = phase("network", network, rate, parts, _checkpoints(run))
            _, seconds["network"] = _timed(lambda: last.run(config.unfreeze_epochs))
            logits = last.predict(parts[TEST])
        owner, function = network.extractor, network.features
    return Trained(
        classifier=export.Classifier(function, owner, head, spec),
        probabilities=softmax(logits),
        test=parts[TEST],
        refs=[records.refs[index] for index in parts[TEST].indices],
        store=store,
        history=history,
        images={name: len(part) for name, part in parts.items()},
        seconds=seconds,
    )


def _store(
    run: Run, compute: features.ComputeFeatures | features.PackPixels, fingerprint: str
) -> str:
    """A store with what ``compute`` makes of the images, computed unless it is there."""
    spec = run.spec
    name = features.store_name(
        type(compute).__name__,
        run.survey.key,
        fingerprint,
        (spec.height, spec.width, spec.resample),
        (spec.signature, spec.output, spec.scale, spec.channels_first),
        (run.config.max_image_bytes, run.config.max_image_pixels),
    )
    if storage.is_remote(run.output):  # where workers on other machines can write, too
        folder = storage.join(run.output.rpartition("/")[0], "finetune-cache", name)
    else:
        folder = str(cache.folder("finetune") / name)
    if features.is_complete(folder):
        if not _RETRIED & features.failure_reasons(folder).keys():
            console.say(f"{_what(compute)}: found in {folder}")
            return folder
        features.remove_leftovers(folder)  # what could not be read may be there by now
    console.say(f"{_what(compute)}: {sum(run.survey.images.values()):,} images to read")
    # On this machine it gets its name when it is whole, whoever else computes the same just now.
    unfinished = folder if storage.is_remote(folder) else f"{folder}.{run.run_id}"
    if storage.is_remote(folder):
        features.remove_leftovers(folder)
    else:
        Path(unfinished).mkdir(parents=True)
    pipeline = new_pipeline(run.config.beam_args)
    features.build(pipeline, run.inputs, spec, compute, unfinished, run.config.limits)
    run_pipeline(pipeline)
    if unfinished != folder:
        try:
            Path(unfinished).rename(folder)
        except OSError:
            if not features.is_complete(folder):  # else another run was faster
                raise
            shutil.rmtree(unfinished)
    return folder


def _what(compute: object) -> str:
    return "features" if isinstance(compute, features.ComputeFeatures) else "pixels"


def _check_failures(run: Run, store: str) -> None:
    reasons = features.failure_reasons(store)
    found = sum(run.survey.images.values())
    if reasons:
        described = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common(5))
        console.say(f"failures: {described}")
    ratio = sum(reasons.values()) / found
    if ratio > run.config.max_failure_ratio:
        raise RunError(
            f"{ratio:.1%} of the images failed, more than --max_failure_ratio "
            f"{run.config.max_failure_ratio} allows; the reasons are in {store}"
        )


def _parts(
    records: features.Records, labels: tuple[str, ...], read: Callable[[np.ndarray], np.ndarray]
) -> dict[str, Part]:
    """The three parts of the data.

    Raises:
      InputError: one of them is empty, or a class is not in the one that trains.
    """
    ids = {label: class_id for class_id, label in enumerate(labels)}
    truths = [ref.truth or "" for ref in records.refs]
    unknown = sorted(set(truths) - set(ids))
    if unknown:
        raise InputError(
            f"the class {unknown[0]!r} appeared while the images were listed; "
            "give the command again"
        )
    classes = np.array([ids[truth] for truth in truths], np.int64)
    part_of = np.array([dataset.split_of(content) for content in records.contents])
    parts = {}
    for name in (TRAIN, VALIDATION, TEST):
        indices = np.flatnonzero(part_of == name)
        if not len(indices):
            raise InputError(f"none of the {len(records)} images is for {name}; add some")
        parts[name] = Part(indices, classes[indices], read)
    missing = set(range(len(labels))) - set(parts[TRAIN].classes.tolist())
    if missing:
        raise InputError(
            f"none of the images of the class {labels[min(missing)]!r} can be trained with; "
            "add some or remove the class"
        )
    return parts


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    result = work()
    return result, round(time.perf_counter() - started, 3)


def _checkpoints(run: Run) -> Path:
    """Where the training of the whole network is kept until this command has ended well."""
    options = dataclasses.replace(run.config, beam_args=(), min_accuracy=0.0)
    name = features.store_name(options, run.survey.key, run.spec.fingerprint, run.output)
    return cache.folder("checkpoints") / name


def _tensorboard(run: Run) -> str:
    """Where TensorBoard can watch; TensorFlow writes to this machine only."""
    if storage.is_remote(run.output):
        return str(cache.folder("tensorboard") / run.run_id)
    return f"{run.output}/tensorboard/{run.run_id}"


def _version(run: Run) -> str:
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
    examples = choose(
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
    pixels = np.stack([*(example.pixels for example in examples), *noise])
    exported = folder / "export" / _version(run)
    export.save(trained.classifier, exported, labels, run.spec)
    verifier.give(exported, pixels)
    curves = draw_curves(trained.history.steps, trained.history.epochs)
    grid, confusion = draw_grid(examples), draw_confusion(evaluation)
    difference = verifier.compare(trained.classifier, pixels)
    console.say(f"export: reloaded in another process, greatest difference {difference}")
    pictures = {"curves": curves, "predictions": grid, "confusion": confusion}
    for name, picture in pictures.items():
        (folder / f"{name}.png").write_bytes(picture)
    rows = [row.to_json() + "\n" for row in features.failures(trained.store, run.run_id)]
    (folder / f"{layout.FAILURES}-00000-of-00001.jsonl").write_text("".join(rows))
    summary = summarize(run, trained, evaluation, difference)
    facts = [
        ("Base model", name_of(run.spec.handle)),
        ("Images", ", ".join(f"{count:,} {name}" for name, count in trained.images.items())),
        ("Trained", "the whole network" if run.config.unfreeze else "the head"),
        (
            "Pictures below",
            f"of test images; first up to {MOST_WRONG} wrong ones, then right ones",
        ),
        ("Greatest difference after reloading", str(difference)),
        ("Seconds", ", ".join(f"{value:.1f} {name}" for name, value in trained.seconds.items())),
    ]
    title = f"{len(labels)} classes: {', '.join(labels[:5])}{', …' if len(labels) > 5 else ''}"
    page = render_report(title, facts, evaluation, curves, grid, confusion)
    (folder / "report.html").write_text(page, encoding="utf-8")
    (folder / yaml_file.NAME).write_text(as_yaml(run.config), encoding="utf-8")
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


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
        "labels": list(run.survey.labels),
        "test": evaluation.to_json(),
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
    """Move the results to where they are to be seen.

    The export appears as a whole where there are folders; in a bucket, its graph comes after its
    variables, without which it is no model. ``summary.json`` is last: it says that all is there.
    """
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
