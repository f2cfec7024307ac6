"""Print lines for people on standard error; standard output is for results."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pipeline.redaction import redact

# C0, DEL and C1 except the line feed; marks of writing direction; Unicode's own line ends.
_UNPRINTABLE = [
    *(code for code in range(0x20) if code != 0x0A),
    *range(0x7F, 0xA0),
    *(0x061C, 0x200E, 0x200F),
    *range(0x2028, 0x202F),
    *range(0x2066, 0x206A),
]
_ESCAPES = {code: ascii(chr(code))[1:-1] for code in _UNPRINTABLE}


# The script that installing the package makes.
_SCRIPT = "image-labeling"


def program() -> str:
    """Return what is typed in front of a command's name, as this process was started."""
    return _SCRIPT if Path(sys.argv[0]).stem == _SCRIPT else "python -m pipeline"


class _Pipe(io.FileIO):
    """A stream of this process whose reader may end before it, as in ``… | head``."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:  # what nobody reads is dropped; the run goes on
            return len(memoryview(data).cast("B"))


def open_standard_streams() -> None:
    """Open standard output and standard error anew, so that they outlive their readers.

    File names need not fit the encoding of the terminal.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.flush()
            pipe = _Pipe(stream.fileno(), "w", closefd=False)
            opened = io.TextIOWrapper(
                io.BufferedWriter(pipe),
                stream.encoding,
                "backslashreplace",
                line_buffering=stream.line_buffering,
            )
            setattr(sys, name, opened)


def say(message: str) -> None:
    """Print one line, without secrets and without what a terminal would act on."""
    _printer(printable(redact(message)))


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


_printer: Callable[[str], None] = _print


@contextlib.contextmanager
def through(printer: Callable[[str], None]) -> Iterator[None]:
    """While in this context, let something else print the lines: whatever owns the terminal."""
    global _printer
    _printer = printer
    try:
        yield
    finally:
        _printer = _print


def printable(text: str) -> str:
    r"""Escape control characters in a text, as ``\x1b``, except line feeds.

    A file's name may contain any of them, and so color, move, hide or reverse what a person
    reads.
    """
    return text.translate(_ESCAPES)


def hide_secrets() -> None:
    """Remove secrets from what Python itself prints: log records, warnings and tracebacks."""
    make_record, format_warning = logging.getLogRecordFactory(), warnings.formatwarning

    def without_secrets(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make_record(*args, **kwargs)
        try:
            message = record.getMessage()
        except (TypeError, ValueError):  # the arguments do not fit the message
            message = f"{record.msg} {record.args}"
        record.msg, record.args = redact(message), ()
        if record.exc_info:
            record.exc_text = redact(logging.Formatter().formatException(record.exc_info))
        return record

    logging.setLogRecordFactory(without_secrets)
    warnings.formatwarning = lambda *args, **kwargs: redact(format_warning(*args, **kwargs))
    threading.excepthook = lambda error: show_exception(error.exc_value)


def show_exception(error: BaseException | None) -> None:
    """Print an error's traceback as Python does, without secrets."""
    if error is not None:
        _printer(redact("".join(traceback.format_exception(error))).rstrip())
