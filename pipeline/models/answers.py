"""Makes rows of a model's answers, and decides what labels they get."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timezone

import numpy as np

from pipeline.evaluation import calibrated, classes_in
from pipeline.images.loading import failure_of
from pipeline.models import trained_on
from pipeline.models.spec import ModelSpec
from pipeline.models.thresholds import Thresholds
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


def decide(row: Labeled, *, spec: ModelSpec, thresholds: Thresholds, top_k: int) -> Labeled:
    """Give a row the labels that a threshold allows.

    Args:
      row: with all predictions that are known, or as an earlier call returned it.
      spec: of the model.
      thresholds: of its labels; if the model gives several, there is only one.
      top_k: how many labels an image has at most, if the model gives it several.

    Returns:
      The row. If the model gives several labels, its truth is a list in JSON.
    """
    if not spec.is_multi_label:
        return row.with_threshold(thresholds.of(row.predictions[0].label))
    truth = None if row.truth is None else json.dumps(classes_in(row.truth))
    return row.with_labels(thresholds.others, top_k)._replace(truth=truth)


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
    scores: Sequence[float] = top.scores
    if spec.temperature != 1:
        found, _ = calibrated(scores, len(spec.labels), np.array([spec.temperature]))
        scores = found[0].tolist()
    predictions = tuple(
        Prediction(class_id, spec.labels[class_id], round(score, 6))
        for class_id, score in zip(top.class_ids, scores, strict=True)
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
