"""The flags: what each command takes, and which values make sense."""

from __future__ import annotations

import argparse
import difflib
import functools
import math

from pipeline.config import yaml_file as config_file
from pipeline.errors import UsageError
from pipeline.limits import DEFAULT_LIMITS
from pipeline.models.devices import PRECISIONS
from pipeline.records import EXAMPLE_KEYS, FAILURE_COLUMNS, FORMATS, LABELED_COLUMNS

LABEL_DESCRIPTION = """\
Label images with a TensorFlow Hub classifier or another SavedModel.
Flags of Apache Beam (--runner, --project, --temp_location, …) are passed on to it."""

CHECK_DESCRIPTION = """\
See whether label would work with the same flags, and what it would take, on a sample of the images.
Nothing is written."""

FINETUNE_DESCRIPTION = """\
Train a classifier of your own on a TensorFlow Hub feature vector, and export it for label.
Flags of Apache Beam (--runner, --project, --temp_location, …) are passed on to it."""

REPORT_DESCRIPTION = """\
Write report.html, the page that label leaves beside its rows, again.
Flags of Apache Beam (--s3_region_name, …) are passed on to it."""


# 4096 images of 224 × 224 are 600 MB, before the model makes anything of them.
MAX_BATCH_SIZE = 4096


class Parser(argparse.ArgumentParser):
    """Raises where argparse prints its whole usage and exits."""

    def error(self, message: str) -> None:  # type: ignore[override]
        """Raise what becomes one line."""
        raise UsageError(f"{message}; {self.prog} --help explains the flags")


class _Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Each line ends with its default; line breaks of the description are kept."""


def label_parser(command: str = "label") -> argparse.ArgumentParser:
    """Of ``label``, or of ``check``, which has the same flags."""
    parser = _new_parser(command, LABEL_DESCRIPTION if command == "label" else CHECK_DESCRIPTION)
    # Before the flag is added, so that its help does not say "default: None".
    parser.set_defaults(
        carry=(),
        truth=None,
        labels_file=None,
        signature=None,
        output_table=None,
        copy_to=None,
        price_per_hour=None,
    )
    _add_required(
        parser,
        input_help="folder (with its subfolders), glob, image, .txt list of URIs, .csv, .jsonl or "
        ".parquet table, .tfrecord, or 'sample'; on this machine, in a bucket (gs://, s3://) or at "
        "http(s); or 'bigquery:SELECT …'; may be repeated",
        model_help="SavedModel folder, .tar.gz of one, bucket path, http(s) TensorFlow Hub handle, "
        "or 'sample'",
    )
    _add_columns(parser)
    labeling = parser.add_argument_group("how to label")
    labeling.add_argument(
        "--labels_file",
        metavar="FILE",
        help="class names, one a line, path or URI (default: assets/labels.txt in the model; "
        "ImageNet's public list for 1001 classes)",
        default=argparse.SUPPRESS,
    )
    labeling.add_argument(
        "--signature",
        metavar="NAME",
        help="of the model, to use (default: the one that takes images, else serialized "
        "tf.Examples)",
        default=argparse.SUPPRESS,
    )
    labeling.add_argument(
        "--top_k", type=_positive, default=5, metavar="N", help="predictions in each row"
    )
    labeling.add_argument(
        "--batch_size", type=_batch_size, default=64, metavar="N", help="images a call of the model"
    )
    labeling.add_argument(
        "--threshold",
        type=_ratio,
        default=0.0,
        metavar="R",
        help="an image whose best score is below has no label, but predictions",
    )
    _add_writing(parser)
    device = parser.add_argument_group("what the model runs on")
    device.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="float32",
        help="of the model's arithmetic: float16 for GPUs, bfloat16 for CPUs that have it; one "
        "or two labels in a hundred change",
    )
    device.add_argument(
        "--xla", action="store_true", help="compile the model with XLA, for GPUs; slow on a CPU"
    )
    device.add_argument(
        "--require_gpu", action="store_true", help="fail at once where TensorFlow sees no GPU"
    )
    device.add_argument(
        "--price_per_hour",
        type=_price,
        metavar="PRICE",
        help="of the machine that it runs on, or of all of them; summary.json then has the cost "
        "of a million images (default: none)",
        default=argparse.SUPPRESS,
    )
    runs = parser.add_argument_group("runs that were, or are to come")
    runs.add_argument(
        "--if_exists",
        choices=("resume", "fail", "overwrite"),
        default="resume",
        help="what to do if the output has results: label what the same command has not labeled "
        "yet (and refuse those of another command), refuse, or delete them first",
    )
    runs.add_argument(
        "--incremental",
        action="store_true",
        help="give each run a dated folder in the output, and label only what is new, was changed, "
        "or could not be read or predicted, since the earlier runs there with the same model",
    )
    runs.add_argument(
        "--checkpoint_every",
        type=_positive,
        default=2000,
        metavar="N",
        help="images after which the rows of each worker are kept, for the same command to go on "
        "with if this one is killed",
    )
    _add_reading(parser)
    return parser


def _add_columns(parser: argparse.ArgumentParser) -> None:
    columns = parser.add_argument_group("tables of images, and what is known of them")
    columns.add_argument(
        "--uri_column", default="image", metavar="NAME", help="of the images' paths or URIs"
    )
    columns.add_argument(
        "--carry",
        type=_carried,
        metavar="NAME,NAME",
        help="columns to take over into the rows of the output (default: none)",
        default=argparse.SUPPRESS,
    )
    columns.add_argument(
        "--truth",
        type=_name,
        metavar="FILE",
        help="table with the images' true classes in the column 'label', or 'parent' if each image "
        "is in a folder named like its class; the report then says how good the labels are "
        "(default: none)",
        default=argparse.SUPPRESS,
    )


def _add_writing(parser: argparse.ArgumentParser) -> None:
    writing = parser.add_argument_group("what to write")
    writing.add_argument(
        "--output_format",
        type=_formats,
        default="jsonl",
        metavar="FORMAT,FORMAT",
        help=f"of the rows, one or several of {', '.join(FORMATS)}",
    )
    writing.add_argument(
        "--gzip", action="store_true", help="compress them (Parquet always is, by itself)"
    )
    writing.add_argument(
        "--output_table",
        type=_name,
        metavar="PROJECT:DATASET.TABLE",
        help="of BigQuery, to put the labels into, too; made if need be, with a partition a day "
        "(default: none)",
        default=argparse.SUPPRESS,
    )
    writing.add_argument(
        "--copy_to",
        type=_text,
        metavar="FOLDER",
        help="to put the images into, too, in one folder a label (hard links on the same disk) "
        "(default: none)",
        default=argparse.SUPPRESS,
    )


def report_parser() -> argparse.ArgumentParser:
    """Of ``report``."""
    parser = _new_parser("report", REPORT_DESCRIPTION)
    parser.add_argument("folder", type=_name, metavar="DIR", help="a run's folder, or bucket path")
    return parser


def finetune_parser() -> argparse.ArgumentParser:
    """Of ``finetune``."""
    parser = _new_parser("finetune", FINETUNE_DESCRIPTION)
    _add_required(
        parser,
        input_help="folder with one folder of images for each class, .csv, .jsonl or .parquet "
        "list with a column of labels, or 'sample'; may be repeated",
        model_help="feature vector that the head is put on: SavedModel folder, .tar.gz of one, "
        "bucket path, http(s) TensorFlow Hub handle, or 'sample'",
    )
    data = parser.add_argument_group("lists")
    data.add_argument("--image_column", default="image", metavar="NAME", help="of URIs in a list")
    data.add_argument(
        "--label_column", default="label", metavar="NAME", help="of classes in a list"
    )
    training = parser.add_argument_group("how to train")
    training.add_argument(
        "--batch_size", type=_batch_size, default=32, metavar="N", help="images a training step"
    )
    training.add_argument(
        "--epochs",
        type=_positive,
        default=100,
        metavar="N",
        help="for the head, at most; training "
        "stops when three of them have not improved on the validation images",
    )
    training.add_argument(
        "--learning_rate", type=_rate, default=1e-3, metavar="R", help="for the head (Adam)"
    )
    training.add_argument(
        "--unfreeze", action="store_true", help="then train the whole network, with augmentation"
    )
    training.add_argument(
        "--unfreeze_epochs", type=_positive, default=3, metavar="N", help="for the whole network"
    )
    training.add_argument(
        "--unfreeze_learning_rate",
        type=_rate,
        default=1e-5,
        metavar="R",
        help="for the whole network (Adam); much more destroys what the features know",
    )
    training.add_argument(
        "--min_accuracy",
        type=_ratio,
        default=0.0,
        metavar="A",
        help="exit with 1 and export nothing if the test images' accuracy is less",
    )
    _add_reading(parser)
    return parser


def _new_parser(command: str, description: str) -> argparse.ArgumentParser:
    # Abbreviations are off because --labels_file would swallow Dataflow's --labels.
    parser = Parser(
        prog=f"python -m pipeline {command}",
        description=description,
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    parser.set_defaults(resample=None)
    return parser


def _add_required(parser: argparse.ArgumentParser, input_help: str, model_help: str) -> None:
    required = parser.add_argument_group("what from, and where to")
    flag = functools.partial(required.add_argument, required=True, default=argparse.SUPPRESS)
    flag("--input", type=_name, action="extend", nargs="+", metavar="URI", help=input_help)
    flag("--model", type=_name, metavar="HANDLE", help=model_help)
    flag("--output", type=_text, metavar="FOLDER", help="folder or bucket path for the results")
    required.add_argument(
        config_file.FLAG,
        type=_name,
        metavar="FILE",
        help=f"YAML with flags, as a run leaves it in {config_file.NAME}; those that are also on "
        "the command line count from there (default: none)",
        default=argparse.SUPPRESS,
    )


def _add_reading(parser: argparse.ArgumentParser) -> None:
    reading = parser.add_argument_group("how to read images")
    reading.add_argument(
        "--resample",
        choices=("bicubic", "bilinear"),
        default=argparse.SUPPRESS,
        help="filter that images are resized with (default: what the model was trained with, if "
        "it says so in assets/preprocessing.json, else bicubic)",
    )
    reading.add_argument(
        "--max_failure_ratio",
        type=_ratio,
        default=0.1,
        metavar="R",
        help="exit with 1 if more than this part of the images fails",
    )
    reading.add_argument(
        "--max_image_bytes",
        type=_positive,
        default=DEFAULT_LIMITS.max_image_bytes,
        metavar="N",
        help="a file that has more fails as too_large",
    )
    reading.add_argument(
        "--max_image_pixels",
        type=_positive,
        default=DEFAULT_LIMITS.max_image_pixels,
        metavar="N",
        help="an image that has more fails as too_many_pixels",
    )
    reading.add_argument(
        "--read_timeout_seconds",
        type=_seconds,
        default=DEFAULT_LIMITS.read_timeout_seconds,
        metavar="S",
        help="for each of four attempts to read an image from a store or server",
    )


def check_beam_args(rest: list[str], parser: argparse.ArgumentParser) -> None:
    """Refuse what neither we nor Beam know; Beam itself only logs it.

    Raises:
      UsageError: naming the first unknown argument and the flag that it resembles.
    """
    from apache_beam.options.pipeline_options import PipelineOptions  # seconds; not for --help

    beam_parser = Parser(prog=parser.prog, allow_abbrev=False, add_help=False)
    # Beam tells its own flags from others in just this way, see PipelineOptions.get_all_options.
    for options in PipelineOptions.__subclasses__():
        options._add_argparse_args(beam_parser)  # type: ignore[arg-type]
    _, unknown = beam_parser.parse_known_args(rest)
    if not unknown:
        return
    known = [*parser._option_string_actions, *beam_parser._option_string_actions]
    close = difflib.get_close_matches(unknown[0].split("=")[0], known, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise UsageError(f"unknown argument {unknown[0]}; {hint}{parser.prog} --help lists the flags")


def _name(text: str) -> str:
    if not text:  # an unset shell variable, which would mean the current folder
        raise argparse.ArgumentTypeError("it is empty")
    return text


def _text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not UTF-8") from error
    return _name(text)


def _carried(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    for number, name in enumerate(names):
        if not name:
            raise argparse.ArgumentTypeError(f"{text!r} has an empty name")
        if name in names[:number]:
            raise argparse.ArgumentTypeError(f"{name} is named twice")
        own = (*LABELED_COLUMNS, *FAILURE_COLUMNS, *EXAMPLE_KEYS.values())
        if name in own or name.startswith("predictions/"):
            raise argparse.ArgumentTypeError(f"the rows have a column {name} of their own")
    return names


def _formats(text: str) -> tuple[str, ...]:
    names = dict.fromkeys(name.strip() for name in text.split(","))
    for name in names:
        if name not in FORMATS:
            raise argparse.ArgumentTypeError(
                f"{name!r} is no format; there are {', '.join(FORMATS)}"
            )
    return tuple(names)


def _batch_size(text: str) -> int:
    if _positive(text) > MAX_BATCH_SIZE:
        raise argparse.ArgumentTypeError(f"{text} is more than {MAX_BATCH_SIZE}")
    return int(text)


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number") from None
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is not a number") from None


def _price(text: str) -> float:
    value = _number(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a price")
    return value


def _seconds(text: str) -> float:
    value = _number(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number of seconds")
    return value


def _rate(text: str) -> float:
    value = _number(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def _ratio(text: str) -> float:
    value = _number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value
