import json
import re

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to

from pipeline.errors import RunError
from pipeline.inputs.apart import without_version
from pipeline.label.resume import SetAsideDone, SortedImages, sort_images
from pipeline.records import Failure, ImageRef, Labeled, Place
from pipeline.redaction import Naming, name_of


def labeled(image, version="v1", run_id="r1"):
    return Labeled(image, "dog", 0, 1.0, (), 1, 1, "m", "f", run_id, "t", version)


def failed(image, reason="corrupt", version="v1", run_id="r1"):
    return Failure(image, "read", reason, "why", run_id, version)


def ref(uri="a", version="v1", place=None):
    return ImageRef(uri, version=version, place=place)


def sort(found, attempts=(), earlier=()):
    """What becomes of the images of one name."""
    lines = [row.to_json() for row in attempts]
    brief = [(row.run_id, row.version, getattr(row, "is_for_good", True)) for row in earlier]
    return list(sort_images(found, lines, brief))


# Attempts of one run


@pytest.mark.parametrize("row", [labeled("a"), failed("a")])
def test_a_row_of_an_earlier_attempt_is_taken_over(row):
    outcome = "labeled" if isinstance(row, Labeled) else "failed"
    assert sort([ref()], [row]) == [("found", ref()), (outcome, row)]


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [failed("a", "timeout")],
        [failed("a", "unavailable")],
        [failed("a", "not_found")],
        [labeled("a", "v0")],
    ],
)
def test_what_is_not_done_for_good_is_new(rows):
    assert sort([ref()], rows) == [("found", ref()), ("new", ref())]


def test_a_bundle_that_was_tried_again_has_left_its_rows_twice():
    assert sort([ref()], [labeled("a"), labeled("a")])[1:] == [("labeled", labeled("a"))]


def test_a_label_counts_more_than_a_failure():
    rows = [failed("a", "timeout"), failed("a"), labeled("a")]
    assert sort([ref()], rows)[1:] == [("labeled", labeled("a"))]


def test_an_image_that_is_gone_comes_to_nothing():
    assert sort([], [labeled("a")], [labeled("a")]) == []


# Earlier runs


def test_what_an_earlier_run_has_done_is_skipped():
    for row in (labeled("a"), failed("a")):
        assert sort([ref()], earlier=[row]) == [("found", ref()), ("skipped", ref())]


@pytest.mark.parametrize(
    ("earlier", "outcome"),
    [
        ([labeled("a", "v0", "r1")], "new"),
        ([labeled("a", "v0", "r1"), labeled("a", "v1", "r2")], "skipped"),
        ([labeled("a", "v1", "r1"), labeled("a", "v0", "r2")], "new"),  # and changed back
        ([failed("a", "timeout")], "new"),
        ([failed("a", "timeout", "v1", "r1"), labeled("a", "v1", "r2")], "skipped"),
        ([failed("a", "forbidden")], "new"),
        ([failed("a", "prediction_failed")], "new"),
        ([failed("a", "too_large")], "skipped"),
    ],
)
def test_the_last_run_decides(earlier, outcome):
    for rows in (earlier, earlier[::-1]):
        assert sort([ref()], earlier=rows) == [("found", ref()), (outcome, ref())]


def test_a_row_of_this_run_comes_before_those_of_earlier_runs():
    assert sort([ref()], [labeled("a")], [failed("a")])[1:] == [("labeled", labeled("a"))]


# Names


def test_an_image_that_was_found_twice_is_one():
    assert sort([ref(), ref(version="")]) == [("found", ref()), ("new", ref())]


def test_records_of_one_name_are_two_images():
    one, two = ref(place=Place("f.tfrecord", 3)), ref(place=Place("g.tfrecord", 0))
    renamed = two._replace(uri="g.tfrecord#0")
    expected = [("found", one), ("new", one), ("found", renamed), ("new", renamed)]
    assert sort([two, one, one]) == expected
    assert sort([one, two], [labeled("a")])[1:] == [("labeled", labeled("a")), *expected[2:]]


def test_of_rows_of_one_image_the_first_with_values_counts():
    rows = [
        ref()._replace(carried={"id": value}, order=order)
        for value, order in (
            ("d", (1, 0, 1)),
            ("b", (0, 0, 9)),
            (None, (0, 0, 1)),
            ("c", (0, 1, 2)),
        )
    ]
    for found in (rows, rows[::-1]):
        assert sort(found)[0] == ("found", ref()._replace(carried={"id": "b"}))


def test_images_inside_of_tables_are_one_if_their_bytes_are():
    one, same, other = (
        ref(version=f"3 sha256:{content}")._replace(
            place=Place(f"{table}.parquet", 7, "image", content), order=order
        )
        for table, content, order in (("b", "x", (0, 1)), ("a", "x", (1, 1)), ("c", "y", (0, 2)))
    )
    renamed = other._replace(uri="c.parquet#row=7")
    expected = [one._replace(order=()), renamed._replace(order=())]
    for found in ([one, same, other], [other, same, one]):
        assert [record for tag, record in sort(found) if tag == "found"] == expected


# The join


def write(path, *rows):
    path.write_text("".join(f"{row.to_json()}\n" for row in rows))


def join(tmp_path, refs):
    """Run ``SetAsideDone``; returns a function that checks its outputs."""

    def check(**expected):
        with beam.Pipeline(runner="FnApiRunner") as pipeline:
            outputs = (
                pipeline
                | beam.Create(refs)
                | SetAsideDone(
                    [f"{tmp_path}/.unfinished/{name}-*.jsonl" for name in ("labels", "failures")],
                    [f"{tmp_path}/run=1/{name}-*.jsonl" for name in ("labels", "failures")],
                )
            )
            expected.setdefault("told_apart", [])
            expected.setdefault("told_apart", [])
            for name in SortedImages._fields:
                images = getattr(outputs, name) | name >> beam.Map(
                    lambda one: one if isinstance(one, int) else getattr(one, "image", one[0])
                )
                assert_that(images, equal_to(expected[name]), label=f"check {name}")

    return check


def test_the_join(tmp_path):
    for folder in (".unfinished", "run=1"):
        (tmp_path / folder).mkdir()
    write(tmp_path / ".unfinished" / "labels-1.jsonl", labeled("a"), labeled("gone"))
    write(tmp_path / ".unfinished" / "labels-2.jsonl", labeled("a"))
    write(tmp_path / ".unfinished" / "failures-1.jsonl", failed("b"))
    write(tmp_path / "run=1" / "labels-0.jsonl", labeled("c"), labeled("changed", "v0"))
    write(tmp_path / "run=1" / "failures-0.jsonl", failed("d", "timeout"))
    refs = [ref(name) for name in ("a", "a", "b", "c", "d", "e", "changed")]
    join(tmp_path, refs)(
        found=["a", "b", "c", "d", "e", "changed"],
        new=["d", "e", "changed"],
        skipped=["c"],
        labeled=["a"],
        failed=["b"],
        merged=[1],
        gone=[1],
    )


def test_secrets_are_no_part_of_a_name(tmp_path):
    (tmp_path / ".unfinished").mkdir()
    write(tmp_path / ".unfinished" / "labels-1.jsonl", labeled("https://host/a.jpg"))
    signed = [
        ref("https://host/a.jpg?X-Amz-Signature=new"),
        ref("https://user:pw@host/b.jpg"),
        ref("https://host/c.jpg?id=1"),
        ref("https://host/c.jpg?id=2"),
    ]
    join(tmp_path, signed)(
        found=[each.uri for each in signed],
        new=[each.uri for each in signed[1:]],
        skipped=[],
        labeled=["https://host/a.jpg"],
        failed=[],
        merged=[],
        gone=[],
    )


def test_with_nothing_done_yet(tmp_path):
    join(tmp_path, [ref("a"), ref("b")])(
        found=["a", "b"], new=["a", "b"], skipped=[], labeled=[], failed=[], merged=[], gone=[]
    )


def test_a_damaged_row_fails_the_run(tmp_path):
    (tmp_path / ".unfinished").mkdir()
    (tmp_path / ".unfinished" / "labels-1.jsonl").write_text(json.dumps({"image": "a"}) + "\n")
    with pytest.raises(
        (RunError, RuntimeError), match=r"labels-1\.jsonl is damaged: it contains something"
    ):
        join(tmp_path, [ref("a")])(**{name: [] for name in SortedImages._fields})


# Columns and truth of lists


def test_columns_are_carried_from_a_row_that_has_some():
    """However the image was also found: by a listing, which knows its version, but no columns."""
    listed = ref()._replace(carried={"id": None})
    named = ref(version="")._replace(carried={"id": "7"})
    for found in ([listed, named], [named, listed]):
        [(_, kept), (outcome, _)] = sort(found)
        assert (kept.version, kept.carried, outcome) == ("v1", {"id": "7"}, "new")


# URIs of which the names are the same


X = "https://h/x.jpg"


def outcomes(found, attempts=(), earlier=()):
    """What becomes of the images of one name, by the names that they get."""
    sorted_ = sort(found, attempts, earlier)
    records = [(tag, record) for tag, record in sorted_ if tag != "found"]
    return {
        name_of(record.uri, record.naming) if isinstance(record, ImageRef) else record.image: tag
        for tag, record in records
    }


def test_uris_that_differ_in_a_signature_of_a_known_kind_are_one_image():
    signed = f"{X}?X-Amz-Date={{0}}&X-Amz-Signature={{0}}"
    assert outcomes([ref(signed.format(n)) for n in range(3)]) == {X: "new"}
    assert outcomes([ref(f"{X}?ex={n}&is={n}&hm={n}") for n in range(3)]) == {X: "new"}


def test_uris_that_differ_in_another_credential_are_different_images():
    found = [ref(f"{X}?token=AAA", "v1"), ref(f"{X}?token=BBB", "v2"), ref(f"{X}?token=AAA", "v1")]
    both = outcomes(found)
    assert sorted(both.values()) == ["new", "new"]
    assert all(re.fullmatch(rf"{re.escape(X)}#version=[0-9a-f]{{12}}", name) for name in both)
    assert outcomes(found[::-1]) == both
    # With other tokens they are the same images.
    rows = [
        labeled(name, version) for name, version in zip(sorted(both), ["v1", "v2"], strict=True)
    ]
    assert {without_version(row.image) for row in rows} == {X}
    anew = [ref(f"{X}?token=DDD", "v1"), ref(f"{X}?token=CCC", "v2")]
    assert outcomes(anew, rows) == dict.fromkeys(both, "labeled")
    assert outcomes(anew, earlier=rows) == dict.fromkeys(both, "skipped")
    third = outcomes([*anew, ref(f"{X}?token=EEE", "v3")], earlier=rows)
    assert {name: third[name] for name in both} == dict.fromkeys(both, "skipped")
    assert sorted(third.values()) == ["new", "skipped", "skipped"]


@pytest.mark.parametrize("version", ["", "v1"])
def test_images_without_a_version_of_their_own_are_numbered_and_never_done(version):
    found = [ref(f"{X}?token={token}", version) for token in ("AAA", "BBB")]
    names = [f"{X}#number=1", f"{X}#number=2"]
    rows = [labeled(X, version), *(labeled(name, version) for name in names)]
    assert outcomes(found, rows, rows) == dict.fromkeys(names, "new")


def test_an_image_that_was_one_of_several_is_done_when_it_is_alone():
    found = [ref(f"{X}?token=AAA", "v1"), ref(f"{X}?token=BBB", "v2")]
    name = next(name for name in outcomes(found) if name)
    assert outcomes([ref(f"{X}?token=CCC", "v1")], [labeled(name, "v1")]) == {X: "labeled"}


def test_flags_say_which_parameters_identify():
    found = [
        ref(f"{X}?token={n}&v={n}", "")._replace(naming=Naming(drop=frozenset(["v"])))
        for n in (1, 1)
    ]
    assert outcomes(found) == {X: "new"}
    found = [one._replace(uri=f"{one.uri}&sig={n}") for n, one in enumerate(found)]
    assert outcomes(found) == {f"{X}#number=1": "new", f"{X}#number=2": "new"}
    found = [one._replace(naming=Naming(drop=frozenset(["sig", "v"]))) for one in found]
    assert outcomes(found) == {X: "new"}
