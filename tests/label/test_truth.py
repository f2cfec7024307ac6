"""The true classes of images: which of a table's rows are whose, and what is said of the others."""

import pytest

from pipeline.inputs.truth_table import TruthRow
from pipeline.label.truth import TruthCounts, join, notes
from pipeline.records import ImageRef

LABELS = ("cat, Felis catus", "dog")


def joined(images, *rows, multi_label=False):
    """The classes by image, and the counts, of rows ``(entry, class)``."""
    refs = [ImageRef(image) for image in images]
    made = [TruthRow(n, entry, f"/t/{entry}", truth) for n, (entry, truth) in enumerate(rows)]
    found, counts = join(refs, reversed(made), LABELS, multi_label)
    assert [one.ref.uri for one in found] == list(images)
    return {one.ref.uri: one.ref.truth for one in found}, counts


def test_of_several_rows_the_first_counts():
    truths, counts = joined(["/d/1.jpg"], ("1.jpg", "cat"), ("1.jpg", "dog"), ("1.jpg", "cat"))
    assert truths == {"/d/1.jpg": "cat"}
    assert list(notes(counts.to_json())) == [
        "truth: 1 of 1 images have a class",
        "truth: 1 images have rows with different classes, of which the first counts, such as "
        "/d/1.jpg",
    ]


def test_two_names_of_one_class_do_not_contradict_each_other():
    rows = [(f"{n // 2}.jpg", name) for n, name in enumerate(("cat", "Felis_catus", "x y", "X_Y"))]
    assert joined(["/d/0.jpg", "/d/1.jpg"], *rows)[1].contradicted == 0


def test_of_several_labels_all_rows_count():
    truths, counts = joined(
        ["/d/1.jpg"], ("1.jpg", "cat"), ("1.jpg", '["dog", "cat"]'), multi_label=True
    )
    assert truths == {"/d/1.jpg": '["cat", "dog"]'}
    said = counts.to_json()
    assert said["images_with_several_rows"] == 1
    assert said["images_with_contradicting_rows"] == 0


def test_an_image_that_is_found_twice_is_one_image():
    refs = [ImageRef("/d/1.jpg"), ImageRef("/d/1.jpg")]
    found, counts = join(refs, [TruthRow(1, "1.jpg", "/t/1.jpg", "cat")], LABELS, False)
    assert [one.ref.truth for one in found] == ["cat", "cat"]
    assert counts.to_json()["images_with_truth"] == 1


def test_secrets_do_not_keep_a_row_from_its_image():
    ref = ImageRef("https://h.example/1.jpg?sig=SECRET")
    row = TruthRow(1, "https://h.example/1.jpg", "https://h.example/1.jpg", "cat")
    [found], _ = join([ref], [row], LABELS, False)
    assert found.ref.truth == "cat"


def test_a_name_alone_counts_only_if_all_images_have_been_moved():
    _, moved = joined(["/d/dogs/1.jpg"], ("cats/1.jpg", "cat"))
    assert (moved.trusts_names, moved.matched) == (True, 1)
    assert list(notes(moved.to_json()))[-1] == (
        "truth: 1 of 1 rows have other folders than the images, whose ends of paths they fit, such "
        "as cats/1.jpg"
    )
    _, other = joined(["/d/dogs/2.jpg"], ("dogs/2.jpg", "dog"))
    both = TruthCounts().merge(moved).merge(other)
    assert (both.trusts_names, both.matched) == (False, 1)
    said = both.to_json()
    assert said["images_without_truth"] == said["rows_of_no_image"] == 1
    assert said["rows_of_other_folders"] == 0
    assert list(notes(said)) == [
        "truth: 1 of 2 images have a class; 1 have none, such as /d/dogs/1.jpg",
        "truth: 1 of 2 rows name no image, such as cats/1.jpg",
    ]


@pytest.mark.parametrize(
    ("images", "rows", "problem"),
    [
        (
            ["/d/a.jpg"],
            [("b.jpg", "cat")],
            "no row names one of the 1 images; rows name 'b.jpg', and images are '/d/a.jpg'",
        ),
        (
            ["/d/a/1.jpg", "/d/b/1.jpg"],
            [("1.jpg", "cat")],
            "each row fits several of the 2 images; rows name '1.jpg', and images are '/d/a/1.jpg',"
            " '/d/b/1.jpg'",
        ),
        (["/d/a.jpg"], [], "no row has both an image's name and a class"),
        (["/d/a.jpg"], [("a.jpg", "cat")], None),
    ],
)
def test_rows_that_name_no_image(images, rows, problem):
    assert joined(images, *rows)[1].problem() == problem


def test_counts_add_up_in_any_order():
    parts = [joined([f"/d/{n}.jpg"], (f"{n // 2}.jpg", "cat"))[1] for n in range(9)]
    there, back = TruthCounts(), TruthCounts()
    for one, other in zip(parts, reversed(parts), strict=True):
        there.merge(one)
        back.merge(other)
    assert there.to_json() == back.to_json()
    assert there.to_json()["rows"] == 9
