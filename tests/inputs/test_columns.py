"""Tables as inputs: what each row is, and tables that come in many files."""

import gzip
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.stores import memory_store

from pipeline.errors import InputError
from pipeline.inputs.columns import TABLE
from pipeline.inputs.embedded import load_embedded
from pipeline.inputs.find import distinct, identify, list_images, only_images, require_images
from pipeline.inputs.folders import FOLDER, GLOB
from pipeline.inputs.passed_over import PassedOver, WhyPassedOver
from pipeline.inputs.table_sets import FOLDER_OF_TABLES, GLOB_OF_TABLES
from pipeline.records import Place, Reason


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(path, images, **columns):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"image": images, **columns}), path)


def refs(given, **options):
    source = identify(given, **options)
    require_images(source)
    return list(only_images(list_images(source)))


def here(given, **options):
    """The images of an input, with paths relative to the current folder."""
    return [ref.uri.removeprefix(f"{Path.cwd()}/") for ref in refs(given, **options)]


def problem(value, type_=None):
    """The problem of the only row of a Parquet table with this cell."""
    write("t.parquet", pa.array([value], type_))
    (ref,) = refs("t.parquet")
    assert ref.uri == f"{Path.cwd()}/t.parquet#row=1"
    assert ref.problem[0] is Reason.NO_URI
    return ref.problem[1]


UNLIKE_URL = "it does not begin with http:// or https://"
AS_TEXT = "it is an image as text (base64); give bytes in a Parquet file"


@pytest.mark.parametrize(
    ("value", "type_", "expected"),
    [
        (None, pa.string(), "is empty"),
        ("", None, "is empty"),
        (" \t\n", None, "is blank"),
        (float("nan"), None, "is empty"),
        (7, None, "is not text: 7"),
        (1.5, None, "is not text: 1.5"),
        (True, None, "is not text: true"),
        (["a.jpg"], None, 'is not text: ["a.jpg"]'),
        ([1, 2], pa.list_(pa.uint8()), "is not text: [1, 2]"),
        ({"name": "a.jpg"}, None, "has neither bytes nor a path"),
        ({"bytes": None, "path": " "}, None, "has neither bytes nor a path"),
        ({"bytes": [1, 2], "path": "a.jpg"}, None, "has 'bytes' of another type; give binary ones"),
        ({"bytes": "/9j/", "path": "a.jpg"}, None, "has 'bytes' of another type; give binary ones"),
        ("data:image/png;base64,iVBORw0KGgo", None, f"has a URI that cannot be used: {AS_TEXT}"),
        ("/9j/4AAQSkZJRg" * 1000 + "==", None, f"has a URI that cannot be used: {AS_TEXT}"),
        ("x" * 1000, pa.dictionary(pa.int32(), pa.string()), None),
        ("http:///a.jpg", None, "has a URI that cannot be used: it has no host"),
        ("http://a b/c", None, "has a URI that cannot be used: its host has spaces"),
        ("http://a:99999/c", None, "has a URI that cannot be used: Port out of range 0-65535"),
        ("https:/u:pw@h/a.jpg", None, f"has a URI that cannot be used: {UNLIKE_URL}"),
        ("blob:https://u:pw@h/a.jpg", None, f"has a URI that cannot be used: {UNLIKE_URL}"),
        ("//cdn.example.com/a.jpg?sig=abc", None, f"has a URI that cannot be used: {UNLIKE_URL}"),
        ("https://[::1/a.jpg", None, "has a URI that cannot be used: Invalid IPv6 URL"),
    ],
)
def test_cells_that_name_no_image(value, type_, expected):
    if expected is None:
        write("t.parquet", pa.array([value]).dictionary_encode())
        assert here("t.parquet") == [value]
    else:
        assert problem(value, type_) == f"'image' {expected}"


def test_bytes_may_be_the_size_of_the_file():
    write("t.parquet", [{"bytes": 34567, "path": "a.jpg"}])
    assert here("t.parquet") == ["a.jpg"]


def test_a_file_may_be_called_like_a_url():
    for name in ("https:/h/a.jpg", f"/{Path.cwd()}/c.d/a.jpg"):
        Path(name).parent.mkdir(parents=True)
        Path(name).touch()
        write("t.parquet", [name])
        (found,) = refs("t.parquet")
        assert found.problem is None


def test_a_long_cell_is_cut():
    assert len(problem(list(range(1000)))) < 150


def test_the_version_of_a_bad_row_is_what_it_has():
    versions = []
    for images, id_ in ((["a.jpg", None], 1), ([None, None], 1), ([7, 7], 1), ([8, 7], 1)):
        write("t.parquet", images, id=[id_] * 2)
        versions.append([ref.version for ref in refs("t.parquet", carry=("id",))])
    assert versions[0][1] == versions[1][0] == versions[1][1]
    assert versions[2][0] == versions[3][1] != versions[3][0]
    assert versions[2][0] != versions[1][0]


def test_images_inside():
    images = [{"bytes": b"1", "path": "a.jpg"}, {"bytes": b"2", "path": None}]
    write("t.parquet", [*images, {"bytes": None, "path": "c.jpg"}], label=["x", "y", "z"])
    one, two, three = refs("t.parquet", truth_column="label")
    path = f"{Path.cwd()}/t.parquet"
    assert [ref.uri for ref in (one, two)] == ["a.jpg", f"{path}#row=2"]
    assert one.place == Place(path, 1, "image", one.place.content)
    assert one.version == f"1 sha256:{one.place.content}"
    assert (three.uri, three.place) == (f"{Path.cwd()}/c.jpg", None)
    assert [ref.truth for ref in (one, two, three)] == ["x", "y", "z"]
    loaded = load_embedded([two, three, one])
    assert [(ref.truth, ref.data) for ref in loaded] == [("z", None), ("x", b"1"), ("y", b"2")]


@pytest.mark.parametrize("type_", [pa.binary(), pa.large_binary(), pa.binary(1)])
def test_bytes_of_every_type(type_):
    write("t.parquet", pa.array([b"1", None, b"3"], type_))
    one, none, three = refs("t.parquet")
    assert none.problem
    assert [ref.data for ref in load_embedded([one, three])] == [b"1", b"3"]


def test_a_table_that_has_changed_meanwhile():
    write("t.parquet", [b"1", b"2"])
    found = refs("t.parquet")
    write("t.parquet", [b"1"])
    assert [ref.problem and ref.problem[0] for ref in load_embedded(found)] == [
        None,
        Reason.UNREADABLE,
    ]
    Path("t.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"the table .*t\.parquet cannot be read: "):
        list(load_embedded(found))


def test_text_that_is_not_utf8_may_be_the_name_of_a_file():
    name = os.fsdecode(b"caf\xe9.jpg")
    Path(name).touch()
    Path("t.csv").write_bytes(b"image,id\ncaf\xe9.jpg,\xe9\n")
    (ref,) = refs("t.csv", carry=("id",))
    assert ref.uri.endswith("/caf%E9.jpg")
    assert ref.carried == {"id": r"\udce9"}
    assert ref.version


def test_a_line_of_a_list_that_is_no_url():
    Path("list.txt").write_text("# photos\na.jpg\nhttp://[x/b.jpg\nhttp:///c.jpg\nd.jpg\n")
    found = refs("list.txt")
    names = ["a.jpg", "list.txt#row=3", "list.txt#row=4", "d.jpg"]
    assert [ref.uri for ref in found] == [f"{Path.cwd()}/{name}" for name in names]
    assert found[1].problem == (Reason.NO_URI, "line 3 is not a URL: Invalid IPv6 URL")
    assert found[2].problem == (Reason.NO_URI, "line 4 is not a URL: it has no host")


# Tables in many files


def test_a_glob_of_tables():
    write("parts/b.parquet", ["1.jpg", None])
    write("parts/a.parquet", ["2.jpg"])
    Path("parts/c.csv").write_text("image\n3.jpg\n")
    assert identify("parts/*.parquet").kind is GLOB_OF_TABLES
    assert here("parts/*.parquet") == ["parts/2.jpg", "parts/1.jpg", "parts/b.parquet#row=2"]
    expected = [*here("parts/*.parquet"), "parts/3.jpg"]
    assert here("parts/*") == here("parts") == here("**/*") == expected
    orders = [ref.order for ref in refs("parts/*.parquet")]
    assert orders == [(0, 1), (1, 1), (1, 2)]
    assert identify("parts/a.parquet").kind is TABLE


def test_a_folder_as_spark_writes_it():
    write("t.parquet/year=2024/country=de/part-00000-x.snappy.parquet", ["1.jpg"], id=[1])
    write("t.parquet/year=2024/country=__HIVE_DEFAULT_PARTITION__/part-0.parquet", ["2.jpg"])
    write("t.parquet/year=2025/country=a%20b/part-00000-x.snappy.parquet", ["/3.jpg", None])
    write("t.parquet/image=raw/year=2023/country=fr/part-0.parquet", ["/4.jpg"])
    write("t.parquet/_temporary/part-9.parquet", ["no.jpg"])
    write("t.parquet/.staging/part-9.parquet", ["no.jpg"])
    for name in ("_SUCCESS", "_metadata", ".part-0.parquet.crc", "empty.csv"):
        Path("t.parquet", name).touch()
    source = identify("t.parquet", carry=("country", "year"))
    assert source.kind is FOLDER_OF_TABLES
    found = list(list_images(source))
    root = f"{Path.cwd()}/t.parquet"
    assert {
        ref.uri.removeprefix(root): tuple(ref.carried.values()) for ref in only_images(found)
    } == {
        "/year=2024/country=de/1.jpg": ("de", "2024"),
        "/year=2024/country=__HIVE_DEFAULT_PARTITION__/2.jpg": (None, "2024"),
        "/3.jpg": ("a b", "2025"),
        "/4.jpg": ("fr", "2023"),
        "/year=2025/country=a%20b/part-00000-x.snappy.parquet#row=2": ("a b", "2025"),
    }
    passed = {one.name.removeprefix(f"{root}/") for one in found if isinstance(one, PassedOver)}
    assert {"_SUCCESS", "empty.csv", "_temporary/part-9.parquet"} <= passed


def test_tables_in_a_bucket(tmp_path):
    write("a.parquet", ["1.jpg", "mem://other/2.jpg"])
    content = Path("a.parquet").read_bytes()
    store = {"mem://bucket/parts/a.parquet": content, "mem://bucket/parts/_SUCCESS": b""}
    with memory_store(store):
        for given in ("mem://bucket/parts", "mem://bucket/parts/*.parquet", "mem://bucket/p*/*"):
            assert here(given) == ["mem://bucket/parts/1.jpg", "mem://other/2.jpg"]


def test_tables_beside_images_are_passed_over():
    write("p/a.parquet", ["1.jpg"])
    Path("p/1.jpg").touch()
    for given, kind in (("p", FOLDER), ("p/*", GLOB), ("p/*.*", GLOB)):
        assert identify(given).kind is kind
        assert here(given) == ["p/1.jpg"]
        (passed,) = (one for one in list_images(identify(given)) if isinstance(one, PassedOver))
        assert passed.name.endswith("p/a.parquet")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("b.csv", b"file\nx\n", r"/b\.csv: has no column 'image'; its columns are file; name the"),
        ("b.parquet", b"x", r"/b\.parquet: cannot be read: is not a Parquet file"),
        ("b.csv.gz", b"x", r"/b\.csv\.gz: cannot be read: Not a gzipped file"),
    ],
)
def test_one_of_many_tables_that_cannot_be_read_is_named(name, content, message):
    write("parts/a.parquet", ["1.jpg"])
    Path("parts", name).write_bytes(content)
    with pytest.raises(InputError, match=rf"^input parts: {Path.cwd()}/parts{message}"):
        here("parts")


def test_an_image_carries_the_first_row_that_has_values():
    Path("t.csv").write_text("image,id,price\na.jpg,,\na.jpg,1,\na.jpg,2,3\n")
    (one,) = distinct(only_images(list_images(identify("t.csv", carry=("id", "price")))))
    assert one.carried == {"id": "1", "price": ""}


def test_tables_with_nothing_in_them_are_counted():
    write("parts/a.parquet", ["1.jpg"])
    blank = {"b.csv": b"\xef\xbb\xbf\r\n", "c.csv.gz": gzip.compress(b""), "d.jsonl": b"\n"}
    for name, content in blank.items():
        Path("parts", name).write_bytes(content)
    Path("parts/e.csv").write_text("image\n")  # no row, but the names of the columns
    found = list(list_images(identify("parts")))
    passed = {one.name: one.reason for one in found if isinstance(one, PassedOver)}
    assert passed == {f"{Path.cwd()}/parts/{name}": WhyPassedOver.EMPTY_TABLE for name in blank}
    assert len(found) == 1 + len(blank)


def test_a_link_to_a_table_that_is_gone_is_not_an_empty_table():
    write("parts/a.parquet", ["1.jpg"])
    Path("parts/b.parquet").symlink_to("gone.parquet")
    with pytest.raises(InputError, match=r"parts/b\.parquet: cannot be read: .*No such file"):
        here("parts")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("e/*.csv", "there are no rows in tables that match this pattern; passed over: 1 empty"),
        ("e", "there are no rows in the tables in this folder; passed over: 1 empty table"),
        ("none/*.csv", "there are no rows in tables that match this pattern"),
        ("e/x.csv", "has no column 'image': it is empty"),
    ],
)
def test_nothing_in_tables(given, message):
    Path("e").mkdir()
    Path("e/x.csv").touch()
    with pytest.raises(InputError, match=f"^input {given.replace('*', '[*]')}: {message}"):
        refs(given)
