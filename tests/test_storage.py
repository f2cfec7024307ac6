import errno
import os
import threading
from pathlib import Path

import google.api_core.exceptions as google_errors
import pytest
from apache_beam.io.aws.clients.s3.messages import S3ClientError
from apache_beam.io.filesystem import BeamIOError
from google.auth.exceptions import DefaultCredentialsError
from http_server import Answer, HttpServer, redirect, truncated, unused_url
from stores import ERRORS, memory_store, public_folder, unprivileged

from pipeline import storage
from pipeline.errors import ImageError
from pipeline.records import Reason

PHOTO = bytes(range(256)) * 40


def reason_of(uri):
    with pytest.raises(ImageError) as caught:
        storage.read_bytes(uri)
    assert caught.value.message
    assert "\n" not in caught.value.message
    return caught.value.reason


@pytest.mark.parametrize(
    ("uri", "http", "remote"),
    [
        ("http://host/x", True, True),
        ("HTTPS://host/x", True, True),
        ("gs://bucket/x", False, True),
        ("s3://bucket/x", False, True),
        ("file:///x", False, False),
        ("FILE:///x", False, False),
        ("/x", False, False),
        ("x.jpg", False, False),
        ("C:x", False, False),
        ("http:/x", False, False),
        ("photos/http://x", False, False),
    ],
)
def test_is_http_and_is_remote(uri, http, remote):
    assert storage.is_http(uri) is http
    assert storage.is_remote(uri) is remote


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("/a/b", "/a/b"),
        ("/a/b/", "/a/b"),
        ("/a/./c/../b", "/a/b"),
        ("/a%20b", "/a%20b"),
        ("b", "/cwd/b"),
        ("~/b", "/home/ann/b"),
        ("file:///a/b", "/a/b"),
        ("file:/a/b", "/a/b"),
        ("FILE:///a/b", "/a/b"),
        ("file://localhost/a/b", "/a/b"),
        ("file:///a%20b%C3%BC", "/a bü"),
        ("file:///~/b", "/~/b"),
        ("file:b", "/cwd/file:b"),
    ],
)
def test_local_path(monkeypatch, given, path):
    monkeypatch.setattr(os, "getcwd", lambda: "/cwd")
    monkeypatch.setenv("HOME", "/home/ann")
    assert storage.local_path(given) == path


@pytest.mark.parametrize(
    "name", ["photo.jpg", "a b.jpg", "ü✓.jpg", "a\nb.jpg", "[1]*?.jpg", "#%41"]
)
def test_reads_a_local_file_under_any_name(tmp_path, name):
    (tmp_path / name).write_bytes(PHOTO)
    assert storage.read_bytes(str(tmp_path / name)) == PHOTO
    assert storage.read_bytes((tmp_path / name).as_uri()) == PHOTO


def test_does_not_unpack_what_it_reads(tmp_path):
    (tmp_path / "photo.gz").write_bytes(b"\x1f\x8b not even gzip")
    assert storage.read_bytes(str(tmp_path / "photo.gz")) == b"\x1f\x8b not even gzip"


def test_reads_an_empty_file(tmp_path):
    (tmp_path / "photo.jpg").touch()
    assert storage.read_bytes(str(tmp_path / "photo.jpg")) == b""


def test_local_failures_have_reasons(tmp_path):
    (tmp_path / "link.jpg").symlink_to(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    assert reason_of(str(tmp_path / "absent.jpg")) is Reason.NOT_FOUND
    assert reason_of(str(tmp_path / "link.jpg")) is Reason.NOT_FOUND
    assert reason_of(str(tmp_path)) is Reason.UNREADABLE
    assert reason_of(str(tmp_path / "file" / "photo.jpg")) is Reason.UNREADABLE
    assert reason_of(str(tmp_path / ("x" * 300))) is Reason.UNREADABLE
    assert reason_of(str(tmp_path / "null\0byte.jpg")) is Reason.UNREADABLE


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    assert reason_of(str(tmp_path / "pipe.jpg")) is Reason.UNREADABLE


def test_a_file_without_permission_is_forbidden():
    with public_folder() as folder:
        (folder / "photo.jpg").write_bytes(PHOTO)
        (folder / "photo.jpg").chmod(0)
        with unprivileged(folder):
            assert reason_of(str(folder / "photo.jpg")) is Reason.FORBIDDEN


def test_a_scheme_that_nothing_serves_is_unreadable():
    assert reason_of("ipfs://bucket/photo.jpg") is Reason.UNREADABLE


def test_a_local_file_is_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "MAX_BYTES", 100)
    (tmp_path / "100").write_bytes(b"x" * 100)
    (tmp_path / "101").write_bytes(b"x" * 101)
    assert len(storage.read_bytes(str(tmp_path / "100"))) == 100
    assert reason_of(str(tmp_path / "101")) is Reason.TOO_LARGE


def test_reads_from_a_store():
    with memory_store({"mem://bucket/photo.jpg": PHOTO}):
        assert storage.read_bytes("mem://bucket/photo.jpg") == PHOTO
        assert reason_of("mem://bucket/absent.jpg") is Reason.NOT_FOUND
        ERRORS["mem://bucket/secret.jpg"] = google_errors.Forbidden("no access")
        assert reason_of("mem://bucket/secret.jpg") is Reason.FORBIDDEN


def test_reads_over_http():
    with HttpServer({"/photo.jpg": PHOTO, "/a b/ü✓.jpg": b"umlaut", "/empty": b""}) as server:
        assert storage.read_bytes(server.url("/photo.jpg")) == PHOTO
        assert storage.read_bytes(server.url("/photo.jpg").replace("http", "HTTP")) == PHOTO
        assert storage.read_bytes(server.url("/a b/ü✓.jpg")) == b"umlaut"
        assert storage.read_bytes(server.url("/a%20b/%C3%BC%E2%9C%93.jpg")) == b"umlaut"
        assert storage.read_bytes(server.url("/empty")) == b""


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (401, Reason.FORBIDDEN),
        (403, Reason.FORBIDDEN),
        (404, Reason.NOT_FOUND),
        (408, Reason.TIMEOUT),
        (410, Reason.NOT_FOUND),
        (429, Reason.UNREADABLE),
        (500, Reason.UNREADABLE),
        (503, Reason.UNREADABLE),
        (504, Reason.TIMEOUT),
    ],
)
def test_http_statuses_have_reasons(status, reason):
    with HttpServer({"/photo.jpg": Answer(PHOTO, status=status)}) as server:
        assert reason_of(server.url("/photo.jpg")) is reason


def test_a_server_that_does_not_answer_in_time(monkeypatch):
    monkeypatch.setattr(storage, "_HTTP_TIMEOUT", (1, 0.2))
    with HttpServer({"/photo.jpg": Answer(PHOTO, delay=60)}) as server:
        assert reason_of(server.url("/photo.jpg")) is Reason.TIMEOUT


def test_a_server_that_falls_silent_in_the_middle(monkeypatch):
    monkeypatch.setattr(storage, "_HTTP_TIMEOUT", (1, 0.2))
    with HttpServer({"/photo.jpg": Answer(PHOTO, stall_after=500, stall=60)}) as server:
        assert reason_of(server.url("/photo.jpg")) is Reason.TIMEOUT


@pytest.mark.parametrize("sent", [0, 1, 5000, len(PHOTO) - 1])
def test_a_body_that_is_cut_off_is_not_taken_for_a_file(sent):
    with HttpServer({"/photo.jpg": truncated(PHOTO, sent)}) as server:
        assert reason_of(server.url("/photo.jpg")) is Reason.UNREADABLE


def test_a_body_is_too_large(monkeypatch):
    monkeypatch.setattr(storage, "MAX_BYTES", 100)
    endless = Answer(b"x" * 2**20, length=2**40, stall_after=2**20, stall=60)
    with HttpServer({"/100": b"x" * 100, "/101": b"x" * 101, "/endless": endless}) as server:
        assert len(storage.read_bytes(server.url("/100"))) == 100
        assert reason_of(server.url("/101")) is Reason.TOO_LARGE
        assert reason_of(server.url("/endless")) is Reason.TOO_LARGE


def test_follows_redirects_to_http_only(tmp_path):
    (tmp_path / "secret").write_bytes(b"secret")
    with HttpServer({"/photo.jpg": PHOTO}) as other:
        answers = {
            "/here": redirect("/there"),
            "/there": redirect(other.url("/photo.jpg"), status=307),
            "/file": redirect((tmp_path / "secret").as_uri()),
            "/ftp": redirect("ftp://127.0.0.1/photo.jpg"),
            "/gone": redirect("/absent"),
            "/loop": redirect("/loop"),
            "/nonsense": redirect("http://[nonsense/"),
        }
        with HttpServer(answers) as server:
            assert storage.read_bytes(server.url("/here")) == PHOTO
            assert reason_of(server.url("/file")) is Reason.UNREADABLE
            assert reason_of(server.url("/ftp")) is Reason.UNREADABLE
            assert reason_of(server.url("/gone")) is Reason.NOT_FOUND
            assert reason_of(server.url("/loop")) is Reason.UNREADABLE
            assert reason_of(server.url("/nonsense")) is Reason.UNREADABLE


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "http://host.invalid/photo.jpg",
        "http://[nonsense/photo.jpg",
        "http://127.0.0.1:99999/photo.jpg",
        "http://.leading.dot/photo.jpg",
        f"http://{'long' * 20}.invalid/photo.jpg",
        f"http://{'ü' * 80}.invalid/photo.jpg",
        "http://a\nb/photo.jpg",
    ],
)
def test_urls_that_lead_nowhere_are_unreadable(url):
    assert reason_of(url) is Reason.UNREADABLE


def test_a_refused_connection_is_unreadable():
    assert reason_of(unused_url("/photo.jpg")) is Reason.UNREADABLE


def test_threads_share_one_session():
    with HttpServer({f"/{n}": b"%d" % n for n in range(32)}) as server:
        read = {}
        threads = [
            threading.Thread(
                target=lambda n=n: read.update({n: storage.read_bytes(server.url(f"/{n}"))})
            )
            for n in range(32)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert read == {n: b"%d" % n for n in range(32)}


# What Beam's filesystems raise, as their sources have it: GCS the exceptions of Google's client,
# with the status as ``code``; S3 an IOError with ENOENT on opening a missing object, otherwise
# S3ClientError, again with ``code``, None without an answer. Listings wrap them in BeamIOError.
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (google_errors.NotFound("no such object"), Reason.NOT_FOUND),
        (google_errors.Forbidden("no access"), Reason.FORBIDDEN),
        (google_errors.Unauthorized("who are you"), Reason.FORBIDDEN),
        (google_errors.GatewayTimeout("late"), Reason.TIMEOUT),
        (google_errors.ServiceUnavailable("busy"), Reason.UNREADABLE),
        (google_errors.RetryError("gave up", google_errors.Forbidden("no")), Reason.FORBIDDEN),
        (google_errors.RetryError("gave up", None), Reason.UNREADABLE),
        (DefaultCredentialsError("no credentials"), Reason.UNREADABLE),
        (OSError(errno.ENOENT, "Not found: s3://bucket/key"), Reason.NOT_FOUND),
        (S3ClientError("An error occurred (404)", 404), Reason.NOT_FOUND),
        (S3ClientError("An error occurred (403)", 403), Reason.FORBIDDEN),
        (S3ClientError("Unable to locate credentials", None), Reason.UNREADABLE),
        (
            BeamIOError("List operation failed", {"gs://b": google_errors.Forbidden("")}),
            "forbidden",
        ),
        (
            BeamIOError("List operation failed", {"s3://b": S3ClientError("", 404)}),
            Reason.NOT_FOUND,
        ),
        (BeamIOError("Path does not exist"), Reason.UNREADABLE),
        (ValueError("GCS path must be in the form gs://<bucket>/<object>."), Reason.UNREADABLE),
        (NotImplementedError("Doubly compressed files not supported."), Reason.UNREADABLE),
    ],
)
def test_errors_of_stores_have_reasons(error, reason):
    with memory_store({}):
        ERRORS["mem://bucket/photo.jpg"] = error
        assert reason_of("mem://bucket/photo.jpg") == reason


def test_messages_are_one_line_of_the_store_own_words():
    with memory_store({}):
        ERRORS["mem://bucket/photo.jpg"] = S3ClientError("Unable to\nlocate  credentials", None)
        with pytest.raises(ImageError, match=r"^unreadable: Unable to locate credentials$"):
            storage.read_bytes("mem://bucket/photo.jpg")
        ERRORS["mem://bucket/photo.jpg"] = OSError()
        with pytest.raises(ImageError, match=r"^unreadable: OSError$"):
            storage.read_bytes("mem://bucket/photo.jpg")


def test_open_http_gives_the_bytes_of_the_wire():
    packed = Answer(b"\x1f\x8b not unpacked", headers={"Content-Encoding": "gzip"})
    with (
        HttpServer({"/model": packed}) as server,
        storage.open_http(server.url("/model?v=1"), {"tf-hub-format": "compressed"}) as body,
    ):
        assert body.read() == b"\x1f\x8b not unpacked"
        assert server.queries == ["v=1&tf-hub-format=compressed"]


def test_home_folder_of_the_current_user(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    Path(tmp_path, "photo.jpg").write_bytes(PHOTO)
    assert storage.read_bytes("~/photo.jpg") == PHOTO
