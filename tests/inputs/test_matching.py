"""Which image a row of a table means, however it spells the name."""

import time

import pytest

from pipeline.inputs.matching import How, key_of, match

PHOTOS = ("/d/cats/1.jpg", "/d/dogs/1.jpg", "/d/dogs/2.jpg")


def matched(images, *entries):
    """The image and how, for each entry of a table in /t."""
    rows = [(x, x if x.startswith("/") or "://" in x else f"/t/{x}") for x in entries]
    return [(found.image, found.how) for found in match(images, rows)]


@pytest.mark.parametrize(
    ("entry", "image", "how"),
    [
        ("/d/cats/1.jpg", "/d/cats/1.jpg", How.FULL),
        ("/D/Cats/1.JPG", "/d/cats/1.jpg", How.FULL),
        ("cats/1.jpg", "/d/cats/1.jpg", How.END),
        ("./cats//1.jpg", "/d/cats/1.jpg", How.END),
        ("../d/cats/1.jpg", "/d/cats/1.jpg", How.FULL),
        ("cats\\1.jpg", "/d/cats/1.jpg", How.END),
        ("C:\\photos\\cats\\1.jpg", "/d/cats/1.jpg", How.ELSEWHERE),
        ("2.jpg", "/d/dogs/2.jpg", How.END),
        ("2.JPG", "/d/dogs/2.jpg", How.END),
        ("/old/birds/2.jpg", "/d/dogs/2.jpg", How.ELSEWHERE),
        ("gs://bucket/cats/1.jpg", "/d/cats/1.jpg", How.ELSEWHERE),
        ("1.jpg", None, How.SEVERAL),
        ("birds/1.jpg", None, How.SEVERAL),
        ("s/1.jpg", None, How.SEVERAL),
        ("12.jpg", None, How.NONE),
        ("2.png", None, How.NONE),
        ("", None, How.NONE),
        (".", None, How.NONE),
    ],
)
def test_a_row(entry, image, how):
    assert matched(PHOTOS, entry) == [(image, how)]


@pytest.mark.parametrize(
    ("image", "entry", "how"),
    [
        ("/d/cafe\u0301.jpg", "caf\u00e9.jpg", How.END),
        ("/d/caf\u00e9.jpg", "/d/cafe\u0301.jpg", How.FULL),
        ("https://h.example/a/b%20c.jpg?w=7", "b c.jpg", How.END),
        ("https://h.example/a/b%20c.jpg", "https://mirror.example/a/b%20c.jpg", How.ELSEWHERE),
        ("https://h.example/a/b%20c.jpg?w=7", "http://h.example/a/b c.jpg", How.FULL),
        ("gs://b/p/a.jpg", "s3://b/p/a.jpg", How.ELSEWHERE),
        ("records/a.jpg", "/data/records/a.jpg", How.END),
        ("/d/a\\b.jpg", "b.jpg", How.END),
    ],
)
def test_spellings(image, entry, how):
    assert matched([image], entry) == [(image, how)]
    assert key_of(image) == key_of(entry)


def test_capital_letters_tell_two_images_apart():
    images = ["/d/a.JPG", "/d/a.jpg"]
    assert matched(images, "a.JPG", "a.jpg") == [(x, How.END) for x in images]
    assert matched(images, *images) == [(x, How.FULL) for x in images]
    assert matched(images, "A.jpg") == [(None, How.SEVERAL)]


def test_forms_of_unicode_tell_two_images_apart_if_the_whole_name_is_the_same():
    images = ["/d/cafe\u0301.jpg", "/d/caf\u00e9.jpg"]
    assert matched(images, *images) == [(x, How.FULL) for x in images]
    assert matched(images, "caf\u00e9.jpg") == [(None, How.SEVERAL)]


def test_an_image_takes_the_row_that_has_more_in_common():
    image = "/d/cats/1.jpg"
    assert matched([image], "/old/dogs/1.jpg", "/old/cats/1.jpg", "1.jpg") == [
        (None, How.NONE),
        (image, How.ELSEWHERE),
        (None, How.NONE),
    ]
    # The first of them does not say that it is from elsewhere.
    assert matched([image], "1.jpg", "birds/1.jpg") == [(image, How.END), (None, How.NONE)]


def test_rows_of_different_images_that_fit_one():
    assert matched(["/d/1.jpg"], "cats/1.jpg", "dogs/1.jpg") == [(None, How.SEVERAL)] * 2
    assert matched(["/d/1.jpg"], "1.jpg", "1.jpg") == [("/d/1.jpg", How.END)] * 2


def test_many_images_whose_files_have_one_name():
    images = [f"/d/{n}/image.jpg" for n in range(20_000)]
    started = time.perf_counter()
    found = matched(images, *(f"{n}/image.jpg" for n in reversed(range(20_000))))
    assert found == [(image, How.END) for image in reversed(images)]
    assert time.perf_counter() - started < 5
