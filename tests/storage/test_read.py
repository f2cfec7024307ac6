import dataclasses
import errno
import gzip
import os
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import botocore.exceptions as aws
import google.api_core.exceptions as google_errors
import pytest
import requests
import tenacity
from apache_beam.io.aws.clients.s3.messages import S3ClientError
from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from google.auth.exceptions import (
    DefaultCredentialsError,
    InvalidOperation,
    RefreshError,
    TransportError,
)
from google.cloud.storage.exceptions import DataCorruption
from helpers.http_server import Answer, HttpServer, raw, redirect, truncated, unused_url
from helpers.stores import ERRORS, MemoryFileSystem, memory_store, public_folder, unprivileged

from pipeline import storage
from pipeline.errors import ImageError, StoreError
from pipeline.inputs.folders import list_folder
from pipeline.records import Reason
from pipeline.storage import hosts

pytestmark = pytest.mark.usefixtures("servers_here")

PHOTO = bytes(range(256)) * 40


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    monkeypatch.setattr(hosts, "_FIRST_WAIT", 0.001)
    monkeypatch.setattr(hosts, "_JITTER", 0)


def reason_of(uri, *arguments):
    with pytest.raises(ImageError) as caught:
        storage.read_bytes(uri, *arguments)
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
        ("//a//b", "/a/b"),
        ("file:////a/b", "/a/b"),
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


def test_a_local_file_is_too_large(tmp_path):
    (tmp_path / "100").write_bytes(b"x" * 100)
    (tmp_path / "101").write_bytes(b"x" * 101)
    assert len(storage.read_bytes(str(tmp_path / "100"), 100)) == 100
    assert reason_of(str(tmp_path / "101"), 100) is Reason.TOO_LARGE


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
    ("status", "reason", "attempts"),
    [
        (400, Reason.UNREADABLE, 1),
        (401, Reason.FORBIDDEN, 1),
        (403, Reason.FORBIDDEN, 1),
        (404, Reason.NOT_FOUND, 1),
        (408, Reason.TIMEOUT, 4),
        (410, Reason.NOT_FOUND, 1),
        (429, Reason.UNAVAILABLE, 4),
        (500, Reason.UNAVAILABLE, 4),
        (501, Reason.UNREADABLE, 1),
        (502, Reason.UNAVAILABLE, 4),
        (503, Reason.UNAVAILABLE, 4),
        (504, Reason.TIMEOUT, 4),
        (522, Reason.UNAVAILABLE, 4),
        (999, Reason.UNAVAILABLE, 4),
        (301, Reason.UNREADABLE, 1),
        (304, Reason.UNREADABLE, 1),
    ],
)
def test_http_statuses_have_reasons(status, reason, attempts):
    with HttpServer({"/photo.jpg": Answer(PHOTO, status=status)}) as server:
        assert reason_of(server.url("/photo.jpg")) is reason
        assert server.requests["/photo.jpg"] == attempts


FAULTS = {
    "busy": Answer(status=503),
    "cut off": truncated(PHOTO, 5000),
    "reset": Answer(reset=True),
    "late": Answer(PHOTO, delay=60),
    "silent": Answer(PHOTO, stall_after=500, stall=60),
    "dripping": Answer(PHOTO, drip=0.05),
}


def is_late(fault):
    return bool(fault.delay or fault.stall or fault.drip)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_what_passes_is_tried_again(fault):
    seconds = 1 if is_late(fault) else 30
    with HttpServer({"/photo.jpg": [fault, fault, fault, PHOTO]}) as server:
        assert storage.read_bytes(server.url("/photo.jpg"), timeout_seconds=seconds) == PHOTO
        assert server.requests["/photo.jpg"] == 4


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_what_does_not_pass_is_given_up(fault):
    started = time.monotonic()
    with HttpServer({"/photo.jpg": fault}) as server:
        reason = reason_of(server.url("/photo.jpg"), 2**20, 0.3 if is_late(fault) else 30)
        assert reason is (Reason.TIMEOUT if is_late(fault) else Reason.UNAVAILABLE)
        assert server.requests["/photo.jpg"] == 4
    assert time.monotonic() - started < 20


def test_a_permanent_failure_after_one_that_passes():
    with HttpServer({"/photo.jpg": [Answer(status=503), Answer(status=403)]}) as server:
        assert reason_of(server.url("/photo.jpg")) is Reason.FORBIDDEN
        assert server.requests["/photo.jpg"] == 2


def test_waits_grow(monkeypatch):
    waits = []
    monkeypatch.undo()
    monkeypatch.setattr(tenacity.nap.time, "sleep", waits.append)
    with HttpServer({"/photo.jpg": Answer(status=503)}) as server:
        assert reason_of(server.url("/photo.jpg")) is Reason.UNAVAILABLE
    assert len(waits) == 3
    for wait, least in zip(waits, (0.5, 1, 2), strict=True):
        assert least <= wait <= least + 0.25


def test_any_store_that_hangs_is_cut_off(monkeypatch):
    release = threading.Event()
    with memory_store({"mem://bucket/photo.jpg": PHOTO}):
        monkeypatch.setattr(MemoryFileSystem, "open", lambda *_, **__: release.wait(60))
        assert reason_of("mem://bucket/photo.jpg", 2**20, 0.1) is Reason.TIMEOUT
        release.set()


def test_threads_that_hang_are_in_nobodys_way(monkeypatch):
    answers = {f"/{n}": Answer(delay=60) for n in range(100)}
    monkeypatch.setattr(hosts, "_ATTEMPTS", 1)
    # A server gets so many requests at a time; another one does not wait for it.
    with HttpServer(answers) as server, HttpServer({"/photo.jpg": PHOTO}) as other:
        with ThreadPoolExecutor(100) as readers:
            reading = [
                readers.submit(reason_of, server.url(f"/{n}"), 2**20, 0.3) for n in range(100)
            ]
            started = time.monotonic()
            assert storage.read_bytes(other.url("/photo.jpg"), timeout_seconds=30) == PHOTO
            assert time.monotonic() - started < 5
        assert {done.result() for done in reading} == {Reason.TIMEOUT}


@pytest.mark.parametrize("sent", [0, 1, 5000, len(PHOTO) - 1])
def test_a_body_that_is_cut_off_is_not_taken_for_a_file(sent):
    with HttpServer({"/photo.jpg": truncated(PHOTO, sent)}) as server:
        assert reason_of(server.url("/photo.jpg")) is Reason.UNAVAILABLE


def test_a_body_in_chunks():
    def chunks(*parts):
        return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)

    answers = {
        "/whole": raw(chunks(PHOTO[:7], PHOTO[7:], b"")),
        "/cut": raw(chunks(PHOTO[:7], PHOTO[7:])),
        "/cut-within": raw(chunks(PHOTO[:7], PHOTO[7:])[:-100]),
        "/large": raw(chunks(*[b"x" * 50] * 3, b"")),
    }
    with HttpServer(answers) as server:
        assert storage.read_bytes(server.url("/whole")) == PHOTO
        assert reason_of(server.url("/cut")) is Reason.UNAVAILABLE
        assert reason_of(server.url("/cut-within")) is Reason.UNAVAILABLE
        assert reason_of(server.url("/large"), 100) is Reason.TOO_LARGE


def test_a_part_that_was_not_asked_for_is_not_taken_for_the_file():
    def part(content_range):
        return Answer(PHOTO, status=206, headers={"Content-Range": content_range})

    size = len(PHOTO)
    answers = {
        "/whole": part(f"bytes 0-{size - 1}/{size}"),
        "/head": part(f"bytes 0-{size - 1}/{size + 1}"),
        "/tail": part(f"bytes 1-{size}/{size + 1}"),
        "/any": part(f"bytes 0-{size - 1}/*"),
    }
    with HttpServer(answers) as server:
        assert storage.read_bytes(server.url("/whole")) == PHOTO
        for path in ("/head", "/tail", "/any"):
            assert reason_of(server.url(path)) is Reason.UNAVAILABLE


def test_a_body_that_is_packed_for_the_way_is_unpacked():
    def packed(data):
        return Answer(gzip.compress(data), headers={"Content-Encoding": "gzip"})

    answers = {"/photo.jpg": packed(PHOTO), "/bomb": packed(bytes(10**7)), "/empty": packed(b"")}
    whole = answers["/photo.jpg"]
    answers["/cut"] = dataclasses.replace(whole, body=whole.body[:-9])
    with HttpServer(answers) as server:
        assert storage.read_bytes(server.url("/photo.jpg")) == PHOTO
        assert storage.read_bytes(server.url("/empty")) == b""
        assert reason_of(server.url("/cut")) is Reason.UNREADABLE
        assert reason_of(server.url("/bomb"), 10**6) is Reason.TOO_LARGE


def test_a_body_is_too_large():
    endless = Answer(b"x" * 2**20, length=2**40, stall_after=2**20, stall=60)
    with HttpServer({"/100": b"x" * 100, "/101": b"x" * 101, "/endless": endless}) as server:
        assert len(storage.read_bytes(server.url("/100"), 100)) == 100
        assert reason_of(server.url("/101"), 100) is Reason.TOO_LARGE
        assert reason_of(server.url("/endless"), 100) is Reason.TOO_LARGE


def test_follows_redirects_to_http_only(tmp_path):
    (tmp_path / "secret").write_bytes(b"secret")
    with HttpServer({"/photo.jpg": PHOTO}) as other:
        answers = {
            "/here": redirect("/there"),
            "/there": redirect(other.url("/photo.jpg"), status=307),
            "/file": redirect((tmp_path / "secret").as_uri()),
            "/ftp": redirect("ftp://127.0.0.1/photo.jpg"),
            "/bucket": redirect("gs://bucket/photo.jpg"),
            "/gone": redirect("/absent"),
            "/loop": redirect("/loop"),
            "/nonsense": redirect("http://[nonsense/"),
            "/port": redirect("http://127.0.0.1:99999/"),
        }
        with HttpServer(answers) as server:
            assert storage.read_bytes(server.url("/here")) == PHOTO
            assert reason_of(server.url("/file")) is Reason.UNREADABLE
            assert reason_of(server.url("/ftp")) is Reason.UNREADABLE
            assert reason_of(server.url("/bucket")) is Reason.UNREADABLE
            assert reason_of(server.url("/gone")) is Reason.NOT_FOUND
            assert reason_of(server.url("/loop")) is Reason.UNREADABLE
            assert reason_of(server.url("/nonsense")) is Reason.UNREADABLE
            assert reason_of(server.url("/port")) is Reason.UNREADABLE


@pytest.mark.parametrize(
    "url",
    [
        "http://",
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


def test_a_host_that_cannot_be_found(monkeypatch):
    def fail(code):
        def getaddrinfo(*_, **__):
            raise socket.gaierror(code, "who knows")

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    fail(socket.EAI_NONAME)
    assert reason_of("http://host.invalid/photo.jpg") is Reason.UNREADABLE
    fail(socket.EAI_AGAIN)
    assert reason_of("http://host.invalid/photo.jpg") is Reason.UNAVAILABLE


def test_a_refused_connection_is_unavailable():
    assert reason_of(unused_url("/photo.jpg")) is Reason.UNAVAILABLE
    with pytest.raises(ImageError, match=r"unavailable: 127\.0\.0\.1:\d+: .*refused"):
        storage.read_bytes(unused_url("/photo.jpg"))


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
        (google_errors.ServiceUnavailable("busy"), Reason.UNAVAILABLE),
        (google_errors.RetryError("gave up", google_errors.Forbidden("no")), Reason.FORBIDDEN),
        (google_errors.RetryError("gave up", google_errors.BadGateway("")), Reason.UNAVAILABLE),
        (google_errors.RetryError("gave up", ConnectionResetError()), Reason.UNAVAILABLE),
        (google_errors.RetryError("gave up", None), Reason.UNREADABLE),
        (google_errors.TooManyRequests("slower"), Reason.UNAVAILABLE),
        (DataCorruption(None, "the checksums differ"), Reason.UNAVAILABLE),
        (TransportError("no metadata server"), Reason.UNAVAILABLE),
        (DefaultCredentialsError("no credentials"), Reason.FORBIDDEN),
        (InvalidOperation("Anonymous credentials cannot be refreshed."), Reason.FORBIDDEN),
        (RefreshError("busy", retryable=True), Reason.UNAVAILABLE),
        (OSError(errno.ENOENT, "Not found: s3://bucket/key"), Reason.NOT_FOUND),
        (S3ClientError("An error occurred (404)", 404), Reason.NOT_FOUND),
        (S3ClientError("An error occurred (403)", 403), Reason.FORBIDDEN),
        (S3ClientError("Unable to locate credentials", None), Reason.UNREADABLE),
        (S3ClientError("An error occurred (503)", 503), Reason.UNAVAILABLE),
        (aws.NoCredentialsError(), Reason.FORBIDDEN),
        (aws.EndpointConnectionError(endpoint_url="http://h"), Reason.UNAVAILABLE),
        (aws.ConnectionClosedError(endpoint_url="http://h"), Reason.UNAVAILABLE),
        (aws.ReadTimeoutError(endpoint_url="http://h"), Reason.TIMEOUT),
        (aws.ConnectTimeoutError(endpoint_url="http://h"), Reason.TIMEOUT),
        (aws.IncompleteReadError(actual_bytes=1, expected_bytes=2), Reason.UNAVAILABLE),
        (aws.FlexibleChecksumError(error_msg="they differ"), Reason.UNAVAILABLE),
        (aws.ResponseStreamingError(error="reset"), Reason.UNAVAILABLE),
        (aws.ProfileNotFound(profile="x"), Reason.UNREADABLE),
        (
            aws.ClientError({"ResponseMetadata": {"HTTPStatusCode": 503}}, "GetObject"),
            Reason.UNAVAILABLE,
        ),
        (aws.ClientError({}, "GetObject"), Reason.UNREADABLE),
        (ssl.SSLError("unexpected end of file"), Reason.UNAVAILABLE),
        (requests.exceptions.SSLError(ssl.SSLCertVerificationError("old")), Reason.UNREADABLE),
        (OSError(errno.EIO, "bad disk"), Reason.UNREADABLE),
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


def test_messages_have_no_secrets(tmp_path):
    with HttpServer({"/busy": Answer(status=503)}) as server:
        for path in ("/absent", "/busy"):
            url = server.url(f"{path}?id=7&X-Amz-Signature=abc").replace("://", "://ann:pw@")
            with pytest.raises(ImageError) as caught:
                storage.read_bytes(url)
            assert caught.value.message.endswith(f"for url: {server.url(path)}?id=7")
    url = unused_url("/photo.jpg?id=7&token=abc")
    with pytest.raises(ImageError) as caught:
        storage.read_bytes(url)
    assert caught.value.message.startswith("127.0.0.1:")
    assert "Connection refused" in caught.value.message
    assert "abc" not in caught.value.message
    with pytest.raises(ImageError) as caught:
        storage.read_bytes(f"{tmp_path}/?token=abc")
    assert "abc" not in caught.value.message


def test_messages_are_one_line_of_the_store_own_words():
    with memory_store({}):
        ERRORS["mem://bucket/photo.jpg"] = S3ClientError("Unable to\nlocate  credentials", None)
        with pytest.raises(ImageError, match=r"^unreadable: Unable to locate credentials$"):
            storage.read_bytes("mem://bucket/photo.jpg")
        ERRORS["mem://bucket/photo.jpg"] = OSError()
        with pytest.raises(ImageError, match=r"^unreadable: OSError$"):
            storage.read_bytes("mem://bucket/photo.jpg")


def test_the_version_of_a_local_file(tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(PHOTO)
    os.utime(path, ns=(0, 1_700_000_000_123_456_789))
    first = storage.version(str(path))
    assert first.startswith(f"{len(PHOTO)} 1700000000.1234")
    assert storage.version(path.as_uri()) == first
    [listed] = list_folder(str(tmp_path))
    assert storage.version_of(listed) == first
    assert storage.size_in(first) == listed.size_in_bytes
    os.utime(path, ns=(0, 1_700_000_000_123_999_999))
    assert storage.version(str(path)) != first
    path.write_bytes(PHOTO * 2)
    assert storage.version(str(path)).startswith(f"{2 * len(PHOTO)} ")
    assert storage.version(str(tmp_path / "absent")) == ""
    assert storage.version("/null\0byte") == ""


@pytest.mark.parametrize("version", ["", '"33a64df5"', "Tue, 24 Nov 2026 00:00:00 GMT"])
def test_versions_without_a_size(version):
    assert storage.size_in(version) is None


def test_the_version_of_what_a_server_has():
    modified = "Wed, 21 Oct 2015 07:28:00 GMT"
    answers = {
        "/tag": Answer(PHOTO, headers={"ETag": '"abc"', "Last-Modified": modified}),
        "/time": Answer(PHOTO, headers={"Last-Modified": modified}),
        "/neither": PHOTO,
        "/moved": redirect("/tag"),
        "/busy": Answer(status=503, headers={"ETag": '"busy"'}),
    }
    with HttpServer(answers) as server:
        assert storage.version(server.url("/tag")) == '"abc"'
        assert storage.version(server.url("/time")) == f"{len(PHOTO)} {modified}"
        assert storage.version(server.url("/neither")) == ""
        assert storage.version(server.url("/moved")) == '"abc"'
        assert storage.version(server.url("/busy")) == ""
        assert storage.version(server.url("/absent")) == ""
        assert server.requests["/busy"] == 1
    assert storage.version(unused_url()) == ""


def test_the_version_in_any_other_store():
    with memory_store({"mem://bucket/photo.jpg": PHOTO}):
        assert storage.version("mem://bucket/photo.jpg") == f"{len(PHOTO)} 0"
        [listed] = list_folder("mem://bucket")
        assert storage.version_of(listed) == f"{len(PHOTO)} 0"
    assert storage.version("ipfs://bucket/photo.jpg") == ""


def test_a_version_is_not_waited_for():
    with HttpServer({"/photo.jpg": Answer(PHOTO, delay=60)}) as server:
        assert storage.version(server.url("/photo.jpg"), 0.2) == ""
        assert server.requests["/photo.jpg"] == 1


def test_access_to_s3_needs_credentials(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setattr(FileSystems, "_pipeline_options", None)
    for uri in ("gs://bucket/x", "https://host/x", "/x"):
        storage.check_access(uri)
    with pytest.raises(StoreError, match=r"^there are no AWS credentials; set AWS_ACC"):
        storage.check_access("s3://bucket/x")
    started = time.monotonic()
    assert reason_of("s3://bucket/photo.jpg") is Reason.FORBIDDEN
    assert time.monotonic() - started < 5
    with monkeypatch.context() as patch:
        patch.setenv("AWS_PROFILE", "absent")
        with pytest.raises(StoreError, match=r"cannot be used: .*\(absent\)"):
            storage.check_access("s3://bucket/x")
    flags = ["--s3_access_key_id=a", "--s3_secret_access_key=b"]
    FileSystems.set_options(PipelineOptions(flags))
    storage.check_access("S3://bucket/x")
    FileSystems.set_options(PipelineOptions([]))
    (tmp_path / "credentials").write_text(
        "[default]\naws_access_key_id = a\naws_secret_access_key = b\n"
    )
    storage.check_access("s3://bucket/x")


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
