"""Reads a command's flags from a YAML file, and writes them beside the results."""

from __future__ import annotations

import difflib
import itertools
import textwrap
from argparse import ArgumentTypeError
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from pipeline.config import values
from pipeline.config.client_flags import trusted
from pipeline.config.flags import BEAM_ARGS, Flag, Group, Parser, Rows, current_name
from pipeline.errors import ImageError, UsageError

NAME = "run.yaml"

# A flag of each command that may have its flags in a file. It is not part of a configuration.
FLAG = Flag(
    name="config",
    default=None,
    type=values.not_empty,
    metavar="FILE",
    group=Group.FILES,
    rows=Rows.SAME,
    help=f"YAML file with flags, like the {NAME} that a run leaves; flags on the command line "
    "override it",
)

# The key of Beam's flags: a list of arguments, as on the command line.
BEAM = "beam"

_WIDTH = 98


def expand(flags: Sequence[Flag], prog: str, argv: list[str]) -> list[str]:
    """Put the flags of the file that ``--config`` names in front of the arguments, if it is given.

    A flag that is among the arguments overrides the file.

    Args:
      flags: of the command.
      prog: the command, as it is typed.
      argv: the arguments after it.

    Raises:
      UsageError: the file cannot be used; the message names it, and the key.
    """
    find = Parser(prog=prog, add_help=False, allow_abbrev=False)
    find.add_argument(f"--{FLAG.name}")
    path = find.parse_known_args(argv)[0].config
    if path is None:
        return argv
    given = {argument.partition("=")[0] for argument in argv}
    named = {current_name(flags, key): value for key, value in _read(path).items()}
    content = {key: value for key, value in named.items() if f"--{key}" not in given}
    return [*_arguments(flags, prog, path, content), *argv]


def _error(path: str, problem: str) -> UsageError:
    return UsageError(problem, subject=FLAG.name, given=path)


def _read(path: str) -> dict[str, Any]:
    try:
        if "://" in path:
            # Beam takes seconds; not for --help.
            from apache_beam.options.pipeline_options import PipelineOptions

            from pipeline.storage import configure, read_bytes

            configure(PipelineOptions([f"--http_trusted={host}" for host in trusted([path])]))
            data = read_bytes(path)
        else:
            data = Path(path).expanduser().read_bytes()
        content = yaml.safe_load(data)
    except (OSError, ImageError) as error:
        raise _error(path, f"cannot be read: {error}") from error
    except yaml.YAMLError as error:
        said = " ".join(str(error).split())
        raise _error(path, f"is not YAML: {said}") from error
    if not isinstance(content, dict):
        raise _error(path, "is not a mapping of flags to values, like top_k: 5")
    return {str(key): value for key, value in content.items()}


def _arguments(
    flags: Sequence[Flag], prog: str, path: str, content: Mapping[str, Any]
) -> Iterator[str]:
    """Turn a file's flags into arguments; null means the default."""
    known = {flag.name: flag for flag in flags if flag is not FLAG}
    for key, value in content.items():
        if key == BEAM:
            continue
        if key not in known:
            close = difflib.get_close_matches(key, [*known, BEAM], n=1)
            hint = f"did you mean {close[0]}?" if close else f"flags of Beam go under {BEAM}:"
            raise _error(path, f"{key} is not a flag of {prog}; {hint}")
        try:
            yield from _argument(known[key], value)
        except ArgumentTypeError as error:
            raise _error(path, f"{key}: {error}") from error
    beam = content.get(BEAM) or []
    if not isinstance(beam, list):
        raise _error(path, f"{BEAM}: is a list of arguments, like - --project=mine")
    yield from map(str, beam)


def _argument(flag: Flag, value: Any) -> list[str]:
    """Turn a flag into arguments; none for null, false and no values.

    Raises:
      ArgumentTypeError: the value is invalid.
    """
    name = f"--{flag.name}"
    if value is None or value == []:
        return []
    if flag.type is None:
        if not isinstance(value, bool):
            raise ArgumentTypeError(f"is true or false, not {value!r}")
        return [name] if value else []
    items = value if isinstance(value, list) else [value]
    if any(isinstance(item, (dict, list, bool)) for item in items):
        raise ArgumentTypeError(f"has no use for {value!r}")
    texts = [str(item) for item in items]
    if not flag.is_repeatable:
        texts = [",".join(texts)]
    for text in texts:
        flag.type(text)
    return [name, *texts] if flag.is_repeatable else [f"{name}={texts[0]}"]


def render(flags: Sequence[Flag], prog: str, written: Mapping[str, Any]) -> str:
    """Write a file with all flags of a command, each below its explanation and default.

    Args:
      flags: of the command, in the order of ``--help``.
      prog: the command, as it is typed.
      written: the values of the flags, and Beam's arguments as ``beam_args``.
    """
    blocks = [
        f"# The flags of a run, for {prog} --{FLAG.name}.\n"
        f"# Relative paths start at the folder where the command is given: {Path.cwd()}"
    ]
    for group, members in itertools.groupby(flags, lambda flag: flag.group):
        blocks.append(f"# {group.value.upper()}")
        for flag in members:
            if flag is not FLAG:
                explanation = _comment(flag.explanation)
                blocks.append(f"{explanation}\n{_line(flag.name, written[flag.name])}")
    blocks.append(f"# Flags of Apache Beam\n{_line(BEAM, list(written[BEAM_ARGS]))}")
    return "\n\n".join(blocks) + "\n"


def _comment(text: str) -> str:
    return "\n".join(f"# {line}" for line in textwrap.wrap(text, _WIDTH))


def _line(key: str, value: Any) -> str:
    value = list(value) if isinstance(value, tuple) else value
    return yaml.safe_dump({key: value}, allow_unicode=True, width=2**16).rstrip()
