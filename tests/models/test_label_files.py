import json
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.models.label_files import format_labels, parse_labels

NAMES = ("tench, Tinca tinca", "goldfish", "crane", "crane", "maillot: tank suit", "l'été")


def lines(*pairs):
    return "\n".join(pairs) + "\n"


def numbered(separator, start=0):
    """Indices in front of the names, sorted as text, as ``sort`` does."""
    many = [f"name {n}" for n in range(12)]
    return lines(*sorted(f"{n + start}{separator}{name}" for n, name in enumerate(many)))


FORMATS = {
    "lines": lines(*NAMES),
    "CRLF": "\r\n".join(NAMES),
    "a JSON list": json.dumps(NAMES),
    "a JSON list of many lines": json.dumps(NAMES, indent=0),
    "a JSON map": json.dumps(dict(enumerate(NAMES))),
    "a JSON map, unordered": json.dumps({str(n): NAMES[n] for n in (3, 1, 5, 0, 4, 2)}),
    "Keras' JSON": json.dumps({str(n): [f"n{n:08}", name] for n, name in enumerate(NAMES)}),
    "Hugging Face's": json.dumps({"model": "vit", "id2label": dict(enumerate(NAMES))}),
    "objects": json.dumps([{"id": n + 1, "name": name} for n, name in enumerate(NAMES)]),
    "a Python dict": "{" + ",\n ".join(f"{n}: {name!r}" for n, name in enumerate(NAMES)) + "}",
    "a Python list": repr(list(NAMES)),
    "index and name": lines(*(f"{n}: {name}" for n, name in enumerate(NAMES))),
    "WordNet": lines(*(f"n{n:08} {name}" for n, name in enumerate(NAMES))),
    "CSV": "id,label\n" + lines(*(f'{n},"{name}"' for n, name in enumerate(NAMES))),
    "CSV of pandas": ",label\n" + lines(*(f'{n},"{name}"' for n, name in enumerate(NAMES))),
    "CSV of pandas, no title": ",0\n" + lines(*(f'{n},"{name}"' for n, name in enumerate(NAMES))),
    "CSV of pandas, twice": "Unnamed: 0,label,images\n"
    + lines(*(f'{n},"{NAMES[n]}",7' for n in (3, 1, 5, 0, 4, 2))),
    "CSV of R": '"","x"\n' + lines(*(f'"{n}","{name}"' for n, name in enumerate(NAMES, 1))),
    "TSV of pandas": "\tlabel\n" + lines(*(f"{n}\t{name}" for n, name in enumerate(NAMES))),
    "TSV": "Index\tWNID\tName\n" + lines(*(f"{n}\tn1\t{name}" for n, name in enumerate(NAMES))),
    "YAML": "nc: 6\nnames:\n" + lines(*(f"  - {json.dumps(name)}" for name in NAMES)),
    "a YAML map": "names:\n" + lines(*(f"  {n}: {json.dumps(x)}" for n, x in enumerate(NAMES))),
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_names_in_the_formats_that_people_have(name, encoding):
    assert parse_labels(FORMATS[name].encode(encoding)) == NAMES


@pytest.mark.parametrize("separator", [":", ": ", ",", ", ", "\t", " ", ";"])
@pytest.mark.parametrize("start", [0, 1])
def test_indices_are_obeyed(separator, start):
    expected = tuple(f"name {n}" for n in range(12))
    assert parse_labels(numbered(separator, start).encode()) == expected


def test_a_map_from_names_to_indices():
    assert parse_labels(b'{"dog": 1, "cat": 0}') == ("cat", "dog")


def test_names_that_are_numbers():
    assert parse_labels(b"0\n1\n2\n") == ("0", "1", "2")
    assert parse_labels(b"[7, 8, 9]") == ("7", "8", "9")


def test_names_that_only_look_like_a_format():
    for names in (
        ("2 door", "sedan"),
        ("label, title", "other"),
        ("item {", "x"),
        ("name", "dog"),
        (", other", "x, y"),
    ):
        assert parse_labels("\n".join(names).encode()) == names


def test_an_empty_line_in_the_middle_stays_a_class():
    assert parse_labels(b"cat\n\ndog\n\n\n") == ("cat", "", "dog")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('"tench",\n"goldfish",\n"crane"\n', "a part of a list in JSON or Python"),
        ("'0': 'tench',\n'1': 'goldfish',\n", "a part of a list in JSON or Python"),
        ('["tench",\n"goldfish",', "is not valid JSON"),
        ('["tench", {"a": 1}]', "is not a class name"),
        ("6:tench\n7:goldfish\n8:crane\n", "indices from 6 to 8"),
        ("0:tench\n2:goldfish\n", "indices from 0 to 2"),
        ("0 tench\n0 goldfish\n", "indices from 0 to 0"),
        ('{"0": "tench", "2": "goldfish"}', "indices from 0 to 2"),
        ('{"tench": "a", "goldfish": "b"}', "no map from indices to class names"),
        ('["tench", "gold\\nfish"]', "the name of class 1 has a line break"),
        ("item {\n id: 1\n name: 'tench'\n}\n", "protobuf's text format"),
        ("id,label\n0,a\n1\n", "not all of its rows have as many cells"),
        ("id,label\n5,a\n6,b\n", "indices from 5 to 6"),
        (",label\n5,a\n6,b\n", "indices from 5 to 6"),
        (",label\n0.0,a\n1.0,b\n", "indices no numbers"),
        (",breed,images\n0,a,7\n1,b,9\n", "does not say which column has the class names"),
        ("nc: 2\ntrain: photos\n", "is YAML, but has no list of names"),
        ("cat,1\ndog,0\n", "has a number in each line"),
        ("cat 2\ndog 1\n", "has a number in each line"),
        ("2. cat\n1. dog\n", "has a number in each line"),
        ("class 1: cat\nclass 0: dog\n", "has a number in each line"),
        ("n02119789 2 kit_fox\nn02100735 1 setter\n", "has a number in each line"),
        ("[" * 100_000, "is in no format of class names|is not valid JSON"),
        ("x" * 200_000 + "\ny", "is in no format of class names"),
        ('["\\ud83d x", "y"]', "has half a character"),
        ("{}", "no map"),
        ("[]", "neither a list nor a map"),
    ],
)
def test_what_does_not_hold_to_its_format_is_refused(content, problem):
    with pytest.raises(ValueError, match=problem):
        parse_labels(content.encode())


@given(st.lists(st.text(st.characters()), min_size=2))
@example(["0: cat", "1: dog"])
@example(['["a"', "b"])
@example(["n01440764 x", "n01440765 y"])
@example(["\ufeffa", "b"])
@example(["a", "b\x1a"])
@example(["\udc80", "a"])
@example(["id,name", "0,a"])
@example(["names: [a", "b]"])
@example(["'a',", "'b',"])
@example(["item {", "name: 'x'"])
def test_what_is_written_is_read_back_or_refused(names):
    try:
        data = format_labels(names)
    except ValueError:
        assert any(name != name.strip() or not name for name in names) or re.search(
            "[\n\r\ud800-\udfff]", "".join(names)
        )
    else:
        assert parse_labels(data) == tuple(names)


def test_names_that_look_like_no_format_are_written_one_per_line():
    names = ("n01440764", "tench, Tinca tinca", "l'été", "maillot: tank suit")
    assert format_labels(names).decode() == "".join(f"{name}\n" for name in names)
    assert format_labels(["0: cat", "1: dog"]) == b'["0: cat", "1: dog"]\n'


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "'' is empty, or has spaces around it"),
        (" a", "' a' is empty, or has spaces around it"),
        ("a\nb", r"'a\\nb' has a line break in it"),
        ("\udc80", r"'\\udc80' cannot be written as UTF-8"),
    ],
)
def test_names_that_would_not_be_read_back(name, problem):
    with pytest.raises(ValueError, match=problem):
        format_labels(["b", name])


def test_a_file_without_names():
    assert parse_labels(b"") == parse_labels(b"\n\n") == ()


def test_bytes_that_are_no_text():
    with pytest.raises(ValueError, match="is not a UTF-8 text file"):
        parse_labels(b"\x80\x81 tench")


def test_line_ends_of_old_macs():
    assert parse_labels(b"cat\rdog\r") == ("cat", "dog")


def test_numbers_that_are_in_the_order_of_the_lines_or_do_not_count_are_names():
    assert parse_labels(b"digit 0\ndigit 1\n") == ("digit 0", "digit 1")
    assert parse_labels(b"Boeing 737\nBoeing 707\n") == ("Boeing 737", "Boeing 707")


def test_columns_by_any_spelling():
    assert parse_labels(b"Class Name,classId\ncat,1\ndog,0\n") == ("dog", "cat")
