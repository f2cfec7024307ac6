"""Parses files of class names in the common formats. No TensorFlow, no Beam.

    tench                            one name per line
    0:tench · 0,tench · 0 tench      an index and a name per line, in any order
    n01440764 tench, Tinca tinca     a WordNet id and a name per line
    ["tench", …] · {"0": "tench"} · {"tench": 0} · {"0": ["n01440764", "tench"]}     JSON
    {0: 'tench, Tinca tinca', …}     a Python dict, as it is often printed
    id,name                          CSV or TSV with a header; the index may have no title
    names: [tench, …]                YAML, as trainers of detectors have it

The content decides the format, not the suffix. A file that looks like a format but breaks its rules
is refused: the right number of lines does not mean the right names.
"""

from __future__ import annotations

import ast
import contextlib
import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

# Columns of a table and keys of an object, in lowercase; the first that is there counts.
_NAMES = ("name", "label", "class", "class_name", "classname", "display_name", "category", "title")
_INDICES = ("index", "id", "class_id", "label_id", "class_index", "idx", "number")

# The title of an index that pandas or R has written, and pandas' name for it.
_UNTITLED = ("", "unnamed:_0")

# In a configuration of Hugging Face, of a trainer of detectors, and of others.
_KEYS = ("id2label", "names", "labels", "classes", "class_names", "categories")

_INDEXED = re.compile(r"(\d+)\s*[:,;\t=]\s*(.*)|(\d+)\s+(\S.*)")
_WORDNET = re.compile(r"(n\d{8})(?:[\s:,;]+(.*))?")
_BROKEN_LITERAL = re.compile(r"""["'].*["']\s*,?|[\[\]{}]|["']?\w+["']?\s*:\s*["'].*["']\s*,?""")

# Where words of a column's name meet: classId, class id, class-id.
_HUMPS = re.compile(r"(?<=[a-z])(?=[A-Z])|[\s-]")

# An index behind the name, or in front with something around it.
_HIDDEN_INDICES = (
    re.compile(r"\W(\d+)\W*$"),
    re.compile(r"^\W*(?:class\s*)?(\d+)\W", re.IGNORECASE),
)
# The longest name of a class, in characters; a longer line is of another kind of file.
_MAX_NAME = 10_000

_LABEL_MAP = re.compile(r"item\s*\{.*\b(name|display_name|id)\s*:", re.DOTALL)


def parse_labels(data: bytes) -> tuple[str, ...]:
    """Parse class names, in the order of their indices.

    Args:
      data: the content of a file.

    Raises:
      ValueError: it is in no known format, or breaks the rules of its format; the message says
        which format it seems to be, and what is wrong.
    """
    text = _decode(data).replace("\r\n", "\n").replace("\r", "\n").strip("\n\f\v\x1a")
    if not text.strip():
        return ()
    try:
        names = _from_literal(text.strip()) or _from_text(text)
    except (csv.Error, RecursionError) as error:
        raise ValueError(f"is in no format of class names: {error}") from error
    for number, name in enumerate(names):
        if len(name) > _MAX_NAME:
            raise ValueError(
                f"is in no format of class names: that of class {number} has {len(name)} characters"
            )
        if "\n" in name.strip() or "\r" in name.strip():
            raise ValueError(f"the name of class {number} has a line break in it: {name!r}")
        if re.search("[\ud800-\udfff]", name):
            raise ValueError(f"the name of class {number} has half a character in it: {name!r}")
    return tuple(name.strip() for name in names)


def format_labels(names: Sequence[str]) -> bytes:
    """Write class names as a file that ``parse_labels`` reads back exactly.

    They are one per line, as everything reads them, unless they look like another format then, as
    "0: cat" does; those are a JSON list.

    Args:
      names: in the order of their indices.

    Raises:
      ValueError: no such file has these names; the message says which one is wrong.
    """
    for name in names:
        if name != name.strip() or not name:
            raise ValueError(f"the class name {name!r} is empty, or has spaces around it")
        if "\n" in name or "\r" in name:
            raise ValueError(f"the class name {name!r} has a line break in it")
        if any("\ud800" <= character <= "\udfff" for character in name):
            raise ValueError(f"the class name {name!r} cannot be written as UTF-8")
    for text in ("\n".join(names), json.dumps(names, ensure_ascii=False)):
        data = f"{text}\n".encode()
        with contextlib.suppress(ValueError):
            if parse_labels(data) == tuple(names):
                return data
    raise ValueError(f"the class names {', '.join(map(repr, names[:3]))} … cannot be read back")


def _decode(data: bytes) -> str:
    for mark, encoding in (
        (b"\xef\xbb\xbf", "utf-8-sig"),
        (b"\xff\xfe", "utf-16"),
        (b"\xfe\xff", "utf-16"),
    ):
        if data.startswith(mark):
            return data.decode(encoding)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"is not a UTF-8 text file: {error}") from error


def _from_literal(text: str) -> list[str] | None:
    """Parse names in JSON or Python's notation; return None if the text is in neither."""
    if text[0] not in "[{":
        return None
    try:
        return _from_value(json.loads(text), "JSON")
    except json.JSONDecodeError as error:
        wrong = f"is not valid JSON: {error}"
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        raise ValueError(wrong) from None
    return _from_value(value, "a Python literal")


def _from_value(value: Any, format_: str) -> list[str]:
    if isinstance(value, Mapping):
        for key in _KEYS:
            if isinstance(value.get(key), (Mapping, list, tuple)):
                return _from_value(value[key], format_)
        return _from_mapping(value, format_)
    if isinstance(value, (list, tuple)) and value:
        if all(isinstance(item, Mapping) for item in value):
            return _from_objects(value, format_)
        return [_name(item, format_) for item in value]
    raise ValueError(f"is {format_}, but neither a list nor a map of class names")


def _from_mapping(value: Mapping[Any, Any], format_: str) -> list[str]:
    indices = [_index(key) for key in value]
    if value and None not in indices:
        names = [_name(item, format_) for item in value.values()]
        return _in_order(indices, names, format_)
    indices = [item if type(item) is int else None for item in value.values()]
    if value and None not in indices:
        return _in_order(indices, [str(key) for key in value], format_)
    raise ValueError(f"is {format_}, but no map from indices to class names or the reverse")


def _from_objects(values: Sequence[Mapping[str, Any]], format_: str) -> list[str]:
    rows = [{str(key).lower(): item for key, item in value.items()} for value in values]
    name = _first(_NAMES, rows[0])
    if name is None:
        raise ValueError(f"is {format_}, but its entries have no {' or '.join(_NAMES[:3])}")
    names = [_name(row.get(name), format_) for row in rows]
    index = _first(_INDICES, rows[0])
    if index is None:
        return names
    return _in_order([_index(row.get(index)) for row in rows], names, format_)


def _name(value: Any, format_: str) -> str:
    """Return a name, or the last of an id and a name, as in Keras' list of ImageNet's classes."""
    if isinstance(value, (list, tuple)) and value and all(isinstance(x, str) for x in value):
        value = value[-1]
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise ValueError(f"is {format_}, but {value!r} in it is not a class name")
    return str(value)


def _index(value: Any) -> int | None:
    if type(value) is int:
        return value
    text = str(value).strip()
    return int(text) if text.isascii() and text.isdecimal() else None


def _in_order(indices: Sequence[int | None], names: Sequence[str], format_: str) -> list[str]:
    """Sort names by indices, which count from 0 or from 1.

    Raises:
      ValueError: the indices have gaps or duplicates.
    """
    pairs = sorted(
        (index, name) for index, name in zip(indices, names, strict=True) if index is not None
    )
    known = [index for index, _ in pairs]
    if len(known) == len(names) and known in (
        list(range(len(names))),
        list(range(1, len(names) + 1)),
    ):
        return [name for _, name in pairs]
    seen = f"from {known[0]} to {known[-1]}" if known else "no numbers"
    raise ValueError(
        f"is {format_} with indices, but they do not count from 0 or 1 without gaps or doubles: "
        f"{len(names)} names, indices {seen}"
    )


def _from_text(text: str) -> list[str]:
    rows = text.split("\n")
    text = text.strip()
    lines = [line.strip() for line in text.split("\n")]
    filled = [line for line in lines if line]
    if _LABEL_MAP.search(text):
        raise ValueError("is a label map in protobuf's text format, which is not read")
    if re.match(r"(names|labels|classes|class_names|nc|path|train)\s*:", text):
        return _from_yaml(text)
    # A tab in front of a line ends a cell without a title.
    table = _from_table([row.rstrip() for row in rows if row.strip()])
    if table is not None:
        return table
    matches = [_INDEXED.fullmatch(line) for line in filled]
    if len(filled) > 1 and all(matches):
        found = [match.groups() for match in matches if match]
        indices = [int(one if one is not None else two) for one, _, two, _ in found]
        return _in_order(indices, [a if a is not None else b for _, a, _, b in found], "text")
    wordnet = [_WORDNET.fullmatch(line) for line in filled]
    if all(wordnet):
        names = [match[2] or match[1] for match in wordnet if match]
        _refuse_hidden_indices(names)
        return names
    if len(filled) > 1 and all(map(_BROKEN_LITERAL.fullmatch, filled)):
        raise ValueError("is a part of a list in JSON or Python, without its brackets")
    _refuse_hidden_indices(filled)
    return lines


def _refuse_hidden_indices(lines: Sequence[str]) -> None:
    """Refuse lines that count their classes in a way that is not read, and not in their own order.

    Raises:
      ValueError: they do.
    """
    for pattern in _HIDDEN_INDICES:
        matches = [pattern.search(line) for line in lines]
        if len(lines) < 2 or not all(matches):
            continue
        found = [int(match[1]) for match in matches if match]
        counts = sorted(found) in (list(range(len(found))), list(range(1, len(found) + 1)))
        if counts and found != sorted(found):
            raise ValueError(
                "has a number in each line, but in a place from which it is not read as the index "
                "of a class, and the lines are not in that order; write it in front, as in 0:name"
            )


def _from_yaml(text: str) -> list[str]:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(value, Mapping) or _first(_KEYS, value) is None:
        raise ValueError("is YAML, but has no list of names")
    return _from_value(value, "YAML")


def _from_table(lines: Sequence[str]) -> list[str] | None:
    """Parse names in a table whose header says which column has them; None if it is no table."""
    for delimiter in (",", "\t", ";"):
        rows = list(csv.reader(io.StringIO("\n".join(lines)), delimiter=delimiter))
        header = [_HUMPS.sub("_", cell.strip()).lower() for cell in rows[0]]
        name, index = _first(_NAMES, header), _first(_INDICES, header)
        if index is None and header[0] in _UNTITLED and len(header) > 1:
            index = header[0]
            if name is None and not _are_indices([row[0] for row in rows[1:]]):
                continue  # a class may be called ", other"
            if name is None and len(header) > 2:
                raise ValueError(
                    "is a table whose header does not say which column has the class names; call "
                    "it name"
                )
            name = name or header[1]
        if name is None or (index is None and len(header) < 2) or len(rows) < 2:
            continue
        described = {"wnid", "synset", "description"} & {*header}
        if len(header) > 1 and index is None and not described:
            continue  # a class may be called "label, title"
        if any(len(row) != len(header) for row in rows):
            raise ValueError("is a table, but not all of its rows have as many cells as its header")
        column = header.index(name) if name else 1
        names = [row[column].strip() for row in rows[1:]]
        if index is None:
            return names
        indices = [_index(row[header.index(index)]) for row in rows[1:]]
        return _in_order(indices, names, "a table")
    return None


def _are_indices(cells: Sequence[str]) -> bool:
    return bool(cells) and all(_index(cell) is not None for cell in cells)


def _first(wanted: Sequence[str], among: Any) -> str | None:
    return next((name for name in wanted if name in among), None)
