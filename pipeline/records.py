"""What travels through the pipeline, and the rows that it writes.

    ImageRef ──► DecodedImage ──► Labeled
        └─────────────┴─────────► Failure

The fields of ``Labeled`` and ``Failure``, in order, are the columns of the output.
"""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Container, Mapping
from enum import Enum
from typing import Any, NamedTuple, NewType

import numpy as np

# Of times in rows and summaries, and in names of runs; both UTC.
TIME = "%Y-%m-%dT%H:%M:%SZ"
TIME_IN_NAMES = "%Y-%m-%dT%H-%M-%SZ"

# A time in that notation.
Timestamp = NewType("Timestamp", str)

# Columns of a list that go along with its images, as JSON has them.
Carried = Mapping[str, Any]
_NOTHING: Carried = {}


class _Facts(NamedTuple):
    value: str
    stage: str
    sentence: str
    is_transient: bool = False
    is_for_good: bool = False
    is_of_version: bool = False


class Reason(str, Enum):
    """Why an image has no label. A closed set: every failure has one of these.

    Attributes:
      stage: the step that gives this reason: ``read``, ``decode`` or ``predict``.
      sentence: what it means, for people.
      is_transient: whether it may pass within seconds, so that the same run tries again.
      is_for_good: whether the file itself is the reason, so that no run would label it until it
        changes. Permissions, credentials and devices come and go while the file stays the same.
      is_of_version: whether another version of this package, or of what it decodes with, may well
        label it.
    """

    _value_: str
    stage: str
    sentence: str
    is_transient: bool
    is_for_good: bool
    is_of_version: bool

    def __new__(cls, *facts: Any) -> Reason:
        """Make the string that a row has, with its facts as attributes."""
        row = _Facts(*facts)
        reason = str.__new__(cls, row.value)
        reason._value_ = row.value
        reason.stage = row.stage
        reason.sentence = row.sentence
        reason.is_transient = row.is_transient
        reason.is_for_good = row.is_for_good
        reason.is_of_version = row.is_of_version
        return reason

    NOT_FOUND = _Facts("not_found", "read", "There is no such file, or it is gone.")
    FORBIDDEN = _Facts("forbidden", "read", "The store or server denies access to it.")
    TIMEOUT = _Facts(
        "timeout", "read", "Reading took too long, in each of four attempts.", is_transient=True
    )
    UNAVAILABLE = _Facts(
        "unavailable",
        "read",
        "The store or server failed, in each of four attempts.",
        is_transient=True,
    )
    UNREADABLE = _Facts("unreadable", "read", "It cannot be read.")
    TOO_LARGE = _Facts(
        "too_large",
        "read",
        "The file is larger than the run allows (max_image_bytes).",
        is_for_good=True,
    )
    EMPTY = _Facts("empty", "decode", "The file has no bytes.", is_for_good=True)
    NOT_AN_IMAGE = _Facts(
        "not_an_image",
        "decode",
        "The file has an image's name, but holds something else.",
        is_for_good=True,
    )
    UNSUPPORTED_FORMAT = _Facts(
        "unsupported_format",
        "decode",
        "The image's format is not supported; convert it to JPEG or PNG.",
        is_for_good=True,
        is_of_version=True,
    )
    TRUNCATED = _Facts(
        "truncated",
        "decode",
        "The file ends too early, as after a broken upload.",
        is_for_good=True,
    )
    CORRUPT = _Facts("corrupt", "decode", "The file is damaged.", is_for_good=True)
    TOO_MANY_PIXELS = _Facts(
        "too_many_pixels",
        "decode",
        "The image has more pixels than the run allows (max_image_pixels).",
        is_for_good=True,
    )
    PREDICTION_FAILED = _Facts(
        "prediction_failed", "predict", "The model fails on this image, even when it is alone."
    )


class ImageRef(NamedTuple):
    """An image to read.

    ``uri``: an absolute path or a URI, unique within a run. ``truth``: its true class, where that
    is known and wanted. ``version``: changes when the file does, as far as that was to be found out
    without reading it. ``carried``: of a list that names it. ``place``: for a record of a TFRecord
    file, the file and its position there. ``data``: the image's bytes, where they came along with
    the name.
    """

    uri: str
    truth: str | None = None
    version: str = ""
    carried: Carried = _NOTHING
    place: tuple[str, int] | None = None
    data: bytes | None = None


class StageSeconds(NamedTuple):
    """What one image cost, in seconds.

    ``read``: wall time until its bytes were there. ``decode``: CPU time of decoding and resizing.
    ``predict``: its share of its batch's wall time.
    """

    read: float = 0.0
    decode: float = 0.0
    predict: float = 0.0


class ImageInfo(NamedTuple):
    """What is known of a decoded image besides its pixels; its key in RunInference.

    ``width`` and ``height``: of the original in pixels, as displayed (EXIF orientation applied).
    ``content``: the SHA-256 of the file in hexadecimal, if the image has a ``truth``. ``version``,
    ``carried`` and ``place``: see ``ImageRef``.
    """

    uri: str
    width: int
    height: int
    seconds: StageSeconds
    truth: str | None = None
    content: str = ""
    version: str = ""
    carried: Carried = _NOTHING
    place: tuple[str, int] | None = None


class DecodedImage(NamedTuple):
    """An image as the model takes it.

    ``pixels``: uint8 ``[height, width, 3]``, RGB, at the model's size; or a serialized tf.Example.
    """

    info: ImageInfo
    pixels: np.ndarray | bytes


class TopK(NamedTuple):
    """A model's answer for one image: its best classes, best first.

    ``class_ids``: int ``[k]``, indices into the model's output. ``scores``: float ``[k]``,
    softmax probabilities in [0, 1].
    """

    class_ids: tuple[int, ...]
    scores: tuple[float, ...]


class Answer(NamedTuple):
    """What a model returned for one image, and its share of its batch's wall time in seconds.

    ``value``: a ``TopK`` of a classifier, float32 ``[features]`` of a feature extractor; or, if the
    model fails on just this image, a str that says how.
    """

    value: Any
    seconds: float


class Prediction(NamedTuple):
    """One class of an answer. ``score``: softmax probability in [0, 1]."""

    class_id: int
    label: str
    score: float


class Labeled(NamedTuple):
    """A labeled image: one row of ``labels-*``.

    ``predictions`` holds the best classes, best first; ``label``, ``class_id`` and ``score`` repeat
    the first of them, but ``label`` and ``class_id`` are None where the score is below a threshold.
    ``labeled_at`` is UTC. ``version`` is the file's, see ``ImageRef``. ``truth`` is the true class,
    where that is known. ``carried``: columns of their own. ``seconds`` is not written.
    """

    image: str
    label: str | None
    class_id: int | None
    score: float
    predictions: tuple[Prediction, ...]
    width: int
    height: int
    model: str
    model_fingerprint: str
    run_id: str
    labeled_at: Timestamp
    version: str = ""
    truth: str | None = None
    carried: Carried = _NOTHING
    seconds: StageSeconds = StageSeconds()

    def to_row(self) -> dict[str, Any]:
        """The row as JSON has it."""
        row = {name: getattr(self, name) for name in LABELED_COLUMNS}
        row["predictions"] = [prediction._asdict() for prediction in self.predictions]
        return {**row, **self.carried}

    def to_json(self) -> str:
        """The row as one line of JSON, ASCII only, without a line end."""
        return json.dumps(self.to_row())

    def with_threshold(self, threshold: float) -> Labeled:
        """The same with a label only if the score, in [0, 1], is not below the threshold."""
        best = self.predictions[0]
        if self.score < threshold:
            return self._replace(label=None, class_id=None)
        return self._replace(label=best.label, class_id=best.class_id)


class Failure(NamedTuple):
    """An image without a label: one row of ``failures-*``.

    ``stage``: ``read``, ``decode`` or ``predict``. ``reason``: a value of ``Reason``.
    ``message``: for people. ``version``: of the file, see ``ImageRef``. ``carried``: columns of
    their own.
    """

    image: str
    stage: str
    reason: str
    message: str
    run_id: str
    version: str = ""
    carried: Carried = _NOTHING

    def to_row(self) -> dict[str, Any]:
        """The row as JSON has it."""
        return {**{name: getattr(self, name) for name in FAILURE_COLUMNS}, **self.carried}

    def to_json(self) -> str:
        """The row as one line of JSON, ASCII only, without a line end."""
        return json.dumps(self.to_row())

    @property
    def is_for_good(self) -> bool:
        """Whether the file itself is the reason, see ``Reason``."""
        return Reason(self.reason).is_for_good


class Column(NamedTuple):
    """A column of the output.

    ``kind``: ``str``, ``int``, ``float`` or ``Timestamp``; for a list of records, the record's
    class. ``nullable``: whether values may be None.
    """

    name: str
    kind: Any
    nullable: bool


def columns_of(record: type) -> tuple[Column, ...]:
    """The columns of ``Labeled``, ``Failure`` or ``Prediction``; those that are carried follow."""
    hints = typing.get_type_hints(record)
    return tuple(
        _column(name, hint) for name, hint in hints.items() if name not in ("carried", "seconds")
    )


def _column(name: str, hint: Any) -> Column:
    arguments = typing.get_args(hint)
    if isinstance(hint, types.UnionType):
        return Column(name, arguments[0], True)
    return Column(name, arguments[0] if arguments else hint, False)


LABELED_COLUMNS = tuple(column.name for column in columns_of(Labeled))
FAILURE_COLUMNS = tuple(column.name for column in columns_of(Failure))


def record_of(columns: Container[str]) -> type[Labeled] | type[Failure]:
    """Tell by a row's columns which of the two it is."""
    return Failure if "reason" in columns else Labeled


def from_row(row: Mapping[str, Any]) -> Labeled | Failure:
    """The record of which ``to_row`` made a row; of older rows, too, which have fewer columns.

    Raises:
      ValueError, TypeError or KeyError: it is not such a row.
    """
    columns = FAILURE_COLUMNS if "reason" in row else LABELED_COLUMNS
    known = {name: row[name] for name in columns if name in row}
    carried = {name: value for name, value in row.items() if name not in columns}
    if "reason" in row:
        return Failure(**known, carried=carried)
    predictions = tuple(Prediction(**prediction) for prediction in row["predictions"])
    return Labeled(**known | {"predictions": predictions}, carried=carried)


def from_json(line: str) -> Labeled | Failure:
    """The record that is the row in a line of JSON; errors as above."""
    return from_row(json.loads(line))
