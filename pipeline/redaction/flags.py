"""Leaves the flags that are keys out of a command's arguments."""

from __future__ import annotations

import re
from collections.abc import Iterable

# Beam's flags that are keys: --s3_secret_access_key, --s3_session_token and the like.
_SECRET_FLAG = re.compile(r"--\w*(secret|token|password|access_key)\w*")


def without_secret_flags(arguments: Iterable[str]) -> list[str]:
    """Remove the flags that are keys from a command's arguments, with their values."""
    return without_flags(arguments, _SECRET_FLAG)


def without_flags(arguments: Iterable[str], pattern: re.Pattern[str]) -> list[str]:
    """Remove the flags that a pattern matches from a command's arguments, with their values."""
    kept: list[str] = []
    is_value = False
    for argument in arguments:
        flag, has_value, _ = argument.partition("=")
        dropped = pattern.fullmatch(flag) is not None
        if not dropped and not (is_value and not argument.startswith("--")):
            kept.append(argument)
        is_value = dropped and not has_value
    return kept
