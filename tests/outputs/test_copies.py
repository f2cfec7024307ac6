import os
import re
import shutil
from pathlib import Path

import pytest
from helpers.http_server import HttpServer
from helpers.models import image_file
from helpers.runs import rows, run, summary, write_colors
from helpers.stores import memory_store, public_folder, unprivileged

from pipeline import storage
from pipeline.errors import RunError
from pipeline.limits import DEFAULT_LIMITS
from pipeline.outputs import copies
from pipeline.records import Labeled

pytestmark = pytest.mark.usefixtures("servers_here")


def row(image, label="red", version=None):
    version = storage.version(image) if version is None else version
    return Labeled(image, label, 0, 1.0, (), 1, 1, "m", "f", "r", "t", version)


def copy(image, folder, **options):
    labeled = row(str(image), **options)
    return copies.copy(labeled, str(folder), DEFAULT_LIMITS), copies.path_of(labeled, str(folder))


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "a.b.png"
    path.write_bytes(image_file())
    return path


def test_a_file_whose_name_is_not_utf8_is_copied(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.png")
    path.write_bytes(image_file())
    copied, target = copy(path.as_uri(), tmp_path / "out")
    assert copied
    assert Path(target).samefile(path)
    path.unlink()
    assert not copy(path.as_uri(), tmp_path / "out", version="")[0]


# Names


@pytest.mark.parametrize(
    ("label", "folder"),
    [
        ("military uniform", "military uniform"),
        ("suit, suit of clothes", "suit, suit of clothes"),
        ("a/b\\c:d*e?f[g]h#i", "a_b_c_d_e_f_g_h_i"),
        ("..", "_"),
        (" . ", "_"),
        ("../up", "_up"),
        ("line\nend", "line_end"),
        ("ü" * 100, "ü" * 60),
    ],
)
def test_the_folder_of_a_label(label, folder):
    assert copies.folder_of(label) == folder


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("/p/a.b.png", r"a.b-\w{16}.png"),
        ("gs://b/p/photo", r"photo-\w{16}"),
        ("gs://b/p/q?.jpg", r"q\?-\w{16}.jpg"),
        ("/p/q?.jpg", r"q\?-\w{16}.jpg"),
        ("s3://b/p/h#1.jpg", r"h#1-\w{16}.jpg"),
        ("https://host/a.jpg?id=7", r"a-\w{16}.jpg"),
        (f"/p/{'x' * 250}.jpg", rf"{'x' * 160}-\w{{16}}.jpg"),
    ],
)
def test_the_name_of_a_copy(image, name):
    path = copies.path_of(row(image, version=""), "/out")
    assert re.fullmatch(f"/out/red/{name}", path)
    assert path != copies.path_of(row(f"/other{image}", version=""), "/out")


# Copying


def test_a_hard_link_on_the_same_disk(tmp_path, photo):
    done, path = copy(photo, tmp_path / "out")
    assert done
    assert Path(path).samefile(photo)
    assert copy(photo, tmp_path / "out") == (True, path)  # again
    assert len(list((tmp_path / "out" / "red").iterdir())) == 1


def test_a_copy_where_there_can_be_no_link(tmp_path, photo):
    with public_folder() as folder:
        for name in ("in", "out"):
            (folder / name).mkdir()
        shutil.copy(photo, folder / "in" / "a.png")
        os.chown(folder / "out", 65534, 65534)
        with unprivileged(folder / "out"):  # who may read the file, but not link to it
            done, path = copy(folder / "in" / "a.png", folder / "out")
        assert done
        assert Path(path).read_bytes() == photo.read_bytes()
        assert [file.name for file in Path(path).parent.iterdir()] == [Path(path).name]


def test_the_link_of_a_link_is_the_file(tmp_path, photo):
    (tmp_path / "link.png").symlink_to(photo)
    done, path = copy(tmp_path / "link.png", tmp_path / "out")
    assert done
    assert not Path(path).is_symlink()
    assert Path(path).samefile(photo)


def test_an_image_that_has_changed_replaces_its_copy_once_it_is_labeled_again(tmp_path, photo):
    labeled = row(str(photo))
    assert copies.copy(labeled, str(tmp_path / "out"), DEFAULT_LIMITS)
    photo.unlink()
    photo.write_bytes(image_file("blue", size=(10, 10)))
    assert not copies.copy(labeled, str(tmp_path / "out"), DEFAULT_LIMITS)
    done, path = copy(photo, tmp_path / "out")
    assert done
    assert Path(path).samefile(photo)


@pytest.mark.parametrize("version", ["", "1 1.0"])
def test_what_is_not_the_file_that_was_labeled(tmp_path, photo, version):
    assert not copy(photo, tmp_path / "out", version=version)[0]
    assert not (tmp_path / "out").exists()


def test_between_stores(tmp_path, photo):
    data = photo.read_bytes()
    with memory_store({"mem://bucket/a.png": data}) as objects, HttpServer({"/a": data}) as server:
        done, path = copy(photo, "mem://bucket/out")
        assert (done, objects[path]) == (True, data)
        done, path = copy(server.url("/a"), "mem://bucket/out", version="")
        assert (done, objects[path]) == (True, data)
        done, path = copy("mem://bucket/a.png", tmp_path / "out")
        assert (done, Path(path).read_bytes()) == (True, data)
        assert not copy(server.url("/b"), "mem://bucket/out", version="")[0]


def test_a_folder_that_cannot_be_written(photo):
    with public_folder() as folder:
        path = folder / "a.png"
        shutil.copy(photo, path)
        with unprivileged(folder), pytest.raises(RunError, match=r"copy_to: .*/red/a-.*Permiss"):
            copy(path, folder / "out")


# From the command line


def test_a_run_that_copies(tmp_path, color_model, capsys):
    flags = {"input": write_colors(tmp_path / "p", 4), "model": color_model}
    copied = tmp_path / "by_label"
    assert run(**flags, output=tmp_path / "out", copy_to=copied) == 0
    assert f"\n4 copied to {copied}\n" in capsys.readouterr().out
    assert {path.name: len(list(path.iterdir())) for path in copied.iterdir()} == {
        "red": 2,
        "green": 1,
        "blue": 1,
    }
    written = summary(tmp_path / "out")
    assert (written["copied"], written["not_copied"]) == (4, 0)
    # With a threshold that no image reaches, the same command takes a moment, and copies nothing.
    again = {"output": tmp_path / "out", "copy_to": tmp_path / "none", "threshold": 1.0}
    assert run(**flags, **again) == 0
    assert list((tmp_path / "none").iterdir()) == []
    assert [labeled["label"] for labeled in rows(tmp_path / "out", "labels")] == [None] * 4


@pytest.mark.parametrize(
    "given", ["https://host/out", "{folder}/file/x", "{folder}/p/x", "{folder}/link/x"]
)
def test_where_nothing_can_be_copied_to(tmp_path, color_model, capsys, given):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "p")
    given = given.format(folder=tmp_path)
    flags = {"input": write_colors(tmp_path / "p"), "model": color_model, "copy_to": given}
    assert run(**flags, output=tmp_path / "out") == 2
    assert f"error: --copy_to {given}: " in capsys.readouterr().err


def test_copies_are_not_put_where_a_glob_finds_them(tmp_path, color_model, capsys):
    write_colors(tmp_path / "p")
    flags = {"input": f"{tmp_path}/p/**/*.png", "model": color_model, "copy_to": tmp_path / "p/x"}
    assert run(**flags, output=tmp_path / "out") == 2
    assert f"is in the input {flags['input']}, " in capsys.readouterr().err
    assert run(**flags | {"copy_to": tmp_path / "px"}, output=tmp_path / "out") == 0
