"""Run ``python -m pipeline COMMAND``: dispatch, and errors as one line."""

from __future__ import annotations

import functools
import gc
import importlib
import logging
import os
import re
import shlex
import signal
import sys
from types import ModuleType
from typing import Any, NoReturn

from pipeline import progress, shutdown
from pipeline.config.commands import Command, parse
from pipeline.console import hide_secrets, open_standard_streams, program, say, show_exception
from pipeline.errors import RunError, UsageError
from pipeline.redaction import without_flags, without_secret_flags


def main(argv: list[str] | None = None) -> int:
    """Run a command.

    Returns:
      0 done · 1 the run failed, or too many images did · 2 usage error: fix the command or the
      path it names. Ctrl-C ends the process with 130 and SIGTERM with 143, as shells have it.
    """
    try:
        command, config = parse(sys.argv[1:] if argv is None else argv)
        return _import(command).run(config)
    except UsageError as error:
        say(f"error: {error.said(lambda name: f'--{name}')}")
        return 2
    except RunError as error:
        say(f"error: {error}")
        return 1


def _import(command: Command) -> ModuleType:
    """Import a command's job, when it is needed: Beam and TensorFlow take seconds.

    Importing makes a million objects, none of which is garbage. Collecting in between would take a
    fifth more time, and looking at them again later would slow each run down.
    """
    job = command.job
    if job in sys.modules or not gc.isenabled():
        return importlib.import_module(job)
    say(f"loading {command.loads} …")
    gc.disable()
    try:
        return importlib.import_module(job)
    finally:
        gc.freeze()
        gc.enable()


def console() -> None:
    """Run the command that this process was started with, and end the process at once.

    Python itself would wait for all images that are being read.
    """
    interrupt = functools.partial(_interrupt, os.dup(2))
    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
    sys.excepthook = _fail
    hide_secrets()
    open_standard_streams()
    _exit(main())


def _fail(_: type[BaseException], error: BaseException, __: Any) -> None:
    show_exception(error)
    _exit(1)


def _exit(code: int) -> NoReturn:
    logging.shutdown()
    try:
        sys.stdout.flush()
    except OSError as error:  # it is a file on a full disk
        say(f"error: standard output cannot be written: {error}")
        code = code or 1
    sys.stderr.flush()
    os._exit(code)


def _interrupt(standard_error: int, number: int, _: object) -> NoReturn:
    """Keep what is done and end, on Ctrl-C or when a scheduler wants the machine back."""
    os.dup2(standard_error, 2)  # a different one while TensorFlow is being imported
    for again in (signal.SIGINT, signal.SIGTERM):
        signal.signal(again, lambda number, _: os._exit(128 + number))
    progress.end()
    shutdown.run()
    counts = progress.counts()
    state = ""
    if counts.done or counts.failed:
        state = f": {counts.done:,} images done, {counts.failed:,} failed"
    if counts.kept:
        state += f", the rows of {counts.kept:,} kept"
    # Older results have been handled already; the next attempt goes on with this one's rows.
    is_script = not program().startswith("python")
    argv = without_flags(sys.argv if is_script else sys.orig_argv, re.compile("--if_exists"))
    command = shlex.join(without_secret_flags(argv))
    say(f"interrupted{state}; to resume, run the same command again: {command}")
    os._exit(128 + number)


if __name__ == "__main__":
    console()
