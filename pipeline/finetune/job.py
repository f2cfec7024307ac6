"""The finetune job: check, compute features, train, evaluate, export, report."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import console, storage
from pipeline.config.finetune_options import FinetuneConfig
from pipeline.errors import InputError, RunError
from pipeline.evaluation import evaluate
from pipeline.finetune import export, features, mislabeled
from pipeline.finetune.networks import Head, WholeNetwork, number_of_weights
from pipeline.finetune.parts import Assigned, assign
from pipeline.finetune.report import MISLABELED
from pipeline.finetune.results import Trained, publish, version_of, write_results
from pipeline.finetune.splits import PARTS, TEST, TRAIN, VALIDATION
from pipeline.finetune.survey import Survey
from pipeline.finetune.temperature import Temperature, best_temperature, softmax
from pipeline.finetune.training import History, Part, Phase, adam, class_weights
from pipeline.finetune.unfrozen import Unfrozen, outcome_of
from pipeline.finetune.validation import Run, check
from pipeline.models import files, trained_on
from pipeline.models.loading import load_probed
from pipeline.models.signatures import as_unit_function
from pipeline.models.tensorflow_import import tf
from pipeline.outputs import disk
from pipeline.records import Reason
from pipeline.runners.options import new_pipeline
from pipeline.runners.running import run_pipeline
from pipeline.storage import cache

# Failures of reading that another run may not meet.
_RETRIED = {
    reason.value
    for reason in Reason
    if reason.is_transient or reason in (Reason.FORBIDDEN, Reason.UNREADABLE)
}

# Images a call of the frozen extractor.
_EXTRACTOR_BATCH = 64


def run(config: FinetuneConfig) -> int:
    """Run the finetune job.

    Returns:
      0, or 1 if the test accuracy is below ``--min_accuracy``, in which case nothing is exported.

    Raises:
      UsageError: found before any image is read.
      RunError: the run failed.
    """
    checked = check(config)
    try:
        with export.Verifier() as verifier:
            return _run(checked, verifier)
    except (RunError, RuntimeError, OSError, tf.errors.OpError) as error:
        if disk.is_full(error):
            folders = [checked.output, str(cache.folder("finetune"))]
            raise RunError(disk.in_line(error, folders)) from error
        raise


def _run(checked: Run, verifier: export.Verifier) -> int:
    config = checked.config
    trained = train(checked)
    evaluation = evaluate(trained.test.classes, trained.probabilities, checked.survey.labels)
    low, high = evaluation.interval
    print(
        f"test accuracy {evaluation.accuracy:.3f} on {evaluation.images} images "
        f"(95 % interval {low:.3f} to {high:.3f})"
    )
    console.say(
        f"calibration: temperature {trained.temperature.temperature:.3g}, fitted on "
        f"{trained.temperature.images:,} validation images, takes the calibration error on the "
        f"test images from {trained.temperature.calibration_error_before:.3f} to "
        f"{evaluation.calibration_error:.3f}"
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
    console.say(trained.suspects.in_words(MISLABELED))
    shutil.rmtree(_checkpoints(checked), ignore_errors=True)
    model = f"export/{version_of(checked)}"
    for name in (model, "report.html", "summary.json"):
        print(storage.join(checked.output, name))
    print(
        f"label with it: {console.program()} label --input … --output … "
        f"--model {storage.join(checked.output, model)}"
    )
    return 0


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
    parts, assigned = _parts(records, run.survey, lambda indices: values[indices])
    measured, seen = records, _seen(records, parts)
    given = np.full(len(records), -1)
    for part in parts.values():
        given[part.indices] = part.classes
    for line in assigned.in_words():
        console.say(line)
    tested = [records.contents[index] for index in parts[TEST].indices]
    warn_of_seen(spec.handle, spec.fingerprint, tested)
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
    logits, validation = last.predict(parts[TEST]), last.predict(parts[VALIDATION])
    outcome = outcome_of(last, parts[TEST], logits)
    assert outcome is not None  # its first epoch is better than none
    owner = load_probed(spec)
    function = as_unit_function(owner, spec)
    unfrozen = None
    if config.unfreeze:
        head_alone = [variable.numpy() for variable in head.variables]
        pixel_store, seconds["pixels"] = _timed(lambda: _store(run, features.PackPixels(), ""))
        network = WholeNetwork(spec, head)
        console.say(f"network: {number_of_weights(network.variables):,} weights")
        with features.Records(pixel_store, np.uint8, (spec.height, spec.width, 3)) as pixels:
            head_parts = parts
            parts, _ = _parts(pixels, run.survey, pixels.values)
            rate = config.unfreeze_learning_rate
            last = phase("network", network, rate, parts, _checkpoints(run))
            _, seconds["network"] = _timed(lambda: last.run(config.unfreeze_epochs))
            network_logits = last.predict(parts[TEST])
            network_validation = last.predict(parts[VALIDATION])
        seen |= _seen(pixels, parts)
        unfrozen = Unfrozen(outcome, outcome_of(last, parts[TEST], network_logits))
        for line in unfrozen.in_words():
            console.say(line)
        if unfrozen.is_better:
            logits, owner, function = network_logits, network.extractor, network.features
            measured, validation = pixels, network_validation
        else:
            parts = head_parts
            for variable, value in zip(head.variables, head_alone, strict=True):
                variable.assign(value)
    suspects, seconds["mislabeled"] = _timed(
        lambda: mislabeled.find(values, given, np.array(assigned.pictures), len(labels))
    )
    temperature = best_temperature(validation, parts[VALIDATION].classes)
    for variable in head.variables:  # the logits of the export are those divided by it
        variable.assign(variable / temperature)
    return Trained(
        classifier=export.Classifier(function, owner, head, spec),
        probabilities=softmax(logits / temperature),
        temperature=Temperature(
            temperature,
            len(parts[VALIDATION]),
            evaluate(parts[TEST].classes, softmax(logits), labels).calibration_error,
        ),
        test=parts[TEST],
        refs=[measured.refs[index] for index in parts[TEST].indices],
        seen=seen,
        store=store,
        history=history,
        unfrozen=unfrozen,
        images={name: len(part) for name, part in parts.items()},
        images_of_classes={
            label: {name: int((part.classes == class_id).sum()) for name, part in parts.items()}
            for class_id, label in enumerate(labels)
        },
        assigned=assigned,
        suspects=suspects,
        suspected=[(records.refs[n], assigned.parts[n] or "") for n in suspects.images],
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
    pipeline = new_pipeline(run.config.all_beam_args)
    features.build(pipeline, run.survey, spec, compute, unfinished, run.config.limits)
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
    found = sum(run.survey.images.values()) + run.survey.unusable
    if reasons:
        described = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common(5))
        console.say(f"failures: {described}")
    too_many = run.config.too_many_failed(sum(reasons.values()), found)
    if too_many is not None:
        raise RunError(f"{too_many}; the reasons are in {store}")


def _parts(
    records: features.Records, survey: Survey, read: Callable[[np.ndarray], np.ndarray]
) -> tuple[dict[str, Part], Assigned]:
    """The three parts of the data.

    Raises:
      InputError: one of them is empty, or a class is not in the one that trains.
    """
    labels = survey.labels
    ids = {label: class_id for class_id, label in enumerate(labels)}
    truths = [ref.truth or "" for ref in records.refs]
    unknown = sorted(set(truths) - set(ids))
    if unknown:
        raise InputError(
            f"the class {unknown[0]!r} appeared while the images were listed; "
            "give the command again"
        )
    classes = np.array([ids[truth] for truth in truths], np.int64)
    assigned = assign(records.contents, records.looks, records.parts, survey.absent)
    part_of = np.array([part or "" for part in assigned.parts])
    parts = {}
    for name in PARTS:
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
    return parts, assigned


def _seen(records: features.Records, parts: dict[str, Part]) -> frozenset[str]:
    """The checksums of the images that train or validate."""
    return frozenset(
        records.contents[index] for name in (TRAIN, VALIDATION) for index in parts[name].indices
    )


def warn_of_seen(handle: str, fingerprint: str, tested: Sequence[str]) -> None:
    """Say so if the base model is an export that was trained on images that test now.

    Args:
      handle: of the base model.
      fingerprint: likewise.
      tested: of each image that tests the SHA-256 of its file, in hexadecimal.
    """
    if not trained_on.exists(files.resolve(handle)):
        return
    seen = sum(trained_on.has_seen(handle, fingerprint, content) for content in tested)
    if seen:
        console.say(
            f"warning: the model was trained on {seen:,} of the {len(tested):,} images that test; "
            "the test accuracy will be too high"
        )


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    result = work()
    return result, round(time.perf_counter() - started, 3)


def _checkpoints(run: Run) -> Path:
    """Where the training of the whole network is kept until this command has ended well."""
    options = dataclasses.replace(run.config, beam_args=(), min_accuracy=0.0, if_exists="fail")
    name = features.store_name(options, run.survey.key, run.spec.fingerprint, run.output)
    return cache.folder("checkpoints") / name


def _tensorboard(run: Run) -> str:
    """Where TensorBoard can watch; TensorFlow writes to this machine only."""
    if storage.is_remote(run.output):
        return str(cache.folder("tensorboard") / run.run_id)
    return f"{run.output}/tensorboard/{run.run_id}"
