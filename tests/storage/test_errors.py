"""What a store raises is a StoreError; what this package's own code raises is not."""

import io
import pickle

import pytest
from apache_beam.io.aws.clients.s3.messages import S3ClientError
from apache_beam.io.filesystem import BeamIOError
from helpers.runs import run, write_colors
from helpers.stores import ERRORS, MemoryFileSystem, memory_store

from pipeline import storage
from pipeline.errors import ImageError, StoreError
from pipeline.inputs import find, folders
from pipeline.label import notes
from pipeline.records import Reason
from pipeline.storage.errors import MappedFile

# As Beam's filesystems raise them: of what they cannot do, of a URI that makes no sense to them,
# of an answer that did not come.
OF_CLIENTS = [
    OSError("disk"),
    BeamIOError("List operation failed"),
    S3ClientError("no answer", None),
    ValueError("GCS path must be in the form gs://<bucket>/<object>."),
    NotImplementedError("unsupported"),
    AttributeError("'ReadTimeoutError' object has no attribute 'response'"),
]

CALLS = {
    "open": lambda uri: storage.open_file(uri),
    "exists": storage.exists,
    "metadata": None,
    "create": lambda uri: storage.write_file(uri, b"x"),
    "rename": lambda uri: storage.rename(uri, f"{uri}2"),
    "delete": lambda uri: storage.delete([uri]),
    "match": lambda uri: storage.find("mem://bucket", "*"),
    "_list": lambda uri: list(storage.list_files(uri)),
    "has_dirs": storage.has_folders,
    "join": lambda uri: storage.join(uri, "x"),
    "split": storage.split,
}


@pytest.mark.parametrize("error", OF_CLIENTS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("method", CALLS)
def test_whatever_a_filesystem_raises_is_a_store_error(monkeypatch, method, error):
    def fail(*_, **__):
        raise error

    with memory_store({"mem://bucket/a": b"1"}):
        monkeypatch.setattr(MemoryFileSystem, method, fail)
        if method == "metadata":
            assert storage.version("mem://bucket/a") == ""
            return
        with pytest.raises(StoreError) as caught:
            CALLS[method]("mem://bucket/a")
    assert caught.value.__cause__ is error
    assert str(caught.value)


def test_a_scheme_that_nothing_serves():
    for call in (call for call in CALLS.values() if call is not None):
        if call is not CALLS["match"]:
            with pytest.raises(StoreError, match="Unable to get filesystem"):
                call("ipfs://bucket/a")


def test_a_store_error_has_a_reason_and_travels():
    with memory_store({}), pytest.raises(StoreError) as caught:
        storage.open_file("mem://bucket/absent")
    assert caught.value.reason is Reason.NOT_FOUND
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.reason, again.message) == (Reason.NOT_FOUND, "mem://bucket/absent")


def test_messages_have_no_secrets():
    with memory_store({}):
        ERRORS["mem://bucket/a"] = OSError("cannot get https://ann:pw@host/a?token=abc")
        with pytest.raises(StoreError) as caught:
            storage.open_file("mem://bucket/a")
    assert "pw" not in str(caught.value)
    assert "abc" not in str(caught.value)


# Files that are read in pieces


class Breaking(io.BytesIO):
    """Gives some bytes, and then breaks as Beam's S3 files do."""

    def read(self, size=-1):
        if self.tell() >= 10:
            raise AttributeError("'NoneType' object has no attribute 'status_code'")
        return super().read(min(size, 10))


def test_a_store_that_fails_while_a_file_is_read(monkeypatch):
    with memory_store({"mem://bucket/a": b"x" * 100}):
        monkeypatch.setattr(MemoryFileSystem, "open", lambda *_, **__: Breaking(b"x" * 100))
        with storage.open_file("mem://bucket/a") as file:
            assert file.read1(10) == b"x" * 10
            with pytest.raises(StoreError, match="status_code"):
                file.read()


def test_a_file_is_read_line_by_line_and_from_anywhere():
    lines = b"one\ntwo\nthree"
    with memory_store({"mem://bucket/a": lines}), storage.open_file("mem://bucket/a") as file:
        assert list(file) == [b"one\n", b"two\n", b"three"]
        assert file.seekable()
        assert file.seek(-5, io.SEEK_END) == 8
        assert (file.read(), file.tell()) == (b"three", 13)


def test_the_clients_file_is_closed_with_ours():
    inner = io.BytesIO(b"1")
    with io.BufferedReader(MappedFile(inner)) as file:
        assert file.read() == b"1"
    assert inner.closed


# Bugs of our own


@pytest.mark.parametrize("bug", [ValueError, AttributeError, NotImplementedError])
def test_a_bug_while_a_run_is_planned_is_no_usage_error(tmp_path, color_model, monkeypatch, bug):
    flags = {"input": write_colors(tmp_path / "p"), "model": color_model, "output": tmp_path / "o"}
    assert run(**flags) == 0

    def buggy(*_):
        raise bug("ours")

    monkeypatch.setattr(notes, "changed", buggy)
    with pytest.raises(bug, match=r"^ours$"):
        run(**flags)


@pytest.mark.parametrize("bug", [ValueError, AttributeError, NotImplementedError])
def test_a_bug_in_what_reads_files_is_no_store_error(tmp_path, monkeypatch, bug):
    def buggy(*_):
        raise bug("ours")

    (tmp_path / "a.jpg").touch()
    monkeypatch.setattr(folders, "_why_no_image", buggy)
    with pytest.raises(bug, match=r"^ours$"):
        list(find.list_images(find.identify(str(tmp_path))))
    monkeypatch.setattr(storage.read, "_fill", buggy)
    with memory_store({"mem://bucket/a": b"1"}), pytest.raises(bug, match=r"^ours$"):
        storage.read_bytes("mem://bucket/a")


def test_an_image_that_cannot_be_read_is_an_image_error():
    with memory_store({}), pytest.raises(ImageError) as caught:
        storage.read_bytes("mem://bucket/absent")
    assert isinstance(caught.value.__cause__, StoreError)
