import pytest

from pipeline.images.loading import READ_THREADS, cores
from pipeline.label.costs import bottleneck, per_million
from pipeline.records import StageSeconds


def milliseconds(read, decode, predict):
    """Sums over 100 images that make these figures after division by what runs at a time."""
    return StageSeconds(read / 10 * READ_THREADS, decode / 10 * cores(), predict / 10)


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        ((1, 2, 6), "predicting: 6.0 of 10.0 ms per image; decoding 2.0, reading 1.0"),
        ((7, 2, 1), "reading: 7.0 of 10.0 ms per image; decoding 2.0, predicting 1.0"),
        ((0, 9, 1), "decoding: 9.0 of 10.0 ms per image; predicting 1.0, reading 0.0"),
        (
            (1, 2, 3),
            "start-up, and what is between the stages: of 10.0 ms per image, predicting took 3.0, "
            "decoding 2.0, reading 1.0",
        ),
    ],
)
def test_the_stage_that_the_run_waited_for(stages, words):
    assert bottleneck(1.0, 100, 100, milliseconds(*stages)) == words


def test_no_image_labeled():
    assert bottleneck(1.0, 4, 0, StageSeconds()).startswith("start-up, ")


def test_a_million_images():
    # 100 images/s are 360,000 an hour.
    assert per_million(10.0, 1000, 0.36) == 1.0
    assert per_million(10.0, 1000, None) is None
    assert per_million(10.0, 0, 0.36) is None
