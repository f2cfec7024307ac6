"""Makes rows of a model's answers."""

from __future__ import annotations

from datetime import datetime, timezone

from pipeline.images.loading import failure_of
from pipeline.models.spec import ModelSpec
from pipeline.records import (
    TIME,
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
        carried=info.carried,
        seconds=info.seconds._replace(predict=answer.seconds),
    )
