"""Wires the steps of labeling as Beam transforms; other modules have the logic."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.ml.inference.base import KeyedModelHandler, RunInference
from apache_beam.utils.windowed_value import WindowedValue

from pipeline import progress
from pipeline.images.loading import READ_AHEAD, Decode, InFlight, decode_or_fail, read_ahead
from pipeline.images.resizing import RESAMPLING
from pipeline.limits import DEFAULT_LIMITS, Limits
from pipeline.models.answers import label_image
from pipeline.models.decoding import decoder_for
from pipeline.models.devices import DEFAULT_EXECUTION, Execution
from pipeline.models.handler import NAMESPACE, SavedModelHandler, handler_for
from pipeline.models.scaling import SCALES
from pipeline.models.spec import RETURNS, ModelSpec, Stated
from pipeline.records import Answer, DecodedImage, Failure, ImageInfo, ImageRef, Labeled


class LabeledImages(NamedTuple):
    """What ``LabelImages`` outputs: every input is in exactly one of the two, once."""

    labeled: beam.PCollection[Labeled]
    failures: beam.PCollection[Failure]


class LabelImages(beam.PTransform):
    """Expects a PCollection of URIs, outputs ``(labeled, failures)``.

    A URI is a path or anything that Beam's filesystems or an http(s) server can open, as ``str``
    or ``ImageRef``. Each element gives exactly one ``Labeled`` or one ``Failure``:

        with beam.Pipeline() as p:
            labeled, failures = (
                p
                | beam.Create(["gs://bucket/photo.jpg"])
                | LabelImages(model="https://tfhub.dev/google/tf2-preview/"
                                    "mobilenet_v2/classification/2")
            )
            labeled | beam.Map(lambda row: (row.image, row.label, row.score)) | beam.Map(print)

    The URIs are shuffled before they are read, so that the work spreads over the workers; the
    pixels never are.

    Args:
      model: a handle (see ``models.files.resolve``) or what ``probe_classifier`` made of it.
      labels_file: path or URI of the class names, None for the model's own; only with a handle.
      resample: how images are resized: ``bicubic`` or ``bilinear``, None for what the model was
        trained with; only with a handle.
      signature: the model's signature to use, None for whichever fits; only with a handle.
      model_output: the name of the output to use, None for the only one; only with a handle.
      scale: the values that the model takes for a pixel, a key of ``models.scaling.SCALES``, None
        for what the model tells; only with a handle.
      returns: ``logits``, ``probabilities`` or ``sigmoid``, None for what the model tells; only
        with a handle.
      channels_first: whether images may be transposed to ``[N, 3, height, width]``; only with a
        handle.
      model_fingerprint: of the only model to use, None for whichever the handle leads to; only with
        a handle.
      top_k: number of predictions in each row. ``Labeled.with_labels`` applies a threshold to those
        of a model that gives an image several labels.
      batch_size: images per model call.
      execution: the device and the arithmetic.
      limits: of each image.
      run_id: goes into every row.
      spread: whether to shuffle the URIs first; not needed if they have just been shuffled.
      keep: a transform that is applied to the rows, in several places, each as early as possible.

    Raises:
      ValueError: an argument is out of its range.
    """

    def __init__(
        self,
        model: str | ModelSpec,
        *,
        labels_file: str | None = None,
        resample: str | None = None,
        signature: str | None = None,
        model_output: str | None = None,
        scale: str | None = None,
        returns: str | None = None,
        channels_first: bool = False,
        model_fingerprint: str | None = None,
        top_k: int = 5,
        batch_size: int = 64,
        execution: Execution = DEFAULT_EXECUTION,
        limits: Limits = DEFAULT_LIMITS,
        run_id: str = "",
        spread: bool = True,
        keep: beam.PTransform | None = None,
    ):
        super().__init__()
        if top_k < 1 or batch_size < 1:
            raise ValueError(f"top_k is {top_k} and batch_size {batch_size}, expected 1 or more")
        if resample not in (None, *RESAMPLING):
            raise ValueError(f"resample is {resample!r}, expected {' or '.join(RESAMPLING)}")
        for name, value, known in (("scale", scale, SCALES), ("returns", returns, RETURNS)):
            if value is not None and value not in known:
                raise ValueError(f"{name} is {value!r}, expected {' or '.join(known)}")
        self._model = model
        self._stated = Stated(
            labels_file,
            resample,
            signature,
            model_output,
            scale,
            returns,
            channels_first,
            model_fingerprint,
        )
        self._top_k = top_k
        self._batch_size = batch_size
        self._execution = execution
        self._limits = limits
        self._run_id = run_id
        self._spread = spread
        self._keep = keep

    def expand(self, uris: beam.PCollection[str | ImageRef]) -> LabeledImages:
        """Probe the model unless that was done before, then wire the steps.

        Raises:
          UsageError: the model or its labels cannot be used.
        """
        # TensorFlow takes seconds to import.
        from pipeline.models.probing import probe_classifier
        from pipeline.models.scale_trial import say_assumed

        spec = self._model
        if isinstance(spec, str):
            spec = probe_classifier(spec, self._stated)
            if not spec.scale_source:
                say_assumed(spec)
        handler = handler_for(spec, self._top_k, self._batch_size, self._execution)
        if self._spread:
            named, loaded = uris | "WithBytes" >> beam.Partition(_has_bytes, 2)  # type: ignore[arg-type]
            uris = (named | "Spread" >> beam.Reshuffle(), loaded) | beam.Flatten()
        decoded, not_decoded = uris | "Decode" >> DecodeImages(
            decoder_for(spec, self._limits), self._run_id, read_ahead(self._batch_size)
        )
        labeled, not_predicted = decoded | "Classify" >> ClassifyImages(spec, handler, self._run_id)
        if self._keep is not None:
            # Before the failures of both kinds are merged, which makes a stage of its own.
            _ = labeled | "KeepLabeled" >> self._keep
            _ = not_decoded | "KeepNotDecoded" >> self._keep
            _ = not_predicted | "KeepNotPredicted" >> self._keep
        failures = (not_decoded, not_predicted) | "Failures" >> beam.Flatten()
        return LabeledImages(labeled, failures)


class DecodeImages(beam.PTransform):
    """Expects URIs or ``ImageRef``s, outputs a tuple of ``DecodedImage``s and ``Failure``s.

    Args:
      decode: from a URI or ``ImageRef`` to a ``DecodedImage``, or an ``ImageError``; see
        ``read_and_decode``.
      run_id: goes into the failures.
      ahead: number of images that are read and decoded ahead of the next step.
    """

    def __init__(self, decode: Decode, run_id: str, ahead: int = READ_AHEAD):
        super().__init__()
        self._ahead = ahead
        self._decode_or_fail = functools.partial(decode_or_fail, decode=decode, run_id=run_id)

    def expand(
        self, uris: beam.PCollection[str | ImageRef]
    ) -> tuple[beam.PCollection[DecodedImage], beam.PCollection[Failure]]:
        """Add one step with two outputs."""
        outputs = uris | "ReadAndDecode" >> beam.ParDo(
            _ReadAndDecode(self._decode_or_fail, self._ahead)
        ).with_outputs("failures", main="decoded")
        return outputs.decoded, outputs.failures


class ClassifyImages(beam.PTransform):
    """Expects ``DecodedImage``s at the model's size, outputs a ``Labeled`` or ``Failure`` for each.

    Args:
      spec: of the model.
      handler: a Beam ModelHandler from uint8 pixels to an ``Answer`` with a ``TopK``.
      run_id: goes into the rows.
    """

    def __init__(self, spec: ModelSpec, handler: SavedModelHandler, run_id: str):
        super().__init__()
        self._spec = spec
        self._handler = handler
        self._run_id = run_id

    def expand(self, decoded: beam.PCollection[DecodedImage]) -> LabeledImages:
        """Key the pixels by what is known about the image, predict, and name the classes."""
        outputs = (
            decoded
            | "Key" >> beam.Map(tuple)
            | "RunInference" >> RunInference(KeyedModelHandler(self._handler))
            | "Label"
            >> beam.FlatMapTuple(
                functools.partial(_tag_row, spec=self._spec, run_id=self._run_id)
            ).with_outputs("failures", main="labeled")
        )
        return LabeledImages(outputs.labeled, outputs.failures)


def _tag_row(info: ImageInfo, answer: Answer, *, spec: ModelSpec, run_id: str) -> Iterator[Any]:
    row = label_image(info, answer, spec=spec, run_id=run_id)
    yield beam.pvalue.TaggedOutput("failures", row) if isinstance(row, Failure) else row


def _has_bytes(ref: str | ImageRef, partitions: int) -> int:
    """Tell whether an image has its bytes with it; they are not shuffled."""
    return int(isinstance(ref, ImageRef) and ref.data is not None)


class _ReadAndDecode(beam.DoFn):
    """Expects URIs or ``ImageRef``s, outputs a ``DecodedImage`` or ``Failure`` for each.

    While the model predicts a batch further down in the same bundle, the threads keep working. A
    slow object holds up only itself.
    """

    def __init__(self, function: functools.partial[DecodedImage | Failure], ahead: int):
        self._function = function
        self._ahead = ahead
        self._images_decoded = Metrics.counter(NAMESPACE, "images_decoded")
        self._images_failed = Metrics.counter(NAMESPACE, "images_failed")
        self._read = Metrics.distribution(NAMESPACE, "read_milliseconds")
        self._decode = Metrics.distribution(NAMESPACE, "decode_milliseconds")

    def start_bundle(self) -> None:
        # New for each bundle, so that nothing is left over from a bundle that failed.
        self._in_flight: InFlight[Any, Any, DecodedImage | Failure] = InFlight(self._function)

    def process(
        self,
        element: str | ImageRef,
        timestamp: Any = beam.DoFn.TimestampParam,
        window: Any = beam.DoFn.WindowParam,
    ) -> Iterator[Any]:
        self._in_flight.submit((timestamp, window), element)
        # One in, one out, so that the threads have work for as long as the model predicts.
        if len(self._in_flight) > self._ahead:
            yield self._take()

    def finish_bundle(self) -> Iterator[Any]:
        while self._in_flight:
            yield self._take()

    def _take(self) -> Any:
        """Wait for a result, and count it."""
        (timestamp, window), result = self._in_flight.take()
        # With the window of its own element, not of the element that is being processed.
        value = WindowedValue(result, timestamp, (window,))
        if isinstance(result, Failure):
            self._images_failed.inc()
            progress.add(failed=1)
            return beam.pvalue.TaggedOutput("failures", value)
        self._images_decoded.inc()
        self._read.update(round(result.info.seconds.read * 1000))
        self._decode.update(round(result.info.seconds.decode * 1000))
        return value
