"""Which of the model's classes a truth means, and what is said if it means none."""

import pytest

from pipeline.errors import InputError
from pipeline.label.truth_classes import ClassCounts, judge
from pipeline.models.class_lookup import ClassLookup

LABELS = ("background", "tench, Tinca tinca", "goldfish", "hot dog")


def counted(*images, labels=LABELS):
    """The counts of images, each with one class or a list of them."""
    counts = ClassCounts()
    for names in images:
        counts.add([names] if isinstance(names, str) else names, ClassLookup(labels))
    return counts


@pytest.mark.parametrize(
    ("images", "labels", "by_index"),
    [
        (["1", "3", "3"], LABELS, True),
        (["1.0", "3.0"], LABELS, True),
        ([["1", "3"], ["0"]], LABELS, True),
        (["1", "tench"], LABELS, False),
        (["tench"], LABELS, False),
        (["1", "7"], ("7", "1"), False),
        ([[]], LABELS, False),
        ([], LABELS, False),
    ],
)
def test_numbers_are_indices_if_all_are(images, labels, by_index):
    counts = counted(*images, labels=labels)
    assert counts.are_indices(ClassLookup(labels)) is by_index
    judge("t.csv", counts, labels)


def test_indices_are_said():
    assert judge("t.csv", counted("3", "0"), LABELS) == [
        "truth: its numbers are taken for indices of classes, 0 for 'background' to 3 for 'hot dog'"
    ]


def test_what_the_model_does_not_know_is_said():
    counts = counted("tench", "hot_dogs", "hot_dogs", "zebra", ["goldfish", "zebra"], "1", "xx")
    assert not counts.are_indices(ClassLookup(LABELS))
    assert judge("t.csv", counts, LABELS) == [
        "truth: 6 of 7 images have a class that the model does not know, and count as wrong: "
        "'hot_dogs' (2; perhaps 'hot dog'), 'zebra' (2), '1' (1), …"
    ]


@pytest.mark.parametrize(
    ("images", "has"),
    [
        (["tenhc"], "none of the 1 images .*: it has 'tenhc' .1; perhaps 'tench, Tinca tinca'."),
        (["1", "4"], "none of the 2 images .*: it has '1' .1., '4' .1.; the model has "),
        ([["photos"]] * 5, "'photos' .5.; the model has 'background', 'tench, T.*fish', …$"),
    ],
)
def test_a_truth_of_other_classes_is_refused(images, has):
    with pytest.raises(InputError, match=has):
        judge("t.csv", counted(*images), LABELS)


def test_counts_add_up_and_are_bounded():
    whole, parts = ClassCounts(), ClassCounts()
    for n in range(3):
        names = [str(n), "tench", *map(str, range(4, 800 * (n + 1)))]
        part = counted(*names)
        parts.merge(part)
        for name in names:
            whole.add([name], ClassLookup(LABELS))
    assert (whole.images, whole.known, whole.numbers) == (parts.images, parts.known, parts.numbers)
    assert len(whole.unknown) == len(parts.unknown) == 1000
