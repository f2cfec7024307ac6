"""Decoding returns an image or a named failure, soon, whatever the bytes are."""

import collections
import json
import os
import re
import resource
import subprocess
import sys
import time
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from helpers import ROOT, heif
from helpers.corpus import LABELED, corpus, encoded, photo, small_files
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.__main__ import main
from pipeline.errors import ImageError
from pipeline.images.decode import decode
from pipeline.records import Reason
from tools.tiff_kinds import Kind, encode

CASES = list(corpus())
SECONDS = 5


def outcome(data, crashes=None):
    """``labeled``, or the reason for failure; what brought the sandbox down is collected."""
    try:
        decoded = decode(data, 32, 48)
    except ImageError as error:
        assert error.message
        assert error.reason.stage == "decode"
        if crashes is not None and re.search("crashed|took (longer|more)", error.message):
            crashes.append((error.message, data[:16]))
        return error.reason.value
    assert decoded.pixels.shape == (32, 48, 3)
    assert decoded.pixels.dtype == np.uint8
    assert decoded.width > 0
    assert decoded.height > 0
    return LABELED


# The corpus


def test_the_corpus_is_what_it_should_be():
    assert len({case.kind for case in CASES}) >= 60
    assert len({case.name for case in CASES}) == len(CASES) >= 300
    assert sum(len(case.data) for case in CASES) < 90e6
    reasons = {Reason(case.expected) for case in CASES if case.expected not in (None, LABELED)}
    assert reasons == {reason for reason in Reason if reason.stage == "decode"}
    assert [case._replace(data=len(case.data)) for case in corpus()] == [
        case._replace(data=len(case.data)) for case in CASES
    ]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_file_of_the_corpus(case):
    start = time.process_time()
    result = outcome(case.data)
    assert time.process_time() - start < SECONDS
    assert result == (case.expected or result)


MEASURE = """
import sys
sys.path[:0] = ["tests", "."]
from helpers.corpus import corpus
from pipeline.errors import ImageError
from pipeline.images.decode import decode
for case in corpus():
    try:
        decode(case.data, 224, 224)
    except ImageError:
        pass
with open("/proc/self/status") as file:
    print(*(line.split()[1] for line in file if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells it")
def test_the_corpus_takes_little_memory():
    argv = [sys.executable, "-W", "ignore", "-c", MEASURE]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True)
    megabytes = int(done.stdout) / 1024
    print(f"\n{megabytes:.0f} MB at most")
    assert megabytes < 1000


def test_the_corpus_from_the_command_line(tmp_path, color_model):
    for case in CASES:
        (tmp_path / "p" / case.name).parent.mkdir(exist_ok=True)
        (tmp_path / "p" / case.name).write_bytes(case.data)
    out = tmp_path / "out"
    argv = [f"--input={tmp_path}/p", f"--model={color_model}", f"--output={out}"]
    assert main(["label", *argv, "--max_failure_ratio=1"]) == 0

    summary = json.loads((out / "summary.json").read_text())
    assert summary["found"] == len(CASES) == summary["labeled"] + summary["failed"]
    outcomes = {}
    for path in [*out.glob("labels-*.jsonl"), *out.glob("failures-*.jsonl")]:
        for line in path.read_text().splitlines():
            row = json.loads(line)
            name = Path(row["image"]).name
            assert name not in outcomes
            outcomes[name] = row.get("reason", LABELED)
    assert set(outcomes) == {case.name for case in CASES}
    expected = {case.name: case.expected or outcomes[case.name] for case in CASES}
    assert outcomes == expected


# Properties

SIGNATURES = [
    *[b"\xff\xd8\xff", b"\xff\xd8\xff\xe1", b"\xff\xd8\xff\xc0", b"\x89PNG\r\n\x1a\n"],
    *[
        b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR",
        b"GIF87a",
        b"GIF89a",
        b"BM",
        b"\x28\0\0\0",
        b"\x0c\0\0\0",
    ],
    *[b"II*\0", b"MM\0*", b"II+\0\x08\0\0\0", b"MM\0+", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"],
    *[b"RIFF\xff\0\0\0WEBPVP8 ", b"RIFF\xff\0\0\0WEBPVP8L", b"RIFF\xff\0\0\0WEBPVP8X"],
    *[b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"],
    *[b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\xd8\xff\xc3", b"\xff\xd8\xff\xf7"],
    *[b"\0\0\0\x1cftypavif", b"\0\0\0\x18ftypavis", b"\0\0\0\x18ftypmif1", b"RIFF", b"\x89PNG"],
]


TIFF_KINDS = [
    Kind(2, 16, planar=True, compression=5, predictor=2),
    Kind(2, 8, extra=(1,), compression=32773, order=">"),
    Kind(1, 32, 3, compression=8, predictor=3, big=True),
    *[Kind(1, 12, tile=16), Kind(1, 16, 2), Kind(3, 4, fill_order=2), Kind(0, 1, compression=4)],
    *[Kind(6, 8, subsampling=(2, 2)), Kind(5, 8, compression=7), Kind(2, 8, compression=50001)],
    *[Kind(8, 16, compression=50000), Kind(1, 8, compression=34925, tile=16)],
]


def intact_files():
    """Small files of every format, and of its variants that are decoded by other code."""
    image = photo(48, 36)
    options = [
        ("JPEG", {"progressive": True}),
        ("JPEG", {"restart_marker_blocks": 2, "exif": b"Exif\0\0II*\0\x08\0\0\0\0\0"}),
        ("GIF", {"save_all": True, "append_images": [photo(20, 30)], "comment": b"x" * 300}),
        ("PNG", {"save_all": True, "append_images": [photo(48, 36).rotate(180)]}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"save_all": True, "append_images": [photo(48, 36).rotate(180)]}),
        *[("TIFF", {"compression": name}) for name in ("tiff_lzw", "jpeg", "packbits")],
        ("TIFF", {"big_tiff": True}),
        ("DIB", {}),
    ]
    files = [*small_files().values(), *(encoded(image, name, **more) for name, more in options)]
    files += [encoded(photo(48, 36, mode), "PNG") for mode in ("1", "L", "P", "RGBA")]
    files += [encoded(photo(48, 36, mode), "BMP") for mode in ("1", "P")]
    files += [encoded(photo(48, 36, "1"), "TIFF", compression="group4")]
    pixels = np.asarray(image)
    deep = pixels.astype(np.uint16) * 16
    files += [
        imagecodecs.jpeg8_encode(deep, bitspersample=12),
        imagecodecs.jpeg8_encode(pixels, lossless=True),
        imagecodecs.jpegls_encode(pixels),
        imagecodecs.jpeg2k_encode(deep, level=0),
        imagecodecs.jpegxl_encode(deep, lossless=True),
        heif.heif(heif.grid(2, 1, 70, 36), heif.hevc(image), heif.hevc(image, 10)),
        heif.heif(
            heif.hevc(image), heif.exif(6), heif.auxiliary(image, "urn:mpeg:hevc:2015:auxid:1")
        ),
    ]
    files += [encoded(photo(48, 36, "CMYK"), name) for name in ("JPEG", "TIFF")]
    files += [encode(kind) for kind in TIFF_KINDS]
    short = [case for case in CASES if case.expected == LABELED and len(case.data) < 6000]
    return files + [case.data for case in short]


INTACT = intact_files()

quickly = settings(
    derandomize=True,
    deadline=None,
    max_examples=1000,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@quickly
@given(st.binary(max_size=2000))
def test_random_bytes(data):
    outcome(data)


@quickly
@given(st.sampled_from(SIGNATURES), st.binary(max_size=2000))
def test_random_bytes_behind_a_signature(signature, data):
    outcome(signature + data)


@st.composite
def mutated(draw):
    """An intact file after a few flips, deletions, insertions, or with another one's end."""
    data = draw(st.sampled_from(INTACT))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        kind = draw(st.sampled_from(["flip", "delete", "insert", "splice"]))
        if kind == "flip":
            data = data[:at] + bytes([draw(st.integers(0, 255))]) + data[at + 1 :]
        elif kind == "delete":
            data = data[:at] + data[at + draw(st.integers(1, 64)) :]
        elif kind == "insert":
            data = data[:at] + draw(st.binary(max_size=64)) + data[at:]
        else:
            other = draw(st.sampled_from(INTACT))
            data = data[:at] + other[draw(st.integers(0, len(other))) :]
    return data


@quickly
@given(mutated())
def test_mutated_files(data):
    outcome(data)


# Many more of those: FUZZ_INPUTS=20000 python -m pytest tests/images/test_corpus.py -k fuzz -s

NUMBERS = [b"\0", b"\xff", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\xff\xff"]
NUMBERS += [number[::-1] for number in NUMBERS]


def mutate(rng, data):
    """``data`` after one to eight random changes."""
    data = bytearray(data)
    for _ in range(rng.integers(1, 9)):
        # Half of them in what is most likely a header.
        end = max(1, min(len(data), 200) if rng.integers(2) else len(data))
        at = int(rng.integers(end))
        match rng.integers(7):
            case 0:
                data[at : at + 1] = rng.bytes(1)
            case 1 if data:
                data[min(at, len(data) - 1)] ^= 1 << int(rng.integers(8))
            case 2:
                del data[at : at + int(rng.integers(1, 64))]
            case 3:
                data[at:at] = rng.bytes(int(rng.integers(1, 64)))
            case 4:
                number = NUMBERS[rng.integers(len(NUMBERS))]
                data[at : at + len(number)] = number
            case 5:
                data[at:at] = data[at : at + int(rng.integers(1, 500))]
            case 6 if rng.integers(4) == 0:
                other = INTACT[rng.integers(len(INTACT))]
                data[at:] = other[int(rng.integers(len(other))) :]
    return bytes(data)


def test_fuzz():
    inputs = int(os.environ.get("FUZZ_INPUTS", "2000"))
    rng = np.random.default_rng(int(os.environ.get("FUZZ_SEED", "0")))
    outcomes = collections.Counter()
    crashes = []
    slowest = longest = (0.0, b"")
    for n in range(inputs):
        data = mutate(rng, INTACT[n % len(INTACT)])
        start, began = time.process_time(), time.perf_counter()
        outcomes[outcome(data, crashes)] += 1
        slowest = max(slowest, (time.process_time() - start, data))
        longest = max(longest, (time.perf_counter() - began, data))
    print(f"\n{inputs} mutations of {len(INTACT)} files: {dict(outcomes.most_common())}")
    for what, (seconds, data) in (("here", slowest), ("and in the sandbox", longest)):
        print(f"slowest {what}: {seconds:.2f} s, {len(data)} bytes: {data[:16]!r}…")
    print(f"{len(crashes)} of them ended their sandbox: {crashes}")
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"largest: {largest} MB here")
    assert outcomes.total() == inputs
    assert slowest[0] < SECONDS
