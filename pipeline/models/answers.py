"""Makes rows of a model's answers, and decides what labels they get."""

from __future__ import annotations

import json
from datetime import datetime, timezone

from pipeline.evaluation import classes_in
from pipeline.images.loading import failure_of
from pipeline.models import trained_on
from pipeline.models.spec import ModelSpec
from pipeline.records import (
    TIME,
    TRAINED_ON,
    Answer,
    Failure,
    ImageInfo,
    Labeled,
    Prediction,
    Reason,
    Timestamp,
    TopK,
)
from pipeline.redaction import name_of

# What a class's own probability must reach, where nothing else is said.
_THRESHOLD = 0.5


def threshold_for(spec: ModelSpec, given: float | None) -> float:
    """Return the threshold that was given, in [0, 1]; else the one that fits the model."""
    if given is not None:
        return given
    return _THRESHOLD if spec.is_multi_label else 0.0


def decide(row: Labeled, *, spec: ModelSpec, threshold: float, top_k: int) -> Labeled:
    """Give a row the labels that a threshold allows.

    Args:
      row: with all predictions that are known, or as an earlier call returned it.
      spec: of the model.
      threshold: in [0, 1].
      top_k: how many labels an image has at most, if the model gives it several.

    Returns:
      The row. If the model gives several labels, its truth is a list in JSON.
    """
    if not spec.is_multi_label:
        return row.with_threshold(threshold)
    truth = None if row.truth is None else json.dumps(classes_in(row.truth))
    return row.with_labels(threshold, top_k)._replace(truth=truth)


def label_image(
    info: ImageInfo, answer: Answer, *, spec: ModelSpec, run_id: str
) -> Labeled | Failure:
    """Make the row of one image and the model's answer to it.

    Args:
      info: what is known of the image.
      answer: a ``TopK``, or a message if the model failed on it.
      spec: of the model.
      run_id: goes into the row.
    """
    if isinstance(answer.value, str):
        return failure_of(info, Reason.PREDICTION_FAILED, answer.value, run_id)
    top: TopK = answer.value
    predictions = tuple(
        Prediction(class_id, spec.labels[class_id], round(score, 6))
        for class_id, score in zip(top.class_ids, top.scores, strict=True)
    )
    best = predictions[0]
    carried = info.carried
    if spec.lists_images:
        seen = trained_on.has_seen(spec.source, spec.fingerprint, info.content)
        carried = {**carried, TRAINED_ON: seen}
    return Labeled(
        image=info.uri,
        label=best.label,
        class_id=best.class_id,
        score=best.score,
        predictions=predictions,
        width=info.width,
        height=info.height,
        model=name_of(spec.handle),
        model_fingerprint=spec.fingerprint,
        run_id=run_id,
        labeled_at=Timestamp(datetime.now(timezone.utc).strftime(TIME)),
        version=info.version,
        truth=info.truth,
        carried=carried,
        seconds=info.seconds._replace(predict=answer.seconds),
    )
