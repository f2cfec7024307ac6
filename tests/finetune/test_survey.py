"""The split that images come with: what is recognized, used, and refused."""

import json
import os

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to
from helpers.stores import memory_store
from helpers.tfrecords import write_tfrecord

from pipeline.errors import InputError
from pipeline.finetune.dataset import FindImagesWithTruth, identify, part_of, split_of
from pipeline.finetune.splits import TEST, TRAIN, VALIDATION, part_named, parts_of
from pipeline.finetune.survey import in_words, survey


def make(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return str(folder)


def images(*folders, count=5, classes=("a", "b")):
    return [f"{folder}/{c}/{n}.jpg" for folder in folders for c in classes for n in range(count)]


def in_each(parts, counts):
    return {part: dict(counts) for part in parts}


def found(*given, split=True):
    return survey([identify(str(one), "image", "label", split) for one in given], split)


@pytest.mark.parametrize(
    ("names", "part"),
    [
        (["train", "Training", "TRAIN", "training_set", "seg_train", "train2017"], TRAIN),
        (["trainval", "train_val", "Train-Validation", "trainval2012"], TRAIN),
        (["val", "valid", "Validation", "dev", "val2017"], VALIDATION),
        (["test", "testing", "eval", "evaluation", "test_set"], TEST),
        (
            ["trainer", "latest", "value", "tests", "", "roses", "train-test", "val-train", "2024"],
            None,
        ),
    ],
)
def test_names_of_parts(names, part):
    assert {name: (part_named(name) or [None])[0] for name in names} == dict.fromkeys(names, part)


def test_names_are_parts_if_they_share_their_other_words():
    assert parts_of(["seg_train", "seg_test"]) == {"seg_train": TRAIN, "seg_test": TEST}
    assert not parts_of(["train station", "test tube"])
    assert not parts_of(["seg_train", "seg_test", "seg_pred"])


@pytest.mark.parametrize(
    "names",
    [
        ("train", "val", "test"),
        ("TRAIN", "Valid", "Test"),
        ("training", "validation", "evaluation"),
        ("train2017", "val2017", "test2017"),
    ],
)
def test_folders_of_a_split(tmp_path, names):
    make(tmp_path, *images(*names), "README.md", "cover.jpg", f"{names[0]}/stray.jpg", ".h/x.jpg")
    survey = found(tmp_path)
    assert survey.split == dict(zip(names, (TRAIN, VALIDATION, TEST), strict=True))
    assert survey.parts == in_each((TRAIN, VALIDATION, TEST), {"a": 5, "b": 5})
    assert survey.images == {"a": 15, "b": 15}
    # What is beside the parts is counted as for any folder.
    assert survey.passed_over.reasons == {"hidden": 1, "other_suffix": 1, "no_class_folder": 2}


def test_a_split_in_a_bucket_and_its_parts_given_one_by_one(tmp_path):
    objects = {f"mem://b/{name}": b"" for name in images("p/train", "p/test")}
    with memory_store(objects):
        assert found("mem://b/p").parts == found("mem://b/p/train", "mem://b/p/test/").parts
        assert found("mem://b/p").parts == in_each((TRAIN, TEST), {"a": 5, "b": 5})
        assert found("mem://b/p/train").split == {}


def test_globs_lists_and_record_files(tmp_path):
    make(tmp_path, *images("train", "test"))
    expected = in_each((TRAIN, TEST), {"a": 5, "b": 5})
    assert found(tmp_path / "*/*/*.jpg").parts == expected
    (tmp_path / "list.txt").write_text("\n".join(images("train", "test")))
    assert found(tmp_path / "list.txt").parts == expected
    rows = [f"{name},{name.split('/')[1]}" for name in images("train", "test")]
    (tmp_path / "table.csv").write_text("\n".join(["image,label", *rows]))
    assert found(tmp_path / "table.csv").parts == expected
    rows = [f"{name},{name.split('/')[1]},train" for name in images("train", "test")]
    (tmp_path / "table.csv").write_text("\n".join(["image,label,Split", *rows]))
    assert found(tmp_path / "table.csv").parts == {}  # what the column says goes before
    for part in ("train", "test"):
        records = [(f"{part}{n}", b"", "ab"[n % 2]) for n in range(10)]
        write_tfrecord(tmp_path / f"p-{part}-00000-of-00001.tfrecord", records)
    assert found(tmp_path / "*.tfrecord-*", tmp_path / "p-train-00000-of-00001.tfrecord")


def test_a_column(tmp_path):
    values = {"train": TRAIN, "Validation": VALIDATION, "test": TEST}
    rows = [
        {"image": f"{v}{n}.jpg", "label": "ab"[n % 2], "split": v} for v in values for n in range(6)
    ]
    path = tmp_path / "t.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    assert found(path).parts == in_each(values.values(), {"a": 3, "b": 3})
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        refs = pipeline | FindImagesWithTruth(found(path).inputs, found(path).split)
        pairs = refs | beam.Map(lambda ref: (ref.uri.rpartition("/")[2], ref.carried["split"]))
        assert_that(pairs, equal_to([(row["image"], values[row["split"]]) for row in rows]))
    assert found(path, split=False).split == {}
    for value, message in (
        ("fold 3", r"row 18 has the split 'fold 3', which is none of train, val and test"),
        (
            None,
            r"the parts Validation, test, train of a split, but \S+/test5.jpg is in none",
        ),
    ):
        rows[-1]["split"] = value
        path.write_text("\n".join(map(json.dumps, rows)))
        with pytest.raises(InputError, match=message) as caught:
            found(path)
        assert "{split}=checksum" in caught.value.remedy
        assert found(path, split=False).split == {}
    path.write_text("\n".join(json.dumps({**row, "split": None}) for row in rows))
    assert found(path).split == {}


def test_what_is_no_split(tmp_path):
    """Classes that have such a name, and a single part."""
    make(tmp_path / "vehicles", *[f"{c}/{n}.jpg" for c in ("train", "car") for n in range(5)])
    assert found(tmp_path / "vehicles").labels == ("car", "train")
    make(tmp_path / "one", *images("train"))
    assert found(tmp_path / "one").images == {"a": 5, "b": 5}
    assert found(tmp_path / "one").split == {}
    make(tmp_path / "split", *images("train", "test", count=5))
    assert found(tmp_path / "split", split=False).labels == ("test", "train")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            [*images("train", "test"), *images("extra")],
            "the classes would be extra, test, train, but test, train look like the parts",
        ),
        (
            [*images("seg_train/seg_train", "seg_test/seg_test"), "seg_pred/seg_pred/1.jpg"],
            "the classes would be seg_pred, seg_test, seg_train, but seg_test, seg_train look like",
        ),
        (images("p", classes=("train", "val")), "look like the parts of a split"),
        (images("val", "test"), "all images are in test, val, and none are there to train with"),
        (
            [*images("train"), *images("test", classes=("a", "c", "d"))],
            "2 classes are for test and not for train: c, d",
        ),
        (
            [*images("train", classes=("rose",)), *images("val", classes=("Rose",))],
            "1 class is for validation and not for train: Rose",
        ),
    ],
)
def test_half_a_split_is_refused(tmp_path, files, message):
    make(tmp_path, *files)
    given = tmp_path / "p" if files[0].startswith("p/") else tmp_path
    with pytest.raises(InputError, match=message):
        found(given)


def test_some_inputs_with_a_split(tmp_path):
    make(tmp_path, *images("split/train", "split/test", "more"))
    with pytest.raises(
        InputError, match=r"parts test, train of a split, but \S+/more/\w/\d.jpg is in none of them"
    ):
        found(tmp_path / "split", tmp_path / "more")


def test_an_image_in_two_parts(tmp_path):
    rows = [f"{n % 10}.jpg,{'ab'[n % 2]},{'train' if n < 10 else 'test'}" for n in range(20)]
    (tmp_path / "t.csv").write_text("\n".join(["image,label,split", *rows]))
    with pytest.raises(InputError, match=r"\d\.jpg is in 'train' and in 'test'; remove one"):
        found(tmp_path / "t.csv")


def test_a_part_that_is_absent_is_taken_out_of_train():
    contents = [f"{n:016x}" for n in range(100)]
    absent = (VALIDATION,)
    assert [part_of(TEST, content, absent) for content in contents] == [TEST] * 100
    trained = [part_of(TRAIN, content, absent) for content in contents]
    assert trained.count(VALIDATION) == 10
    assert trained.count(TEST) == 0
    assert [part_of("", content) for content in contents] == [split_of(c) for c in contents]


def test_it_is_said_in_few_lines(tmp_path):
    make(tmp_path / "p", *images("train", "test"), "train/c/1.jpg")
    assert in_words(found(tmp_path / "p")) == [
        "21 images of 3 classes: a 10, b 10, c 1",
        "train (train): 11 images of 3 classes: a 5, b 5, c 1",
        "test (test): 10 images of 2 classes: a 5, b 5",
        "test has no images of c",
        "validation: about 10 % of the images in train, by a checksum",
    ]
    many = [f"class {n}" for n in range(1000)]
    (tmp_path / "t.csv").write_text(
        "\n".join(["image,label", *(f"{n}{c}.jpg,{c}" for c in many for n in range(5))])
    )
    first, second = in_words(found(tmp_path / "t.csv"))
    assert first.startswith("5,000 images of 1,000 classes: class 0 5, class 1 5, class 10 5, ")
    assert first.endswith(" and 980 more")
    assert second.startswith("which of them train (80 %), validate (10 %) and test (10 %)")


# What folders hold


def test_links_to_class_folders_are_classes_and_no_name_of_a_file_hides_a_split(tmp_path):
    make(tmp_path / "pool", *images("one", "two", classes=("c", "d")))
    make(tmp_path / "p", *images("train", "val"))
    for part, folder in (("train", "one"), ("val", "two")):
        for name in "cd":
            (tmp_path / "p" / part / name).symlink_to(tmp_path / "pool" / folder / name)
        (tmp_path / "p" / part / "a" / os.fsdecode(b"caf\xe9 1.jpg")).touch()
        (tmp_path / "p" / part / "again").symlink_to(tmp_path / "p" / part / "a")
    survey = found(tmp_path / "p")
    assert survey.parts == in_each((TRAIN, VALIDATION), {"a": 6, "b": 5, "c": 5, "d": 5})
    assert survey.passed_over.reasons == {"already_listed": 2}


def test_exclusions_are_relative_to_the_input_also_in_the_parts_of_a_split(tmp_path):
    make(tmp_path, *images("train", "val"))
    for exclude in ("train/a/0.jpg", f"{tmp_path}/train/a/0.jpg", "t*/a/0.*"):
        source = identify(str(tmp_path), "image", "label", exclude=(exclude,))
        assert survey([source]).images == {"a": 9, "b": 10}


def test_too_little_says_what_was_passed_over(tmp_path):
    make(tmp_path, *(f"a/{n}.jpg" for n in range(5)), "b/1.CR2", "b/2.CR2")
    with pytest.raises(InputError, match=r"only the class 'a' found.*: 2 camera raw files.*cr2 2"):
        found(tmp_path)


def test_the_key_counts_images_of_equal_facts(tmp_path):
    """Only credentials tell them apart, so all else that is known of them is equal."""
    rows = [f"http://x.org/{label}{n}.jpg,{label}" for label in "ab" for n in range(5)]
    table = tmp_path / "photos.csv"

    def key(*more):
        table.write_text("\n".join(["image,label", *rows, *more]))
        return found(table).key

    one, other = (f"http://x.org/z.jpg?token={letter * 3},a" for letter in "xy")
    assert len({key(), key(one), key(one, other)}) == 3
