"""Lists a bucket of any number of names, in little memory: page after page, or in ranges of names.

    python benchmarks/listing.py NAMES LAYOUT ranges|order [MEGABYTES [MILLISECONDS]]

A process of its own serves the names (``synthetic_bucket.py``), each page so many milliseconds
after it was asked for. The address space of this process is limited to the megabytes. Prints a line
of JSON.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import synthetic_bucket
from apache_beam.options.pipeline_options import PipelineOptions

from pipeline import storage


def main(names: int, layout: str, way: str, megabytes: int = 0, milliseconds: int = 0) -> None:
    """List the bucket, and compare a sum over all names with what it must be."""
    argv = [sys.executable, synthetic_bucket.__file__, str(names), layout, str(milliseconds)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            os.environ["STORAGE_EMULATOR_HOST"] = server.stdout.readline().strip()
            storage.configure(PipelineOptions(["--anonymous"]))
            if megabytes:
                resource.setrlimit(resource.RLIMIT_AS, (megabytes * 2**20,) * 2)
            started, count, total, samples = time.monotonic(), 0, 0, []
            uri = f"gs://bucket/{synthetic_bucket.PREFIX}"
            for page in storage.list_pages(uri, storage.Range() if way == "ranges" else None):
                assert isinstance(page, storage.Page)
                for file in page.files:
                    count += 1
                    total += hash(file.path)
                if count * 10 // names > len(samples) - 1:
                    samples.append(_resident())
            seconds = time.monotonic() - started
        finally:
            server.kill()
    make = synthetic_bucket.layout(layout, names)
    is_whole = total == sum(hash(f"gs://bucket/{make(n)}") for n in range(names))
    print(
        json.dumps(
            {
                "names": names,
                "layout": layout,
                "way": way,
                "milliseconds": milliseconds,
                "each_once": is_whole and count == names,
                "seconds": round(seconds, 1),
                "names_per_second": round(names / seconds),
                "limit_mb": megabytes,
                "resident_mb": samples,
            }
        )
    )


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 2**20


if __name__ == "__main__":
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # it keeps 10 connections
    main(int(sys.argv[1]), *sys.argv[2:4], *map(int, sys.argv[4:]))  # type: ignore[arg-type]
