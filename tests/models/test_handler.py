import functools

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.ml.inference.base import KeyedModelHandler, RunInference
from apache_beam.testing.util import assert_that, equal_to
from helpers.models import COLORS

from pipeline.models.handler import SavedModelHandler
from pipeline.models.loading import load_classifier
from pipeline.models.probing import probe_classifier
from pipeline.records import TopK


@pytest.fixture(scope="module")
def spec(color_model):
    return probe_classifier(color_model)


def pixels(color):
    return np.full((32, 32, 3), COLORS[color], np.uint8)


class FakeModel:
    """Notes the batches that it is given."""

    def __init__(self):
        self.shapes = []

    def __call__(self, batch):
        assert all(image.dtype == np.uint8 for image in batch)
        self.shapes.append(np.shape(batch))
        return [TopK((0,), (1.0,))] * len(batch)


MODEL = FakeModel()


def load_fake_model():
    return MODEL


def test_loads_and_answers_in_order(spec):
    handler = SavedModelHandler(functools.partial(load_classifier, spec, 1), batch_size=4)
    results = handler.run_inference(
        [pixels(c) for c in ("blue", "red", "green")], handler.load_model()
    )
    assert [result.value.class_ids for result in results] == [(2,), (0,), (1,)]
    assert all(result.seconds > 0 for result in results)


def test_batches_have_one_size_but_for_the_last(spec):
    MODEL.shapes.clear()
    handler = SavedModelHandler(load_fake_model, batch_size=8)
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        _ = (
            pipeline
            | beam.Create([None], reshuffle=False)
            | beam.FlatMap(lambda _: [(n, pixels("red")) for n in range(20)])
            | RunInference(KeyedModelHandler(handler))
        )
    assert sorted(MODEL.shapes) == [(4, 32, 32, 3), (8, 32, 32, 3), (8, 32, 32, 3)]


def test_in_run_inference_with_metrics_of_the_one_namespace(spec):
    pipeline = beam.Pipeline(runner="FnApiRunner")
    results = (
        pipeline
        | beam.Create([("a", pixels("green")), ("b", pixels("blue"))])
        | RunInference(
            KeyedModelHandler(
                SavedModelHandler(functools.partial(load_classifier, spec, 3), batch_size=64)
            )
        )
        | beam.MapTuple(
            lambda key, answer: (key, answer.value.class_ids[0], len(answer.value.scores))
        )
    )
    assert_that(results, equal_to([("a", 1, 3), ("b", 2, 3)]))
    run = pipeline.run()
    run.wait_until_finish()
    counters = run.metrics().query(
        beam.metrics.MetricsFilter().with_namespace("labeling").with_name("num_inferences")
    )["counters"]
    assert [counter.committed for counter in counters] == [2]


def test_the_size_of_a_batch_is_that_of_its_pixels(spec):
    handler = SavedModelHandler(functools.partial(load_classifier, spec, 1), batch_size=4)
    assert handler.get_num_bytes([pixels("red")] * 3) == 3 * 32 * 32 * 3
