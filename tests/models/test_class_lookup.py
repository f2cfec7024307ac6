"""Names of classes, as people spell them."""

import csv

import pytest

from pipeline.models.class_lookup import ClassLookup, fold

TENCH = "tench, Tinca tinca"
FEW = (
    "background",
    TENCH,
    "crane",
    "crane, machine",
    "T-shirt",
    "hot_dog",
    "caf\u00e9",
)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        (TENCH, TENCH),
        ("tench", TENCH),
        (" Tench ", TENCH),
        ("tench,_tinca_tinca", TENCH),
        ("Tinca tinca", TENCH),
        ("crane", "crane"),
        ("CRANE", "crane"),
        ("machine", "crane, machine"),
        ("t shirt", "T-shirt"),
        ("tshirt", None),
        ("Hot Dog", "hot_dog"),
        ("cafe\u0301", "caf\u00e9"),
        ("tenches", None),
        ("n01440764", None),
        ("1", None),
        ("", None),
    ],
)
def test_names(name, found):
    assert ClassLookup(FEW).find(name) == found


def test_what_several_classes_are_called_is_none_of_them():
    lookup = ClassLookup(["crane, bird", "crane, machine", "Dog", "dog", "a", "A"])
    assert lookup.find("crane") is None
    assert lookup.nearest("crane") == "crane, machine"
    assert [lookup.find(name) for name in ("dog", "Dog", "DOG", "bird")] == [
        *("dog", "Dog", None, "crane, bird"),
    ]


@pytest.mark.parametrize(
    ("number", "found"),
    [
        ("0", "background"),
        ("6", "caf\u00e9"),
        ("1.0", TENCH),
        ("7", None),
        ("-1", None),
    ],
)
def test_numbers(number, found):
    lookup = ClassLookup(FEW)
    assert lookup.at(number) == found
    assert not lookup.has_numbers


def test_numbers_that_are_names():
    lookup = ClassLookup(["7", "3"])
    assert lookup.has_numbers
    assert [lookup.find(name) for name in ("7", "7.0", "1")] == ["7", "7", None]


@pytest.mark.parametrize(
    ("name", "nearest"), [("tenhc", FEW[1]), ("hot dogs", FEW[5]), ("xyz", None)]
)
def test_the_nearest(name, nearest):
    assert ClassLookup(FEW).nearest(name) == nearest


def test_wordnet_ids_are_those_of_the_photographs(fixtures):
    labels = (fixtures / "labels" / "imagenet_labels.txt").read_text().splitlines()
    with (fixtures / "photos" / "truth.csv").open() as file:
        truth = [(row["file"][:9], row["label"]) for row in csv.DictReader(file)]
    for names in (labels, labels[1:]):
        lookup = ClassLookup(names)
        assert all(lookup.find(id_) == label for id_, label in truth if id_[0] == "n")
        assert lookup.find("N01440764") == TENCH
    assert ClassLookup(labels[:-1]).find("n01440764") is None
    assert ClassLookup(labels[::-1]).find("n01440764") is None


def test_fold():
    assert fold("  Hot__Dog - x ") == fold("hot dog x")
