"""Runs of the jobs over folders that hold what brings decoders down."""

import io
import os
import time
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from helpers import ROOT
from helpers.corpus import encoded
from helpers.decoders import PRELUDE, file_with
from helpers.models import COLORS, image_file, save_extractor, write_class_folders
from helpers.runs import rows, run, summary, write_colors
from PIL import Image

from pipeline.__main__ import main
from pipeline.errors import ImageError
from pipeline.images import decode as decoding
from pipeline.images.decode import decode
from pipeline.images.sandbox import Sandbox

COLOR = np.zeros((900, 900, 3), np.uint8) + np.array(COLORS["red"], np.uint8)
# At 800 pixels the heap is overrun when thumbnails are made, above when the run decodes.
LOSSLESS = {
    side: imagecodecs.jpeg8_encode(COLOR[:side, :side], lossless=True) for side in (800, 900)
}


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_lossless_jpegs_among_photographs(tmp_path, color_model, capsys):
    folder = write_colors(tmp_path / "p", 300)
    for path in (tmp_path / "p").glob("red-*"):  # so that the report shows all that are red
        path.unlink()
    for side, data in LOSSLESS.items():
        for n in range(3):
            (tmp_path / "p" / f"lossless-{side}-{n}.jpg").write_bytes(data)
    argv = [f"--input={folder}", f"--model={color_model}", f"--output={tmp_path}/out"]
    assert main(["check", *argv]) == 0
    assert main(["label", *argv]) == 0
    assert summary(tmp_path / "out")["labeled"] == 206
    labels = {Path(row["image"]).name: row["label"] for row in rows(tmp_path / "out", "labels")}
    assert {labels[f"lossless-{side}-0.jpg"] for side in LOSSLESS} == {"red"}
    (tmp_path / "out" / "report.html").unlink()
    assert main(["report", f"{tmp_path}/out"]) == 0
    assert "lossless-" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.usefixtures("own_cache")
def test_finetuning_on_lossless_jpegs(tmp_path):
    photos = Path(write_class_folders(tmp_path / "p"))
    (photos / "red" / "lossless.jpg").write_bytes(LOSSLESS[900])
    extractor = save_extractor(tmp_path / "extractor")
    argv = [f"--input={photos}", f"--model={extractor}", f"--output={tmp_path}/out"]
    assert main(["finetune", *argv, "--epochs=2", "--learning_rate=0.5"]) == 0
    assert sum(summary(tmp_path / "out")["images"].values()) == 121


# More of them: DECODER_CRASHES=100
CRASHES = int(os.environ.get("DECODER_CRASHES", "10"))


def test_crashes_in_a_run(tmp_path, color_model, monkeypatch):
    folder = Path(write_colors(tmp_path / "p", 9 * CRASHES - 5))
    words = [b"SEGV", b"ABRT", b"KILL", b"EXIT"]
    for n in range(CRASHES):
        (folder / f"bad-{n}.jp2").write_bytes(file_with(words[n % 4]))
    for n in range(5):
        color = list(COLORS)[n % 3]
        image = Image.open(io.BytesIO(image_file(color)))
        (folder / f"{color}-{n}.jp2").write_bytes(encoded(image.convert("RGB"), "JPEG2000"))
    sandbox = Sandbox(prelude=PRELUDE)
    monkeypatch.setattr(decoding, "_sandbox", sandbox)
    out = tmp_path / "out"
    start = time.perf_counter()
    assert run(input=folder, model=color_model, output=out) == 0
    rate = 9 * CRASHES / (time.perf_counter() - start)
    print(f"\n{rate:.0f} images/s of the others, {CRASHES} crashes between them")
    sandbox.close()

    assert (summary(out)["labeled"], summary(out)["failed"]) == (9 * CRASHES, CRASHES)
    for row in rows(out, "labels"):
        assert Path(row["image"]).name.startswith(row["label"])
    failures = rows(out, "failures")
    assert {Path(row["image"]).name for row in failures} == {f"bad-{n}.jp2" for n in range(CRASHES)}
    assert {row["reason"] for row in failures} == {"corrupt"}
    assert all("its decoder crashed (" in row["message"] for row in failures)


def test_decoders_that_allocate_or_never_return(tmp_path, color_model, monkeypatch):
    folder = Path(write_colors(tmp_path / "p", 30))
    for word in (b"ALLO", b"LOOP", b"WAIT"):
        (folder / f"{word.decode()}.jp2").write_bytes(file_with(word))
    sandbox = Sandbox(seconds=4, prelude=PRELUDE)
    monkeypatch.setattr(decoding, "_sandbox", sandbox)
    out = tmp_path / "out"
    assert run(input=folder, model=color_model, output=out) == 0
    sandbox.close()
    assert summary(out)["labeled"] == 30
    messages = {Path(row["image"]).stem: row["message"] for row in rows(out, "failures")}
    assert messages["LOOP"] == messages["WAIT"] == "decoding it took longer than 4 seconds"
    assert "decoding it took more than" in messages["ALLO"]


def test_workers_in_processes_of_their_own(tmp_path, color_model):
    folder = Path(write_colors(tmp_path / "p", 20))
    for n in range(5):
        (folder / f"red-{n}.heic").write_bytes(encoded(Image.new("RGB", (64, 64), "red"), "HEIF"))
    out = tmp_path / "out"
    flags = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]
    assert run(*flags, input=folder, model=color_model, output=out) == 0
    assert summary(out)["labeled"] == 25


@pytest.mark.parametrize("name", ["HEIF", "AVIF", "JPEG2000", "JXL"])
def test_a_photograph_has_the_label_of_its_jpeg(tmp_path, fixtures, name):
    photos = sorted((fixtures / "photos").glob("*.JPEG"))[::20]
    for path in photos:
        image = Image.open(path).convert("RGB")
        options = {"distance": 0.5} if name == "JXL" else {"quality": 95}
        if name == "JPEG2000":
            options = {"quality_mode": "rates", "quality_layers": [8], "irreversible": True}
        (tmp_path / "p").mkdir(exist_ok=True)
        (tmp_path / "p" / f"{path.stem}.jpg").write_bytes(path.read_bytes())
        suffix = {"HEIF": "heic", "AVIF": "avif", "JPEG2000": "jp2", "JXL": "jxl"}[name]
        (tmp_path / "p" / f"{path.stem}.{suffix}").write_bytes(encoded(image, name, **options))
    model = fixtures / "models" / "mobilenet_v2_classification.tar.gz"
    labels_file = fixtures / "labels" / "imagenet_labels.txt"
    out = tmp_path / "out"
    assert run(input=tmp_path / "p", model=model, labels_file=labels_file, output=out) == 0
    assert summary(out)["labeled"] == 2 * len(photos)
    by_name = {}
    for row in rows(out, "labels"):
        by_name.setdefault(Path(row["image"]).stem, set()).add(row["label"])
    alike = sum(len(labels) == 1 for labels in by_name.values())
    print(f"\n{name}: {alike} of {len(photos)} have the label of their JPEG")
    assert alike >= 0.9 * len(photos)


# The files of which the README in their folder says what is right.

RIGHT = {
    "jpeg_lossless": "labeled",
    "jpeg_12bit": "labeled",
    "jpeg_no_eoi": "labeled",
}


def cases():
    fixtures = os.environ.get("LABELING_FIXTURES") or ROOT.parent / "shared" / "fixtures"
    return sorted((Path(fixtures).parent / "cases" / "images").glob("jpeg_*"))


@pytest.mark.skipif(not cases(), reason="the cases are not beside LABELING_FIXTURES")
def test_cases_of_jpegs():
    for path in cases():
        [right] = [outcome for kind, outcome in RIGHT.items() if path.name.startswith(kind)]
        try:
            decode(path.read_bytes(), 224, 224)
            outcome = "labeled"
        except ImageError as error:
            outcome = error.reason.value
        assert outcome == right, path.name
