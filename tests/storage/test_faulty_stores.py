"""The label job on buckets that do not answer as they should.

    LABELING_OBJECTS=2000 python -m pytest tests/test_faulty_stores.py --durations 0

reads more than the 300 objects of each store that are enough for a change.
"""

import json
import os
import random
import time
from pathlib import Path

import pytest
from apache_beam.io.filesystems import FileSystems
from helpers.emulators import EMULATORS, Fault, FaultyProxy
from helpers.models import COLORS, image_file

import pipeline.storage.read
from pipeline.__main__ import main

OBJECTS = int(os.environ.get("LABELING_OBJECTS", 300))

TRANSIENT = (429, 500, 503, "reset", "truncate")
PERMANENT = {403: "forbidden", 404: "not_found"}


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    monkeypatch.setattr(pipeline.storage.hosts, "_FIRST_WAIT", 0.05)
    monkeypatch.setattr(FileSystems, "_pipeline_options", None)  # what the job sets is undone


@pytest.fixture(scope="module", params=EMULATORS)
def store(request):
    """A store with images, each of the color that it is named by."""
    names = [f"photos/{list(COLORS)[n % 3]}-{n:05}.png" for n in range(OBJECTS)]
    files = {color: image_file(color) for color in COLORS}
    with EMULATORS[request.param]() as store:
        store.put({name: files[Path(name).name.split("-")[0]] for name in names})
        yield store


def draw_faults(seed):
    """Faults for about 12 % of the images, and why those of them fail that have to."""
    rng = random.Random(seed)
    names = [f"{list(COLORS)[n % 3]}-{n:05}.png" for n in range(OBJECTS)]
    rng.shuffle(names)
    faults, reasons = {}, {}
    for n in range(max(OBJECTS // 10, len(TRANSIENT))):
        faults[names.pop()] = Fault(TRANSIENT[n % len(TRANSIENT)], times=rng.choice((1, 2)))
    for n in range(max(OBJECTS // 100, len(PERMANENT))):
        name, status = names.pop(), list(PERMANENT)[n % len(PERMANENT)]
        faults[name], reasons[name] = Fault(status), PERMANENT[status]
    for n in range(max(OBJECTS // 150, 2)):
        name = names.pop()
        faults[name] = Fault("hang", times=1 if n % 2 else None)
        if not n % 2:
            reasons[name] = "timeout"
    return faults, reasons


def read(path):
    with FileSystems.open(path) as file:
        return file.read().decode()


def rows(output, name):
    [match] = FileSystems.match([f"{output}/{name}-*-of-*.jsonl"])
    assert match.metadata_list
    return [
        json.loads(line) for shard in match.metadata_list for line in read(shard.path).splitlines()
    ]


def label(*argv, **flags):
    return main(["label", *argv, *(f"--{name}={value}" for name, value in flags.items())])


@pytest.mark.timeout(600)
@pytest.mark.parametrize("into_the_store", [False, True], ids=["local", "bucket"])
def test_every_image_is_labeled_or_has_its_reason(store, color_model, tmp_path, into_the_store):
    faults, reasons = draw_faults(seed=into_the_store)
    output = store.uri("results") if into_the_store else str(tmp_path / "results")
    started = time.monotonic()
    with FaultyProxy(store.url, faults) as proxy, store.reached_at(proxy.url) as beam_flags:
        photos = store.uri("photos")
        flags = {"input": photos, "model": color_model, "output": output}
        assert label(*beam_flags, **flags, read_timeout_seconds=3) == 0
        seconds = time.monotonic() - started
        labeled, failed = rows(output, "labels"), rows(output, "failures")
        summary = json.loads(read(f"{output}/summary.json"))
    assert {Path(row["image"]).name: row["reason"] for row in failed} == reasons
    assert {row["stage"] for row in failed} == {"read"}
    names = {row["image"] for row in labeled} | {row["image"] for row in failed}
    assert len(names) == len(labeled) + len(failed) == OBJECTS
    assert all(name.startswith(f"{photos}/") for name in names)
    for row in labeled:
        assert Path(row["image"]).name.startswith(f"{row['label']}-")
    counts = (summary["found"], summary["labeled"], summary["failed"])
    assert counts == (OBJECTS, OBJECTS - len(reasons), len(reasons))
    # A fault that passed was met, and the object read once more.
    for name, fault in faults.items():
        if fault.times:
            assert proxy.requests[name] >= fault.times + 1
        else:
            assert proxy.requests[name] == (4 if reasons[name] == "timeout" else 1)
    print(f"{store.scheme}: {counts}, {len(faults)} with faults, {seconds:.1f} s")


def test_a_bucket_without_faults(store, color_model):
    output = store.uri("good")
    with store.reached_at(store.url) as beam_flags:
        photos = store.uri("photos/red-0000*")
        assert label(*beam_flags, input=photos, model=color_model, output=output) == 0
        labeled = rows(output, "labels")
        summary = json.loads(read(f"{output}/summary.json"))
        [failures] = FileSystems.match([f"{output}/failures-*"])
        assert {row["label"] for row in labeled} == {"red"}
        assert summary["labeled"] == summary["found"] == len(labeled) > 0
        # Beam cannot write an empty file to S3.
        assert len(failures.metadata_list) == (0 if store.scheme == "s3" else 1)
        # And again: the rows in the store become those of an earlier attempt, and are taken over.
        assert label(*beam_flags, input=photos, model=color_model, output=output) == 0
        assert sorted(rows(output, "labels"), key=str) == sorted(labeled, key=str)
        assert json.loads(read(f"{output}/summary.json"))["taken_over"] == len(labeled)
