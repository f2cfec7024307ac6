"""Defines a flag once, as a field of a configuration, and makes the parser of a command from it."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import sys
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any, NamedTuple

from pipeline import console, job_server
from pipeline.config import values
from pipeline.errors import UsageError

# The field of a configuration that is not a flag: the arguments that Apache Beam gets, untouched.
BEAM_ARGS = "beam_args"


class Group(str, Enum):
    """A heading in ``--help``; they are shown in this order."""

    ARGUMENTS = "positional arguments"  # given without a name
    FILES = "input and output"
    TABLES = "tables of images, and the truth"
    MODEL = "what the model takes and returns"
    LABELING = "how to label"
    TRAINING = "how to train"
    WRITING = "what to write"
    GATES = "when to fail"
    DEVICE = "what the model runs on"
    RUNS = "earlier and interrupted runs"
    READING = "how to read images"
    SERVERS = "how to ask stores and servers"


class Rows(Enum):
    """What another value of a flag means for rows that already exist.

    The flags that change rows are the settings of a run: an attempt with other settings does not
    reuse the rows of an earlier one.
    """

    SAME = "the rows would be the same"
    OTHER_IMAGES = "the rows would be of other images"
    OTHER_VALUES = "the rows of the same images would be others"


class Flag(NamedTuple):
    """A flag of a command.

    Attributes:
      name: as in Python; the command line has ``--`` in front.
      default: ``dataclasses.MISSING`` if the flag is required.
      type: reads the value from text, and raises ``ArgumentTypeError``; None for a switch, which
        takes no value and is false by default.
      group: its heading in ``--help``.
      help: explains it, without the default.
      rows: what another value means for a run's rows.
      choices: the possible values; empty if they cannot be listed.
      metavar: stands for the value in ``--help``.
      is_repeatable: whether it takes several values.
      unset: explains a default that is None or empty.
      old_name: its name in the last version, if that still works.
    """

    name: str
    default: Any
    type: Callable[[str], Any] | None
    group: Group
    help: str
    rows: Rows
    choices: tuple[str, ...] = ()
    metavar: str | None = None
    is_repeatable: bool = False
    unset: str = "none"
    old_name: str = ""

    @property
    def is_switch(self) -> bool:
        """Whether it takes no value."""
        return self.type is None

    @property
    def is_required(self) -> bool:
        """Whether it has no default."""
        return self.default is dataclasses.MISSING

    @property
    def explanation(self) -> str:
        """Its help, with its old name and its default."""
        help = f"{self.help}; formerly --{self.old_name}" if self.old_name else self.help
        if self.is_required:
            return help
        if self.default is None or self.default == ():
            return f"{help} (default: {self.unset})"
        shown = ",".join(self.default) if isinstance(self.default, tuple) else self.default
        return f"{help} (default: {shown})"


def flag(
    default: Any = dataclasses.MISSING,
    *,
    group: Group,
    help: str,
    rows: Rows,
    type: Callable[[str], Any] | None = None,
    choices: tuple[str, ...] = (),
    **rest: Any,
) -> Any:
    """Define a flag, as a field of a configuration; see ``Flag`` for the arguments."""
    if choices:
        type = values.one_of(*choices)
        rest["metavar"] = f"{{{','.join(choices)}}}"
    metadata = {"type": type, "group": group, "help": help, "rows": rows, "choices": choices}
    return dataclasses.field(default=default, metadata=metadata | rest)


def flags_of(config: type) -> tuple[Flag, ...]:
    """List the flags of a configuration, in the order of ``--help``.

    Args:
      config: a dataclass whose fields are made by ``flag``, except ``BEAM_ARGS``.
    """
    fields = [field for field in dataclasses.fields(config) if field.name != BEAM_ARGS]
    return in_order(Flag(field.name, field.default, **field.metadata) for field in fields)


def in_order(flags: Iterable[Flag]) -> tuple[Flag, ...]:
    """Sort flags by group; within a group, keep their order."""
    groups = list(Group)
    return tuple(sorted(flags, key=lambda flag: groups.index(flag.group)))


def current_name(flags: Iterable[Flag], name: str) -> str:
    """Return a flag's current name; warn on the console about an old one.

    A name of ours may also be written with hyphens, ``top-k``. Others, such as Beam's, stay as they
    are.
    """
    snake = name.replace("-", "_")
    for flag in flags:
        if snake == flag.name:
            return flag.name
        if snake and snake == flag.old_name:
            console.say(
                f"warning: --{name} is called --{flag.name} now; the next version will not know "
                "the old name"
            )
            return flag.name
    return name


def with_current_names(flags: Iterable[Flag], argv: Iterable[str]) -> list[str]:
    """Give the flags among arguments their current names; see ``current_name``."""
    renamed = []
    for argument in argv:
        name, equals, value = argument.partition("=")
        if name.startswith("--"):
            name = f"--{current_name(flags, name[2:])}"
        renamed.append(f"{name}{equals}{value}")
    return renamed


def closest(name: str, known: Iterable[str]) -> str:
    """Suggest what a mistyped name may have meant; "" if nothing is like it."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {close[0]}? " if close else ""


class Parser(argparse.ArgumentParser):
    """A parser that raises where argparse prints its usage and exits."""

    def error(self, message: str) -> None:  # type: ignore[override]
        """Raise a ``UsageError``, which is shown as one line."""
        raise UsageError(f"{message}; {self.prog} --help explains the flags")

    def parse_known(self, argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
        """Do what ``parse_known_args`` does, but refuse a misspelled flag before a missing one.

        Raises:
          UsageError: an argument is unknown or missing, or has an invalid value.
        """
        try:
            parsed, rest = self.parse_known_args(argv)
        except UsageError:
            for action in self._actions:
                action.required = False
            check_beam_args(self.parse_known_args(argv)[1], self)
            raise
        check_beam_args(rest, self)
        return parsed, rest


def parser_of(flags: Iterable[Flag], prog: str, description: str) -> Parser:
    """Make a parser that returns only the flags that are given, without defaults.

    Args:
      flags: in the order of ``--help``.
      prog: the command, as typed.
      description: shown above the flags.
    """
    parser = Parser(
        prog=prog,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # else --labels_file would swallow Dataflow's --labels
    )
    groups: dict[Group, Any] = {Group.ARGUMENTS: parser}
    for flag in flags:
        if flag.group not in groups:
            groups[flag.group] = parser.add_argument_group(flag.group.value)
        add = groups[flag.group].add_argument
        shown: dict[str, Any] = {"help": flag.explanation.replace("%", "%%")}
        if flag.group is Group.ARGUMENTS:
            add(flag.name, type=flag.type, metavar=flag.metavar, **shown)
            continue
        shown |= {"default": argparse.SUPPRESS, "required": flag.is_required}
        if flag.is_switch:
            add(f"--{flag.name}", action="store_true", **shown)
            continue
        shown |= {"type": flag.type, "metavar": flag.metavar}
        if flag.is_repeatable:
            shown |= {"action": "extend", "nargs": "+"}
        add(f"--{flag.name}", **shown)
    return parser


def check_beam_args(rest: list[str], parser: Parser) -> None:
    """Refuse arguments that nobody knows: this package, Beam, or the job server, if there is one.

    Beam itself only logs them.

    Args:
      rest: the arguments that are not ours.
      parser: of our own.

    Raises:
      UsageError: names the first unknown argument and the flag that it resembles; or the job
        server does not answer.
    """
    if not rest:
        return
    if sys.stderr.isatty():  # elsewhere, a mistake is one line
        console.say("loading Apache Beam …")
    from apache_beam.options.pipeline_options import PipelineOptions  # seconds; not for --help

    beam_parser = Parser(prog=parser.prog, allow_abbrev=False, add_help=False)
    # Beam recognizes its own flags in exactly this way, see PipelineOptions.get_all_options.
    for options in PipelineOptions.__subclasses__():
        options._add_argparse_args(beam_parser)  # type: ignore[arg-type]
    given, unknown = beam_parser.parse_known_args(rest)
    asked = ""
    if unknown and given.job_endpoint:
        _add_options_of(given.job_endpoint, beam_parser)
        _, unknown = beam_parser.parse_known_args(rest)
        asked = f"; the job server at {given.job_endpoint} does not know it, either"
    if not unknown:
        return
    name = unknown[0].split("=")[0]
    known = [*parser._option_string_actions, *beam_parser._option_string_actions]
    hint = closest(name.replace("-", "_").replace("__", "--", 1), known)
    raise UsageError(
        f"unknown argument {unknown[0]}; {hint}{parser.prog} --help lists the flags{asked}"
    )


def _add_options_of(endpoint: str, parser: Parser) -> None:
    """Add the options that a job server knows to a parser that has those of Beam in Python.

    The types are those of Beam's own ``JobServiceHandle.get_pipeline_options``, which reads the
    same arguments again when the job is sent.

    Raises:
      UsageError: nobody answers there.
    """
    from apache_beam.portability.api import beam_job_api_pb2

    types = beam_job_api_pb2.PipelineOptionType
    for option in job_server.options_of(endpoint):
        name = f"--{option.name}"
        if name in parser._option_string_actions:
            continue
        if option.type == types.BOOLEAN:
            is_true = option.default_value == "true"
            parser.add_argument(name, action="store_false" if is_true else "store_true")
        elif option.type == types.INTEGER:
            parser.add_argument(name, type=int)
        else:
            parser.add_argument(name, action="append" if option.type == types.ARRAY else "store")
