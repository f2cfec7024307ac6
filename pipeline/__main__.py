"""``python -m pipeline COMMAND``: dispatch, and errors as one line."""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

from pipeline.errors import RunError, UsageError
from pipeline.options import parse_command, parse_label


def main(argv: list[str] | None = None) -> int:
    """Run a command.

    Returns:
      0 done · 1 the run failed, or too many images did · 2 the command line, or what it points
      at, is to be corrected. Ctrl-C ends the process with 130, as shells have it.
    """
    try:
        _, rest = parse_command(sys.argv[1:] if argv is None else argv)
        config = parse_label(rest)
        from pipeline import label  # Beam takes seconds to import, which --help does without

        return label.run(config)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except RunError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def console() -> None:
    """Run the command that the process was started with, and end the process."""
    signal.signal(signal.SIGINT, _interrupt)
    sys.exit(main())


def _interrupt(*_: object) -> NoReturn:
    """End at once; as an exception, Ctrl-C would wait for all images that are being read."""
    message = "interrupted: a run on this machine leaves no results; start it again\n"
    os.write(sys.stderr.fileno(), message.encode())
    os._exit(130)


if __name__ == "__main__":
    console()
