"""Decoders that misbehave, where a JPEG 2000 file ends with the word for it.

Only a sandbox's own process is meant to import this: ``Sandbox(prelude=PRELUDE)``.
"""

import os
import signal
import sys
import time

from pipeline.images import registry

PRELUDE = "import helpers.decoders; helpers.decoders.install()"


def _allocate():
    parts = []
    while True:
        parts.append(bytearray(10_000_000))


def _loop():
    while True:
        pass


def _talk():
    for descriptor in (1, 2):
        os.write(descriptor, b"warning\n" * 50_000)


MISBEHAVIOR = {
    b"SEGV": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    b"ABRT": os.abort,
    b"KILL": lambda: os.kill(os.getpid(), signal.SIGKILL),
    b"EXIT": lambda: os._exit(0),
    b"QUIT": sys.exit,
    b"ODDS": lambda: {}.oddity,
    b"ALLO": _allocate,
    b"LOOP": _loop,
    b"WAIT": lambda: time.sleep(1e6),
    b"TALK": _talk,
}


def install():
    """Replace the decoder of JPEG 2000 files."""
    row = next(row for row in registry.FORMATS if row.name == "JPEG 2000")
    decode = row.open

    def misbehave(data):
        MISBEHAVIOR.get(data[-4:], lambda: None)()
        return decode(data)

    object.__setattr__(row, "open", misbehave)
