"""The finetune job from its command line to the labels that its export gives."""

import csv
import hashlib
import json
import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers.http_server import Answer, HttpServer
from helpers.models import COLORS, image_file, save_extractor, save_model, write_class_folders
from helpers.stores import memory_store
from helpers.tfrecords import write_tfrecord

from pipeline import progress
from pipeline.__main__ import main
from pipeline.finetune import export, features, job, results
from pipeline.finetune.dataset import split_of
from pipeline.finetune.examples import MOST_RIGHT
from pipeline.finetune.unfrozen import Outcome, Unfrozen
from pipeline.models import trained_on
from pipeline.models.probing import probe_classifier
from pipeline.models.spec import Stated, Takes
from pipeline.models.tensorflow_import import tf


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Three classes of forty images."""
    return write_class_folders(tmp_path_factory.mktemp("photos") / "p")


@pytest.fixture(scope="session")
def extractor(tmp_path_factory):
    return save_extractor(tmp_path_factory.mktemp("models") / "extractor")


def finetune(*argv, **flags):
    """The exit code; trains fast enough for a test."""
    flags = {"learning_rate": 0.5, "epochs": 5} | flags
    return main(["finetune", *argv, *(f"--{name}={value}" for name, value in flags.items())])


def read_summary(output):
    return json.loads((Path(output) / "summary.json").read_text())


def exported(output):
    (version,) = (Path(output) / "export").iterdir()
    return str(version)


def label(output, **flags):
    argv = [f"--{name}={value}" for name, value in (flags | {"output": output}).items()]
    assert main(["label", *argv]) == 0
    shards = Path(output).glob("labels-*.jsonl")
    return [json.loads(line) for shard in shards for line in shard.read_text().splitlines()]


def test_from_class_folders_to_labels(tmp_path, photos, extractor, capsys):
    out = tmp_path / "out"
    assert finetune(input=photos, model=extractor, output=out) == 0
    console = capsys.readouterr()
    summary = read_summary(out)
    assert summary["labels"] == ["blue", "green", "red"]
    assert summary["found"] == {"blue": 40, "green": 40, "red": 40}
    assert sum(summary["images"].values()) == 120
    assert summary["test"]["accuracy"] == 1.0
    assert summary["reload_difference"] == 0.0
    assert len(summary["steps"]) == summary["epochs"][-1]["step"]
    assert f"test accuracy 1.000 on {summary['images']['test']} images" in console.out
    assert f"--model {exported(out)}\n" in console.out
    assert {
        name: sum(one[name] for one in summary["images_of_classes"].values())
        for name in summary["images"]
    } == summary["images"]
    examples = (out / "examples.jsonl").read_text().splitlines()
    assert len(examples) == min(summary["images"]["test"], MOST_RIGHT)
    page = (out / "report.html").read_text()
    assert "accuracy" in page
    assert (
        page.count('src="data:image/jpeg') == page.count('<figure class="right">') == len(examples)
    )
    # Its result is a --model for label with no other flag.
    rows = label(tmp_path / "labels", input=photos, model=exported(out))
    assert len(rows) == 120
    assert all(row["label"] == Path(row["image"]).parent.name for row in rows)


def test_images_that_a_model_was_trained_on_do_not_count(tmp_path, photos, extractor, capsys):
    """Whatever else is labeled, the accuracy is that of the other images alone, resumed or not."""
    out, kept = tmp_path / "out", tmp_path / "kept"
    assert finetune(input=photos, model=extractor, output=out) == 0
    write_class_folders(kept, count=4, size=(44, 30))
    (kept / "green" / "000.png").rename(kept / "red" / "green.png")  # a mistake
    with (out / "test_predictions.csv").open(newline="") as file:
        new = [row["image"] for row in csv.DictReader(file)] + list(map(str, kept.rglob("*.png")))
    (tmp_path / "new.txt").write_text("\n".join(new))
    alone = evaluated(tmp_path / "alone", "--input", tmp_path / "new.txt", model=exported(out))
    assert alone["images"] == len(new)
    assert alone["mistakes"] == 1
    assert (alone["trained_on"], alone["trained_on_accuracy"]) == (0, None)
    assert " that it has not seen" not in capsys.readouterr().out
    both = ("--input", photos, "--input", kept)
    for formats in ("csv", "csv,jsonl"):
        mixed = evaluated(tmp_path / "mixed", *both, model=exported(out), output_format=formats)
        seen = 132 - len(new)
        assert mixed == {
            **alone,
            "calibration_error": pytest.approx(alone["calibration_error"]),  # a sum in any order
            "trained_on": seen,
            "trained_on_accuracy": 1.0,
        }
        said = capsys.readouterr().out
        assert f"\n1.000 on {seen} images that the model was trained on, which are left " in said
        assert f"accuracy {alone['accuracy']:.3f} on {len(new)} images that it has not s" in said
    assert (tmp_path / "mixed" / "mistakes.csv").read_text().count("\n") == 2
    page = (tmp_path / "mixed" / "report.html").read_text()
    assert f"was trained on {seen} images more" in page
    rows = [json.loads(line) for line in shards_of(tmp_path / "mixed")]
    assert {row["image"] for row in rows if not row["trained_on"]} == set(new)
    old = set(map(str, Path(photos).rglob("*.png"))) - set(new)
    (tmp_path / "old.txt").write_text("\n".join(old))
    nothing = evaluated(tmp_path / "old", "--input", tmp_path / "old.txt", model=exported(out))
    assert nothing == {"images": 0, "trained_on": seen, "trained_on_accuracy": 1.0}
    assert "accuracy is not measured: no image is new to the model; 1" in capsys.readouterr().out


def test_a_base_that_was_trained_on_the_test_images(tmp_path, capsys):
    contents = [f"{n:016x}{'0' * 48}" for n in range(5)]
    (tmp_path / "saved_model.pb").write_bytes(b"")
    job.warn_of_seen(str(tmp_path), "", contents)
    assert capsys.readouterr().err == ""
    trained_on.write(tmp_path, contents[:3], tmp_path)
    job.warn_of_seen(str(tmp_path), "", contents[2:])
    assert "the model was trained on 1 of the 3 images that test" in capsys.readouterr().err
    job.warn_of_seen(str(tmp_path), "", contents[3:])
    assert capsys.readouterr().err == ""


def evaluated(output, *argv, **flags):
    flags = flags | {"output": output, "truth": "parent"}
    argv = [*map(str, argv), *(f"--{name}={value}" for name, value in flags.items())]
    assert main(["label", *argv]) == 0
    return read_summary(output)["evaluation"]


def shards_of(output):
    for shard in sorted(output.glob("labels-*.jsonl")):
        yield from shard.read_text().splitlines()


def test_results_are_replaced_and_their_report_is_made_again(tmp_path, photos, extractor, capsys):
    out = tmp_path / "out"
    flags = {"input": photos, "model": extractor, "output": out}
    argv = [f"--{name}={value}" for name, value in flags.items()]
    # What check says first; --epochs alone tells that finetune is meant.
    for words in (["check", "finetune"], ["check", "--epochs=5"]):
        assert main([*words, *argv]) == 0
        said = capsys.readouterr()
        words = r"^inputs   120 images of 3 classes\nsample   64 images: 64 decoded, 0 failed$"
        assert re.search(words, said.out, re.M)
        assert re.search(r"^time     \d+ \w+ on this machine for the features", said.out, re.M)
    assert not out.exists()
    before = progress.counts().done
    assert finetune("--unfreeze", **flags, unfreeze_epochs=1, limit=60) == 0
    trained = read_summary(out)["images"]["train"]
    assert progress.counts().done - before >= trained  # what the bar shows
    assert sum(read_summary(out)["images"].values()) == 60
    first, page = exported(out), (out / "report.html").read_text()
    (out / "report.html").unlink()
    assert main(["report", str(out)]) == 0
    assert (out / "report.html").read_text() == page
    assert capsys.readouterr().out.endswith(f" images\n{out}/report.html\n")
    assert finetune(**flags) == 2
    assert "or --if_exists=overwrite to replace an earlier training" in capsys.readouterr().err
    assert finetune(**flags, if_exists="overwrite") == 0
    assert exported(out) != first
    assert sum(read_summary(out)["images"].values()) == 120
    # Those of label are not replaced by a training.
    summary = read_summary(out)
    del summary["reload_difference"]
    (out / "summary.json").write_text(json.dumps(summary))
    assert finetune(**flags, if_exists="overwrite") == 2


def test_the_export(tmp_path, photos, extractor):
    assert finetune(input=photos, model=extractor, output=tmp_path / "out") == 0
    folder = Path(exported(tmp_path / "out"))
    assert (folder / "assets" / "labels.txt").read_text() == "blue\ngreen\nred\n"
    assert json.loads((folder / "assets" / "preprocessing.json").read_text()) == {
        **{"height": 32, "width": 32, "resample": "bicubic"},
        **{"returns": "probabilities", "scale": [0, 1]},
    }
    loaded = tf.saved_model.load(str(folder))
    assert set(loaded.signatures) == {"serving_default", "serving_examples"}
    images = np.random.default_rng(0).random((3, 32, 32, 3), np.float32)
    called = loaded(tf.constant(images)).numpy()
    np.testing.assert_allclose(called.sum(1), 1.0, rtol=1e-5)
    served = loaded.signatures["serving_default"](inputs=tf.constant(images))["probabilities"]
    np.testing.assert_array_equal(served, called)


def test_both_handlers_label_the_same(tmp_path, photos, extractor):
    assert finetune(input=photos, model=extractor, output=tmp_path / "out") == 0
    model = exported(tmp_path / "out")
    spec = probe_classifier(model, Stated(signature=export.EXAMPLES_SIGNATURE))
    assert (spec.takes, spec.output) == (Takes.EXAMPLES, "probabilities")
    a = label(tmp_path / "a", input=photos, model=model)
    b = label(tmp_path / "b", input=photos, model=model, signature=export.EXAMPLES_SIGNATURE)
    scores = [{row["image"]: (row["label"], row["score"]) for row in rows} for rows in (a, b)]
    assert scores[0].keys() == scores[1].keys()
    for image, (name, score) in scores[0].items():
        assert scores[1][image] == (name, pytest.approx(score, abs=1e-4))


def test_features_are_computed_once(tmp_path, photos, extractor, capsys, monkeypatch):
    assert finetune(input=photos, model=extractor, output=tmp_path / "1") == 0
    assert "features: 120 images to read\n" in capsys.readouterr().err
    monkeypatch.setattr(features, "build", None)  # nothing is computed any more
    assert finetune(input=photos, model=extractor, output=tmp_path / "2", learning_rate=0.1) == 0
    assert "features: found in " in capsys.readouterr().err


def test_other_images_models_or_preprocessing_are_computed_anew(tmp_path, extractor, capsys):
    photos = write_class_folders(tmp_path / "p", count=20)
    runs = [{}, {"resample": "bilinear"}, {"model": save_extractor(tmp_path / "m", features=2)}]
    for number, changes in enumerate(runs):
        flags = {"input": photos, "model": extractor} | changes
        assert finetune(output=tmp_path / str(number), **flags) == 0
        assert "features: 60 images to read\n" in capsys.readouterr().err
    (tmp_path / "p" / "red" / "000.png").write_bytes(b"changed")
    assert finetune(input=photos, model=extractor, output=tmp_path / "x") == 0
    assert "features: 60 images to read\nfailures: 1 not_an_image\n" in capsys.readouterr().err


def test_a_store_that_was_left_unfinished_is_not_used(tmp_path, photos, extractor, monkeypatch):
    def killed(pipeline):
        raise KeyboardInterrupt

    run_pipeline = job.run_pipeline
    monkeypatch.setattr(job, "run_pipeline", killed)
    with pytest.raises(KeyboardInterrupt):
        finetune(input=photos, model=extractor, output=tmp_path / "out")
    (store,) = (tmp_path / "cache" / "image-labeling" / "finetune").iterdir()
    (store / "examples-00000-of-00001.tfrecord").write_bytes(b"half a file")
    monkeypatch.setattr(job, "run_pipeline", run_pipeline)
    assert finetune(input=photos, model=extractor, output=tmp_path / "out") == 0


def test_images_that_could_not_be_read_are_tried_again(tmp_path, photos, extractor, capsys):
    with HttpServer() as server, (tmp_path / "list.csv").open("w") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "label"])
        writer.writerows([path, path.parent.name] for path in sorted(Path(photos).rglob("*.png")))
        writer.writerow([server.url("/red.png"), "red"])
        file.flush()
        server.answers["/red.png"] = Answer(status=503)
        flags = {"input": tmp_path / "list.csv", "model": extractor}
        argv = ["--allow_private_addresses"]
        assert finetune(*argv, output=tmp_path / "1", **flags) == 0
        assert "failures: 1 unavailable" in capsys.readouterr().err
        server.answers["/red.png"] = image_file("red")
        assert finetune(*argv, output=tmp_path / "2", **flags) == 0
        assert "failures" not in capsys.readouterr().err
    assert sum(read_summary(tmp_path / "2")["images"].values()) == 121


def test_two_runs_compute_the_same_features_at_once(tmp_path, photos, extractor, monkeypatch):
    """The second begins and ends while the first computes; both use what the second has made."""
    run_pipeline = job.run_pipeline

    def run_another_first(pipeline):
        monkeypatch.setattr(job, "run_pipeline", run_pipeline)
        assert finetune(input=photos, model=extractor, output=tmp_path / "2") == 0
        run_pipeline(pipeline)

    monkeypatch.setattr(job, "run_pipeline", run_another_first)
    assert finetune(input=photos, model=extractor, output=tmp_path / "1") == 0
    assert len(list((tmp_path / "cache" / "image-labeling" / "finetune").iterdir())) == 1
    assert read_summary(tmp_path / "1")["epochs"] == read_summary(tmp_path / "2")["epochs"]


def test_unfreezing(tmp_path, photos, extractor, capsys):
    out = tmp_path / "out"
    flags = {"input": photos, "model": extractor, "output": out, "epochs": 1, "learning_rate": 0.01}
    rates = {"unfreeze_epochs": 2, "unfreeze_learning_rate": 0.05}
    assert finetune("--unfreeze", **flags, **rates) == 0
    summary = read_summary(out)
    assert [epoch["phase"] for epoch in summary["epochs"]] == ["head", "network", "network"]
    losses = [epoch["validation_loss"] for epoch in summary["epochs"]]
    assert losses[2] < losses[0]
    assert summary["reload_difference"] == 0.0
    assert "network: 21 weights" in capsys.readouterr().err  # 3 × 3 and 3 × 3 + 3
    both = summary["unfrozen"]
    assert both["exported"] == "network"
    assert both["network"]["test_accuracy"] == summary["test"]["accuracy"]
    assert both["network"]["validation_loss"] == min(losses[1:])
    assert both["head"]["validation_loss"] == losses[0]
    check_predictions(tmp_path, photos, out)
    assert not list((tmp_path / "cache" / "image-labeling" / "checkpoints").iterdir())


def check_predictions(tmp_path, photos, out):
    """What is in the table of test predictions is what the export says, and what was measured."""
    with (out / "test_predictions.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert list(table[0]) == ["image", "truth", "label", "score", "correct"]
    summary = read_summary(out)
    assert len(table) == summary["test"]["images"]
    right = [row["correct"] == "true" for row in table]
    assert np.mean(right) == summary["test"]["accuracy"]
    labeled = {
        row["image"]: row for row in label(tmp_path / "labels", input=photos, model=exported(out))
    }
    for row, is_right in zip(table, right, strict=True):
        assert row["truth"] == Path(row["image"]).parent.name
        assert is_right == (row["label"] == row["truth"])
        assert row["label"] == labeled[row["image"]]["label"]
        assert float(row["score"]) == pytest.approx(labeled[row["image"]]["score"], abs=1e-5)
        assert split_of(hashlib.sha256(Path(row["image"]).read_bytes()).hexdigest()) == "test"


def test_a_network_that_has_become_worse_is_not_exported(
    tmp_path, photos, extractor, capsys, monkeypatch
):
    """Here it becomes better, so that the head's weights change, and must come back."""
    monkeypatch.setattr(Unfrozen, "is_better", False)
    out = tmp_path / "out"
    flags = {"input": photos, "model": extractor, "output": out, "epochs": 1, "learning_rate": 0.01}
    rates = {"unfreeze_epochs": 1, "unfreeze_learning_rate": 0.05}
    assert finetune("--unfreeze", **flags, **rates) == 0
    both = read_summary(out)["unfrozen"]
    assert both["network"]["validation_loss"] < both["head"]["validation_loss"]
    assert both["head"]["test_accuracy"] == read_summary(out)["test"]["accuracy"]
    assert "warning: training the whole network made it worse" in capsys.readouterr().err
    assert "the head alone" in (out / "report.html").read_text()
    check_predictions(tmp_path, photos, out)


@pytest.mark.parametrize(
    ("network", "exported", "said"),
    [
        (Outcome(0.2, 0.93, 0.95), "network", ""),
        (Outcome(0.2, 0.90, 0.93), "network", "worse on the test images, but not on the valid"),
        (Outcome(0.2, 0.89, 0.99), "head", "worse on the validation images; the head alone is"),
        (None, "head", "no epoch of the whole network had a lower validation loss"),
    ],
)
def test_validation_images_decide_between_head_and_network(network, exported, said):
    both = Unfrozen(Outcome(0.3, 0.90, 0.94), network)
    assert both.to_json()["exported"] == exported
    first, *warnings = both.in_words()
    assert first.startswith("accuracy of the head alone: validation 0.900, test 0.940")
    assert len(warnings) == bool(said)
    assert said in "".join(warnings)


def test_a_list_with_bad_images(tmp_path, photos, extractor):
    with (tmp_path / "list.csv").open("w") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "color", "note"])
        for path in sorted(Path(photos).rglob("*.png")):
            writer.writerow([path, path.parent.name, "x"])
        writer.writerow([tmp_path / "absent.png", "red", ""])
    flags = {"uri_column": "file", "truth_column": "color"}
    out = tmp_path / "out"
    assert finetune(input=tmp_path / "list.csv", model=extractor, output=out, **flags) == 0
    assert read_summary(out)["found"] == {"blue": 40, "green": 40, "red": 41}
    assert sum(read_summary(out)["images"].values()) == 120
    failed = json.loads((out / "failures-00000-of-00001.jsonl").read_text())
    assert failed["image"] == f"{tmp_path}/absent.png"
    assert failed["reason"] == "not_found"
    assert failed["run_id"] == read_summary(out)["run_id"]


def test_images_in_a_tfrecord_file(tmp_path, photos, extractor):
    """A part is a function of an image's bytes, so it is the same wherever they come from."""
    paths = sorted(Path(photos).rglob("*.png"))
    records = [(path.name, path.read_bytes(), path.parent.name) for path in paths]
    path = write_tfrecord(tmp_path / "t.tfrecord", records)
    assert finetune(input=path, model=extractor, output=tmp_path / "out") == 0
    summary = read_summary(tmp_path / "out")
    assert summary["found"] == {"blue": 40, "green": 40, "red": 40}
    contents = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    assert summary["images"] == Counter(map(split_of, contents))
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count('src="data:image/jpeg') > 5  # test images were read again, from the same file
    assert 'class="frame" href' not in page


def test_a_split_that_the_images_come_with(tmp_path, extractor, capsys):
    """Files of the test folder that are also in that for training do not train.

    Two images are in each other's class folders, which is found.
    """
    train = write_class_folders(tmp_path / "p" / "train")
    swapped = {f"{train}/blue/swapped.png": "red", f"{train}/red/swapped.png": "blue"}
    for path, color in swapped.items():
        Path(train, color, "020.png").rename(path)
    write_class_folders(tmp_path / "p" / "test", count=10)  # the first ten are the same
    (tmp_path / "p" / "test" / "red" / "bad.png").write_bytes(b"bad")
    out = tmp_path / "out"
    assert finetune(input=tmp_path / "p", model=extractor, output=out) == 0
    said = capsys.readouterr().err
    assert said.startswith(
        "151 images of 3 classes: blue 50, green 50, red 51\n"
        "train (train): 120 images of 3 classes: blue 40, green 40, red 40\n"
        "test (test): 31 images of 3 classes: blue 10, green 10, red 11\n"
        "validation: about 10 % of the images in train, by a checksum\n"
        "to split by checksums instead: --split=checksum\n"
    )
    assert "\n10 images are left out of a part: the same pictures are in test or v" in said
    summary = read_summary(out)
    assert summary["split"] == {"train": "train", "test": "test"}
    assert summary["test"]["images"] == summary["images"]["test"] == 30
    assert summary["images"]["train"] + summary["images"]["validation"] == 110
    assert 0 < summary["images"]["validation"] < 20
    assert summary["same_pictures"] == {"pictures": 10, "images": 20, "moved": 0, "left_out": 10}
    assert "\n2 of 140 images may have a wrong class: mislabeled.csv\n" in said
    with (out / "mislabeled.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert {row["image"]: row["suggested"] for row in table} == swapped
    for row in table:
        assert row["given"] == Path(row["image"]).parent.name
        assert float(row["probability"]) > 0.5 > float(row["given_probability"])
        assert row["part"] in ("train", "validation")
    checked = {"images": 2, "checked": 140, "passed_over": 0, "why": None}
    assert summary["mislabeled"] == checked
    page = (out / "report.html").read_text()
    assert page.partition('id="mislabeled"')[2].count("swapped.png</bdi>") == 2
    failed = json.loads((out / "failures-00000-of-00001.jsonl").read_text())
    assert (failed["image"], "split" in failed) == (f"{tmp_path}/p/test/red/bad.png", False)


def test_too_many_bad_images(tmp_path, extractor, capsys):
    photos = write_class_folders(tmp_path / "p", count=10)
    for n in range(5):
        (tmp_path / "p" / "red" / f"{n:03}.png").write_bytes(b"")
    assert finetune(input=photos, model=extractor, output=tmp_path / "out") == 1
    assert (
        "16.7% of the images failed, more than --max_failure_ratio 0.1" in capsys.readouterr().err
    )


def test_a_class_without_a_single_good_image(tmp_path, extractor, capsys):
    photos = write_class_folders(tmp_path / "p", count=20)
    for path in (tmp_path / "p" / "red").iterdir():
        path.write_bytes(b"")
    flags = {"input": photos, "model": extractor, "max_failure_ratio": 1}
    assert finetune(output=tmp_path / "out", **flags) == 2
    assert "none of the images of the class 'red' can be trained with" in capsys.readouterr().err


def test_a_classifier_works_with_a_warning(tmp_path, photos, color_model, capsys):
    assert finetune(input=photos, model=color_model, output=tmp_path / "out") == 0
    said = capsys.readouterr().err
    assert f"warning: --model {color_model} looks like a classifier; it works, but" in said
    assert f"python -m pipeline label --model {color_model} --input … --output …\n" in said


def test_min_accuracy_that_is_not_reached(tmp_path, extractor, capsys):
    """Labels without any relation to the images."""
    photos = write_class_folders(tmp_path / "p", classes=("red",), count=60)
    for n, path in enumerate(sorted((tmp_path / "p" / "red").iterdir())):
        other = tmp_path / "p" / ("even" if n % 2 else "odd")
        other.mkdir(exist_ok=True)
        path.rename(other / path.name)
    shutil.rmtree(tmp_path / "p" / "red")
    out = tmp_path / "out"
    flags = {"input": photos, "model": extractor, "output": out, "min_accuracy": 1.0}
    assert finetune(**flags) == 1
    assert "error: the test accuracy is below --min_accuracy 1.0; nothing is exp" in (
        capsys.readouterr().err
    )
    assert not (out / "export").exists()
    assert not (out / "summary.json").exists()


def test_an_export_that_answers_otherwise_fails_the_run(
    tmp_path, photos, extractor, capsys, monkeypatch
):
    save = export.save

    def save_another(classifier, folder, *rest):
        classifier.bias.assign_add([0.01, 0.0, 0.0])
        save(classifier, folder, *rest)
        classifier.bias.assign_sub([0.01, 0.0, 0.0])

    monkeypatch.setattr(export, "save", save_another)
    assert finetune(input=photos, model=extractor, output=tmp_path / "out") == 1
    assert "the exported model's answers differ from the trained one's by up to 0.00" in (
        capsys.readouterr().err
    )
    assert not (tmp_path / "out" / "export").exists()


def test_an_export_that_cannot_be_loaded_fails_the_run(
    tmp_path, photos, extractor, capsys, monkeypatch
):
    save = export.save

    def save_half(classifier, folder, *rest):
        save(classifier, folder, *rest)
        (folder / "saved_model.pb").unlink()

    monkeypatch.setattr(export, "save", save_half)
    assert finetune(input=photos, model=extractor, output=tmp_path / "out") == 1
    assert "the exported model cannot be loaded" in capsys.readouterr().err


def test_mistakes_are_one_line_before_anything_is_computed(
    tmp_path, photos, extractor, capsys, monkeypatch
):
    monkeypatch.setattr(job, "train", None)
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "summary.json").touch()
    (tmp_path / "few").mkdir()
    shutil.copytree(Path(photos) / "red", tmp_path / "few" / "red")
    no_model = save_model(tmp_path / "m", lambda images: images)
    frozen = save_extractor(tmp_path / "frozen", trainable=False)
    right = {"input": photos, "model": extractor, "output": tmp_path / "out"}
    for changes, message in (
        ({"input": tmp_path / "few"}, "only the class 'red' found"),
        ({"input": tmp_path / "absent"}, "there is no such file or folder"),
        ({"model": tmp_path / "absent"}, "there is no such folder"),
        ({"model": no_model}, "a feature extractor float [N, features]"),
        ({"output": tmp_path / "used"}, "already has results of a run"),
        ({"min_accuracy": 2}, "--min_accuracy: 2 is not between 0 and 1"),
        ({"learning_rate": 0}, "--learning_rate: 0 is not between 0 and 1"),
        ({"runner": "NoRunner"}, "NoRunner"),
        ({"epoch": 3}, "did you mean --epochs?"),
    ):
        assert finetune(**(right | changes)) == 2, message
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert message in error
    assert finetune("--unfreeze", **(right | {"model": frozen})) == 2
    assert "has nothing that can be trained" in capsys.readouterr().err


def test_results_in_a_bucket(tmp_path):
    """The export's graph comes after its variables, and the summary last of all."""
    names = ["summary.json", "report.html", "export/1/saved_model.pb", "export/1/variables/v"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    with memory_store({}) as objects:
        results.publish(tmp_path, "mem://bucket/out")
        assert list(objects) == [f"mem://bucket/out/{name}" for name in reversed(names)] or (
            list(objects)[-2:]
            == ["mem://bucket/out/export/1/saved_model.pb", "mem://bucket/out/summary.json"]
        )
        assert set(objects) == {f"mem://bucket/out/{name}" for name in names}


def test_records_of_a_bucket_are_read_like_local_ones(tmp_path, photos, extractor):
    assert finetune(input=photos, model=extractor, output=tmp_path / "out") == 0
    (store,) = (tmp_path / "cache" / "image-labeling" / "finetune").iterdir()
    content = {f"mem://bucket/s/{path.name}": path.read_bytes() for path in store.iterdir()}
    with (
        memory_store(content),
        features.Records(str(store), np.float32, (3,)) as local,
        features.Records("mem://bucket/s", np.float32, (3,)) as copied,
    ):
        assert copied.refs == local.refs
        np.testing.assert_array_equal(copied.values(range(120)), local.values(range(120)))


def test_the_sample(tmp_path):
    assert main(["finetune", "--input=sample", "--model=sample", f"--output={tmp_path}/out"]) == 0
    assert read_summary(tmp_path / "out")["test"]["accuracy"] >= 0.8
    assert set(COLORS).isdisjoint(read_summary(tmp_path / "out")["labels"])
