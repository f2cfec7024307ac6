import hashlib
import json

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to
from helpers.stores import memory_store

from pipeline.errors import InputError
from pipeline.finetune import dataset
from pipeline.finetune.dataset import FindLabeledImages, list_images, survey, understand
from pipeline.records import ImageRef


def make(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return str(folder)


def source(given, image="image", label="label"):
    return understand(str(given), image, label)


def pairs(given, **columns):
    return sorted((found.uri, found.label) for found in list_images(source(given, **columns)))


def test_class_folders(tmp_path):
    make(
        tmp_path, "b/1.jpg", "b/sub/2.png", "a/3.jpg", "a/.h.jpg", "a/x.txt", "top.jpg", ".c/4.jpg"
    )
    assert pairs(tmp_path) == [
        (f"{tmp_path}/a/3.jpg", "a"),
        (f"{tmp_path}/b/1.jpg", "b"),
        (f"{tmp_path}/b/sub/2.png", "b"),
    ]


def test_class_folders_in_a_bucket():
    with memory_store(
        {"mem://b/p/cat/1.jpg": b"", "mem://b/p/dog/2.jpg": b"", "mem://b/p/3.jpg": b""}
    ):
        expected = [("mem://b/p/cat/1.jpg", "cat"), ("mem://b/p/dog/2.jpg", "dog")]
        assert pairs("mem://b/p") == pairs("mem://b/p/") == expected


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("l.csv", "image,label,x\na/1.jpg,cat,0\n/abs/2.jpg,dog,0\ngs://b/3.jpg,cat,\n"),
        (
            "l.CSV",
            '\ufeffx,label,image\r\n"0,1",cat,a/1.jpg\r\n,dog,/abs/2.jpg\r\n,cat,gs://b/3.jpg\r\n',
        ),
        (
            "l.jsonl",
            '{"image": "a/1.jpg", "label": "cat"}\n\n{"label": "dog", "image": "/abs/2.jpg"}\n'
            '{"image": "gs://b/3.jpg", "label": "cat"}',
        ),
    ],
)
def test_lists(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    assert pairs(tmp_path / name) == sorted(
        [(f"{tmp_path}/a/1.jpg", "cat"), ("/abs/2.jpg", "dog"), ("gs://b/3.jpg", "cat")]
    )


def test_other_columns_and_labels_that_are_numbers(tmp_path):
    (tmp_path / "l.jsonl").write_text('{"file": "1.jpg", "class_id": 7}\n')
    assert pairs(tmp_path / "l.jsonl", image="file", label="class_id") == [
        (f"{tmp_path}/1.jpg", "7")
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("l.csv", "file,label\n1.jpg,cat\n", r"has no column 'image'; its columns are file, label"),
        ("l.csv", "image,class\n1.jpg,cat\n", r"has no column 'label'; .* --label_column"),
        ("l.csv", "image,label\n1.jpg,cat\n2.jpg,\n", "row 2 has no 'label'"),
        ("l.jsonl", '["1.jpg", "cat"]', "line 1 is not an object"),
        ("l.jsonl", '{"label": "cat"}', "row 1 has no 'image'; name the right columns with --im"),
        ("l.jsonl", "1.jpg cat", "cannot be read: "),
        ("l.csv", b"image,label\n\xff,cat\n", "cannot be read: "),
    ],
)
def test_lists_that_cannot_be_understood(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message) as caught:
        pairs(path)
    assert str(caught.value).startswith(f"--input {path}: ")


def test_inputs_that_are_neither(tmp_path):
    (tmp_path / "x.jpg").touch()
    with pytest.raises(InputError, match="there is no such file or folder"):
        source(tmp_path / "absent")
    for given in (tmp_path / "x.jpg", "http://host/photos"):
        with pytest.raises(InputError, match="neither a folder of class folders nor a "):
            source(given)


def test_the_sample():
    found = survey([source("sample")])
    assert len(found.labels) == 10
    assert sum(found.images.values()) == 123


def names(label, count, prefix=""):
    return [f"{label}/{prefix}{n}.jpg" for n in range(count)]


def test_a_survey(tmp_path):
    make(tmp_path, *names("b", 6), *names("a", 5))
    found = survey([source(tmp_path), source(tmp_path / ".")])
    assert found.images == {"a": 5, "b": 6}
    assert found.labels == ("a", "b")


def test_the_key_is_of_names_classes_and_versions(tmp_path):
    make(tmp_path / "p", *names("b", 6), *names("a", 5))
    key = survey([source(tmp_path / "p")]).key
    assert survey([source(tmp_path / "p"), source(tmp_path / "p")]).key == key
    rows = [found[:2] for found in list_images(source(tmp_path / "p"))]
    lines = [json.dumps({"image": uri, "label": label}) for uri, label in rows]
    (tmp_path / "l.jsonl").write_text("\n".join(reversed(lines)))
    assert survey([source(tmp_path / "l.jsonl")]).key == key
    (tmp_path / "p/a/0.jpg").write_bytes(b"another")
    changed = survey([source(tmp_path / "p")]).key
    assert changed != key
    make(tmp_path / "p", "a/new.jpg")
    assert survey([source(tmp_path / "p")]).key not in (key, changed)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "no images in class folders found, two or more classes are needed"),
        (["1.jpg", "2.jpg"], "no images in class folders found"),
        (names("flowers/roses", 9), "only the class 'flowers' found, .* one folder with images"),
        ([*names("a", 9), *names("b", 4)], "the class 'b' has 4 images, too few to"),
    ],
)
def test_what_cannot_be_learned_from(tmp_path, files, message):
    make(tmp_path, *files)
    with pytest.raises(InputError, match=message):
        survey([source(tmp_path)])


def test_an_image_of_two_classes(tmp_path):
    (tmp_path / "l.csv").write_text("image,label\n1.jpg,cat\n1.jpg,dog\n")
    with pytest.raises(InputError, match=r"1\.jpg is in the class 'cat' and in 'dog'"):
        survey([source(tmp_path / "l.csv")])


def test_find_labeled_images_gives_each_once(tmp_path):
    make(tmp_path, "a/1.jpg", "b/2.jpg")
    (tmp_path / "l.csv").write_text("image,label\na/1.jpg,a\na/1.jpg,a\n")
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        refs = pipeline | FindLabeledImages([source(tmp_path), source(tmp_path / "l.csv")])
        expected = [ImageRef(f"{tmp_path}/a/1.jpg", "a"), ImageRef(f"{tmp_path}/b/2.jpg", "b")]
        assert_that(refs, equal_to(expected))


def test_the_split_is_of_the_content_and_about_80_10_10():
    contents = [hashlib.sha256(str(n).encode()).hexdigest() for n in range(20_000)]
    parts = [dataset.split_of(content) for content in contents]
    assert parts == [dataset.split_of(content) for content in contents]
    for name, part in ((dataset.TRAIN, 0.8), (dataset.VALIDATION, 0.1), (dataset.TEST, 0.1)):
        assert parts.count(name) / len(parts) == pytest.approx(part, abs=0.01)


def test_a_split_that_must_never_change():
    """Another would train on what an earlier version has held out."""
    contents = [hashlib.sha256(bytes([n])).hexdigest() for n in range(12)]
    assert [dataset.split_of(content) for content in contents] == [
        "train",
        "validation",
        "train",
        "train",
        "train",
        "train",
        "test",
        "test",
        "train",
        "train",
        "train",
        "train",
    ]
