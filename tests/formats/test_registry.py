"""The table of the row formats, and that it names modules that do what it says."""

import inspect
import subprocess
import sys

import pytest

from pipeline.formats.registry import (
    FORMATS,
    Implementation,
    fastest,
    format_of,
    in_one_format,
    is_taken,
    suffix_of,
    table_suffixes,
)


def test_the_suffixes():
    assert suffix_of("/a/labels-00000-of-00001.jsonl") == ".jsonl"
    assert suffix_of("gs://b/x.parquet") == ".parquet"
    assert suffix_of("x.csv.gz") == ".csv.gz"
    assert suffix_of("x.jsonl.0123.tmp") is None
    assert suffix_of("x.txt") is None
    assert suffix_of("x.parquet.gz") is None
    assert FORMATS["parquet"].suffix(gzipped=True) == ".parquet"
    assert FORMATS["tfrecord"].suffix(gzipped=True) == ".tfrecord.gz"


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_is_found_by_the_names_of_its_files(name):
    assert FORMATS[name].name == name
    for gzipped in (False, True):
        assert format_of(f"labels-0-of-1{FORMATS[name].suffix(gzipped)}") is FORMATS[name]


def test_the_fastest_comes_first():
    assert fastest(["csv", "parquet"]).name == "parquet"
    assert fastest(["csv"]).name == "csv"
    assert in_one_format(["a.csv", "b.parquet", "b.csv"]) == ["b.parquet"]
    assert in_one_format(["a.csv.gz", "b.csv"]) == ["b.csv"]


def test_tables_in_words():
    assert table_suffixes() == ".csv, .jsonl or .parquet"


@pytest.mark.parametrize("name", FORMATS)
def test_a_module_has_what_the_registry_promises(name):
    module = FORMATS[name].load()
    assert hasattr(module, "read_table") is FORMATS[name].is_table
    for function in ("writer", "read_rows", "read_table")[: 2 + FORMATS[name].is_table]:
        expected = list(inspect.signature(getattr(Implementation, function)).parameters)
        assert list(inspect.signature(getattr(module, function)).parameters) == expected[1:]


@pytest.mark.parametrize(
    "name", ["image", "stage", "truth", "image/filename", "image/class/label", "predictions/score"]
)
def test_names_that_no_column_may_be_carried_under(name):
    assert is_taken(name)
    assert not is_taken(f"my_{name}")


def test_names_are_there_without_beam():
    heavy = "{'apache_beam', 'pyarrow', 'tensorflow'}"
    code = f"import pipeline.formats.registry, sys; print({heavy} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
