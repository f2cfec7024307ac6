"""The list of images that a model was trained on: what is in it, and how large it is."""

import hashlib

import pytest

from pipeline.models import trained_on


def contents(numbers):
    return [hashlib.sha256(str(number).encode()).hexdigest() for number in numbers]


@pytest.fixture(autouse=True)
def _no_model_is_kept():
    trained_on._of_model.cache_clear()


def has_seen(folder, content):
    (folder / "saved_model.pb").touch()  # enough to be found; nobody loads it
    return trained_on.has_seen(str(folder), "sha256:1", content)


def test_it_has_eight_bytes_an_image(tmp_path):
    assert not trained_on.exists(tmp_path)
    trained_on.write(tmp_path, contents([*range(1000), *range(10)]), tmp_path / "base")
    assert (tmp_path / "assets" / trained_on.NAME).stat().st_size == 8000
    assert all(has_seen(tmp_path, content) for content in contents(range(1000)))
    assert not any(has_seen(tmp_path, one) for one in contents(range(1000, 2000)))
    highest, lowest = "f" * 64, "0" * 64
    assert not has_seen(tmp_path, highest)
    assert not has_seen(tmp_path, lowest)


def test_it_has_the_images_of_the_model_that_was_trained_further(tmp_path):
    trained_on.write(tmp_path / "base", contents(range(10)), tmp_path)
    trained_on.write(tmp_path / "new", contents(range(5, 15)), tmp_path / "base")
    assert all(has_seen(tmp_path / "new", one) for one in contents(range(15)))
    trained_on._of_model.cache_clear()
    trained_on.write(tmp_path / "none", [], tmp_path)
    assert not has_seen(tmp_path / "none", contents([1])[0])


def test_it_is_read_from_rows_of_all_formats():
    assert trained_on.said_in({"trained_on": True}) and trained_on.said_in({"trained_on": "true"})
    assert not any(map(trained_on.said_in, ({}, {"trained_on": False}, {"trained_on": "false"})))
    assert trained_on.kept_of({"trained_on": "true", "x": 1}) == {"trained_on": True}
    assert trained_on.kept_of({"x": 1}) == {}
