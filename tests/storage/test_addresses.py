"""Which servers the URLs of strangers may lead to, and what those are told."""

import socket

import pytest
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from helpers.http_server import Answer, HttpServer, redirect

from pipeline import __version__, storage
from pipeline.errors import ImageError, StoreError, UsageError
from pipeline.records import Reason
from pipeline.storage.addresses import check, check_url
from pipeline.storage.client_options import Client, read_headers

METADATA = [
    "169.254.169.254",
    "169.254.170.2",
    "fe80::1",
    "fe80::1%eth0",
    "fe80::5efe:8.8.8.8",
    "febf::1",
    "fd00:ec2::254",
    "100.100.100.200",
    "168.63.129.16",
    "::ffff:169.254.169.254",
    "::169.254.169.254",
    "64:ff9b::169.254.169.254",
    "2002:a9fe:a9fe::1",
    "0.0.0.0",
    "::",
    "::ffff:0.0.0.0",
]
PRIVATE = [
    "127.0.0.1",
    "127.9.9.9",
    "::1",
    "10.0.0.5",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.5",
    "100.64.0.1",
    "fc00::1",
    "fd12:3456::1",
    "fec0::3",
    "0.1.2.3",
    "224.0.0.1",
    "ff02::1",
    "255.255.255.255",
    "::ffff:10.0.0.5",
    "64:ff9b::10.0.0.5",
    "2606:4700::5efe:10.0.0.5",
    "2606:4700::200:5efe:10.0.0.5",
]
PUBLIC = [
    "8.8.8.8",
    "172.32.0.1",
    "192.169.0.1",
    "2606:4700::1111",
    "2606:4700::5efe:8.8.8.8",
    "::ffff:8.8.8.8",
]


@pytest.fixture(autouse=True)
def options(monkeypatch):
    def set_options(*flags):
        monkeypatch.setattr(FileSystems, "_pipeline_options", PipelineOptions([*flags]))

    set_options()
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return set_options


def refusal(url):
    with pytest.raises(ImageError) as caught:
        storage.read_bytes(url)
    assert caught.value.reason is Reason.FORBIDDEN
    return caught.value.message


def test_addresses():
    everything = Client(allow_private=True, trusted=frozenset(["host:80"]))
    for address in METADATA:
        for client in (Client(), everything):
            with pytest.raises(StoreError, match="never asked"):
                check(address, client, "host:80")
    for address in PRIVATE:
        with pytest.raises(StoreError, match="give allow_private_addresses"):
            check(address, Client(trusted=frozenset(["host:81"])), "host:80")
        check(address, everything, "host:80")
        check(address, Client(allow_private=True), "other:80")
    for address in PUBLIC:
        check(address, Client(), "host:80")


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "169.254.43518",
        "2852039166",
        "0xa9fea9fe",
        "0xa9.0xfe.0xa9.0xfe",
        "0251.0376.0251.0376",
        "[::ffff:169.254.169.254]",
        "[::ffff:a9fe:a9fe]",
        "[fe80::1]",
        "[fd00:ec2::254]",
        "169.254.169.254.",
        "user:pw@169.254.169.254",
        "METADATA.google.internal",
        "metadata.google.internal.",
        "0",
        "0.0.0.0",
        "[::]",
    ],
)
def test_metadata_servers_are_never_asked(options, monkeypatch, host):
    options("--allow_private_addresses", "--http_trusted=169.254.169.254:80")
    monkeypatch.setattr(socket.socket, "connect", None)
    assert "never asked" in refusal(f"http://{host}/latest/meta-data/")
    assert storage.version(f"http://{host}/latest/meta-data/") == ""
    # A proxy would ask for us. Names are up to it.
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert "never asked" in refusal(f"http://{host}/latest/meta-data/")


def test_private_addresses_need_a_flag(options):
    with HttpServer({"/a": b"1", "/there": redirect("/a")}) as server:
        for host in ("127.0.0.1", "localhost", "2130706433", "0x7f.1", "127.1", "[::ffff:7f00:1]"):
            url = server.url("/a").replace("127.0.0.1", host)
            assert "give allow_private_addresses" in refusal(url)
        assert not server.log
        options("--allow_private_addresses")
        assert storage.read_bytes(server.url("/there")) == b"1"
        options(f"--http_trusted=127.0.0.1:{server.port}")
        assert storage.read_bytes(server.url("/there")) == b"1"
        with HttpServer({"/a": b"1"}) as other:
            assert "give allow_private_addresses" in refusal(other.url("/a"))
            assert not other.log


def test_redirects_are_no_way_around(options):
    with HttpServer({"/a": b"1"}) as private:
        answers = {
            "/metadata": redirect("http://169.254.169.254/"),
            "/private": redirect(private.url("/a"), 308),
            "/number": redirect(f"//2130706433:{private.port}/a"),
        }
        with HttpServer(answers) as server:
            options(f"--http_trusted=127.0.0.1:{server.port}")
            assert "never asked" in refusal(server.url("/metadata"))
            assert "give allow_private_addresses" in refusal(server.url("/private"))
            assert "give allow_private_addresses" in refusal(server.url("/number"))
        assert not private.log


def test_what_a_name_resolves_to_is_checked_and_then_connected_to(options, monkeypatch):
    getaddrinfo = socket.getaddrinfo
    answers = {
        "metadata.example": ["169.254.169.254"],
        "mixed.example": ["93.184.216.34", "169.254.169.254"],
        "private.example": ["10.0.0.5"],
        "mapped.example": ["::ffff:169.254.169.254"],
    }
    asked = []

    def resolve(host, port, *rest, **named):
        asked.append(host)
        if host == "rebinding.example":  # another answer each time
            host = "127.0.0.1" if asked.count(host) == 1 else "169.254.169.254"
        found = answers.get(host, [host])
        return [each for address in found for each in getaddrinfo(address, port, *rest, **named)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with HttpServer({"/a": b"1"}) as server:
        for name in ("metadata", "mixed", "mapped"):
            assert "(169.254.169.254)" in refusal(
                server.url("/a").replace("127.0.0.1", f"{name}.example")
            )
        assert "(10.0.0.5)" in refusal(f"http://private.example:{server.port}/a")
        options("--allow_private_addresses")
        assert storage.read_bytes(f"http://rebinding.example:{server.port}/a") == b"1"
        assert asked.count("rebinding.example") == 1
        assert server.log[0].headers["Host"] == f"rebinding.example:{server.port}"


def test_through_a_proxy_only_the_url_is_checked(options, monkeypatch):
    with HttpServer({"http://photos.example/a": b"1", "/a": b"1"}) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url())
        assert storage.read_bytes("http://photos.example/a") == b"1"
        assert "give allow_private" in refusal("http://10.0.0.5/a")
        assert len(proxy.log) == 1


def test_urls_without_an_address_are_left_to_resolution():
    for url in ("http://photos.example/", "http://1.2.3.4.example/", "http:///", "nonsense"):
        check_url(url, Client())


# Who asks, and with what


def test_servers_are_told_who_asks(options):
    options("--allow_private_addresses")
    with HttpServer({"/a": b"1", "/there": redirect("/a")}) as server:
        storage.read_bytes(server.url("/there"))
        storage.version(server.url("/a"))
        with storage.open_http(server.url("/a"), {}) as file:
            file.read()
        agents = {request.headers["User-Agent"] for request in server.log}
        assert agents == {f"image-labeling/{__version__}"}
        options("--allow_private_addresses", "--http_user_agent=Museum (ann@museum.example)")
        storage.read_bytes(server.url("/a"))
        assert server.log[-1].headers["User-Agent"] == "Museum (ann@museum.example)"


def test_headers_stay_with_the_server_that_they_are_for(options, tmp_path):
    with HttpServer({"/a": b"1"}) as other:
        answers = {
            "/a": b"1",
            "/here": redirect("/a"),
            "/there": redirect(other.url("/a")),
            "/back": redirect(other.url("/back")),
        }
        with HttpServer(answers) as server:
            other.answers["/back"] = redirect(server.url("/a"))
            path = tmp_path / "headers"
            path.write_text(
                "# for the museum\nAuthorization: Bearer s3cret\r\n\nCookie: a=b: c\n"
                f"[127.0.0.1:{other.port}]\nX-Key: theirs\n[elsewhere.example]\nX-No: 1\n"
            )
            options("--allow_private_addresses", f"--http_headers={path}")

            def sent(name, path):
                server.log.clear(), other.log.clear()
                storage.read_bytes(server.url(path))
                return [[r.headers.get(name) for r in each.log] for each in (server, other)]

            assert sent("Authorization", "/a") == [["Bearer s3cret"], []]
            assert sent("Authorization", "/here") == [["Bearer s3cret"] * 2, []]
            assert sent("Cookie", "/here") == [["a=b: c"] * 2, []]
            assert sent("Authorization", "/there") == [["Bearer s3cret"], [None]]
            assert sent("Cookie", "/there") == [["a=b: c"], [None]]
            assert sent("X-Key", "/there") == [[None], ["theirs"]]
            assert sent("Authorization", "/back") == [["Bearer s3cret", None], [None]]
            assert sent("X-No", "/there") == [[None], [None]]
            # Whoever sells models is told only what is for them.
            for each, name, value in ((server, "Authorization", None), (other, "X-Key", "theirs")):
                with storage.open_http(each.url("/a"), {}):
                    assert each.log[-1].headers.get(name) == value
            # A user in a URL goes before, and no further.
            url = server.url("/there").replace("://", "://ann:pw@")
            path.write_text("X-Key: mine")
            read_headers.cache_clear()
            storage.read_bytes(url)
            assert server.log[-1].headers["Authorization"].startswith("Basic ")
            assert "Authorization" not in other.log[-1].headers


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"X-Key: a\nBearer s3cret", "line 2 is not 'Name: value'"),
        (b"X Key: s3cret", "line 1 is not 'Name: value'"),
        (b"X-Key: s3cr\x00et", "line 1 is not 'Name: value'"),
        ("X-Key: s3cret✓".encode(), "line 1 is not 'Name: value'"),
        (b"X-Key:", "line 1 is not 'Name: value'"),
        (b"Host: s3cret", "line 1 has Host"),
        (b"\xff\xfes\x003\x00", "is not UTF-8"),
        (b"# nothing\n[host]\n", "has no header in it"),
        (b"", "has no header in it"),
        (b"a" * 70_000, "has more than 65,536 bytes"),
        (None, "cannot be read"),
    ],
)
def test_files_that_have_no_headers(tmp_path, content, problem):
    path = tmp_path / "headers"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=problem) as caught:
        storage.configure(PipelineOptions([f"--http_headers={path}"]))
    assert "s3cret" not in str(caught.value)


# Servers that answer only GET


@pytest.mark.parametrize("status", [405, 501, 403, 400, 404])
def test_a_server_that_refuses_head(options, status):
    modified = "Wed, 21 Oct 2015 07:28:00 GMT"
    answers = {
        "/tag": Answer(b"123", headers={"ETag": '"abc"'}),
        "/time": Answer(b"123", headers={"Last-Modified": modified}),
        "/part": Answer(
            b"1", 206, {"Last-Modified": modified, "Content-Range": "bytes 0-0/123456"}
        ),
        "/neither": b"123",
    }
    options("--allow_private_addresses")
    with HttpServer(answers) as server:
        server.busy = lambda _, method: Answer(status=status) if method == "HEAD" else None
        assert storage.version(server.url("/tag")) == '"abc"'
        assert storage.version(server.url("/time")) == f"3 {modified}"
        assert storage.version(server.url("/part")) == f"123456 {modified}"
        assert storage.version(server.url("/neither")) == ""
        assert storage.read_content(server.url("/tag")) == (b"123", '"abc"')
        assert storage.read_content(server.url("/time")) == (b"123", f"3 {modified}")
        gets = [request for request in server.log if request.method == "GET"]
        assert [request.headers.get("Range") for request in gets] == ["bytes=0-0"] * 4 + [None] * 2
        server.busy = lambda _, method: Answer(status=status)
        assert storage.version(server.url("/tag")) == ""
