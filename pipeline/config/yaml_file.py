"""A command's flags in a YAML file: read from one, and written beside the results.

The parser of the command line is all that knows of flags: whatever it takes, a file may have.
"""

from __future__ import annotations

import argparse
import difflib
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import ImageError, UsageError

FLAG = "--config"
NAME = "run.yaml"

# The key of the flags that are Beam's: a list of arguments as on the command line.
BEAM = "beam"

_WIDTH = 98


def expand(parser: argparse.ArgumentParser, argv: list[str]) -> list[str]:
    """The arguments with those of the file that ``--config`` names in front, if it is given.

    A flag that is among the arguments is left out of the file.

    Raises:
      UsageError: the file cannot be used; the message names it, and the key.
    """
    find = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    find.add_argument(FLAG)
    path = find.parse_known_args(argv)[0].config
    if path is None:
        return argv
    given = {argument.partition("=")[0] for argument in argv}
    flags = {key: value for key, value in _read(path).items() if f"--{key}" not in given}
    return [*_arguments(parser, path, flags), *argv]


def _read(path: str) -> dict[str, Any]:
    try:
        if "://" in path:
            from pipeline.storage import read as storage

            data = storage.read_bytes(path)
        else:
            data = Path(path).expanduser().read_bytes()
        content = yaml.safe_load(data)
    except (OSError, ImageError) as error:
        raise UsageError(f"{FLAG} {path}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        said = " ".join(str(error).split())
        raise UsageError(f"{FLAG} {path}: is not YAML: {said}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{FLAG} {path}: is not a mapping of flags to values, like top_k: 5")
    return {str(key): value for key, value in content.items()}


def _arguments(
    parser: argparse.ArgumentParser, path: str, flags: Mapping[str, Any]
) -> Iterator[str]:
    """The flags of a file as arguments; what is null has its default."""
    actions = _actions(parser)
    for key, value in flags.items():
        if key == BEAM:
            continue
        if key not in actions:
            close = difflib.get_close_matches(key, [*actions, BEAM], n=1)
            hint = f"did you mean {close[0]}?" if close else f"flags of Beam go under {BEAM}:"
            raise UsageError(f"{FLAG} {path}: {key} is no flag of {parser.prog}; {hint}")
        yield from _flag(parser, actions[key], value, f"{FLAG} {path}: {key}:")
    beam = flags.get(BEAM) or []
    if not isinstance(beam, list):
        raise UsageError(f"{FLAG} {path}: {BEAM}: is a list of arguments, like - --project=mine")
    yield from map(str, beam)


def _flag(
    parser: argparse.ArgumentParser, action: argparse.Action, value: Any, where: str
) -> list[str]:
    """A flag as arguments, which the parser has looked at; none for null, false and no values."""
    flag = f"--{action.dest}"
    if value is None or value == []:
        return []
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise UsageError(f"{where} is true or false, not {value!r}")
        return [flag] if value else []
    values = value if isinstance(value, list) else [value]
    if any(isinstance(item, (dict, list, bool)) for item in values):
        raise UsageError(f"{where} has no use for {value!r}")
    texts = [str(item) for item in values]
    if action.nargs is None:
        texts = [",".join(texts)]
    try:
        parser._get_values(action, texts)
    except argparse.ArgumentError as error:
        raise UsageError(f"{where} {error.message}") from error
    return [flag, *texts] if action.nargs else [f"{flag}={texts[0]}"]


def render(parser: argparse.ArgumentParser, values: Mapping[str, Any]) -> str:
    """A file with all flags of a command, each with its explanation and default above it.

    Args:
      parser: of the command.
      values: of the flags, and Beam's arguments as ``beam_args``.
    """
    blocks = [
        f"# The flags of a run, for {parser.prog} {FLAG}.\n"
        f"# Paths that are not absolute are relative to where the command is given: {Path.cwd()}"
    ]
    for group in parser._action_groups:
        actions = [action for action in group._group_actions if action.dest in values]
        if actions:
            blocks.append(f"# {(group.title or '').upper()}")
        for action in actions:
            comment = _comment(explanation(parser, action))
            blocks.append(f"{comment}\n{_line(action.dest, values[action.dest])}")
    blocks.append(f"# Flags of Apache Beam\n{_line(BEAM, list(values['beam_args']))}")
    return "\n\n".join(blocks) + "\n"


def explanation(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    """What ``--help`` says of a flag, with its default."""
    return parser._get_formatter()._expand_help(action)


def _comment(text: str) -> str:
    return "\n".join(f"# {line}" for line in textwrap.wrap(text, _WIDTH))


def _line(key: str, value: Any) -> str:
    value = list(value) if isinstance(value, tuple) else value
    return yaml.safe_dump({key: value}, allow_unicode=True, width=2**16).rstrip()


def _actions(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    return {
        action.dest: action
        for action in parser._actions
        if action.dest not in ("help", FLAG.lstrip("-"))
    }
