"""The command line as validated configuration: a record for each command."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from pipeline import __version__
from pipeline.config import flags
from pipeline.config import yaml_file as config_file
from pipeline.limits import Limits
from pipeline.redaction import redact_all, without_secret_flags


@dataclass(frozen=True)
class LabelConfig:
    """The label job's flags; ``beam_args`` are those that belong to Beam, untouched."""

    input: tuple[str, ...]
    model: str
    output: str
    uri_column: str
    carry: tuple[str, ...]
    truth: str | None
    labels_file: str | None
    signature: str | None
    top_k: int
    threshold: float
    output_format: tuple[str, ...]
    gzip: bool
    output_table: str | None
    copy_to: str | None
    batch_size: int
    precision: str
    xla: bool
    require_gpu: bool
    price_per_hour: float | None
    if_exists: str
    incremental: bool
    checkpoint_every: int
    max_failure_ratio: float
    resample: str | None
    max_image_bytes: int
    max_image_pixels: int
    read_timeout_seconds: float
    beam_args: tuple[str, ...]


@dataclass(frozen=True)
class FinetuneConfig:
    """The finetune job's flags; ``beam_args`` are those that belong to Beam, untouched."""

    input: tuple[str, ...]
    model: str
    output: str
    image_column: str
    label_column: str
    resample: str | None
    batch_size: int
    epochs: int
    learning_rate: float
    unfreeze: bool
    unfreeze_epochs: int
    unfreeze_learning_rate: float
    min_accuracy: float
    max_failure_ratio: float
    max_image_bytes: int
    max_image_pixels: int
    read_timeout_seconds: float
    beam_args: tuple[str, ...]


@dataclass(frozen=True)
class ReportConfig:
    """The report's arguments; ``beam_args`` are those that belong to Beam, untouched."""

    folder: str
    beam_args: tuple[str, ...]


def limits_of(config: LabelConfig | FinetuneConfig) -> Limits:
    """What no image may take more of."""
    return Limits(config.max_image_bytes, config.max_image_pixels, config.read_timeout_seconds)


def written(config: LabelConfig | FinetuneConfig) -> dict[str, Any]:
    """The flags as a summary has them: without secrets."""
    beam_args = without_secret_flags(config.beam_args)
    return redact_all(asdict(config) | {"beam_args": beam_args})


def parse_label(argv: list[str]) -> LabelConfig:
    """The label job's configuration from the arguments after ``label``.

    Raises:
      UsageError: a flag is unknown, missing, or has a value that makes no sense.
      SystemExit: after ``--help``.
    """
    return LabelConfig(**_parse(flags.label_parser(), argv))


def parse_check(argv: list[str]) -> LabelConfig:
    """The same from the arguments after ``check``, which are the same; errors as above."""
    return LabelConfig(**_parse(flags.label_parser("check"), argv))


def parse_finetune(argv: list[str]) -> FinetuneConfig:
    """The finetune job's configuration from the arguments after ``finetune``; errors as above."""
    return FinetuneConfig(**_parse(flags.finetune_parser(), argv))


def parse_report(argv: list[str]) -> ReportConfig:
    """The report's configuration from the arguments after ``report``; errors as above."""
    parser = flags.report_parser()
    parsed, rest = parser.parse_known_args(argv)
    if rest:
        flags.check_beam_args(rest, parser)
    return ReportConfig(parsed.folder, tuple(rest))


def as_yaml(config: LabelConfig | FinetuneConfig) -> str:
    """A file for ``--config`` with these flags, without secrets."""
    is_label = isinstance(config, LabelConfig)
    parser = flags.label_parser() if is_label else flags.finetune_parser()
    return config_file.render(parser, written(config))


class Flag(NamedTuple):
    """A flag of label, for those who make commands of it. ``is_switch``: it has no value."""

    name: str
    help: str
    is_switch: bool


def label_flags() -> list[Flag]:
    """All flags of label, in the order of ``--help``, with their defaults in the help."""
    parser = flags.label_parser()
    return [
        Flag(
            action.dest,
            config_file.explanation(parser, action),
            action.nargs == 0,
        )
        for action in parser._actions
        if action.dest != "help"
    ]


def label_arguments(parameters: Iterable[str]) -> list[str]:
    """Arguments of label from ``--name=value``s, where a switch is true or false, or empty.

    A value that is empty is none, for not every launcher can leave one out. Beam's go along.
    """
    switches = {f"--{flag.name}" for flag in label_flags() if flag.is_switch}
    arguments = []
    for parameter in parameters:
        name, has_value, value = parameter.partition("=")
        if name in switches and has_value:
            arguments += [name] if value.lower() == "true" else []
        elif value or not has_value:
            arguments.append(parameter)
    return arguments


def _parse(parser: argparse.ArgumentParser, argv: list[str]) -> dict[str, Any]:
    parsed, rest = parser.parse_known_args(config_file.expand(parser, argv))
    if rest:
        flags.check_beam_args(rest, parser)
    values = vars(parsed) | {"input": tuple(parsed.input), "beam_args": tuple(rest)}
    values.pop("config", None)
    return values


def parse_command(argv: list[str]) -> tuple[str, list[str]]:
    """Split the command from its arguments.

    Raises:
      UsageError: there is no such command.
      SystemExit: after ``--help`` or ``--version``.
    """
    parser = flags.Parser(
        prog="python -m pipeline",
        description="Label images at scale. COMMAND --help explains a command's flags.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument(
        "command",
        metavar="COMMAND",
        choices=["label", "check", "finetune", "report"],
        help="label, check, finetune or report",
    )
    command = parser.parse_args(argv[:1]).command
    return command, argv[1:]
