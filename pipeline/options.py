"""The command line: the only parser, and the validated configuration that it yields."""

from __future__ import annotations

import argparse
import difflib
from dataclasses import dataclass

from pipeline import __version__
from pipeline.errors import UsageError

LABEL_DESCRIPTION = """\
Label images with a TensorFlow Hub classifier or another SavedModel.
Flags of Apache Beam (--runner, --project, --temp_location, …) are passed on to it."""


@dataclass(frozen=True)
class LabelConfig:
    """The label job's flags; ``beam_args`` are those that belong to Beam, untouched."""

    input: tuple[str, ...]
    model: str
    output: str
    labels_file: str | None
    top_k: int
    batch_size: int
    max_failure_ratio: float
    resample: str | None
    beam_args: tuple[str, ...]


class _Parser(argparse.ArgumentParser):
    """Raises where argparse prints its whole usage and exits."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise UsageError(f"{message}; {self.prog} --help explains the flags")


class _Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Each line ends with its default; line breaks of the description are kept."""


def parse_label(argv: list[str]) -> LabelConfig:
    """The label job's configuration from the arguments after ``label``.

    Raises:
      UsageError: a flag is unknown, missing, or has a value that makes no sense.
      SystemExit: after ``--help``.
    """
    parser = _label_parser()
    flags, rest = parser.parse_known_args(argv)
    if rest:
        _check_beam_args(rest, parser)
    return LabelConfig(
        input=tuple(flags.input),
        model=flags.model,
        output=flags.output,
        labels_file=flags.labels_file,
        top_k=flags.top_k,
        batch_size=flags.batch_size,
        max_failure_ratio=flags.max_failure_ratio,
        resample=flags.resample,
        beam_args=tuple(rest),
    )


def parse_command(argv: list[str]) -> tuple[str, list[str]]:
    """Split the command from its arguments.

    Raises:
      UsageError: there is no such command.
      SystemExit: after ``--help`` or ``--version``.
    """
    parser = _Parser(
        prog="python -m pipeline",
        description="Label images at scale. COMMAND --help explains a command's flags.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("command", metavar="COMMAND", choices=["label"], help="label")
    command = parser.parse_args(argv[:1]).command
    return command, argv[1:]


def _label_parser() -> argparse.ArgumentParser:
    # Abbreviations are off because --labels_file would swallow Dataflow's --labels.
    parser = _Parser(
        prog="python -m pipeline label",
        description=LABEL_DESCRIPTION,
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    # Before the flags are added, so that their help does not say "default: None".
    parser.set_defaults(labels_file=None, resample=None)
    required = parser.add_argument_group("what to label, and where to")
    required.add_argument(
        "--input",
        action="extend",
        nargs="+",
        required=True,
        default=argparse.SUPPRESS,
        metavar="URI",
        help="folder (with its subfolders), glob, image, .txt list of URIs, or 'sample'; on this "
        "machine, in a bucket (gs://, s3://) or at http(s); may be repeated",
    )
    required.add_argument(
        "--output",
        required=True,
        default=argparse.SUPPRESS,
        metavar="FOLDER",
        help="folder or bucket path for the results",
    )
    required.add_argument(
        "--model",
        required=True,
        default=argparse.SUPPRESS,
        metavar="HANDLE",
        help="SavedModel folder, .tar.gz of one, bucket path, http(s) TensorFlow Hub handle, "
        "or 'sample'",
    )
    labeling = parser.add_argument_group("how to label")
    labeling.add_argument(
        "--labels_file",
        metavar="FILE",
        help="class names, one a line, path or URI (default: assets/labels.txt in the model; "
        "ImageNet's public list for 1001 classes)",
        default=argparse.SUPPRESS,
    )
    labeling.add_argument(
        "--top_k", type=_positive, default=5, metavar="N", help="predictions in each row"
    )
    labeling.add_argument(
        "--batch_size", type=_positive, default=64, metavar="N", help="images a call of the model"
    )
    labeling.add_argument(
        "--resample",
        choices=("bicubic", "bilinear"),
        default=argparse.SUPPRESS,
        help="filter that images are resized with (default: what the model was trained with, if "
        "it says so in assets/preprocessing.json, else bicubic)",
    )
    labeling.add_argument(
        "--max_failure_ratio",
        type=_ratio,
        default=0.1,
        metavar="R",
        help="exit with 1 if more than this part of the images fails; the results are kept",
    )
    return parser


def _check_beam_args(rest: list[str], parser: argparse.ArgumentParser) -> None:
    """Refuse what neither we nor Beam know; Beam itself only logs it.

    Raises:
      UsageError: naming the first unknown argument and the flag that it resembles.
    """
    from apache_beam.options.pipeline_options import PipelineOptions  # seconds; not for --help

    beam_parser = _Parser(prog=parser.prog, allow_abbrev=False, add_help=False)
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


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def _ratio(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value
