"""The flags of each command: parser, help, YAML file and template are all made from these."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from pipeline.config import values
from pipeline.config.flags import BEAM_ARGS, Group, Rows, flag, flags_of
from pipeline.formats.registry import FORMATS, table_suffixes
from pipeline.limits import DEFAULT_LIMITS, Limits
from pipeline.models.devices import PRECISIONS
from pipeline.models.scaling import SCALES
from pipeline.models.spec import RETURNS, Stated
from pipeline.redaction import redact_all, without_secret_flags

IF_EXISTS = ("resume", "fail", "overwrite")
RESAMPLE = ("bicubic", "bilinear")


def _input(help: str) -> Any:
    return flag(
        type=values.not_empty,
        metavar="URI",
        is_repeatable=True,
        group=Group.FILES,
        rows=Rows.OTHER_IMAGES,
        help=f"{help}; may be repeated",
    )


def _model(help: str) -> Any:
    return flag(
        type=values.not_empty,
        metavar="HANDLE",
        group=Group.FILES,
        rows=Rows.OTHER_VALUES,
        help=help,
    )


def _uri_column(old_name: str = "") -> Any:
    return flag(
        "image",
        type=str,
        metavar="NAME",
        group=Group.TABLES,
        rows=Rows.SAME,
        help="column with the images' paths or URIs",
        old_name=old_name,
    )


def _truth_column(help: str, old_name: str = "") -> Any:
    return flag(
        "label",
        type=str,
        metavar="NAME",
        group=Group.TABLES,
        rows=Rows.SAME,
        help=help,
        old_name=old_name,
    )


@dataclass(frozen=True, kw_only=True)
class JobConfig:
    """The flags that all jobs on images have.

    ``beam_args`` are the arguments that belong to Apache Beam, untouched.
    """

    input: tuple[str, ...]  # each job explains these two
    model: str
    output: str = flag(
        type=values.utf8,
        metavar="FOLDER",
        group=Group.FILES,
        rows=Rows.SAME,
        help="folder or bucket path for the results",
    )
    resample: str | None = flag(
        None,
        choices=RESAMPLE,
        group=Group.READING,
        rows=Rows.OTHER_VALUES,
        help="filter that images are resized with",
        unset="what the model was trained with, if it says so in assets/preprocessing.json, else "
        "bicubic",
    )
    max_failure_ratio: float = flag(
        0.1,
        type=values.ratio,
        metavar="R",
        group=Group.READING,
        rows=Rows.SAME,
        help="exit with 1 if more than this fraction of the images fails",
    )
    max_image_bytes: int = flag(
        DEFAULT_LIMITS.max_image_bytes,
        type=values.positive,
        metavar="N",
        group=Group.READING,
        rows=Rows.OTHER_IMAGES,
        help="a file with more bytes fails as too_large",
    )
    max_image_pixels: int = flag(
        DEFAULT_LIMITS.max_image_pixels,
        type=values.positive,
        metavar="N",
        group=Group.READING,
        rows=Rows.OTHER_IMAGES,
        help="an image with more pixels fails as too_many_pixels",
    )
    read_timeout_seconds: float = flag(
        DEFAULT_LIMITS.read_timeout_seconds,
        type=values.seconds,
        metavar="S",
        group=Group.READING,
        rows=Rows.SAME,
        help="time for each of four attempts to read an image from a store or server",
    )
    scale: str | None = flag(
        None,
        choices=tuple(SCALES),
        group=Group.MODEL,
        rows=Rows.OTHER_VALUES,
        help="values that the model takes for a pixel: "
        + "; ".join(f"{name}: {scale.words}" for name, scale in SCALES.items()),
        unset="what its preprocessing.json or its graph says, else unit, as on the Hub",
    )
    model_output: str | None = flag(
        None,
        type=values.not_empty,
        metavar="NAME",
        group=Group.MODEL,
        rows=Rows.OTHER_VALUES,
        help="the one of the model's outputs that has the scores",
        unset="the only one with a row of numbers for each image",
    )
    channels_first: bool = flag(
        False,
        group=Group.MODEL,
        rows=Rows.OTHER_VALUES,
        help="transpose images for a model that takes [N, 3, height, width]",
    )
    model_fingerprint: str | None = flag(
        None,
        type=values.fingerprint,
        metavar="sha256:…",
        group=Group.MODEL,
        rows=Rows.SAME,  # the model has the same one, or is refused
        help="fingerprint of the only model to use, as rows have it; any other is refused",
        unset="any model",
    )
    beam_args: tuple[str, ...] = ()

    @property
    def stated(self) -> Stated:
        """What the flags say of the model."""
        return Stated(
            fingerprint=self.model_fingerprint,
            resample=self.resample,
            output=self.model_output,
            scale=self.scale,
            channels_first=self.channels_first,
        )

    @property
    def limits(self) -> Limits:
        """What no image may take more of."""
        return Limits(self.max_image_bytes, self.max_image_pixels, self.read_timeout_seconds)


@dataclass(frozen=True, kw_only=True)
class LabelConfig(JobConfig):
    """The flags of ``label`` and ``check``."""

    input: tuple[str, ...] = _input(
        f"folder (with its subfolders), glob, image, .txt list of URIs, {table_suffixes()} "
        "table, .tfrecord, or 'sample'; on this machine, in a bucket (gs://, s3://) or at http(s); "
        "or 'bigquery:SELECT …'"
    )
    model: str = _model(
        "SavedModel folder, .tar.gz of one, bucket path, TensorFlow Hub or Kaggle URL, or 'sample'"
    )
    uri_column: str = _uri_column()
    carry: tuple[str, ...] = flag(
        (),
        type=values.carried,
        metavar="NAME,NAME",
        group=Group.TABLES,
        rows=Rows.SAME,  # the rows' own columns do not depend on it
        help="columns to copy into the rows of the output",
    )
    truth: str | None = flag(
        None,
        type=values.not_empty,
        metavar="FILE",
        group=Group.TABLES,
        rows=Rows.SAME,
        help="table with the images' true classes, or 'parent' if each image is in a folder named "
        "like its class; the report then says how good the labels are",
    )
    truth_column: str = _truth_column("column with the true classes in the table of --truth")
    labels_file: str | None = flag(
        None,
        type=str,
        metavar="FILE",
        group=Group.LABELING,
        rows=Rows.OTHER_VALUES,
        help="class names, one per line, path or URI",
        unset="assets/labels.txt in the model; ImageNet's public list for 1001 classes",
    )
    signature: str | None = flag(
        None,
        type=str,
        metavar="NAME",
        group=Group.LABELING,
        rows=Rows.OTHER_VALUES,
        help="the model's signature to call",
        unset="the one that takes images, else serialized tf.Examples",
    )
    top_k: int = flag(
        5,
        type=values.positive,
        metavar="N",
        group=Group.LABELING,
        rows=Rows.OTHER_VALUES,
        help="predictions in each row",
    )
    batch_size: int = flag(
        64,
        type=values.batch_size,
        metavar="N",
        group=Group.LABELING,
        rows=Rows.SAME,
        help="images per model call",
    )
    threshold: float | None = flag(
        None,
        type=values.ratio,
        metavar="R",
        group=Group.LABELING,
        # An attempt applies its own to the rows of earlier ones; see also runs._settings.
        rows=Rows.SAME,
        help="an image whose best score is lower gets predictions, but no label; a model that "
        "gives an image several labels gives it those whose own score is not lower",
        unset="0, or 0.5 for a model that gives an image several labels",
    )
    output_format: tuple[str, ...] = flag(
        ("jsonl",),
        type=values.formats,
        metavar="FORMAT,FORMAT",
        group=Group.WRITING,
        rows=Rows.SAME,
        help=f"format of the rows: one or several of {', '.join(FORMATS)}",
    )
    gzip: bool = flag(
        False,
        group=Group.WRITING,
        rows=Rows.SAME,
        help="compress the rows (Parquet always is)",
    )
    output_table: str | None = flag(
        None,
        type=values.not_empty,
        metavar="PROJECT:DATASET.TABLE",
        group=Group.WRITING,
        rows=Rows.SAME,
        help="BigQuery table that also gets the labels; created if needed, with one partition per "
        "day",
    )
    copy_to: str | None = flag(
        None,
        type=values.utf8,
        metavar="FOLDER",
        group=Group.WRITING,
        rows=Rows.SAME,
        help="folder that also gets the images, in one folder per label (hard links on the same "
        "disk)",
    )
    precision: str = flag(
        "float32",
        choices=PRECISIONS,
        group=Group.DEVICE,
        rows=Rows.OTHER_VALUES,
        help="the model's arithmetic: float16 is for GPUs, bfloat16 for CPUs that support it; with "
        "either, one or two labels in a hundred change",
    )
    xla: bool = flag(
        False,
        group=Group.DEVICE,
        rows=Rows.SAME,
        help="compile the model with XLA, for GPUs; slow on a CPU",
    )
    require_gpu: bool = flag(
        False,
        group=Group.DEVICE,
        rows=Rows.SAME,
        help="fail at once where TensorFlow sees no GPU",
    )
    price_per_hour: float | None = flag(
        None,
        type=values.price,
        metavar="PRICE",
        group=Group.DEVICE,
        rows=Rows.SAME,
        help="price of the machine, or of all machines together; summary.json then has the cost of "
        "a million images",
    )
    if_exists: str = flag(
        "resume",
        choices=IF_EXISTS,
        group=Group.RUNS,
        rows=Rows.SAME,
        help="what to do if the output has results: label what the same command has not labeled "
        "yet (and refuse the results of another command), refuse, or delete them first",
    )
    incremental: bool = flag(
        False,
        group=Group.RUNS,
        rows=Rows.SAME,
        help="give each run a dated folder in the output, and label only what is new or changed, "
        "or could not be read or predicted, since the earlier runs there with the same model",
    )
    checkpoint_every: int = flag(
        2000,
        type=values.positive,
        metavar="N",
        group=Group.RUNS,
        rows=Rows.SAME,
        help="each worker saves its rows after this many images, so that the same command can go "
        "on with them if this one is killed",
    )

    returns: str | None = flag(
        None,
        choices=RETURNS,
        group=Group.MODEL,
        rows=Rows.OTHER_VALUES,
        help="what the model returns for each class: logits, probabilities that add up to 1, or "
        "with sigmoid a probability of its own",
        unset="what its preprocessing.json, its numbers or its graph say",
    )

    @property
    def stated(self) -> Stated:
        """What the flags say of the model."""
        return dataclasses.replace(
            super().stated,
            labels_file=self.labels_file,
            signature=self.signature,
            returns=self.returns,
        )


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(JobConfig):
    """The flags of ``finetune``. Its rows are the features of its images."""

    input: tuple[str, ...] = _input(
        "folder with one folder of images per class, or 'sample'; or, where each image is in a "
        f"folder named like its class, a glob or .txt list of URIs; or a {table_suffixes()} table, "
        "'bigquery:SELECT …' or .tfrecord, which have the classes in them"
    )
    model: str = _model(
        "feature vector that the head is put on: SavedModel folder, .tar.gz of one, bucket path, "
        "TensorFlow Hub or Kaggle URL, or 'sample'"
    )
    uri_column: str = _uri_column(old_name="image_column")
    truth_column: str = _truth_column("column with the images' classes", old_name="label_column")
    batch_size: int = flag(
        32,
        type=values.batch_size,
        metavar="N",
        group=Group.TRAINING,
        rows=Rows.SAME,
        help="images per training step",
    )
    epochs: int = flag(
        100,
        type=values.positive,
        metavar="N",
        group=Group.TRAINING,
        rows=Rows.SAME,
        help="epochs for the head, at most; training stops when three of them have not improved "
        "on the validation images",
    )
    learning_rate: float = flag(
        1e-3,
        type=values.rate,
        metavar="R",
        group=Group.TRAINING,
        rows=Rows.SAME,
        help="learning rate for the head (Adam)",
    )
    unfreeze: bool = flag(
        False,
        group=Group.TRAINING,
        rows=Rows.SAME,
        help="then train the whole network, with augmentation",
    )
    unfreeze_epochs: int = flag(
        3,
        type=values.positive,
        metavar="N",
        group=Group.TRAINING,
        rows=Rows.SAME,
        help="epochs for the whole network",
    )
    unfreeze_learning_rate: float = flag(
        1e-5,
        type=values.rate,
        metavar="R",
        group=Group.TRAINING,
        rows=Rows.SAME,
        help="learning rate for the whole network (Adam); a much higher one destroys what the "
        "features know",
    )
    min_accuracy: float = flag(
        0.0,
        type=values.ratio,
        metavar="A",
        group=Group.TRAINING,
        rows=Rows.SAME,
        help="exit with 1 and export nothing if the accuracy on the test images is lower",
    )


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """The arguments of ``report``; ``beam_args`` are those that belong to Beam, untouched."""

    folder: str = flag(
        type=values.not_empty,
        metavar="DIR",
        group=Group.ARGUMENTS,
        rows=Rows.SAME,
        help="a run's folder, or bucket path",
    )
    beam_args: tuple[str, ...] = ()


def written(config: JobConfig) -> dict[str, Any]:
    """The flags as a run's summary has them: by name, as in ``--help``, without secrets."""
    flags = {flag.name: getattr(config, flag.name) for flag in flags_of(type(config))}
    return redact_all({**flags, BEAM_ARGS: without_secret_flags(config.beam_args)})
