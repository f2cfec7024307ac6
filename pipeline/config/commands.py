"""Defines the commands: their names, flags and jobs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from typing import Any, NamedTuple

from pipeline import __version__, console
from pipeline.config import yaml_file
from pipeline.config.client_flags import ClientConfig
from pipeline.config.compare_options import CompareConfig
from pipeline.config.finetune_options import FinetuneConfig
from pipeline.config.flags import (
    BEAM_ARGS,
    Flag,
    Parser,
    closest,
    flags_of,
    in_order,
    parser_of,
    with_current_names,
)
from pipeline.config.job_options import JobConfig, written
from pipeline.config.label_options import LabelConfig
from pipeline.config.merge_options import MergeConfig
from pipeline.config.report_options import ReportConfig
from pipeline.errors import UsageError


class Command(NamedTuple):
    """A command.

    Attributes:
      name: as typed.
      config: the dataclass of its flags.
      job: the module whose ``run`` takes that configuration and returns the exit code.
      loads: what takes seconds to import with it, in words.
      description: shown above the flags.
    """

    name: str
    config: type[ClientConfig]
    job: str
    loads: str
    description: str

    @property
    def prog(self) -> str:
        """The command with the program's name in front."""
        return f"{console.program()} {self.name}"

    @property
    def flags(self) -> tuple[Flag, ...]:
        """Its flags, in the order of ``--help``: those of its configuration, and ``--config``."""
        flags = flags_of(self.config)
        return in_order([*flags, yaml_file.FLAG]) if issubclass(self.config, JobConfig) else flags

    @property
    def parser(self) -> Parser:
        """Its parser, which returns just the flags that are given."""
        return parser_of(self.flags, self.prog, self.description)

    def parse(self, argv: list[str]) -> Any:
        """Make the configuration from the arguments after the command's name.

        Raises:
          UsageError: a flag is unknown or missing, or has an invalid value.
          SystemExit: after ``--help``.
        """
        parser = self.parser
        argv = with_current_names(self.flags, argv)
        if yaml_file.FLAG in self.flags:
            argv = yaml_file.expand(self.flags, self.prog, argv)
        parsed, rest = parser.parse_known(argv)
        given: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in vars(parsed).items()
            if name != yaml_file.FLAG.name
        }
        return self.config(**given | {BEAM_ARGS: tuple(rest)})


_TENSORFLOW = "TensorFlow and Apache Beam"

_BEAMS = "Flags of Apache Beam ({}, …) are passed on to it."
_BEAMS_OF_JOBS = _BEAMS.format("--runner, --project, --temp_location")

LABEL = Command(
    "label",
    LabelConfig,
    "pipeline.label.job",
    _TENSORFLOW,
    "Label images with a TensorFlow Hub classifier or another SavedModel.\n" + _BEAMS_OF_JOBS,
)
CHECK = Command(
    "check",
    LabelConfig,
    "pipeline.label.check",
    _TENSORFLOW,
    "Find out on a sample whether label would work with the same flags, and what it would take.\n"
    "Nothing is written.",
)
FINETUNE = Command(
    "finetune",
    FinetuneConfig,
    "pipeline.finetune.job",
    _TENSORFLOW,
    "Train a classifier of your own on a TensorFlow Hub feature vector, and export it for label.\n"
    + _BEAMS_OF_JOBS,
)
REPORT = Command(
    "report",
    ReportConfig,
    "pipeline.finetune.remake",
    "Apache Beam",
    "Write the report.html of a run again, or an index of the runs of an output.\n"
    + _BEAMS.format("--s3_region_name"),
)

CHECK_FINETUNE = Command(
    "check finetune",
    FinetuneConfig,
    "pipeline.finetune.check",
    _TENSORFLOW,
    "Find out on a sample whether finetune would work with the same flags. Nothing is written.",
)
MERGE = Command(
    "merge",
    MergeConfig,
    "pipeline.label.merge",
    "Apache Beam",
    "Write the latest row of each image, over all runs with --incremental, as one table.\n"
    + _BEAMS.format("--s3_region_name"),
)
COMPARE = Command(
    "compare",
    CompareConfig,
    "pipeline.compare.job",
    "Apache Beam",
    "Compare the rows of two runs: changed labels, accuracy, drift, failures. "
    "With limits, the exit code tells whether RUN_B may take the place of RUN_A.\n"
    + _BEAMS.format("--s3_region_name"),
)

COMMANDS = {
    command.name: command
    for command in (LABEL, CHECK, FINETUNE, CHECK_FINETUNE, REPORT, MERGE, COMPARE)
}


def parse(argv: list[str]) -> tuple[Command, Any]:
    """Find the command that a command line names, and make its configuration.

    Args:
      argv: without the program's name.

    Raises:
      UsageError: there is no such command, or its flags are wrong.
      SystemExit: after ``--help`` or ``--version``.
    """
    prog = console.program()
    parser = Parser(
        prog=prog,
        usage=f"{prog} COMMAND …",
        description=_overview(prog),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=__version__)
    first, rest = argv[:1], argv[1:]
    if not first:
        parser.print_help(sys.stderr)
        parser.exit(2)
    if first[0].startswith("-"):
        parser.parse_known_args(first)
        raise UsageError(
            f"{first[0]} comes before the command; give one of {', '.join(COMMANDS)} first; "
            f"{prog} --help explains them"
        )
    if first == [CHECK.name]:
        first, rest = _checked(rest)
    command = COMMANDS.get(first[0])
    if command is None:
        hint = closest(first[0], COMMANDS)
        raise UsageError(f"unknown command {first[0]}; {hint}{prog} --help lists the commands")
    return command, command.parse(rest)


def _checked(argv: list[str]) -> tuple[list[str], list[str]]:
    """Tell which check is meant: of the job that is named, else of the one with these flags."""
    job, rest = (argv[0], argv[1:]) if argv[:1] and argv[0] in COMMANDS else ("", argv)
    given = {argument.partition("=")[0].replace("-", "_") for argument in rest}
    names = [
        {f"__{name}" for flag in flags for name in (flag.name, flag.old_name) if name}
        for flags in (FINETUNE.flags, LABEL.flags)
    ]
    is_finetune = job == FINETUNE.name or (not job and given & (names[0] - names[1]))
    if job in ("", LABEL.name, FINETUNE.name):
        return [CHECK_FINETUNE.name if is_finetune else CHECK.name], rest
    return [CHECK.name], argv


def _overview(prog: str) -> str:
    """List the commands, each with the first sentence of its description."""
    width = max(map(len, COMMANDS)) + 2
    lines = (
        f"  {command.name:{width}}{' '.join(command.description.split()).partition('. ')[0]}"
        for command in COMMANDS.values()
    )
    return "\n".join(
        [
            "Label images at scale.",
            "",
            "commands:",
            *lines,
            "",
            f"{prog} COMMAND --help explains a command's flags.",
        ]
    )


def as_yaml(config: JobConfig) -> str:
    """Write a file for ``--config`` with these flags, without secrets."""
    command = next(one for one in COMMANDS.values() if one.config is type(config))
    return yaml_file.render(command.flags, command.prog, written(config))


def label_arguments(parameters: Iterable[str]) -> list[str]:
    """Make arguments of label from ``--name=value``s, where a switch is true, false or empty.

    A flag without a value is left out, since not every launcher can leave it out itself. Beam's
    flags are passed on.
    """
    switches = {f"--{flag.name}" for flag in LABEL.flags if flag.is_switch}
    arguments = []
    for parameter in parameters:
        name, has_value, value = parameter.partition("=")
        if name in switches and has_value:
            arguments += [name] if value.lower() == "true" else []
        elif value or not has_value:
            arguments.append(parameter)
    return arguments
