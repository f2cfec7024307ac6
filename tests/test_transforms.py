import functools
import re
import textwrap
import threading
from datetime import datetime

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.window import FixedWindows, GlobalWindow, TimestampedValue
from helpers.http_server import Answer, HttpServer
from helpers.models import image_file

from pipeline import LabelImages, transforms
from pipeline.errors import ModelError
from pipeline.images import loading
from pipeline.models.probing import probe_classifier
from pipeline.records import ImageRef, Labeled, Prediction


@pytest.fixture
def photos(tmp_path):
    """Images of one color each, and a file that is none; name → path."""
    names = {"r.png": "red", "g.jpg": "green", "b.gif": "blue"}
    for name, color in names.items():
        suffix = name.partition(".")[2]
        (tmp_path / name).write_bytes(image_file(color, {"jpg": "JPEG"}.get(suffix, suffix)))
    (tmp_path / "bad.jpg").write_bytes(b"<html>")
    return {path.name: str(path) for path in tmp_path.iterdir()}


def label(uris, **options):
    """Run ``LabelImages``; returns a function that checks its two outputs, simplified."""

    def check(labeled, failed):
        flags = PipelineOptions(["--allow_private_addresses"])  # of the tests' server
        with beam.Pipeline(runner="FnApiRunner", options=flags) as pipeline:
            result = pipeline | beam.Create(uris) | LabelImages(**options)
            assert_that(
                result.labeled | "Brief" >> beam.Map(lambda row: (row.image, row.label)),
                equal_to(labeled),
                label="labeled",
            )
            assert_that(
                result.failures | beam.Map(lambda row: (row.image, row.stage, row.reason)),
                equal_to(failed),
                label="failures",
            )

    return check


def test_every_uri_is_labeled_or_failed(photos, color_model, tmp_path):
    absent = f"{tmp_path}/absent.jpg"
    label([*photos.values(), absent], model=color_model)(
        [(photos["r.png"], "red"), (photos["g.jpg"], "green"), (photos["b.gif"], "blue")],
        [(photos["bad.jpg"], "decode", "not_an_image"), (absent, "read", "not_found")],
    )


def test_image_refs_and_other_labels(photos, color_model, tmp_path):
    (tmp_path / "labels.txt").write_text("rot\ngrün\nblau\n")
    refs = [ImageRef(photos["g.jpg"])]
    label(refs, model=color_model, labels_file=f"{tmp_path}/labels.txt")(
        [(photos["g.jpg"], "grün")], []
    )


def test_the_whole_row(photos, color_model):
    spec = probe_classifier(color_model)

    def check(rows):
        (row,) = rows
        assert isinstance(row, Labeled)
        assert row._replace(labeled_at="", seconds=None) == Labeled(
            image=photos["r.png"],
            label="red",
            class_id=0,
            score=0.999909,
            predictions=(Prediction(0, "red", 0.999909), Prediction(1, "green", 4.5e-05)),
            width=40,
            height=30,
            model=color_model,
            model_fingerprint=spec.fingerprint,
            run_id="r1",
            labeled_at="",
            version="",
            seconds=None,
        )
        age = datetime.now().astimezone() - datetime.fromisoformat(
            row.labeled_at.replace("Z", "+00:00")
        )
        assert 0 <= age.total_seconds() < 60
        assert all(value > 0 for value in row.seconds)

    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        labeled, _ = (
            pipeline
            | beam.Create([photos["r.png"]])
            | LabelImages(model=spec, top_k=2, batch_size=1, run_id="r1")
        )
        assert_that(labeled, check)


def test_windows_are_kept(photos, color_model):
    """An image is in the window that its URI was in, whatever was read beside it."""
    times = {photos["r.png"]: 5, photos["g.jpg"]: 105, photos["b.gif"]: 205, photos["bad.jpg"]: 305}

    def with_window(row, window=beam.DoFn.WindowParam):
        return row.image, int(window.start)

    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        result = (
            pipeline
            | beam.Create([*times.items()])
            | beam.MapTuple(lambda uri, time: TimestampedValue(uri, time))
            | beam.WindowInto(FixedWindows(100))
            | LabelImages(model=color_model)
        )
        rows = result | beam.Flatten() | beam.Map(with_window)
        assert_that(rows, equal_to([(uri, time // 100 * 100) for uri, time in times.items()]))


def test_one_model_error_before_the_run(tmp_path):
    with pytest.raises(ModelError, match="there is no such folder"):
        _ = beam.Pipeline() | beam.Create(["a.jpg"]) | LabelImages(model=str(tmp_path / "absent"))


def patch_reading(monkeypatch, patched):
    """Have images, which are at http URLs, read by ``patched(uri, read)``; nothing else."""
    read = loading.storage.read_content

    def read_content(uri, *limits, **more):
        return patched(uri, read) if uri.startswith("http://") else read(uri, *limits, **more)

    monkeypatch.setattr(loading.storage, "read_content", read_content)


@pytest.mark.parametrize("wrong", [{"top_k": 0}, {"batch_size": 0}, {"resample": "area"}])
def test_arguments_out_of_range(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LabelImages(model="sample", **wrong)


def test_a_slow_object_holds_up_nothing_but_itself(color_model, monkeypatch):
    """It answers only when all others, far more than a batch, have been read."""
    others = {f"/{n}.png": image_file("red") for n in range(200)}
    to_read = threading.Semaphore(0)

    def patient(uri, read):
        if uri.endswith("slow.png"):
            for _ in others:
                assert to_read.acquire(timeout=60)
            return read(uri)
        data = read(uri)
        to_read.release()
        return data

    patch_reading(monkeypatch, patient)
    with HttpServer(others | {"/slow.png": image_file("blue")}) as server:
        uris = [server.url("/slow.png"), *(server.url(path) for path in others)]
        label(uris, model=color_model, batch_size=16)(
            [(uris[0], "blue"), *((uri, "red") for uri in uris[1:])], []
        )


def test_reads_are_concurrent_and_bounded(color_model, monkeypatch):
    running, most = 0, 0
    lock = threading.Lock()
    all_threads = threading.Event()

    def counting(uri, read):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            if running == loading.READ_THREADS:
                all_threads.set()
        assert all_threads.wait(60)  # nobody ends before all threads have an image
        data = read(uri)
        with lock:
            running -= 1
        return data

    patch_reading(monkeypatch, counting)
    with HttpServer({f"/{n}": image_file("green") for n in range(100)}) as server:
        uris = [server.url(f"/{n}") for n in range(100)]
        label(uris, model=color_model)([(uri, "green") for uri in uris], [])
    assert most == loading.READ_THREADS


def test_a_photograph_over_http(color_model):
    with HttpServer({"/a.jpg": image_file("red", "JPEG"), "/b.jpg": Answer(status=403)}) as server:
        a, b = server.url("/a.jpg"), server.url("/b.jpg")
        label([a, b], model=color_model)([(a, "red")], [(b, "read", "forbidden")])


def test_the_metrics(photos, color_model):
    pipeline = beam.Pipeline(runner="FnApiRunner")
    _ = pipeline | beam.Create([*photos.values()]) | LabelImages(model=color_model)
    result = pipeline.run()
    result.wait_until_finish()
    found = result.metrics().query(beam.metrics.MetricsFilter().with_namespace("labeling"))
    counters = {counter.key.metric.name: counter.committed for counter in found["counters"]}
    assert counters["images_decoded"] == 3
    assert counters["images_failed"] == 1
    distributions = {d.key.metric.name: d.committed.count for d in found["distributions"]}
    assert distributions["read_milliseconds"] == 3
    assert distributions["decode_milliseconds"] == 3


def test_the_example_in_the_documentation(photos, color_model, capsys):
    """The docstring's example itself, on another image and model."""
    text = LabelImages.__doc__
    example = textwrap.dedent(
        text[text.index("    with beam.Pipeline") : text.index("The URIs are shuffled")]
    )
    example = example.replace("gs://bucket/photo.jpg", photos["b.gif"])
    example = re.sub(r"https:.*/2", color_model, re.sub(r'"\n *"', "", example))
    exec(example, {"beam": beam, "LabelImages": LabelImages})
    assert f"({photos['b.gif']!r}, 'blue', 0.999909)" in capsys.readouterr().out


def test_threads_have_work_while_the_model_predicts(photos):
    """One in, one out: what is handed on is replaced before the next is."""
    decode = functools.partial(loading.read_and_decode, height=8, width=8, resample="bicubic")
    step = transforms._ReadAndDecode(
        functools.partial(loading.decode_or_fail, decode=decode, run_id=""), ahead=3
    )
    step.start_bundle()
    counts = [len(list(step.process(photos["r.png"], 0, GlobalWindow()))) for _ in range(8)]
    assert counts == [0, 0, 0, 1, 1, 1, 1, 1]
    assert len(list(step.finish_bundle())) == 3


def test_what_a_failed_bundle_left_does_not_come_out_of_the_next(photos):
    slow = threading.Event()

    def decode(ref):
        slow.wait()
        return loading.read_and_decode(ref, height=8, width=8, resample="bicubic")

    step = transforms._ReadAndDecode(
        functools.partial(loading.decode_or_fail, decode=decode, run_id=""), ahead=3
    )
    step.start_bundle()
    assert list(step.process(photos["r.png"], 0, GlobalWindow())) == []
    step.start_bundle()
    assert list(step.process(photos["b.gif"], 0, GlobalWindow())) == []
    slow.set()
    (result,) = step.finish_bundle()
    assert result.value.info.uri == photos["b.gif"]
