import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to

from pipeline.errors import ReconciliationError
from pipeline.records import Failure, ImageRef, Labeled, StageSeconds
from pipeline.tally import CombineTogether, CountRecords, Tally, reconcile


def labeled(uri, label="dog", seconds=StageSeconds(1, 2, 3)):  # noqa: B008
    return Labeled(uri, label, 0, 1.0, (), 1, 1, "m", "f", "r", "t", seconds=seconds)


def failed(uri, reason="empty"):
    return Failure(uri, "decode", reason, "no bytes", "r")


def tally(*records):
    result = Tally()
    for record in records:
        result.add(record)
    return result


def test_counts_by_label_and_by_reason():
    counted = tally(labeled("a"), labeled("b", "cat"), labeled("c"), failed("d"), failed("e"))
    assert counted.images == 5
    assert counted.labels == {"dog": 2, "cat": 1}
    assert counted.reasons == {"empty": 2}
    assert counted.examples == {"empty": ("d", "no bytes")}
    assert counted.seconds == StageSeconds(3, 6, 9)


def test_in_a_pipeline_from_many_bundles():
    records = [labeled(str(n), seconds=StageSeconds(1, 0, 0)) for n in range(100)]
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        result = (
            pipeline
            | beam.Create(records)
            | beam.Reshuffle()
            | beam.CombineGlobally(CountRecords())
        )
        assert_that(result, equal_to([tally(*records)]))


def test_of_nothing_is_zero():
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        result = pipeline | beam.Create([]) | beam.CombineGlobally(CountRecords())
        assert_that(result, equal_to([Tally()]))


def test_several_together():
    """Of many bundles and of none."""
    records = [labeled(str(n), seconds=StageSeconds(1, 0, 0)) for n in range(100)]
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        collections = {
            "labeled": pipeline | "Labeled" >> beam.Create(records) | beam.Reshuffle(),
            "failed": pipeline | "Failed" >> beam.Create([failed("f")]),
            "skipped": pipeline | "Skipped" >> beam.Create([]),
        }
        together = CombineTogether(dict.fromkeys(collections, CountRecords()))
        expected = {"labeled": tally(*records), "failed": tally(failed("f")), "skipped": Tally()}
        assert_that(collections | together, equal_to([expected]))


def refs(*uris):
    return tally(*(ImageRef(uri) for uri in uris))


def test_what_went_in_came_out():
    reconcile(refs("a", "b", "c"), tally(labeled("c"), labeled("a")), tally(failed("b")))
    reconcile(refs("a"), tally(), tally(failed("a")))
    reconcile(refs("a", "b"), tally(labeled("b")), tally(), refs("a"))
    reconcile(refs("a"), tally(), tally(), refs("a"))


@pytest.mark.parametrize(
    ("rows", "failures", "message"),
    [
        ([], [], "2 images found, 0 labeled and 0 failed: the counts do not add up"),
        (["a"], [], "2 images found, 1 labeled and 0 failed: the counts do not add up"),
        (["a", "b"], ["b"], "2 images found, 2 labeled and 1 failed: the counts do not add up"),
        (["a", "a"], [], "the counts add up, but they are not the same images"),
        (["a"], ["c"], "the counts add up, but they are not the same images"),
    ],
)
def test_lost_doubled_and_mixed_up_images_are_errors(rows, failures, message):
    with pytest.raises(ReconciliationError, match=message):
        reconcile(refs("a", "b"), tally(*map(labeled, rows)), tally(*map(failed, failures)))


def test_a_run_over_nothing_is_an_error():
    with pytest.raises(ReconciliationError, match="no images were found"):
        reconcile(refs(), tally(), tally())
