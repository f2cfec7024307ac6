"""What a person should look at, and what becomes of what they say."""

import csv
import json
import urllib.parse
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from helpers.runs import nights, rows, run, summary
from PIL import ImageOps

from pipeline.__main__ import main
from pipeline.inputs.truth_table import TruthRow
from pipeline.label.corrections import apply, join
from pipeline.label.review import Queue
from pipeline.records import ImageRef, Labeled, Prediction, is_by_person
from tools.sample.drawings import LABELS, draw

THINGS = LABELS[:4]


def row(image, score, label="a", **carried):
    predictions = (Prediction(0, "a", score), Prediction(1, "b", 0.0))
    number = None if label is None else 0
    return Labeled(
        image, label, number, score, predictions, 1, 1, "m", "f", "r", "t", carried=carried
    )


def queue_of(size, some):
    queue = Queue(size)
    for one in some:
        queue.add(one)
    return queue


def test_the_least_certain_come_first_and_a_tenth_is_a_sample():
    below = [row(f"below-{n}", n / 100, None) for n in range(40)]
    above = [row(f"above-{n}", 0.9) for n in range(1000)]
    images = queue_of(20, [*above, *below]).images()
    assert [one.image for one in images[:18]] == [f"below-{n}" for n in range(18)]
    assert [one.why for one in images] == ["below_threshold"] * 18 + ["sample"] * 2
    assert images[0].labels == ("a",)  # the most probable class, though the row has no label
    # In whatever order and in whatever parts the rows come, it is the same.
    first, second = queue_of(20, below[::2] + above[500:]), queue_of(20, above[:500] + below[1::2])
    first.merge(second)
    assert first.images() == images
    assert [one.why for one in queue_of(1, below).images()] == ["below_threshold"]


@pytest.mark.parametrize(("below", "above", "sampled"), [(3, 100, 17), (0, 100, 20), (100, 1, 1)])
def test_what_one_part_does_not_need_the_other_one_gets(below, above, sampled):
    some = [row(f"b{n}", 0.1, None) for n in range(below)]
    some += [row(f"a{n}", 0.9) for n in range(above)]
    images = queue_of(20, some).images()
    assert len(images) == 20
    assert sum(one.why == "sample" for one in images) == sampled


def test_of_several_labels_all_are_said():
    queue = Queue(5, multi_label=True)
    queue.add(row("x", 0.8))
    queue.add(row("y", 0.2, None)._replace(predictions=()))
    assert [(one.image, one.labels) for one in queue.images()] == [("y", ()), ("x", ("a", "b"))]


def test_a_person_is_not_asked_twice():
    assert not queue_of(5, [row("x", 0.1, labeled_by="person")]).images()


def joined(images, *said):
    found = [TruthRow(n, entry, entry, class_) for n, (entry, class_) in enumerate(said, 1)]
    refs, matched = join([ImageRef(image) for image in images], found, ("cat", "hot dog"))
    return {ref.uri: ref.carried.get("labeled_by") for ref in refs}, matched


def test_images_are_named_by_paths_and_their_ends():
    labels, matched = joined(
        ["/p/a/1.jpg", "/p/b/1.jpg"], ("a/1.jpg", "Hot_Dog"), ("/p/b/1.jpg", "cat")
    )
    assert labels == {"/p/a/1.jpg": "hot dog", "/p/b/1.jpg": "cat"}
    assert matched.labels == labels
    labels, matched = joined(["/p/a/1.jpg", "/p/b/1.jpg"], ("1.jpg", "cat"))
    assert set(labels.values()) == {None}
    assert matched.rows == {"several": 1}
    # In another folder, it may be another image.
    labels, matched = joined(["/p/a/1.jpg"], ("/q/a/1.jpg", "cat"))
    assert set(labels.values()) == {None}


def test_contradicting_rows_correct_nothing():
    labels, matched = joined(["/p/a/1.jpg"], ("a/1.jpg", "cat"), ("A\\1.JPG", "hot dog"))
    assert labels == {"/p/a/1.jpg": None}
    assert matched.contradicted == ["/p/a/1.jpg"]
    labels, matched = joined(["/p/a/1.jpg"], ("a/1.jpg", "CAT"), ("A\\1.JPG", "cat"))
    assert labels == {"/p/a/1.jpg": "cat"}
    # The row with the whole path is about the image, the other one about one that is not here.
    labels, matched = joined(["/p/1.jpg"], ("/p/1.jpg", "cat"), ("1.jpg", "hot dog"))
    assert labels == {"/p/1.jpg": "cat"}


def test_a_label_by_a_person_leaves_the_score_and_the_predictions():
    one = apply(row("x", 0.3, None, labeled_by="b"), ("a", "b"))
    assert (one.label, one.class_id, one.score) == ("b", 1, 0.3)
    assert one.predictions[0].label == "a"
    assert is_by_person(one.carried)
    assert apply(row("x", 0.3), ("a", "b")).carried == {"labeled_by": "model"}
    unknown = apply(row("x", 0.3, labeled_by="zebra"), ("a", "b"))
    assert (unknown.label, unknown.class_id) == ("zebra", None)


def drawings(folder, seed, count):
    """Drawings with colors the wrong way round, which the sample's model often takes for others."""
    for n in range(count):
        label = THINGS[n % len(THINGS)]
        (folder / label).mkdir(parents=True, exist_ok=True)
        drawing = ImageOps.invert(draw(label, np.random.default_rng((seed, n)), 96))
        drawing.save(folder / label / f"{n}.png")
    return str(folder)


def fill_in(review, filled):
    """Write into a copy of ``review.csv`` what each image shows, as a person does."""
    with review.open(newline="") as file:
        found = list(csv.DictReader(file))
    for one in found:
        one["corrected"] = Path(one["image"]).parent.name
    with filled.open("w", newline="") as file:
        table = csv.DictWriter(file, found[0])
        table.writeheader()
        table.writerows(found)
    return found


def test_the_round_trip(tmp_path):
    """Review, corrections, rows, training, and a better model on images that were kept."""
    seen, kept = drawings(tmp_path / "seen", 5, 120), drawings(tmp_path / "kept", 6, 60)
    command = {"input": seen, "model": "sample", "output": tmp_path / "labels"}
    assert run(**command, threshold=0.98, review=100, truth="parent") == 0
    before = summary(tmp_path / "labels")
    assert sum(before["review"].values()) == 100
    assert min(before["review"].values()) >= 10  # which a tenth is
    filled = fill_in(tmp_path / "labels" / "review.csv", tmp_path / "filled.csv")
    scores = [float(one["score"]) for one in filled if one["why"] == "below_threshold"]
    assert scores == sorted(scores)

    assert run(**command, threshold=0.98, truth="parent", corrections=tmp_path / "filled.csv") == 0
    after = summary(tmp_path / "labels")
    corrected = {one["image"]: one["corrected"] for one in filled}
    found = rows(tmp_path / "labels", "labels")
    assert {one["image"]: one["label"] for one in found if is_by_person(one)} == corrected
    assert all(one["labeled_by"] == "model" for one in found if one["image"] not in corrected)
    assert after["labeled_by_person"] == after["corrections"]["images"] == 100
    wrong = sum(
        one["predictions"][0]["label"] != corrected[one["image"]]
        for one in found
        if one["image"] in corrected
    )
    assert after["corrected"] == wrong > 0
    assert after["evaluation"] == before["evaluation"]  # which is about the model
    assert after["below_threshold"] == before["below_threshold"] - len(scores)

    table = tmp_path / "labels" / "corrections.csv"
    tuned = tmp_path / "tuned"
    argv = ["finetune", "--model=sample", f"--output={tuned}", "--batch_size=8"]
    argv.append("--learning_rate=0.01")
    # In this one, the labels are the model's.
    assert main([*argv, f"--input={tmp_path / 'filled.csv'}"]) == 2
    assert main([*argv, f"--input={table}"]) == 0
    [export] = (tuned / "export").iterdir()
    accuracy = {}
    for name, model in (("old", "sample"), ("new", export)):
        assert run(input=kept, model=model, output=tmp_path / name, truth="parent") == 0
        accuracy[name] = summary(tmp_path / name)["evaluation"]["accuracy"]
    assert accuracy["new"] > accuracy["old"] + 0.1, accuracy


def test_nights(tmp_path, color_model, photos, capsys):
    """A correction is in the rows from the night on which it is given, and stays there."""
    said = tmp_path / "said.json"
    flags = {"input": photos, "model": color_model, "output": tmp_path / "out"}
    flags |= {"max_failure_ratio": 0.5}
    assert run("--incremental", **flags, review=10, threshold=0.999999) == 0
    [first] = nights(tmp_path / "out")
    tasks = json.loads((first / "review.json").read_text())
    assert len(tasks) == 9
    view = ElementTree.parse(first / "review.xml").getroot()
    assert [one.get("value") for one in view.iter("Choice")] == ["red", "green", "blue"]
    # As Label Studio exports them: what a task has, and the choice, by the names in review.xml.
    image = urllib.parse.unquote(tasks[0]["data"]["image"].partition("?d=")[2])
    said.write_text(json.dumps([{**tasks[0]["data"], "id": 1, "choice": "Green"}]))
    flags["corrections"] = said
    for _ in range(2):
        assert run("--incremental", **flags) == 0
    _, second, third = nights(tmp_path / "out")
    [one] = rows(second, "labels")
    assert (one["image"], one["label"], one["labeled_by"]) == (f"/{image}", "green", "person")
    assert summary(third)["labeled"] == 0  # nothing new was said
    # Another model, and all images again.
    assert run("--incremental", "--relabel", **flags, top_k=2) == 0
    found = {one["image"]: one["label"] for one in rows(nights(tmp_path / "out")[-1], "labels")}
    assert found[f"/{image}"] == "green"
    # Of one that cannot be read, the failure stays.
    table = tmp_path / "said.csv"
    table.write_text("image,label\nempty.jpg,red\n")
    flags |= {"corrections": table, "max_failure_ratio": 1}
    assert run("--incremental", **flags, top_k=2) == 0
    [failed] = rows(nights(tmp_path / "out")[-1], "failures")
    assert failed["reason"] == "empty"
    assert "labeled_by" not in failed


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("image,label\nred-0.png,\n", "no row has both an image's name and a class"),
        ("image,label\nred-0.png,zebra\n", "none of its 1 rows has a class of the model's"),
        ("image,label\nred-0.png,red\nred-0.png,blue\n", "two classes for 'red-0.png'"),
        ("image,label\nnothing.png,red\n", "no row names one of the images"),
        ("image,x\nred-0.png,red\n", "has no column 'label'"),
    ],
)
def test_refusals(tmp_path, color_model, photos, capsys, content, words):
    table = tmp_path / "said.csv"
    table.write_text(content)
    output = tmp_path / "out"
    assert run(input=photos, model=color_model, output=output, corrections=table) == 2
    assert words in capsys.readouterr().err
    assert not (output / "summary.json").exists()
    assert not list(output.glob(".unfinished"))


def test_what_was_filled_in_is_not_replaced(tmp_path, color_model, photos, capsys):
    flags = {"input": photos, "model": color_model, "output": tmp_path / "out"}
    flags |= {"max_failure_ratio": 0.5}
    assert run(**flags, review=3) == 0
    review = tmp_path / "out" / "review.csv"
    assert run(**flags, corrections=review) == 2
    assert "is a file of this run, which would replace it" in capsys.readouterr().err
    fill_in(review, review)
    assert run(**flags, review=3) == 2
    assert "its review.csv has been filled in" in capsys.readouterr().err
    assert run(**flags, review=0) == 2
    assert run(**flags, review=10_001) == 2
