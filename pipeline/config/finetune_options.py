"""The flags of ``finetune``."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.config import values
from pipeline.config.flags import Group, Rows, flag
from pipeline.config.job_options import (
    JobConfig,
    input_flag,
    limit_flag,
    model_flag,
    truth_column_flag,
    uri_column_flag,
)
from pipeline.formats.registry import table_suffixes

IF_EXISTS = ("fail", "overwrite")


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(JobConfig):
    """The flags of ``finetune``. Its rows are the features of its images."""

    input: tuple[str, ...] = input_flag(
        "folder with one folder of images per class, or 'sample'; or, where each image is in a "
        f"folder named like its class, a glob or .txt list of URIs; or a {table_suffixes()} table, "
        "'bigquery:SELECT …' or .tfrecord, which have the classes in them"
    )
    model: str = model_flag(
        "feature vector that the head is put on: SavedModel folder, .tar.gz of one, bucket path, "
        "TensorFlow Hub or Kaggle URL, or 'sample'"
    )
    limit: int | None = limit_flag(
        "train with only N of the images: the first of each class, in turn"
    )
    uri_column: str = uri_column_flag(old_name="image_column")
    truth_column: str = truth_column_flag(
        "column with the images' classes", old_name="label_column"
    )
    split: str = flag(
        "auto",
        choices=("auto", "checksum"),
        group=Group.TRAINING,
        rows=Rows.SAME,
        help="how images are divided into those that train, validate and test; auto: as their "
        "folders train, val and test say, or a column 'split', and if there are none, by a "
        "checksum of each file; checksum: always by that, so that folders of such names are "
        "classes",
    )
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
    if_exists: str = flag(
        "fail",
        choices=IF_EXISTS,
        group=Group.RUNS,
        rows=Rows.SAME,
        help="what to do if the output has results of a training: refuse, or replace them when the "
        "new ones are there",
    )
