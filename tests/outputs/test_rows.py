from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that
from google.api_core.exceptions import Forbidden
from helpers.stores import ERRORS, memory_store, public_folder, unprivileged

from pipeline import storage
from pipeline.errors import OutputError, StoreError
from pipeline.formats.registry import in_one_format
from pipeline.formats.schema import Schema
from pipeline.formats.shards import read_rows
from pipeline.outputs import layout, parts
from pipeline.outputs.layout import prepare, refuse_results
from pipeline.outputs.parts import Shards, name_shards
from pipeline.outputs.rows import KeepRows, WriteRows
from pipeline.records import Failure, Labeled, from_json
from pipeline.storage import find, write_file


def files(folder):
    """What is in a folder: name → content."""
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def error_of(given):
    with pytest.raises(OutputError) as caught:
        prepare(str(given))
    assert str(caught.value).startswith(f"output {given}: ")
    return str(caught.value)


# prepare


@pytest.mark.parametrize("given", ["out", "out/", "./out", "{cwd}/out", "{uri}", "{uri}/"])
def test_makes_the_folder(tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    given = given.format(cwd=tmp_path, uri=(tmp_path / "out").as_uri())
    assert prepare(given) == f"{tmp_path}/out"
    assert files(tmp_path / "out") == {}


def test_makes_the_folders_above(tmp_path):
    assert prepare(f"{tmp_path}/a/b c/ü", keep=False) == f"{tmp_path}/a/b c/ü"
    assert not list(tmp_path.iterdir())
    assert prepare(f"{tmp_path}/a/b c/ü") == f"{tmp_path}/a/b c/ü"
    assert (tmp_path / "a" / "b c" / "ü").is_dir()


def test_takes_a_folder_with_other_things_in_it(tmp_path):
    (tmp_path / "labels.csv").write_bytes(b"1")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "labels-00000-of-00001.jsonl").write_bytes(b"2")
    assert prepare(str(tmp_path)) == str(tmp_path)
    assert prepare(str(tmp_path), keep=False) == str(tmp_path)
    assert prepare(str(tmp_path)) == str(tmp_path)  # to try and to write nothing is no result
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels.csv", "photos"]


def test_the_current_folder_and_the_root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert prepare(".") == str(tmp_path)
    with public_folder() as folder, unprivileged(folder):
        assert "cannot be written" in error_of("/")


def results_error_of(output):
    with pytest.raises(OutputError) as caught:
        refuse_results(str(output))
    assert str(caught.value).startswith(f"output {output}: ")
    return str(caught.value)


@pytest.mark.parametrize(
    "name",
    ["labels-00000-of-00001.jsonl", "failures-00003-of-00010.jsonl", "summary.json"],
)
def test_refuses_a_folder_with_results(tmp_path, name):
    refuse_results(str(tmp_path))
    (tmp_path / name).write_bytes(b"{}\n")
    assert "already has results of a run" in results_error_of(tmp_path)
    assert files(tmp_path) == {name: b"{}\n"}


def test_refuses_http():
    assert "http(s) cannot be written" in error_of("http://127.0.0.1/out")
    assert "http(s) cannot be written" in error_of("HTTPS://127.0.0.1/out/")


def test_refuses_what_is_no_folder(tmp_path):
    (tmp_path / "file").write_bytes(b"1")
    assert "cannot be written" in error_of(tmp_path / "file")
    assert "cannot be written" in error_of(tmp_path / "file" / "out")
    assert files(tmp_path) == {"file": b"1"}


def test_refuses_a_scheme_that_nothing_serves():
    assert "filesystem" in error_of("ipfs://bucket/out")


@pytest.mark.parametrize("name", ["out [2024]", "out*", "out?"])
def test_refuses_names_that_beam_would_take_for_globs(tmp_path, name):
    assert error_of(tmp_path / name).endswith("must not have any of * ? [ in it")
    assert files(tmp_path) == {}


def test_refuses_a_folder_without_permission():
    with public_folder() as folder, unprivileged(folder):
        assert "Permission denied" in error_of(folder)
        assert "Permission denied" in error_of(folder / "out")


def test_a_bucket():
    with memory_store({"mem://bucket/photos/a.jpg": b""}) as objects:
        assert prepare("mem://bucket/out/") == "mem://bucket/out"
        assert prepare("mem://bucket") == "mem://bucket"
        assert set(objects) == {"mem://bucket/photos/a.jpg"}
        refuse_results("mem://bucket/out")
        objects["mem://bucket/out/labels-00000-of-00001.jsonl"] = b""
        assert "already has results" in results_error_of("mem://bucket/out")
        refuse_results("mem://bucket/ou")


def test_a_bucket_that_may_not_be_listed():
    with memory_store({}):
        ERRORS["mem://bucket/out/labels-"] = Forbidden("no access to bucket")
        assert "no access to bucket" in results_error_of("mem://bucket/out")


# WriteRows


def failure(image):
    return Failure(image, "read", "not_found", "why", "r", "v")


def write_rows(output, rows, suffix="jsonl", **options):
    """Run ``WriteRows`` with failures, and name the shard; returns nothing, checks the output."""
    shards = Shards(output, layout.FAILURES, Schema(Failure), **options)
    folder = layout.new_temporary_folder(output)

    def check(paths):
        assert sorted(paths) == find(folder, "*")

    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        records = pipeline | beam.Create(rows, reshuffle=False)
        assert_that(records | WriteRows(folder, shards), check)
    found = find(folder, "*")
    assert len(found) == bool(rows)
    assert name_shards(shards, found) == [f"{output}/failures-00000-of-00001.{suffix}"]
    layout.remove_temporary_files(output)


def test_writes_rows(tmp_path):
    write_rows(str(tmp_path), [failure("a"), failure("ü")])
    [(name, content)] = files(tmp_path).items()
    assert name == "failures-00000-of-00001.jsonl"
    lines = content.decode().split("\n")
    assert lines.pop() == ""
    assert sorted(map(from_json, lines)) == [failure("a"), failure("ü")]


def test_writes_one_empty_shard_if_there_are_no_rows(tmp_path):
    write_rows(str(tmp_path), [])
    assert files(tmp_path) == {"failures-00000-of-00001.jsonl": b""}


@pytest.mark.parametrize("format_", ["csv", "parquet", "tfrecord"])
def test_a_file_without_rows_can_be_read_in_every_format(tmp_path, format_):
    write_rows(str(tmp_path), [], format_, formats=[format_])
    [path] = layout.find_shards(str(tmp_path), layout.FAILURES)
    assert list(read_rows(path)) == []


def test_shards_are_named_again_if_a_runner_tries_again(tmp_path):
    shards = Shards(str(tmp_path), layout.LABELS, Schema(Labeled), ("csv",), gzipped=True)
    made = [layout.new_part(f"{tmp_path}/parts", layout.LABELS, ".csv.gz") for _ in range(3)]
    (tmp_path / "parts").mkdir()
    for part in made:
        Path(part).write_text(part)
    Path(made[0]).rename(tmp_path / "labels-00000-of-00001.csv.gz")  # of another try
    (tmp_path / "failures-00000-of-00009.csv.gz").touch()
    (tmp_path / "labels-00000-of-00001.csv.md").touch()
    named = [f"{tmp_path}/labels-0000{n}-of-00002.csv.gz" for n in range(2)]
    for _ in range(2):
        assert name_shards(shards, made[1:]) == named
        assert {Path(path).read_text() for path in named} == set(made[1:])
        assert find(str(tmp_path), "*.csv.*") == sorted(
            [
                *named,
                f"{tmp_path}/failures-00000-of-00009.csv.gz",
                f"{tmp_path}/labels-00000-of-00001.csv.md",
            ]
        )
    Path(named[0]).unlink()
    with pytest.raises(StoreError, match="No such file"):  # lost, and not only renamed
        name_shards(shards, made[1:])


def test_no_file_without_bytes_on_s3(monkeypatch):
    written = {}
    monkeypatch.setattr(storage, "write_file", written.__setitem__)
    monkeypatch.setattr(parts, "find_shards", lambda *_: [])
    formats = ("jsonl", "csv", "parquet", "tfrecord")
    for gzipped, expected in ((False, [".csv", ".parquet"]), (True, None)):
        shards = Shards("s3://b/out", layout.FAILURES, Schema(Failure), formats, gzipped)
        named = name_shards(shards, [])
        suffixes = expected or list(shards.suffixes.values())
        assert named == sorted(f"s3://b/out/failures-00000-of-00001{one}" for one in suffixes)
        assert all(written[path] for path in named)


def test_of_several_formats_one_is_read(tmp_path):
    names = ["labels-0-of-2.csv", "labels-1-of-2.csv", "labels-0-of-1.parquet"]
    for name in [*names, "labels-0-of-1.txt", "labels-1.jsonl", "failures-0-of-1.csv.gz"]:
        (tmp_path / name).touch()
    paths = sorted(f"{tmp_path}/{name}" for name in names)
    assert layout.find_shards(str(tmp_path), layout.LABELS) == paths
    assert in_one_format(paths) == [f"{tmp_path}/labels-0-of-1.parquet"]
    assert in_one_format([]) == []
    everything = layout.find_shards(str(tmp_path), layout.LABELS, layout.FAILURES)
    assert everything == sorted([*paths, f"{tmp_path}/failures-0-of-1.csv.gz"])


def test_what_is_written_is_found(tmp_path):
    output = prepare(f"{tmp_path}/out")
    write_rows(output, [])
    assert "already has results" in results_error_of(output)
    assert find(output, "failures-*", "*.json") == [f"{output}/failures-00000-of-00001.jsonl"]


# KeepRows


@pytest.mark.parametrize("store", ["folder", "bucket"])
def test_keeps_rows_as_they_come(tmp_path, store):
    rows = [Failure(f"{n}.jpg", "read", "timeout", "why", "r") for n in range(5)]
    with memory_store({}) as objects:
        folder = str(tmp_path) if store == "folder" else "mem://bucket/.unfinished"
        with beam.Pipeline(runner="FnApiRunner") as pipeline:
            _ = pipeline | beam.Create(rows, reshuffle=False) | KeepRows(folder, every=2)
        contents = [*files(tmp_path).values(), *objects.values()]
        assert sorted(content.count(b"\n") for content in contents) == [1, 2, 2]
        kept = [from_json(line) for content in contents for line in content.splitlines()]
        assert sorted(kept) == rows
        assert len(find(folder, "failures-*.jsonl")) == 3


# write_file


def test_writes_a_file_and_nothing_else(tmp_path):
    path = f"{tmp_path}/summary.json"
    write_file(path, b"one")
    assert files(tmp_path) == {"summary.json": b"one"}
    write_file(path, b"2")
    assert files(tmp_path) == {"summary.json": b"2"}


def test_writes_to_a_bucket():
    with memory_store({}) as objects:
        write_file("mem://bucket/summary.json", b"one")
        assert objects == {"mem://bucket/summary.json": b"one"}


def test_tries_and_leaves_nothing(tmp_path):
    write_file(f"{tmp_path}/summary.json", b"one", keep=False)
    assert files(tmp_path) == {}


def test_a_file_that_cannot_be_renamed_leaves_nothing(tmp_path):
    (tmp_path / "summary.json").mkdir()
    with pytest.raises(StoreError, match="Rename operation failed"):
        write_file(f"{tmp_path}/summary.json", b"one")
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]
