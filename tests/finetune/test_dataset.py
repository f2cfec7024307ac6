import hashlib
import json
from collections import Counter

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.testing.util import assert_that, equal_to
from helpers.bigquery_server import bigquery_server
from helpers.stores import memory_store
from helpers.tfrecords import write_tfrecord

from pipeline.errors import InputError
from pipeline.finetune import dataset
from pipeline.finetune.dataset import FindImagesWithTruth, identify, list_with_truth
from pipeline.finetune.limit import some_of_each_class
from pipeline.finetune.splits import TEST, TRAIN, VALIDATION
from pipeline.finetune.survey import survey
from pipeline.inputs.find import only_images
from pipeline.inputs.passed_over import in_words
from pipeline.records import ImageRef, Place


def make(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return str(folder)


def source(given, image="image", truth="label"):
    return identify(str(given), image, truth)


def pairs(given, **columns):
    found = only_images(list_with_truth(source(given, **columns)))
    return sorted((ref.uri, ref.truth) for ref in found)


def test_class_folders(tmp_path):
    make(
        tmp_path, "b/1.jpg", "b/sub/2.png", "a/3.jpg", "a/.h.jpg", "a/x.txt", "top.jpg", ".c/4.jpg"
    )
    assert pairs(tmp_path) == [
        (f"{tmp_path}/a/3.jpg", "a"),
        (f"{tmp_path}/b/1.jpg", "b"),
        (f"{tmp_path}/b/sub/2.png", "b"),
    ]


def test_what_is_passed_over_is_in_the_survey(tmp_path):
    make(tmp_path, *names("a", 5), *names("b", 5), "top.jpg", "a/.h.jpg", "a/x.txt", "b/x.xmp")
    found = survey([source(tmp_path)])
    assert found.images == {"a": 5, "b": 5}
    assert in_words(found.passed_over.to_json()) == (
        "2 with other suffixes (.txt 1, .xmp 1), 1 hidden file, 1 outside of class folders"
    )


def test_a_limit_takes_from_each_class_in_turn(tmp_path):
    make(tmp_path, *names("a", 3), *names("b", 9), *names("c", 9), "c/x.txt")
    inputs = some_of_each_class([source(tmp_path), source(tmp_path)], 14)
    found = [one for each in inputs for one in list_with_truth(each)]
    images = {ref.uri: ref.truth for ref in only_images(found)}
    assert Counter(images.values()) == {"a": 3, "b": 6, "c": 5}
    assert sorted(uri for uri, truth in images.items() if truth == "b") == [
        f"{tmp_path}/{name}" for name in sorted(names("b", 9))[:6]
    ]
    assert len(found) == 2 * 15  # what is passed over is still listed


def test_a_limit_takes_from_each_part(tmp_path):
    for part, count in (("train", 9), ("val", 6), ("test", 6)):
        make(tmp_path / part, *names("a", count), *names("b", count))
    found = survey([source(tmp_path)])
    some = survey(some_of_each_class(found.inputs, 12))
    assert some.parts == {part: {"a": 2, "b": 2} for part in ("train", "validation", "test")}
    assert some.key != found.key


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
    assert pairs(tmp_path / "l.jsonl", image="file", truth="class_id") == [
        (f"{tmp_path}/1.jpg", "7")
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("l.csv", "file,label\n1.jpg,cat\n", r"has no column 'image'; its columns are file, label"),
        ("l.csv", "image,class\n1.jpg,cat\n", r"has no column 'label'; .* truth_column"),
        ("l.csv", "image,label\n1.jpg,cat\n2.jpg,\n", "row 2 has no 'label'"),
        ("l.jsonl", '{"label": "cat"}', "has no column 'image'; its columns are label; name"),
    ],
)
def test_lists_that_cannot_be_understood(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message) as caught:
        pairs(path)
    assert str(caught.value).startswith(f"input {path}: ")


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("l.jsonl", '["1.jpg", "cat"]', "line 1 is not an object"),
        ("l.jsonl", "1.jpg cat", "line 1 is not JSON: "),
        ("l.csv", b"image,label\n\xff,cat,\n", "line 2 has more cells than the first"),
    ],
)
def test_a_list_without_a_row_that_can_be_understood(tmp_path, name, content, problem):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=f"no row names an image; {path}#row=1: .*{problem}"):
        survey([source(path)])


def test_rows_that_name_no_image_are_failures_and_no_class(tmp_path):
    rows = [f"{n}.jpg,{name}" for name in ("cat", "dog") for n in (name, 1, 2, 3, 4, 5)]
    rows = [row.replace("jpg", f"{row[-3:]}.jpg") for row in rows]
    keys = []
    for bad in ([], [",cat", ",", "x.jpg,dog,1"], [",cat", ",", "x.jpg,dog,2,3"]):
        (tmp_path / "l.csv").write_text("\n".join(["image,label", *rows, *bad]))
        found = survey([source(tmp_path / "l.csv")] * 2)
        assert found.images == {"cat": 6, "dog": 6}
        assert found.unusable == len(bad)
        keys.append(found.key)
    assert len(set(keys)) == 3


# The other kinds of inputs


def test_a_glob_and_a_list_have_the_folder_of_the_image(tmp_path):
    make(tmp_path, "p/b/1.jpg", "p/b/sub/2.png", "p/a/3.jpg", "p/a/notes.md")
    (tmp_path / "list.txt").write_text("p/a/3.jpg\ngs://bucket/c/4.jpg\nhttp://host/d/5.jpg?x=1\n")
    assert pairs(tmp_path / "p/*/*.jpg") == [
        (f"{tmp_path}/p/a/3.jpg", "a"),
        (f"{tmp_path}/p/b/1.jpg", "b"),
    ]
    assert pairs(tmp_path / "p/**.png") == [(f"{tmp_path}/p/b/sub/2.png", "sub")]
    assert pairs(tmp_path / "list.txt") == [
        (f"{tmp_path}/p/a/3.jpg", "a"),
        ("gs://bucket/c/4.jpg", "c"),
        ("http://host/d/5.jpg?x=1", "d"),
    ]


def test_tfrecord_files_have_the_class_of_the_record(tmp_path):
    path = write_tfrecord(tmp_path / "t.tfrecord", [("a.jpg", b"1", "cat"), (None, b"2", "dog")])
    expected = [(f"{path}#1", "dog"), ("a.jpg", "cat")]
    assert pairs(path) == pairs(tmp_path / "*.tfrecord") == expected
    path = write_tfrecord(tmp_path / "u.tfrecord", [("a.jpg", b"1", "cat"), ("b.jpg", b"2")])
    with pytest.raises(InputError, match=r"u\.tfrecord: b\.jpg has no class"):
        pairs(path)


def test_a_parquet_table(tmp_path):
    table = {"image": ["a.jpg", "b.jpg"], "label": [1, 2]}
    pq.write_table(pa.table(table), tmp_path / "t.parquet")
    assert pairs(tmp_path / "t.parquet") == [(f"{tmp_path}/a.jpg", "1"), (f"{tmp_path}/b.jpg", "2")]


def test_a_query():
    query = "SELECT image, label FROM dataset.images"
    with bigquery_server() as service:
        fields = [
            {"name": name, "type": "STRING", "mode": "NULLABLE"} for name in ("image", "label")
        ]
        service.answers[query] = fields, [["gs://b/1.jpg", "cat"], ["gs://b/2.jpg", "dog"]]
        expected = [("gs://b/1.jpg", "cat"), ("gs://b/2.jpg", "dog")]
        assert pairs(f"bigquery:{query}") == expected
        service.answers[query] = fields, [["gs://b/1.jpg", None]]
        with pytest.raises(InputError, match=r"row 1 has no 'label'; .* truth_column"):
            pairs(f"bigquery:{query}")


def test_records_of_one_name_are_two_images(tmp_path):
    images = [("a.jpg", b"1", "cat"), ("a.jpg", b"2", "dog")]
    path = write_tfrecord(tmp_path / "t.tfrecord", images)
    with pytest.raises(InputError, match="the class 'cat' has 1 images"):
        survey([source(path)])
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        refs = pipeline | FindImagesWithTruth([source(path), source(path)])
        expected = [
            ImageRef("a.jpg", "cat", place=Place(path, 0)),
            ImageRef(f"{path}#1", "dog", place=Place(path, 1)),
        ]
        assert_that(refs, equal_to(expected))


def test_a_url_that_is_signed_anew_is_the_same_image(tmp_path):
    keys = []
    for token in ("one", "two"):
        lines = [f"https://host/{c}/{n}.jpg?token={token}" for c in "ab" for n in range(5)]
        (tmp_path / "list.txt").write_text("\n".join(lines))
        keys.append(survey([source(tmp_path / "list.txt")]).key)
    assert keys[0] == keys[1]


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
    rows = [ref[:2] for ref in list_with_truth(source(tmp_path / "p"))]
    lines = [json.dumps({"image": uri, "label": truth}) for uri, truth in rows]
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


def test_find_images_with_truth_gives_each_once(tmp_path):
    make(tmp_path, "a/1.jpg", "b/2.jpg")
    (tmp_path / "l.csv").write_text("image,label\na/1.jpg,a\na/1.jpg,a\n")
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        refs = pipeline | FindImagesWithTruth([source(tmp_path), source(tmp_path / "l.csv")])
        expected = [ImageRef(f"{tmp_path}/a/1.jpg", "a"), ImageRef(f"{tmp_path}/b/2.jpg", "b")]
        assert_that(refs, equal_to(expected))


def test_the_split_is_of_the_content_and_about_80_10_10():
    contents = [hashlib.sha256(str(n).encode()).hexdigest() for n in range(20_000)]
    parts = [dataset.split_of(content) for content in contents]
    assert parts == [dataset.split_of(content) for content in contents]
    for name, part in ((TRAIN, 0.8), (VALIDATION, 0.1), (TEST, 0.1)):
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
