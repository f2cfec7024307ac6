"""Loads models that have been probed, in the launcher or on a worker."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from pipeline.errors import ModelError
from pipeline.models import files, meta_graphs
from pipeline.models.devices import DEFAULT_EXECUTION, Execution, require_device
from pipeline.models.predictors import (
    ExampleClassifier,
    FeatureExtractor,
    FileClassifier,
    ImageClassifier,
)
from pipeline.models.signatures import as_function
from pipeline.models.spec import ExtractorSpec, ModelSpec, Takes
from pipeline.models.tensorflow_import import MODEL_ERRORS, tf, what_failed


def load_classifier(
    spec: ModelSpec, top_k: int, execution: Execution = DEFAULT_EXECUTION
) -> ImageClassifier | ExampleClassifier | FileClassifier:
    """Load a classifier that was probed, perhaps on another machine.

    Args:
      spec: what ``probe_classifier`` returned.
      top_k: how many of the best classes each answer has.
      execution: on which device and with which arithmetic.

    Raises:
      ModelError: it cannot be fetched or loaded here, or is no longer the same model.
      DeviceError: there is no GPU here, and one is needed.
    """
    require_device(execution)
    if spec.takes is Takes.EXAMPLES:
        return ExampleClassifier(_resolve_probed(spec), spec, top_k)
    if spec.takes is Takes.FILES:
        return FileClassifier(load_probed(spec), spec, top_k)
    function = as_function(load_probed(spec), spec)
    return ImageClassifier(function, spec, top_k, execution)


def load_extractor(spec: ExtractorSpec) -> FeatureExtractor:
    """Load a feature extractor that was probed, perhaps on another machine.

    Args:
      spec: what ``probe_extractor`` returned.

    Raises:
      ModelError: it cannot be fetched or loaded here, or is no longer the same model.
    """
    return FeatureExtractor(as_function(load_probed(spec), spec), spec)


def load_probed(spec: ExtractorSpec) -> Any:
    """Load the SavedModel that was probed, as TensorFlow has it.

    Raises:
      ModelError: it cannot be fetched or loaded here, or is no longer the same model.
    """
    return load_saved_model(_resolve_probed(spec), spec.fingerprint)


def load_anew(spec: ExtractorSpec) -> Any:
    """Load a copy of the SavedModel that was probed, for whoever changes its variables.

    Raises:
      ModelError: it cannot be fetched or loaded here, or is no longer the same model.
    """
    return _read(_resolve_probed(spec))


def _resolve_probed(spec: ExtractorSpec) -> Path:
    """Find the folder of a probed model, and check that it has the same model."""
    path = files.resolve(spec.source)
    fingerprint = files.fingerprint(path)
    if fingerprint != spec.fingerprint:
        raise ModelError(
            f"is {fingerprint} on this worker, but was {spec.fingerprint} when the run was "
            "launched",
            subject="model",
            given=spec.handle,
        )
    return path


@functools.lru_cache(maxsize=1)
def load_saved_model(path: Path, fingerprint: str) -> Any:
    """Load the SavedModel in a folder; a process loads the same one only once.

    Args:
      path: the folder.
      fingerprint: tells the model from another that was in the same folder before.

    Raises:
      ModelError: TensorFlow cannot load it, or it has no graph for serving.
    """
    del fingerprint
    return _read(path)


def _read(path: Path) -> Any:
    tags = meta_graphs.tags_of(path)
    try:
        return tf.saved_model.load(str(path), tags)
    except MODEL_ERRORS as error:
        raise ModelError(
            f"the SavedModel in {path} cannot be loaded; it may be incomplete or need "
            f"operations that are not installed: {what_failed(error)}"
        ) from error
