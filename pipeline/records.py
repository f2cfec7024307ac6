"""Define what travels through the pipeline, and the rows that it writes.

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

if typing.TYPE_CHECKING:
    from pipeline.redaction import Naming

# Formats of times in rows and summaries, and in the names of runs; both are UTC.
TIME = "%Y-%m-%dT%H:%M:%SZ"
TIME_IN_NAMES = "%Y-%m-%dT%H-%M-%SZ"

# A time in the former format.
Timestamp = NewType("Timestamp", str)

# Columns of a table that are carried along with its images, with JSON's values.
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
      stage: the step that gives this reason: ``find``, ``read``, ``decode`` or ``predict``.
      sentence: what it means, for people.
      is_transient: whether it may pass within seconds, so the same run tries again.
      is_for_good: whether the file itself is the cause, so no run would label it until it changes;
        or the row of the table. Permissions, credentials and devices come and go while it stays.
      is_of_version: whether another version of this package or of its decoders may label it.
    """

    _value_: str
    stage: str
    sentence: str
    is_transient: bool
    is_for_good: bool
    is_of_version: bool

    def __new__(cls, *facts: Any) -> Reason:
        """Make the string that goes into a row, with the facts as attributes."""
        row = _Facts(*facts)
        reason = str.__new__(cls, row.value)
        reason._value_ = row.value
        reason.stage = row.stage
        reason.sentence = row.sentence
        reason.is_transient = row.is_transient
        reason.is_for_good = row.is_for_good
        reason.is_of_version = row.is_of_version
        return reason

    NO_URI = _Facts(
        "no_uri",
        "find",
        "The row of the table, or line of the list, has no usable URI and no image.",
        is_for_good=True,
    )
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


class Place(NamedTuple):
    """Where an image is that is no file of its own.

    ``file``: a TFRecord file or a table. ``position``: of a TFRecord file's record, from 0, or a
    table's row, from 1. ``column``: of the table. ``content``: a hash of a cell's bytes.
    """

    file: str
    position: int
    column: str = ""
    content: str = ""

    @property
    def name(self) -> str:
        """The name of an image that has none of its own: ``photos.tfrecord#0``, ``a.csv#row=1``."""
        return row_name(self.file, self.position) if self.column else f"{self.file}#{self.position}"


def row_name(table: str, number: int) -> str:
    """Name a row of a table by its number, from 1."""
    return f"{table}#row={number}"


class ImageRef(NamedTuple):
    """An image to read.

    ``uri``: an absolute path or a URI, unique within a run. ``truth``: its true class, if that is
    known and wanted. ``version``: changes when the file does, as far as that can be found out
    without reading it. ``carried``: columns of the table that names it. ``place``: where it is, if
    not in a file of its own. ``data``: the image's bytes, if they came along with the name.
    ``order``: of rows that name the same image, the one with the least counts. ``problem``: why a
    row names no image; ``uri`` is then the row's own name. ``naming``: see ``name_of``.
    """

    uri: str
    truth: str | None = None
    version: str = ""
    carried: Carried = _NOTHING
    place: Place | None = None
    data: bytes | None = None
    order: tuple[int, ...] = ()
    problem: tuple[Reason, str] | None = None
    naming: Naming | None = None


class StageSeconds(NamedTuple):
    """What one image cost, in seconds.

    ``read``: wall time until its bytes had arrived. ``decode``: CPU time of decoding and resizing.
    ``predict``: its share of its batch's wall time.
    """

    read: float = 0.0
    decode: float = 0.0
    predict: float = 0.0


class ImageInfo(NamedTuple):
    """What is known about a decoded image besides its pixels; its key in RunInference.

    ``width`` and ``height``: of the original in pixels, as displayed (EXIF orientation applied).
    ``content``: the SHA-256 of the file in hexadecimal, if that is wanted. ``version``,
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
    place: Place | None = None


class DecodedImage(NamedTuple):
    """An image as the model takes it.

    ``pixels``: uint8 ``[height, width, 3]``, RGB, at the model's size; or a serialized tf.Example.
    """

    info: ImageInfo
    pixels: np.ndarray | bytes


class TopK(NamedTuple):
    """A model's answer for one image: its best classes, best first.

    ``class_ids``: int ``[k]``, indices into the model's output. ``scores``: float ``[k]``,
    probabilities in [0, 1]: softmax's, or each class's own.
    """

    class_ids: tuple[int, ...]
    scores: tuple[float, ...]


class Answer(NamedTuple):
    """What a model returned for one image, and its share of the batch's wall time, in seconds.

    ``value``: a classifier's ``TopK``, or a feature extractor's float32 ``[features]``; if the
    model fails on just this image, a str that says how.
    """

    value: Any
    seconds: float


class Prediction(NamedTuple):
    """One class of an answer. ``score``: its probability in [0, 1], see ``TopK``."""

    class_id: int
    label: str
    score: float


class Labeled(NamedTuple):
    """A labeled image: one row of ``labels-*``.

    ``predictions`` holds the best classes, best first; ``label``, ``class_id`` and ``score`` repeat
    the first of them, but ``label`` and ``class_id`` are None if the score is below a threshold.
    If a model gives an image several labels, ``predictions`` holds only classes that reach the
    threshold, possibly none; ``score`` is still that of the best class.
    ``labeled_at`` is UTC. ``version`` is the file's, see ``ImageRef``. ``truth`` is the true class,
    if it is known, or a JSON list if there may be several. ``carried`` values are written as
    columns of their own. ``seconds`` is not written.
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
        """Return the row with JSON's types."""
        row = {name: getattr(self, name) for name in LABELED_COLUMNS}
        row["predictions"] = [prediction._asdict() for prediction in self.predictions]
        return {**row, **self.carried}

    def to_json(self) -> str:
        """Write the row as one line of JSON, ASCII only, without a line end."""
        return json.dumps(self.to_row())

    def with_threshold(self, threshold: float) -> Labeled:
        """Return the row with a label only if its score reaches the threshold, in [0, 1]."""
        best = self.predictions[0]
        if self.score < threshold:
            return self._replace(label=None, class_id=None)
        return self._replace(label=best.label, class_id=best.class_id)

    def with_labels(self, threshold: float, most: int) -> Labeled:
        """The same with only the predictions whose own score is not below the threshold.

        Args:
          threshold: in [0, 1].
          most: the number of predictions that are kept at most, the best ones.
        """
        above = tuple(one for one in self.predictions[:most] if one.score >= threshold)
        if not above:
            return self._replace(label=None, class_id=None, predictions=())
        return self._replace(label=above[0].label, class_id=above[0].class_id, predictions=above)


class Failure(NamedTuple):
    """An image without a label: one row of ``failures-*``.

    ``stage``: ``find``, ``read``, ``decode`` or ``predict``. ``reason``: a value of ``Reason``.
    ``message``: for people. ``version``: of the file, see ``ImageRef``. ``carried``: written as
    columns of their own.
    """

    image: str
    stage: str
    reason: str
    message: str
    run_id: str
    version: str = ""
    carried: Carried = _NOTHING

    def to_row(self) -> dict[str, Any]:
        """Return the row with JSON's types."""
        return {**{name: getattr(self, name) for name in FAILURE_COLUMNS}, **self.carried}

    def to_json(self) -> str:
        """Write the row as one line of JSON, ASCII only, without a line end."""
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
    """List the columns of ``Labeled``, ``Failure`` or ``Prediction``, except the carried ones."""
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
TRAINED_ON = "trained_on"  # one more, if the model lists the images that it was trained on
LABELED_BY = "labeled_by"  # one more, if people have corrected labels; its values:
MODEL, PERSON = "model", "person"


def is_by_person(row: Mapping[str, Any]) -> bool:
    """Tell whether a row, or what is carried with it, says that a person gave the label."""
    return row.get(LABELED_BY) == PERSON


def record_of(columns: Container[str]) -> type[Labeled] | type[Failure]:
    """Tell by a row's columns whether it is a ``Labeled`` or a ``Failure``."""
    return Failure if "reason" in columns else Labeled


def from_row(row: Mapping[str, Any]) -> Labeled | Failure:
    """Turn a row that ``to_row`` made back into its record; older rows have fewer columns.

    Raises:
      ValueError, TypeError or KeyError: the row is neither a ``Labeled`` nor a ``Failure``.
    """
    columns = FAILURE_COLUMNS if "reason" in row else LABELED_COLUMNS
    known = {name: row[name] for name in columns if name in row}
    carried = {name: value for name, value in row.items() if name not in columns}
    if "reason" in row:
        return Failure(**known, carried=carried)
    predictions = tuple(Prediction(**prediction) for prediction in row["predictions"])
    return Labeled(**known | {"predictions": predictions}, carried=carried)


def from_json(line: str) -> Labeled | Failure:
    """Turn a row that ``to_json`` wrote back into its record.

    Raises:
      ValueError, TypeError or KeyError: the line is not such a row.
    """
    return from_row(json.loads(line))
