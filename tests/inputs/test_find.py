import os
import zlib
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to
from google.api_core.exceptions import Forbidden
from helpers.http_server import Answer, HttpServer, unused_url
from helpers.stores import ERRORS, OPENED, memory_store, public_folder, unprivileged
from helpers.tfrecords import write_tfrecord

from pipeline import storage
from pipeline.errors import ImageError, InputError
from pipeline.inputs.embedded import load_embedded
from pipeline.inputs.find import (
    FindImages,
    have_only_files,
    identify,
    list_images,
    only_images,
    require_images,
)
from pipeline.inputs.first import first
from pipeline.inputs.folders import FOLDER, GLOB
from pipeline.inputs.kinds import Input
from pipeline.inputs.lists import LIST
from pipeline.inputs.single import IMAGE
from pipeline.inputs.tfrecords import TFRECORD
from pipeline.records import ImageRef, Place
from pipeline.storage.read import read_bytes

pytestmark = pytest.mark.usefixtures("servers_here")


def make(folder, *names):
    """Make empty files below a folder, and the folder; return it."""
    folder.mkdir(exist_ok=True)
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def understand(given):
    source = identify(given)
    require_images(source)
    return source


def list_uris(source):
    return [ref.uri for ref in only_images(list_images(source))]


def found(given):
    """The URIs behind an input, sorted; those in the current folder relative to it."""
    return sorted(uri.removeprefix(f"{Path.cwd()}/") for uri in list_uris(understand(str(given))))


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


# Folders


def test_a_folder_with_its_subfolders(tmp_path):
    make(
        tmp_path, "p/a.jpg", "p/b.JPEG", "p/sub/c.Png", "p/sub/deep/d.webp", "p/e.heic", "other.jpg"
    )
    assert found("p") == ["p/a.jpg", "p/b.JPEG", "p/e.heic", "p/sub/c.Png", "p/sub/deep/d.webp"]


def test_what_is_no_image_in_a_folder_is_left_out(tmp_path):
    make(tmp_path, "p/a.jpg", "p/truth.csv", "p/list.txt", "p/jpg", "p/b.jpg.part", "p/c.mp4")
    assert found("p") == ["p/a.jpg"]


def test_hidden_files_and_folders_are_left_out(tmp_path):
    make(
        tmp_path, ".h/p/a.jpg", ".h/p/.b.jpg", ".h/p/._c.jpg", ".h/p/.git/d.jpg", ".h/p/x/.y/e.jpg"
    )
    assert found(".h/p") == [".h/p/a.jpg"]


@pytest.mark.parametrize("given", ["p", "p/", "./p", "q/../p", "{cwd}/p", "{uri}", "{uri}/"])
def test_every_way_to_name_a_folder_gives_the_same_absolute_paths(tmp_path, given):
    make(tmp_path, "p/a.jpg", "q/b.jpg")
    given = given.format(cwd=tmp_path, uri=(tmp_path / "p").as_uri())
    understood = understand(given)
    assert understood == Input(FOLDER, f"{tmp_path}/p", given)
    assert list_uris(understood) == [f"{tmp_path}/p/a.jpg"]


def test_the_home_folder(tmp_path, monkeypatch):
    make(tmp_path, "home/p/a.jpg")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert found("~/p") == ["home/p/a.jpg"]


@pytest.mark.parametrize("name", ["photos [2024]", "a b", "ü✓", "what?", "*", "new\nline", "a%20b"])
def test_folders_and_files_of_any_name(tmp_path, name):
    make(tmp_path, f"{name}/{name}.jpg")
    assert found(name) == [f"{name}/{name}.jpg"]
    assert found(f"{name}/{name}.jpg") == [f"{name}/{name}.jpg"]


def test_names_that_are_not_utf8_are_escaped_and_can_be_read(tmp_path):
    folder = os.fsencode(make(tmp_path / "p"))
    path = Path(os.fsdecode(folder + b"/caf\xe9 1.jpg"))
    path.write_bytes(b"1")
    (tmp_path / "list.txt").write_bytes(b"p/caf\xe9 1.jpg\n")
    uri = f"file://{tmp_path}/p/caf%E9%201.jpg"
    for given in ("p", "p/*", "p/*.jpg", str(path), uri, "list.txt"):
        assert found(given) == [uri]
    assert read_bytes(uri) == b"1"
    assert versions("p") == {"caf%E9%201.jpg": storage.version(str(path))}


def test_links(tmp_path):
    make(tmp_path, "p/a.jpg", "elsewhere/b.jpg", "elsewhere/sub/c.jpg")
    (tmp_path / "p/linked.jpg").symlink_to(tmp_path / "elsewhere/b.jpg")
    (tmp_path / "p/broken.jpg").symlink_to(tmp_path / "nowhere")  # fails when it is read, in sight
    (tmp_path / "p/folder").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "p/circle").symlink_to(tmp_path / "p")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    expected = ["p/a.jpg", "p/broken.jpg", "p/folder/b.jpg", "p/folder/sub/c.jpg", "p/linked.jpg"]
    assert found("p") == found("p/**/*.jpg") == expected
    assert found("link") == ["link/b.jpg", "link/sub/c.jpg"]
    assert found("p/folder/*") == ["p/folder/b.jpg"]
    assert found("p/fold*/*.jpg") == ["p/folder/b.jpg"]


def test_a_folder_without_images(tmp_path):
    make(tmp_path, "p/sub/notes.md", "p/.hidden.jpg")
    with pytest.raises(InputError, match=r"input p: no images found .*\.jpg.*give a glob"):
        understand("p")


def test_an_unreadable_folder():
    with public_folder() as folder:
        make(folder, "closed/a.jpg").joinpath("closed").chmod(0)
        with unprivileged(folder), pytest.raises(InputError, match=r"closed: .*Permission denied"):
            understand(str(folder / "closed"))


def test_an_unreadable_subfolder_is_in_the_list_and_so_is_the_rest():
    with public_folder() as folder:
        make(folder, "a.jpg", "closed/b.jpg", "open/c.jpg")
        (folder / "closed").chmod(0)
        with unprivileged(folder):
            expected = [f"{folder}/a.jpg", f"{folder}/closed/", f"{folder}/open/c.jpg"]
            assert found(folder) == found(folder / "**.jpg") == expected
            with pytest.raises(ImageError, match="forbidden: this folder cannot be opened"):
                read_bytes(f"{folder}/closed/")


def test_a_link_to_where_one_may_not_look_hides_nothing():
    with public_folder() as folder:
        make(folder, *(f"p/{n}.jpg" for n in range(20)), "closed/x.jpg")
        (folder / "closed").chmod(0)
        (folder / "p" / "link.jpg").symlink_to(folder / "closed" / "x.jpg")
        with unprivileged(folder):
            for given in ("p/*.jpg", "*/*.jpg", "p"):
                assert len([uri for uri in found(folder / given) if uri.endswith("jpg")]) == 21


def test_a_link_to_itself(tmp_path):
    make(tmp_path, "p/a.jpg").joinpath("p/loop").symlink_to("loop")
    assert found("p") == found("p/*.jpg") == ["p/a.jpg"]


# Versions


def versions(given, ask_for_versions=False):
    """The versions of the images behind an input, by file name."""
    refs = only_images(list_images(understand(str(given)), ask_for_versions))
    return {ref.uri.rpartition("/")[2]: ref.version for ref in refs}


def test_a_version_changes_with_the_file_and_is_the_same_however_it_is_found(tmp_path):
    make(tmp_path, "p/a.jpg", "p/b.jpg").joinpath("list.txt").write_text("p/a.jpg\np/b.jpg\n")
    before = versions("p")
    assert before["a.jpg"]
    assert before == versions("p/*.jpg") == versions("list.txt") == versions("list.txt", True)
    assert versions("p/a.jpg") == {"a.jpg": before["a.jpg"]}
    (tmp_path / "p/a.jpg").write_bytes(b"1")
    assert versions("p")["a.jpg"] != before["a.jpg"]
    assert versions("p")["b.jpg"] == before["b.jpg"]
    os.utime(tmp_path / "p/b.jpg", (1, 1))
    assert versions("p")["b.jpg"] != before["b.jpg"]


def test_stores_are_asked_for_the_versions_in_lists_if_wanted(tmp_path):
    Path("list.txt").write_text("mem://bucket/p/a.jpg\nmem://bucket/absent.jpg\nhere.jpg\n")
    make(tmp_path, "here.jpg")
    with memory_store(BUCKET):
        asked = versions("list.txt", ask_for_versions=True)
        assert asked["a.jpg"] == versions("mem://bucket/p")["a.jpg"] != ""
        assert asked["absent.jpg"] == ""
        not_asked = versions("list.txt")
        assert (not_asked["a.jpg"], not_asked["absent.jpg"]) == ("", "")
        assert not_asked["here.jpg"] == asked["here.jpg"] != ""


def test_servers_are_asked_for_the_versions_in_lists_if_wanted(tmp_path):
    with HttpServer({"/a.jpg": Answer(b"1", headers={"ETag": '"v1"'}), "/b.jpg": b"1"}) as server:
        Path("list.txt").write_text(f"{server.url('/a.jpg')}\n{server.url('/b.jpg')}\n")
        asked = versions("list.txt", ask_for_versions=True)
        assert '"v1"' in asked["a.jpg"]
        assert versions("list.txt") == {"a.jpg": "", "b.jpg": ""}


# Globs


@pytest.mark.parametrize(
    ("glob", "expected"),
    [
        ("p/*.jpg", ["p/a.jpg", "p/b.jpg"]),
        ("p/*", ["p/a.jpg", "p/b.jpg", "p/c.png"]),
        ("p/?.png", ["p/c.png"]),
        ("p/[ac].*", ["p/a.jpg", "p/c.png"]),
        ("p/[!a].jpg", ["p/b.jpg"]),
        ("p/[a-b].jpg", ["p/a.jpg", "p/b.jpg"]),
        ("p/*/*.jpg", ["p/s/d.jpg"]),
        ("*/*/*.jpg", ["p/s/d.jpg"]),
        ("p/**.jpg", ["p/a.jpg", "p/b.jpg", "p/s/d.jpg", "p/s/t/e.jpg"]),
        ("p/**/*.jpg", ["p/a.jpg", "p/b.jpg", "p/s/d.jpg", "p/s/t/e.jpg"]),
        ("p/**/s/**/*.jpg", ["p/s/d.jpg", "p/s/t/e.jpg"]),
        ("p/**/**/*.jpg", ["p/a.jpg", "p/b.jpg", "p/s/d.jpg", "p/s/t/e.jpg"]),
        ("**/e.jpg", ["p/s/t/e.jpg"]),
        ("./q/../p/c.*", ["p/c.png"]),
        ("photos [[]2024]/*.jpg", ["photos [2024]/f.jpg"]),
        ("p/b.jp*", ["p/b.jpg"]),
    ],
)
def test_globs(tmp_path, glob, expected):
    make(tmp_path, "p/a.jpg", "p/b.jpg", "p/c.png", "p/s/d.jpg", "p/s/t/e.jpg")
    make(tmp_path, "photos [2024]/f.jpg", "q/x")
    assert understand(glob).kind is GLOB
    assert found(glob) == expected


def test_a_glob_takes_files_of_any_suffix_that_it_names_but_no_folders(tmp_path):
    make(tmp_path, "p/photo", "p/truth.csv", "p/folder.jpg/x.jpg", "p/a.tfrecord-00000-of-00001")
    make(tmp_path, "p/b.bin")
    assert found("p/*") == ["p/photo"]  # the TFRecord file has no records
    assert found("p/*.*") == ["p/b.bin"]  # and a table is no image
    assert found("p/*.bin") == ["p/b.bin"]
    assert found("*/photo") == ["p/photo"]


def test_a_glob_looks_into_no_folder_that_cannot_match():
    with public_folder() as folder:
        make(folder, "a.jpg", "closed/b.jpg").joinpath("closed").chmod(0)
        with unprivileged(folder):
            assert found(folder / "*.jpg") == [f"{folder}/a.jpg"]


@pytest.mark.parametrize("glob", ["p/*.gif", "absent/*.jpg", "absent/**", "p/a.jpg?"])
def test_a_glob_that_matches_nothing(tmp_path, glob):
    make(tmp_path, "p/a.jpg")
    with pytest.raises(InputError) as caught:
        understand(glob)
    assert str(caught.value) == f"input {glob}: nothing found that matches this pattern"


def test_a_glob_that_is_none():
    with pytest.raises(InputError, match=r"input \[z-a\]\.jpg: is not a valid glob"):
        understand("[z-a].jpg")


# Single files


@pytest.mark.parametrize("name", ["a.jpg", "photo", "notes.pdf", ".hidden.jpg", "b [1].jpg"])
def test_a_single_file_of_any_suffix(tmp_path, name):
    make(tmp_path, name)
    assert understand(name) == Input(IMAGE, f"{tmp_path}/{name}", name)
    assert found(name) == [name]
    assert found((tmp_path / name).as_uri()) == [name]


@pytest.mark.parametrize("name", ["coco.json", "train.TSV", "list.txt.gz", "t.xlsx", "shard-0.tar"])
def test_a_list_or_archive_that_is_not_read_is_no_image(tmp_path, name):
    make(tmp_path, name)
    with pytest.raises(
        InputError, match=r"is no image, and \.\w+ files are not read; write a list"
    ):
        understand(name)


def test_an_http_uri_is_not_asked_for(tmp_path):
    uri = unused_url("/photo.jpg?size=list.txt")
    assert understand(uri) == Input(IMAGE, uri, uri)
    assert found(uri) == [uri]


@pytest.mark.parametrize("given", ["absent.jpg", "absent/", "/absent", "file:///absent"])
def test_what_is_not_there(given):
    with pytest.raises(InputError) as caught:
        understand(given)
    assert str(caught.value) == f"input {given}: there is no such file or folder"


@pytest.mark.parametrize("given", ["ipfs://bucket/*.jpg", "ipfs://bucket/", "ipfs://bucket/a.jpg"])
def test_a_scheme_that_nothing_serves(given):
    with pytest.raises(InputError, match=f"^input {given.replace('*', '[*]')}: .*filesystem"):
        understand(given)


# Lists


def test_a_list(tmp_path):
    lines = [
        "a.jpg",
        "",
        "# a comment",
        "  sub/b.jpg  ",
        "\t",
        "../up.jpg",
        "/absolute/c.jpg",
        "~/d.jpg",
        "~\0d.jpg",
        "file:///e%20f.jpg",
        "http://host/g h.jpg",
        "gs://bucket/i.jpg",
        "a.jpg",
        "ü [1]*.jpg",
    ]
    make(tmp_path, "lists/x").joinpath("lists/my.TXT").write_text("\n".join(lines))
    assert understand("lists/my.TXT").kind is LIST
    assert list_uris(understand("lists/my.TXT")) == [
        f"{tmp_path}/lists/a.jpg",
        f"{tmp_path}/lists/sub/b.jpg",
        f"{tmp_path}/up.jpg",
        "/absolute/c.jpg",
        os.path.expanduser("~/d.jpg"),
        f"{tmp_path}/lists/~\0d.jpg",
        "/e f.jpg",
        "http://host/g h.jpg",
        "gs://bucket/i.jpg",
        f"{tmp_path}/lists/a.jpg",
        f"{tmp_path}/lists/ü [1]*.jpg",
    ]


@pytest.mark.parametrize(
    "content",
    [
        b"a.jpg\nb.jpg\n",
        b"a.jpg\r\nb.jpg\r\n",
        b"\xef\xbb\xbfa.jpg\r\nb.jpg",
        b"\xef\xbb\xbf# comment\n\na.jpg\nb.jpg\n\n",
        "\ufeffa.jpg\r\nb.jpg\r\n".encode("utf-16-le"),  # PowerShell's >
        "\ufeffa.jpg\nb.jpg".encode("utf-16-be"),
        "\ufeffa.jpg\nb.jpg".encode("utf-32-le"),
        b"a.jpg\rb.jpg\r",
    ],
)
def test_lists_from_every_editor(tmp_path, content):
    Path("list.txt").write_bytes(content)
    assert found("list.txt") == ["a.jpg", "b.jpg"]


def test_a_list_that_is_not_utf8_names_files_by_their_bytes_or_in_latin_1(tmp_path):
    Path("list.txt").write_bytes(b"\xe4.jpg\nb.jpg\n")
    assert found("list.txt") == ["b.jpg", f"file://{tmp_path}/%E4.jpg"]
    make(tmp_path, "ä.jpg")
    assert found("list.txt") == ["b.jpg", "ä.jpg"]


@pytest.mark.parametrize("content", ["", "\n\n", "# only\n# comments", "\ufeff"])
def test_an_empty_list(content):
    Path("list.txt").write_text(content)
    with pytest.raises(InputError) as caught:
        understand("list.txt")
    assert str(caught.value) == (
        "input list.txt: no URIs found in this list; write one path or URI per line, without # in "
        "front"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("ä.jpg\r\nb.jpg\r\n".encode("utf-16-le"), "is UTF-16 without a byte order mark; save"),
        ("写真.jpg\n".encode("utf-16-be"), "is UTF-16 without a byte order mark; save it as UTF-8"),
        (b"a.jpg\0b.jpg\0", "has NUL bytes between its names; write one per line, as find does"),
    ],
)
def test_a_list_that_is_none_of_lines(content, message):
    Path("list.txt").write_bytes(content)
    with pytest.raises(InputError, match=f"^input list.txt: {message}"):
        understand("list.txt")


def test_a_pipe_is_refused_before_anything_waits_for_it(tmp_path):
    os.mkfifo(tmp_path / "list.txt")
    reader, writer = os.pipe()
    try:
        for given in ("list.txt", f"/dev/fd/{reader}", "/dev/null"):
            with pytest.raises(InputError, match=r"is a pipe or a device.*into a \.txt file"):
                identify(given)
    finally:
        os.close(reader)
        os.close(writer)


def test_a_list_over_http():
    body = b"a.jpg\n../b c.jpg\n/d.jpg\nhttp://host/e.jpg\n/f.jpg\nfile:///g.jpg\n"
    with HttpServer({"/lists/my/list.txt": body}) as server:
        understood = understand(server.url("/lists/my/list.txt?key=a/b"))
        assert understood.kind is LIST
        assert list_uris(understood) == [
            server.url("/lists/my/a.jpg"),
            server.url("/lists/b c.jpg"),
            server.url("/d.jpg"),
            "http://host/e.jpg",
            server.url("/f.jpg"),
            "/g.jpg",
        ]


def test_a_list_over_http_that_cannot_be_read():
    with HttpServer({"/list.txt": Answer(status=403)}) as server:
        url = server.url("/list.txt")
        with pytest.raises(InputError, match=f"^input {url}: cannot be read: forbidden: 403 "):
            understand(url)


def test_an_unreadable_list():
    with public_folder() as folder:
        make(folder, "list.txt").joinpath("list.txt").chmod(0)
        with unprivileged(folder), pytest.raises(InputError, match=r"list\.txt: .*Permission"):
            understand(str(folder / "list.txt"))


# Buckets

BUCKET = {
    "mem://bucket/p/": b"",
    "mem://bucket/p/a.jpg": b"",
    "mem://bucket/p/notes.md": b"",
    "mem://bucket/p/.thumbs/b.jpg": b"",
    "mem://bucket/p/sub/c.PNG": b"",
    "mem://bucket/pq/d.jpg": b"",
    "mem://bucket/lists/list.txt": b"../p/a.jpg\nx.jpg\nfile:///y.jpg\n/y.png\ngs://other/z.jpg\n",
    "mem://other/e.jpg": b"",
}


@pytest.mark.parametrize(
    ("given", "kind", "expected"),
    [
        ("mem://bucket/p", FOLDER, ["p/a.jpg", "p/sub/c.PNG"]),
        ("mem://bucket/p/", FOLDER, ["p/a.jpg", "p/sub/c.PNG"]),
        ("mem://bucket", FOLDER, ["p/a.jpg", "p/sub/c.PNG", "pq/d.jpg"]),
        ("mem://bucket/", FOLDER, ["p/a.jpg", "p/sub/c.PNG", "pq/d.jpg"]),
        ("mem://bucket/p/a.jpg", IMAGE, ["p/a.jpg"]),
        ("mem://bucket/p/*", GLOB, ["p/a.jpg"]),
        ("mem://bucket/p/*.*", GLOB, ["p/a.jpg", "p/notes.md"]),
        ("mem://bucket/p*/*.jpg", GLOB, ["p/a.jpg", "pq/d.jpg"]),
        ("mem://bucket/**/*.PNG", GLOB, ["p/sub/c.PNG"]),
        ("mem://bucket/p/**/a.jpg", GLOB, ["p/a.jpg"]),
    ],
)
def test_buckets(given, kind, expected):
    with memory_store(BUCKET):
        assert understand(given).kind is kind
        assert found(given) == [f"mem://bucket/{name}" for name in expected]
        assert OPENED == []


def test_a_list_in_a_bucket():
    with memory_store(BUCKET):
        assert list_uris(understand("mem://bucket/lists/list.txt")) == [
            "mem://bucket/p/a.jpg",
            "mem://bucket/lists/x.jpg",
            "/y.jpg",
            "/y.png",
            "gs://other/z.jpg",
        ]


def test_a_bucket_that_may_not_be_listed():
    with memory_store(BUCKET):
        ERRORS["mem://bucket/p/"] = Forbidden("no access to bucket")
        with pytest.raises(InputError, match=r"^input mem://bucket/p: .*no access to bucket"):
            understand("mem://bucket/p")


def test_nothing_in_a_bucket():
    with memory_store(BUCKET), pytest.raises(InputError, match="input mem://bucket/q: no images"):
        understand("mem://bucket/q")


# TFRecord files


def test_a_tfrecord_file_is_listed_record_by_record(tmp_path):
    images = [("a.jpg", b"1", "cat"), (None, b"2", "dog"), ("c.jpg", b"3")]
    path = write_tfrecord(tmp_path / "p.tfrecord", images)
    assert identify(path).kind is TFRECORD
    for given in (path, f"{tmp_path}/*.tfrecord"):
        refs = list(list_images(identify(given, truth_column="label")))
        assert [ref.uri for ref in refs] == ["a.jpg", f"{path}#1", "c.jpg"]
        assert [ref.truth for ref in refs] == ["cat", "dog", None]
        assert [ref.place for ref in refs] == [Place(path, n) for n in range(3)]
        assert {ref.truth for ref in list_images(identify(given))} == {None}
        others = ImageRef("x.jpg")
        loaded = load_embedded([refs[2], others, refs[0]])
        assert [(ref.uri, ref.data) for ref in loaded] == [
            ("x.jpg", None),
            ("a.jpg", b"1"),
            ("c.jpg", b"3"),
        ]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["p"], True),
        (["p/a.jpg"], True),
        (["p/*.JPG", "p/**/*.jpg"], True),
        (["p", "list.txt"], False),
        (["table.csv"], False),
        (["p/a.tfrecord"], False),
        (["p/*"], False),
        (["p/a.*"], False),
        (["p/*.jp[g]"], False),
    ],
)
def test_which_inputs_have_no_images_inside_of_others(tmp_path, monkeypatch, given, expected):
    make(tmp_path, "p/a.jpg", "p/A.JPG", "p/a.tfrecord", "list.txt", "table.csv")
    monkeypatch.chdir(tmp_path)
    inputs = [identify(one) for one in given]
    assert have_only_files(inputs) is expected
    assert have_only_files(first(inputs, 1)) is expected


def test_a_tfrecord_file_without_records(tmp_path):
    (tmp_path / "p.tfrecord").touch()
    with pytest.raises(InputError, match=r"^input p\.tfrecord: there are no records in it$"):
        understand("p.tfrecord")


def test_a_gzipped_tfrecord_file_that_ends_between_two_records(tmp_path):
    record = Path(write_tfrecord(tmp_path / "a.tfrecord", [("a.jpg", b"1")])).read_bytes()
    gzipped = zlib.compressobj(wbits=31)
    first = gzipped.compress(record) + gzipped.flush(zlib.Z_FULL_FLUSH)
    whole = first + gzipped.compress(record) + gzipped.flush()
    for name, content in {"a": whole, "b": first, "c": b"x"}.items():
        Path(f"{name}.tfrecord.gz").write_bytes(content)
    assert len(list_uris(identify("a.tfrecord.gz"))) == 2
    for name in ("b", "c"):
        with pytest.raises(InputError, match=rf"{name}\.tfrecord\.gz cannot be read"):
            list_uris(identify(f"{name}.tfrecord.gz"))


def test_a_tfrecord_file_that_is_not_there_costs_no_others(tmp_path):
    name = b"caf\xe9.tfrecord"
    Path(write_tfrecord(tmp_path / "a.tfrecord", [("a.jpg", b"1")])).rename(os.fsdecode(name))
    Path("list.txt").write_bytes(b"absent.tfrecord\n" + name + b"\nb.jpg\n")
    assert found("list.txt") == ["a.jpg", "absent.tfrecord", "b.jpg"]


# The listing as a step of a pipeline


def find(*inputs):
    """Run ``FindImages``; the check fails if there is anything else in the result."""

    def run(expected):
        with beam.Pipeline(runner="FnApiRunner") as pipeline:
            refs = (pipeline | FindImages([understand(given) for given in inputs])).refs
            assert_that(refs | beam.Map(lambda ref: ref.uri), equal_to(expected))

    return run


def test_find_images_of_several_inputs(tmp_path):
    make(tmp_path, "p/a.jpg", "p/b c.png", "p/sub/ü.jpg", "p/[1].jpg", "p/notes.md")
    Path("list.txt").write_text("p/a.jpg\np/a.jpg\nabsent.jpg\nhttp://host/a.jpg\n")
    find("p", "p/*.jpg", "p/a.jpg", "list.txt", "p/sub/../a.jpg")(
        [
            *[f"{tmp_path}/p/a.jpg"] * 6,
            f"{tmp_path}/p/b c.png",
            f"{tmp_path}/p/sub/ü.jpg",
            *[f"{tmp_path}/p/[1].jpg"] * 2,
            f"{tmp_path}/absent.jpg",
            "http://host/a.jpg",
        ]
    )


def test_find_images_survives_names_that_are_not_utf8(tmp_path):
    make(tmp_path, "p/a.jpg")
    name = os.fsdecode(os.fsencode(tmp_path / "p") + b"/\xff.jpg")
    Path(name).touch()
    find("p", name)([f"{tmp_path}/p/a.jpg", *[f"file://{tmp_path}/p/%FF.jpg"] * 2])


def test_find_images_names_the_input_that_can_no_longer_be_listed(tmp_path):
    Path("list.txt").write_text("a.jpg")
    understood = understand("list.txt")
    Path("list.txt").unlink()
    with (
        # Beam's runners raise what the step has raised, or a RuntimeError with its text.
        pytest.raises((InputError, RuntimeError), match=r"input list\.txt: .*No such file"),
        beam.Pipeline(runner="FnApiRunner") as pipeline,
    ):
        _ = pipeline | FindImages([understood])


def test_looking_whether_there_is_anything_does_not_list_everything(tmp_path, monkeypatch):
    make(tmp_path, *(f"p/{n // 500}/{n}.jpg" for n in range(3000)))
    entries = 0
    scandir = os.scandir

    class Counting:
        def __init__(self, path):
            self.scan = scandir(path)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.scan.close()

        def __iter__(self):
            nonlocal entries
            for entry in self.scan:
                entries += 1
                yield entry

    monkeypatch.setattr(os, "scandir", Counting)
    understood = understand("p")
    # The six folders at most, and one file; once for tables without images, and once for images.
    assert 0 < entries <= 2 * 8
    assert len(list_uris(understood)) == 3000
    assert entries >= 3000
