"""The steps of labeling as Beam transforms. They wire; what they do is in the other modules."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timezone
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import apache_beam as beam
import numpy as np
from apache_beam.metrics import Metrics
from apache_beam.ml.inference.base import KeyedModelHandler, RunInference
from apache_beam.utils.windowed_value import WindowedValue

from pipeline import progress
from pipeline.errors import ImageError, ModelError
from pipeline.images import decode as images
from pipeline.images import resizing
from pipeline.limits import DEFAULT_LIMITS, Limits
from pipeline.models.devices import DEFAULT_EXECUTION, Execution, cores
from pipeline.models.handler import SavedModelHandler
from pipeline.records import (
    TIME,
    Answer,
    DecodedImage,
    Failure,
    ImageInfo,
    ImageRef,
    Labeled,
    Prediction,
    Reason,
    StageSeconds,
    Timestamp,
    TopK,
)
from pipeline.redaction import name_of, redact
from pipeline.storage import read as storage

if TYPE_CHECKING:
    from pipeline.models.model import ExtractorSpec, ModelSpec

NAMESPACE = "labeling"

T = TypeVar("T")
U = TypeVar("U")

# Threads that read and decode, for all of a process. Most of them wait: a store that takes 100 ms
# for an object gives 640 a second to as many threads.
READ_THREADS = 64

# How many of them decode at a time, one for each core. More would not be faster, but take memory
# for whole images, and time from the model.
_CORES = threading.BoundedSemaphore(cores())

# Shared by all bundles of a process, so that their number is bounded. Started when first used.
_THREADS = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="read")

# Images read and decoded ahead of the model, for each bundle, or two batches if that is more. At
# 224×224 they take 19 MB.
READ_AHEAD = 128


Decode = Callable[["str | ImageRef"], DecodedImage]


class LabeledImages(NamedTuple):
    """What ``LabelImages`` outputs: every input is in one of the two, once."""

    labeled: beam.PCollection[Labeled]
    failures: beam.PCollection[Failure]


class LabelImages(beam.PTransform):
    """Expects a PCollection of URIs, outputs ``(labeled, failures)``.

    A URI is a path or anything that Beam's filesystems or an http(s) server can open, as ``str``
    or ``ImageRef``. Each element gives exactly one ``Labeled`` or one ``Failure``:

        with beam.Pipeline() as pipeline:
            labeled, failures = (
                pipeline
                | beam.Create(["gs://bucket/photo.jpg"])
                | LabelImages(model="https://tfhub.dev/google/tf2-preview/"
                                    "mobilenet_v2/classification/2")
            )
            labeled | beam.Map(lambda row: (row.image, row.label, row.score)) | beam.Map(print)

    The URIs are shuffled before they are read, so that the work spreads over the workers; the
    pixels never are.

    Args:
      model: a handle (see ``model_files.resolve``) or what ``model.inspect`` made of it.
      labels_file: path or URI of the class names, None for the model's own; only with a handle.
      resample: how images are resized: ``bicubic`` or ``bilinear``, None for what the model was
        trained with; only with a handle.
      signature: the model's signature to use, None for whichever is fit; only with a handle.
      top_k: how many of the best classes each row has.
      batch_size: images a call of the model.
      execution: on which device and with which arithmetic.
      limits: what no image may take more of.
      run_id: goes into every row.
      spread: whether to shuffle the URIs first; not needed if that has been done just before.
      keep: applied to the rows, several times, each as early as it can be.

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
        if resample not in (None, *resizing.RESAMPLING):
            raise ValueError(
                f"resample is {resample!r}, expected {' or '.join(resizing.RESAMPLING)}"
            )
        self._model = model
        self._labels_file = labels_file
        self._resample = resample
        self._signature = signature
        self._top_k = top_k
        self._batch_size = batch_size
        self._execution = execution
        self._limits = limits
        self._run_id = run_id
        self._spread = spread
        self._keep = keep

    def expand(self, uris: beam.PCollection[str | ImageRef]) -> LabeledImages:
        """Probe the model if that was not done before, then wire the steps.

        Raises:
          UsageError: the model or its labels cannot be used.
        """
        from pipeline.models.model import inspect  # TensorFlow takes seconds to import

        spec = self._model
        if isinstance(spec, str):
            spec = inspect(spec, self._labels_file, self._resample, self._signature)
        handler = handler_for(spec, self._top_k, self._batch_size, self._execution)
        if self._spread:
            named, loaded = uris | "WithBytes" >> beam.Partition(_has_bytes, 2)  # type: ignore[arg-type]
            uris = (named | "Spread" >> beam.Reshuffle(), loaded) | beam.Flatten()
        decoded, not_decoded = uris | "Decode" >> DecodeImages(
            decoder_for(spec, self._limits), self._run_id, read_ahead(self._batch_size)
        )
        labeled, not_predicted = decoded | "Classify" >> ClassifyImages(spec, handler, self._run_id)
        if self._keep is not None:
            # Before failures of both kinds come together, which makes a stage of its own.
            _ = labeled | "KeepLabeled" >> self._keep
            _ = not_decoded | "KeepNotDecoded" >> self._keep
            _ = not_predicted | "KeepNotPredicted" >> self._keep
        failures = (not_decoded, not_predicted) | "Failures" >> beam.Flatten()
        return LabeledImages(labeled, failures)


def read_ahead(batch_size: int) -> int:
    """How many images are read and decoded ahead of the model."""
    return max(READ_AHEAD, 2 * batch_size)


def pixels_for(spec: ExtractorSpec, limits: Limits) -> Decode:
    """What makes of an image the pixels that a model was made for."""
    return functools.partial(
        read_and_decode,
        height=spec.height,
        width=spec.width,
        resample=spec.resample,
        limits=limits,
    )


def decoder_for(spec: ModelSpec, limits: Limits) -> Decode:
    """What makes of an image what a classifier takes."""
    decode = pixels_for(spec, limits)
    if spec.example_output is None:
        return decode
    return functools.partial(read_as_example, decode=decode, decodes=spec.decodes, limits=limits)


def handler_for(
    spec: ModelSpec, top_k: int, batch_size: int, execution: Execution
) -> SavedModelHandler:
    """What loads and calls a model.

    Raises:
      ModelError: the model knows no such way to be executed.
    """
    from pipeline.models.model import load_classifier  # TensorFlow takes seconds to import

    if spec.example_output is not None and (execution.xla or execution.precision != "float32"):
        raise ModelError(
            f"--model {spec.handle}: takes tf.Examples, and runs through tfx-bsl, which knows "
            "no --precision and no --xla"
        )
    load = functools.partial(load_classifier, spec, top_k, execution)
    return SavedModelHandler(load, batch_size)


class DecodeImages(beam.PTransform):
    """Expects URIs or ``ImageRef``s, outputs a tuple of ``DecodedImage``s and ``Failure``s.

    Args:
      decode: from a URI or ``ImageRef`` to a ``DecodedImage``, or an ``ImageError``; see
        ``read_and_decode``.
      run_id: goes into the failures.
      ahead: how many images are read and decoded ahead of what follows.
    """

    def __init__(self, decode: Decode, run_id: str, ahead: int = READ_AHEAD):
        super().__init__()
        self._ahead = ahead
        self._decode_or_fail = functools.partial(decode_or_fail, decode=decode, run_id=run_id)

    def expand(
        self, uris: beam.PCollection[str | ImageRef]
    ) -> tuple[beam.PCollection[DecodedImage], beam.PCollection[Failure]]:
        """One step with two outputs."""
        outputs = uris | "ReadAndDecode" >> beam.ParDo(
            _ConcurrentMap(self._decode_or_fail, self._ahead)
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
        """Key the pixels by what is known of the image, predict, name the classes."""
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


def decode_or_fail(ref: str | ImageRef, *, decode: Decode, run_id: str) -> DecodedImage | Failure:
    """One image decoded, or why that cannot be done."""
    ref = _as_ref(ref)
    try:
        return decode(ref)
    except ImageError as error:
        return _failure(ref, error.reason, error.message, run_id)


def _failure(ref: ImageRef | ImageInfo, reason: Reason, message: str, run_id: str) -> Failure:
    name = name_of(ref.uri)
    return Failure(
        name, reason.stage, reason.value, redact(message), run_id, ref.version, ref.carried
    )


def read_and_decode(
    ref: str | ImageRef,
    *,
    height: int,
    width: int,
    resample: str,
    limits: Limits = DEFAULT_LIMITS,
) -> DecodedImage:
    """Read one image, unless its bytes came along, and decode it.

    Raises:
      ImageError: that cannot be done.
    """
    ref = _as_ref(ref)
    started = time.perf_counter()
    data = read_image(ref, limits)
    read = time.perf_counter() - started
    with _CORES:
        started = time.thread_time()
        decoded = images.decode(data, height, width, resample, max_pixels=limits.max_image_pixels)
        seconds = StageSeconds(read=read, decode=time.thread_time() - started)
    info = ImageInfo(
        uri=name_of(ref.uri),
        width=decoded.width,
        height=decoded.height,
        seconds=seconds,
        truth=ref.truth,
        content=hashlib.sha256(data).hexdigest() if ref.truth is not None else "",
        version=ref.version,
        carried=ref.carried,
    )
    return DecodedImage(info, decoded.pixels)


def _as_ref(ref: str | ImageRef) -> ImageRef:
    return ref if isinstance(ref, ImageRef) else ImageRef(ref)


def in_threads(function: Callable[[T], U], values: Sequence[T]) -> list[U]:
    """A function on each of some values, by the threads that read and decode."""
    return list(_THREADS.map(function, values))


@contextlib.contextmanager
def meanwhile(function: Callable[[T], Any], values: Iterable[T]) -> Iterator[None]:
    """While in here, those threads call a function on some values; ends when they have."""
    futures = [_THREADS.submit(function, value) for value in values]
    yield
    for future in futures:
        future.result()


def read_image(ref: ImageRef, limits: Limits) -> bytes:
    """An image's file, unless its bytes came along.

    Raises:
      ImageError: it cannot be read.
    """
    if ref.data is not None:
        return ref.data
    return storage.read_bytes(ref.uri, limits.max_image_bytes, limits.read_timeout_seconds)


def read_as_example(
    ref: str | ImageRef,
    *,
    decode: Callable[[ImageRef], DecodedImage],
    decodes: bool,
    limits: Limits = DEFAULT_LIMITS,
) -> DecodedImage:
    """Read one image for a model of tf.Examples.

    It is decoded here in any case, so that a bad one fails alone and not with its batch.

    Args:
      ref: the image.
      decode: see ``read_and_decode``.
      decodes: whether the model is to decode the file itself, or is given the decoded pixels.
      limits: for reading.

    Raises:
      ImageError: it cannot be read, or decoded here or, if it is to be there, by the model.
    """
    from pipeline.models import examples

    ref = _as_ref(ref)
    data = read_image(ref, limits)
    info, pixels = decode(ref._replace(data=data))
    if not decodes:
        return DecodedImage(info, examples.from_pixels(np.asarray(pixels)))
    with _CORES:
        examples.check_decodable(data)
    return DecodedImage(info, examples.to_example(data))


def label_image(
    info: ImageInfo, answer: Answer, *, spec: ModelSpec, run_id: str
) -> Labeled | Failure:
    """The row for one image and the model's answer to it."""
    if isinstance(answer.value, str):
        return _failure(info, Reason.PREDICTION_FAILED, answer.value, run_id)
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


def _tag_row(info: ImageInfo, answer: Answer, *, spec: ModelSpec, run_id: str) -> Iterator[Any]:
    row = label_image(info, answer, spec=spec, run_id=run_id)
    yield beam.pvalue.TaggedOutput("failures", row) if isinstance(row, Failure) else row


def _has_bytes(ref: str | ImageRef, partitions: int) -> int:
    """Bytes are not shuffled."""
    return int(isinstance(ref, ImageRef) and ref.data is not None)


class _ConcurrentMap(beam.DoFn):
    """``decode_or_fail`` on every element, by threads, results as they come.

    While the model predicts a batch, further down in the same bundle, the threads go on; and an
    object that takes long holds up nothing but itself.
    """

    def __init__(self, function: functools.partial[DecodedImage | Failure], ahead: int):
        self._function = function
        self._ahead = ahead
        self._images_decoded = Metrics.counter(NAMESPACE, "images_decoded")
        self._images_failed = Metrics.counter(NAMESPACE, "images_failed")
        self._read = Metrics.distribution(NAMESPACE, "read_milliseconds")
        self._decode = Metrics.distribution(NAMESPACE, "decode_milliseconds")

    def start_bundle(self) -> None:
        self._done: SimpleQueue[tuple[Any, Any, Future[DecodedImage | Failure]]] = SimpleQueue()
        self._pending = 0

    def process(
        self,
        element: str | ImageRef,
        timestamp: Any = beam.DoFn.TimestampParam,
        window: Any = beam.DoFn.WindowParam,
    ) -> Iterator[Any]:
        done = self._done  # of this bundle, should it fail and another begin in the meantime
        future = _THREADS.submit(self._function, element)
        future.add_done_callback(lambda future: done.put((timestamp, window, future)))
        self._pending += 1
        # One in, one out: so that the threads have work for as long as the model takes to predict.
        if self._pending > self._ahead:
            yield self._next_done()

    def finish_bundle(self) -> Iterator[Any]:
        while self._pending:
            yield self._next_done()

    def _next_done(self) -> Any:
        """Wait for a result, and count it."""
        timestamp, window, future = self._done.get()
        self._pending -= 1
        result = future.result()
        # With the window of its own element, not of the one that is processed just now.
        value = WindowedValue(result, timestamp, (window,))
        if isinstance(result, Failure):
            self._images_failed.inc()
            progress.add(failed=1)
            return beam.pvalue.TaggedOutput("failures", value)
        self._images_decoded.inc()
        self._read.update(round(result.info.seconds.read * 1000))
        self._decode.update(round(result.info.seconds.decode * 1000))
        return value
