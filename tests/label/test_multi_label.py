"""Models that give an image several labels: rows, truth, report, and runs that go on."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import ROOT
from helpers.http_server import Answer, HttpServer
from helpers.models import COLORS, image_file, save_model
from helpers.pages import text_of
from helpers.runs import break_off, comparable, nights, rows, run, summary, write_colors
from PIL import Image

from pipeline.__main__ import main
from pipeline.formats.shards import read_rows
from pipeline.label import build
from pipeline.models.tensorflow_import import tf

NAMES = tuple(COLORS)


def own_scores(images):
    """float32 ``[N, H, W, 3]`` in [0, 1] → of each color a probability of its own: ``[N, 3]``."""
    return tf.sigmoid(10.0 * (tf.reduce_mean(images, [1, 2]) - 0.5))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model") / "several", own_scores)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Thirty images of one random color each, by name; what is above half is in their truth."""
    folder = tmp_path_factory.mktemp("photos")
    draw = np.random.default_rng(3)
    colors = {}
    for n in range(30):
        color = draw.integers(0, 256, 3)
        Image.new("RGB", (40, 30), tuple(color.tolist())).save(folder / f"{n:02}.png")
        colors[f"{n:02}.png"] = color
    return folder, colors


def scores_of(colors):
    """What the model returns for these images, float ``[N, 3]``."""
    return 1 / (1 + np.exp(-10 * (np.array(list(colors.values())) / 255 - 0.5)))


@pytest.fixture(scope="module")
def truths(photos):
    """The colors that an image has, by name: those above half, but for one in ten."""
    _, colors = photos
    has = (np.array(list(colors.values())) > 127) ^ (np.random.default_rng(4).random((30, 3)) < 0.1)
    return dict(zip(colors, has, strict=True))


def names_of(has):
    return [name for name, is_in in zip(NAMES, has, strict=True) if is_in]


@pytest.fixture
def flags(tmp_path, photos, model):
    return {"input": photos[0], "model": model, "output": str(tmp_path / "out")}


@pytest.fixture
def truth_file(tmp_path, photos, truths):
    path = tmp_path / "truth.jsonl"
    lines = (
        json.dumps({"image": f"{photos[0]}/{name}", "label": names_of(has)})
        for name, has in truths.items()
    )
    path.write_text("\n".join(lines))
    return path


def average_precision(is_true, scores):
    """By the definition: the sum of (R[n] - R[n - 1]) P[n] over all thresholds."""
    total, before = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        chosen = scores >= threshold
        hits = (is_true & chosen).sum()
        recall = hits / is_true.sum()
        total += (recall - before) * hits / chosen.sum()
        before = recall
    return total


# Rows


def test_a_row_has_all_labels_over_the_threshold(flags, photos, capsys):
    assert run(**flags) == 0
    said = capsys.readouterr()
    assert (
        "3 classes; an image gets several labels, those with a score of 0.5 or more (--threshold), "
        "at most 5 (--top_k)\n" in said.err
    )
    written = {Path(row["image"]).name: row for row in rows(flags["output"], "labels")}
    numbers = set()
    for (name, color), scores in zip(photos[1].items(), scores_of(photos[1]), strict=True):
        row = written[name]
        over = [n for n in np.argsort(-scores, kind="stable") if color[n] > 127]
        assert [one["class_id"] for one in row["predictions"]] == over
        assert [one["label"] for one in row["predictions"]] == [NAMES[n] for n in over]
        assert [one["score"] for one in row["predictions"]] == pytest.approx(scores[over], abs=1e-4)
        best = row["predictions"][0] if over else {"label": None, "class_id": None}
        assert (row["label"], row["class_id"]) == (best["label"], best["class_id"])
        assert row["score"] == pytest.approx(scores.max(), abs=1e-4)
        numbers.add(len(over))
    assert numbers == {0, 1, 2, 3}
    said_of_it = summary(flags["output"])
    over = np.array(list(photos[1].values())) > 127
    assert said_of_it["labels"] == dict(
        sorted(zip(NAMES, over.sum(0).tolist(), strict=True), key=lambda item: (-item[1], item[0]))
    )
    assert said_of_it["below_threshold"] == (~over.any(1)).sum() > 0
    assert said_of_it["options"]["threshold"] == said_of_it["settings"]["threshold"] == 0.5
    assert said_of_it["model"]["multi_label"] is True
    assert "evaluation" not in said_of_it


def test_top_k_bounds_the_labels(flags):
    assert run(**flags, top_k=1, threshold=0.2) == 0
    assert {len(row["predictions"]) for row in rows(flags["output"], "labels")} == {0, 1}


def test_no_threshold_is_all_classes(flags):
    assert run(**flags, threshold=0) == 0
    assert {len(row["predictions"]) for row in rows(flags["output"], "labels")} == {3}


def test_every_format_has_the_same_rows(flags):
    assert run(**flags, output_format="jsonl,parquet,csv,tfrecord") == 0
    folder = Path(flags["output"])
    read = {
        path.name.partition(".")[2]: sorted(read_rows(str(path)), key=lambda row: row["image"])
        for path in folder.glob("labels-*")
    }
    assert set(read) == {"jsonl", "parquet", "csv", "tfrecord"}
    assert any(row["predictions"] == [] for row in read["jsonl"])
    assert all(some == read["jsonl"] for some in read.values())
    (path,) = folder.glob("labels-*.csv")
    with path.open(newline="") as file:
        cells = [row["predictions"] for row in csv.DictReader(file)]
    assert "[]" in cells
    table = pq.read_table(*folder.glob("labels-*.parquet"))
    lengths = [len(some) for some in table["predictions"].to_pylist()]
    assert 0 in lengths


def test_a_model_that_says_nothing_of_itself_is_told(tmp_path, flags, capsys):
    def hidden(images):
        return own_scores(images) * 1.0 + tf.zeros_like(own_scores(images))

    path = save_model(tmp_path / "hidden", hidden)
    assert run(**flags | {"model": path}) == 2
    assert "give --returns sigmoid for such a model" in capsys.readouterr().err
    assert run("--returns=sigmoid", **flags | {"model": path}) == 0
    assert summary(flags["output"])["model"]["multi_label"] is True


def test_one_number_is_two_classes(tmp_path, flags, photos):
    def red(images):
        return tf.sigmoid(10.0 * (tf.reduce_mean(images[..., :1], [1, 2]) - 0.5))

    path = save_model(tmp_path / "binary", red, labels=("other", "red"))
    assert run(**flags | {"model": path}) == 0
    written = summary(flags["output"])
    assert "multi_label" not in written["model"]
    assert "threshold" not in written["settings"]
    assert (written["options"]["threshold"], written["below_threshold"]) == (0.0, 0)
    for row in rows(flags["output"], "labels"):
        score = scores_of(photos[1])[list(photos[1]).index(Path(row["image"]).name), 0]
        by_label = {one["label"]: one["score"] for one in row["predictions"]}
        assert by_label == pytest.approx({"red": score, "other": 1 - score}, abs=1e-4)
        assert row["label"] == ("red" if score > 0.5 else "other")


def test_one_name_for_two_classes_is_refused(tmp_path, flags, capsys):
    path = save_model(tmp_path / "binary", lambda x: own_scores(x)[:, :1], labels=("red",))
    assert run("--returns=sigmoid", **flags | {"model": path}) == 2
    assert "has 1 label, but the model has two classes" in capsys.readouterr().err


def test_check_says_so(flags, capsys):
    argv = [f"--{name}={value}" for name, value in flags.items()]
    assert main(["check", *argv]) == 0
    assert "3 classes; an image gets several labels" in capsys.readouterr().out


def test_copies_are_in_the_folder_of_the_best_label(tmp_path, flags):
    assert run(**flags, copy_to=tmp_path / "copies") == 0
    written = summary(flags["output"])
    assert written["copied"] == 30 - written["below_threshold"]


# Truth


def check_evaluation(output, photos, truths, threshold=0.5):
    """The figures are those of the model, called on each image, by the definitions."""
    evaluation = summary(output)["evaluation"]
    scores = scores_of(photos[1])
    is_true = np.array(list(truths.values()))
    expected = [average_precision(is_true[:, n], scores[:, n]) for n in range(3)]
    found = {one["label"]: one for one in evaluation["classes"]}
    assert [found[name]["average_precision"] for name in NAMES] == pytest.approx(expected, abs=1e-6)
    assert evaluation["mean_average_precision"] == pytest.approx(np.mean(expected), abs=1e-6)
    assert 0.5 < evaluation["mean_average_precision"] < 1
    over = scores >= threshold
    hits = (over & is_true).sum(0)
    for n, name in enumerate(NAMES):
        one = found[name]
        precision, recall = hits[n] / over[:, n].sum(), hits[n] / is_true[:, n].sum()
        assert (one["precision"], one["recall"]) == pytest.approx((precision, recall))
        assert one["f1"] == pytest.approx(2 * precision * recall / (precision + recall))
        assert one["images"] == is_true[:, n].sum()
    assert evaluation["precision"] == pytest.approx(hits.sum() / over.sum())
    assert evaluation["recall"] == pytest.approx(hits.sum() / is_true.sum())
    assert (evaluation["images"], evaluation["cut"], evaluation["unknown"]) == (30, 0, 0)


def test_average_precision_is_of_all_scores(flags, photos, truths, truth_file, capsys):
    """Also of those that no row has, below the threshold or beyond top_k."""
    assert run(**flags, truth=truth_file) == 0
    check_evaluation(flags["output"], photos, truths)
    evaluation = summary(flags["output"])["evaluation"]
    mean = evaluation["mean_average_precision"]
    line = f"mean average precision {mean:.3f} over 3 classes on 30 images; at threshold 0.5: "
    assert line in capsys.readouterr().out
    written = rows(flags["output"], "labels")
    assert {Path(row["image"]).name: row["truth"] for row in written} == {
        name: json.dumps(sorted(names_of(has))) for name, has in truths.items()
    }
    assert any(row["truth"] == "[]" for row in written)
    assert {len(row["predictions"]) for row in written} == {0, 1, 2, 3}
    assert main(["report", flags["output"]]) == 0
    assert line in capsys.readouterr().out
    text = " ".join(text_of(flags["output"]).split())
    assert f"The mean average precision is {100 * mean:.1f} % , over 3 classes" in text.replace(
        "\N{NO-BREAK SPACE}", " "
    )
    assert "Calibration" not in text
    assert "· truth " in text
    assert "No class reaches the threshold." in text


def test_fewer_labels_than_are_right(flags, photos, truths, truth_file):
    assert run(**flags, truth=truth_file, top_k=1) == 0
    evaluation = summary(flags["output"])["evaluation"]
    written = rows(flags["output"], "labels")
    right = [
        one["label"] in json.loads(row["truth"]) for row in written for one in row["predictions"]
    ]
    assert evaluation["precision"] == pytest.approx(np.mean(right))
    assert evaluation["cut"] == 0
    assert evaluation["mean_average_precision"] > 0.5


def write_truth(path, photos, truths):
    """The truth in the form that the name of the file says."""
    images = [f"{photos[0]}/{name}" for name in truths]
    labels = [names_of(has) for has in truths.values()]
    if path.suffix == ".parquet":
        column = pa.array(labels, pa.list_(pa.string()))
        pq.write_table(pa.table({"image": images, "label": column}), path)
        return
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "label"])
        for image, some in zip(images, labels, strict=True):
            if path.stem == "delimited":
                table.writerow([image, "|".join(some) or "[]"])
            else:
                table.writerows([image, one] for one in some or ["[]"])


@pytest.mark.parametrize("name", ["list.parquet", "delimited.csv", "long.csv"])
def test_ways_to_write_several_classes(tmp_path, flags, photos, truths, name):
    write_truth(tmp_path / name, photos, truths)
    assert run(**flags, truth=tmp_path / name) == 0
    check_evaluation(flags["output"], photos, truths)


def test_classes_that_the_model_does_not_know(tmp_path, flags, photos, capsys):
    path = tmp_path / "truth.csv"
    rows_ = [f"{photos[0]}/{n:02}.png,{'Rot' if n else '[]'}\n" for n in range(9)]
    path.write_text("image,label\n" + "".join(rows_))
    assert run(**flags, truth=path) == 0
    said = capsys.readouterr()
    assert "mean average precision not known (no image has a class" in said.out
    assert (
        "truth: 8 of 9 images have a class that the model does not know, and count as wrong: "
        "'Rot' (8)\n" in said.err
    )
    evaluation = summary(flags["output"])["evaluation"]
    assert (evaluation["strange"], evaluation["unknown"], evaluation["recall"]) == (8, 21, 0)
    text = " ".join(text_of(flags["output"]).split())
    assert "8 images have a class that the model does not know." in text


def test_the_truth_of_folders(tmp_path, flags):
    for color in ("red", "blue"):
        write_colors(tmp_path / "p" / color, 2)
    assert run(**flags | {"input": tmp_path / "p"}, truth="parent") == 0
    assert {row["truth"] for row in rows(flags["output"], "labels")} == {'["red"]', '["blue"]'}
    assert summary(flags["output"])["evaluation"]["averaged"] == 2


def test_of_very_many_classes_the_scores_are_not_kept(flags, truth_file, monkeypatch, capsys):
    monkeypatch.setattr(build, "MOST_CLASSES", 2)
    assert run(**flags, truth=truth_file, top_k=2) == 0
    assert "mean average precision not known (not all scores were kept)" in capsys.readouterr().out
    evaluation = summary(flags["output"])["evaluation"]
    assert (evaluation["cut"], evaluation["mean_average_precision"]) == (30, None)
    assert evaluation["precision"] > 0.5


# Runs that go on


def without_truth(found):
    return {name: {**row, "truth": None} for name, row in found.items()}


def test_a_run_that_was_broken_off_goes_on(
    tmp_path, flags, photos, truths, truth_file, monkeypatch
):
    assert run(**flags, truth=truth_file, batch_size=1) == 0
    whole = flags | {"output": str(tmp_path / "second")}
    break_off(monkeypatch, whole, f"--truth={truth_file}", after=12)
    assert run(**whole, truth=truth_file, batch_size=1) == 0
    assert summary(whole["output"])["taken_over"] == 12
    assert comparable(whole["output"]) == comparable(flags["output"])
    check_evaluation(whole["output"], photos, truths)
    for key in ("labels", "below_threshold", "evaluation", "settings", "truth"):
        assert summary(whole["output"])[key] == summary(flags["output"])[key]
    header, *mistakes = (Path(whole["output"]) / "mistakes.csv").read_text().splitlines()
    assert header == "image,truth,label,score,truth_score"
    assert len(mistakes) == summary(whole["output"])["evaluation"]["mistakes"] > 0
    other = (Path(flags["output"]) / "mistakes.csv").read_text().splitlines()
    assert sorted(other) == sorted([header, *mistakes])
    # And once more, when the rows have not all scores any more.
    evaluation = summary(whole["output"])["evaluation"]
    assert evaluation["mean_average_precision"] is not None
    assert run(**whole, truth=truth_file) == 0
    assert summary(whole["output"])["evaluation"] == evaluation


def test_kill_9(tmp_path, flags, photos, truths, truth_file):
    """All but one image are labeled when the process is killed."""
    assert run(**flags, truth=truth_file, batch_size=1) == 0
    output = str(tmp_path / "killed")
    with HttpServer({"/slow.png": Answer(image_file(), delay=600)}) as server:
        argv = [
            *("--input", str(photos[0]), server.url("/slow.png"), f"--model={flags['model']}"),
            *(f"--output={output}", f"--truth={truth_file}", "--checkpoint_every=4"),
            "--batch_size=1",
        ]
        command = [sys.executable, "-m", "pipeline", "label", *argv]
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 120
        while not list(Path(output).glob(".unfinished/labels-*")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        server.answers["/slow.png"] = image_file("blue")
        done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert summary(output)["taken_over"] >= 4
    found = {name: row for name, row in comparable(output).items() if "slow" not in name}
    assert found == comparable(flags["output"])
    evaluation = summary(output)["evaluation"]
    assert evaluation == summary(flags["output"])["evaluation"] | {"unknown": 1}


def test_another_threshold_is_another_run(flags, capsys):
    """What is below the threshold is in no row, so that another one cannot be applied to them."""
    assert run(**flags) == 0
    before = comparable(flags["output"])
    assert run(**flags, threshold=0.1) == 2
    assert "(threshold was 0.5, is 0.1)" in capsys.readouterr().err
    assert comparable(flags["output"]) == before
    assert run(**flags, threshold=0.5) == 0
    assert summary(flags["output"])["taken_over"] == 30
    assert comparable(flags["output"]) == before


def test_a_truth_that_is_given_later(flags, photos, truth_file, capsys):
    """The rows have no scores below the threshold, and nothing is made up in their place."""
    assert run(**flags) == 0
    before = comparable(flags["output"])
    capsys.readouterr()
    assert run(**flags, truth=truth_file) == 0
    assert summary(flags["output"])["taken_over"] == 30
    assert "mean average precision not known (not all scores were kept)" in capsys.readouterr().out
    evaluation = summary(flags["output"])["evaluation"]
    over = np.array(list(photos[1].values())) > 127
    assert evaluation["cut"] == (~over.all(1)).sum()
    assert evaluation["mean_average_precision"] is None
    assert 0.5 < evaluation["precision"] < 1
    assert without_truth(comparable(flags["output"])) == before
    assert "not all scores of" in text_of(flags["output"])


def test_each_night_has_the_new_images(tmp_path, flags, photos):
    folder = tmp_path / "grows"
    shutil.copytree(photos[0], folder)
    nightly = flags | {"input": folder}
    assert run("--incremental", **nightly) == 0
    (folder / "new.png").write_bytes(image_file("blue"))
    assert run("--incremental", **nightly) == 0
    first, second = nights(flags["output"])
    assert (summary(first)["labeled"], summary(second)["labeled"]) == (30, 1)
    assert summary(second)["skipped"] == 30
    assert "so that shares do not add up" in " ".join(text_of(second).split())
    assert run("--incremental", **nightly, threshold=0.9) == 2
    assert run("--incremental", "--relabel", **nightly, threshold=0.9) == 0
    assert summary(nights(flags["output"])[2])["labeled"] == 31


def test_an_unset_threshold_is_that_of_the_model(flags, color_model):
    assert run(**flags | {"model": color_model}) == 0
    written = summary(flags["output"])
    assert written["options"]["threshold"] == 0.0
    assert "threshold" not in written["settings"]
    assert "threshold: 0.0" in (Path(flags["output"]) / "run.yaml").read_text()
