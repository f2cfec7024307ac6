"""Real weights and real photographs, with their reference figures."""

import csv
from pathlib import Path

import pytest
from helpers.http_server import Answer, HttpServer, truncated
from helpers.runs import rows, run, summary

from pipeline.models import class_names


@pytest.fixture(scope="session")
def truth(fixtures):
    """File name → class id."""
    with (fixtures / "photos" / "truth.csv").open() as file:
        return {row["file"]: int(row["class_id"]) for row in csv.DictReader(file)}


def check_photos(out, truth):
    """The reference figures hold."""
    labeled = {Path(row["image"]).name: row for row in rows(out, "labels")}
    assert summary(out)["found"] == summary(out)["labeled"] == 201
    hopper = labeled["grace_hopper.bmp"]
    assert (hopper["class_id"], hopper["label"]) == (653, "military uniform")
    assert hopper["score"] == pytest.approx(0.906, abs=0.01)
    assert (hopper["width"], hopper["height"]) == (512, 600)
    top_1 = [row["class_id"] == truth[name] for name, row in labeled.items() if name in truth]
    top_5 = [
        truth[name] in [prediction["class_id"] for prediction in row["predictions"]]
        for name, row in labeled.items()
        if name in truth
    ]
    print(f"top-1 {sum(top_1) / len(top_1):.4f}, top-5 {sum(top_5) / len(top_5):.4f}")
    assert sum(top_1) >= 0.80 * len(truth)
    assert sum(top_5) >= 0.95 * len(truth)


def test_real_photographs(fixtures, truth, tmp_path):
    out = tmp_path / "out"
    assert (
        run(
            input=fixtures / "photos",
            model=fixtures / "models" / "mobilenet_v2_classification.tar.gz",
            labels_file=fixtures / "labels" / "imagenet_labels.txt",
            output=out,
        )
        == 0
    )
    check_photos(out, truth)


def test_a_hub_handle(fixtures, truth, tmp_path, monkeypatch, capsys):
    """The one of tfhub.dev's, from a local server."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    archive = (fixtures / "models" / "mobilenet_v2_classification.tar.gz").read_bytes()
    names = (fixtures / "labels" / "imagenet_labels.txt").read_bytes()
    path = "/google/tf2-preview/mobilenet_v2/classification/2"
    with HttpServer({path: truncated(archive, len(archive) // 2), "/labels.txt": names}) as server:
        monkeypatch.setattr(class_names, "IMAGENET_LABELS_URL", server.url("/labels.txt"))
        flags = {"model": server.url(path), "input": fixtures / "photos"}
        assert run(**flags, output=tmp_path / "0") == 2
        assert "the download failed or is truncated" in capsys.readouterr().err

        server.answers[path] = archive
        assert run(**flags, output=tmp_path / "1") == 0
        assert server.requests == {path: 2, "/labels.txt": 1}
        assert run(**flags, output=tmp_path / "2") == 0
        assert server.requests == {path: 2, "/labels.txt": 1}
    check_photos(tmp_path / "1", truth)
    assert sorted(row["image"] for row in rows(tmp_path / "2", "labels")) == sorted(
        row["image"] for row in rows(tmp_path / "1", "labels")
    )


def test_a_hub_handle_that_is_forbidden(tmp_path, capsys):
    with HttpServer({"/model/1": Answer(status=403)}) as server:
        flags = {"model": server.url("/model/1"), "input": "sample", "output": tmp_path}
        assert run(**flags) == 2
    assert "the download failed or is truncated: 403 " in capsys.readouterr().err
