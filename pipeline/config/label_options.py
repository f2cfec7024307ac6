"""The flags of ``label`` and ``check``."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.config import values
from pipeline.config.flags import Group, Rows, flag
from pipeline.config.job_options import (
    JobConfig,
    gzip_flag,
    input_flag,
    limit_flag,
    model_flag,
    output_format_flag,
    truth_column_flag,
    uri_column_flag,
)
from pipeline.formats.registry import table_suffixes
from pipeline.models.devices import PRECISIONS
from pipeline.models.spec import RETURNS, Stated

IF_EXISTS = ("resume", "fail", "overwrite")


@dataclass(frozen=True, kw_only=True)
class LabelConfig(JobConfig):
    """The flags of ``label`` and ``check``."""

    input: tuple[str, ...] = input_flag(
        f"folder (with its subfolders), glob, image, .txt list of URIs, {table_suffixes()} "
        "table, .tfrecord, or 'sample'; on this machine, in a bucket (gs://, s3://) or at http(s); "
        "or 'bigquery:SELECT …'"
    )
    model: str = model_flag(
        "SavedModel folder, .tar.gz of one, bucket path, TensorFlow Hub or Kaggle URL, or 'sample'"
    )
    limit: int | None = limit_flag(
        "label only the first N images of the inputs; with --incremental, only N of the new ones"
    )
    uri_column: str = uri_column_flag()
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
    truth_column: str = truth_column_flag("column with the true classes in the table of --truth")
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
    threshold: float | str | None = flag(
        None,
        type=values.threshold,
        metavar="R|FILE",
        group=Group.LABELING,
        # An attempt applies its own to the rows of earlier ones; see also notes.settings.
        rows=Rows.SAME,
        help="an image whose best score is lower gets predictions, but no label; a model that "
        "gives an image several labels gives it those whose own score is not lower; or the "
        "thresholds.json of --target_precision",
        unset="0, or 0.5 for a model that gives an image several labels",
    )
    target_precision: float | None = flag(
        None,
        type=values.rate,
        metavar="P",
        group=Group.LABELING,
        rows=Rows.SAME,
        help="with --truth, choose the thresholds above which at least this share of the labels "
        "will be right on new images, with a confidence of 95 %, and write them to "
        "thresholds.json for --threshold; exit with 1 if there are none; also writes "
        "calibration.json",
    )
    calibration: str | None = flag(
        None,
        type=values.not_empty,
        metavar="FILE",
        group=Group.LABELING,
        rows=Rows.SAME,  # its temperature is a setting of the run, see notes.settings
        help="the calibration.json of --target_precision: scores get its temperature, so that they "
        "say how often a label is right",
    )
    corrections: str | None = flag(
        None,
        type=values.not_empty,
        metavar="FILE",
        group=Group.TABLES,
        rows=Rows.SAME,  # an attempt applies its own to the rows of earlier ones
        help="table with labels that people gave, such as review.csv filled in, or what Label "
        "Studio exports as JSON-MIN or CSV: they go before the model's, and the column labeled_by "
        "says so; give it in each run",
    )
    review: int | None = flag(
        None,
        type=values.review,
        metavar="N",
        group=Group.WRITING,
        rows=Rows.SAME,
        help="write at most N images for a person to look at to review.csv, and for Label Studio "
        "to review.json: those below the threshold, the lowest scores first, and for a tenth a "
        "random sample of the others",
    )
    output_format: tuple[str, ...] = output_format_flag()
    gzip: bool = gzip_flag()
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
    relabel: bool = flag(
        False,
        group=Group.RUNS,
        rows=Rows.SAME,
        help="with --incremental, label all images again if none of the earlier runs counts, as "
        "they had another model or other flags that change rows",
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
    def named(self) -> Iterable[str]:
        """The files that the command line itself names."""
        threshold = self.threshold if isinstance(self.threshold, str) else None
        others = (self.labels_file, self.truth, threshold, self.calibration, self.corrections)
        return (*super().named, *(uri for uri in others if uri is not None))

    @property
    def stated(self) -> Stated:
        """What the flags say of the model."""
        return dataclasses.replace(
            super().stated,
            labels_file=self.labels_file,
            signature=self.signature,
            returns=self.returns,
        )
