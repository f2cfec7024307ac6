"""Decoders that misbehave, where the comment in a JPEG 2000 file says so.

Only a sandbox's own process is meant to import this: ``Sandbox(prelude=PRELUDE)``.
"""

import io
import os
import signal
import sys
import time

from PIL import Image

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


def file_with(word):
    """A JPEG 2000 file that has such a comment."""
    file = io.BytesIO()
    Image.linear_gradient("L").resize((48, 36)).convert("RGB").save(file, "JPEG2000", comment=word)
    return file.getvalue()


def install():
    """Replace the decoder of JPEG 2000 files."""
    row = next(row for row in registry.FORMATS if row.name == "JPEG 2000")
    decode = row.open

    def misbehave(data):
        for word, act in MISBEHAVIOR.items():
            if word in data[:300]:
                act()
        return decode(data)

    object.__setattr__(row, "open", misbehave)
