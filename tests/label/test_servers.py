"""The label job on servers that are busy, that refuse HEAD, that are private, and what they see."""

import re
import time

import pytest
from helpers.http_server import Answer, HttpServer, redirect
from helpers.models import COLORS, image_file
from helpers.runs import rows, run, summary

from pipeline import __version__
from pipeline.__main__ import main


def write_list(folder, urls):
    path = folder / "list.txt"
    path.write_text("".join(f"{url}\n" for url in urls))
    return path


def test_every_tenth_request_is_told_to_wait(tmp_path, color_model):
    """The server says so with seconds, and with a time; it is asked again no sooner."""
    count = 60
    photos = {f"/{n:03}.png": image_file(list(COLORS)[n % 3]) for n in range(count)}
    holds = []

    def busy(number, method):
        if number % 10:
            return None
        now = time.time()
        if number % 20:
            holds.append((time.monotonic(), 1))
            return Answer(status=429, headers={"Retry-After": "1"})
        then = int(now) + 2
        holds.append((time.monotonic(), then - int(now) - 1))  # the server's clock has no fractions
        date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(then))
        return Answer(status=503, headers={"Retry-After": date})

    with HttpServer(photos) as server:
        server.busy = busy
        urls = [server.url(path) for path in photos]
        out = tmp_path / "out"
        flags = {"input": write_list(tmp_path, urls), "model": color_model, "output": out}
        started = time.monotonic()
        assert run("--allow_private_addresses", **flags) == 0
        seconds = time.monotonic() - started
        log = list(server.log)
    assert summary(out)["labeled"] == summary(out)["found"] == count
    assert rows(out, "labels") and summary(out)["failed"] == 0
    refused = [request for request in log if request.status in (429, 503)]
    assert len(refused) == len(holds) >= count // 10
    soonest = []
    for (told, wait), request in zip(holds, refused, strict=True):
        after = [other.time - told for other in log if other.time > told]
        # Other than what was on its way, nobody asks.
        assert all(seconds < 0.3 or seconds >= wait for seconds in after)
        again = [r for r in log if r.path == request.path and r.time > request.time]
        soonest.append(again[0].time - told)
        assert soonest[-1] >= wait
    print(
        f"{len(log)} requests, {len(refused)} told to wait, {seconds:.1f} s; asked again after "
        f"{min(soonest):.2f} to {max(soonest):.2f} s"
    )


def test_a_server_that_refuses_head_labels_nothing_twice(tmp_path, color_model, capsys):
    answers = {
        "/tag.png": Answer(image_file("red"), headers={"ETag": '"1"'}),
        "/time.png": Answer(
            image_file("red"), headers={"Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}
        ),
        "/neither.png": image_file("red"),
    }
    with HttpServer(answers) as server:
        server.busy = lambda _, method: Answer(status=405) if method == "HEAD" else None
        path = write_list(tmp_path, map(server.url, answers))
        flags = {"input": path, "model": color_model}
        argv = ["--allow_private_addresses"]
        assert run(*argv, **flags, output=tmp_path / "once") == 0
        once = {row["image"]: row["version"] for row in rows(tmp_path / "once", "labels")}
        time_version = f"{len(image_file('red'))} Wed, 21 Oct 2015 07:28:00 GMT"
        assert [once[server.url(name)] for name in answers] == ['"1"', time_version, ""]
        # The same command has nothing to do.
        assert run(*argv, **flags, output=tmp_path / "once") == 0
        assert summary(tmp_path / "once")["taken_over"] == 3

        out = tmp_path / "nightly"
        for _ in range(2):
            assert run("--incremental", *argv, **flags, output=out) == 0
            time.sleep(1.1)  # the folders have names with seconds
        first, second = sorted(out.glob("run=*"))
        assert {row["image"]: row["version"] for row in rows(first, "labels")} == once
        assert (summary(second)["labeled"], summary(second)["skipped"]) == (0, 3)


def test_lists_of_strangers_and_what_servers_are_told(tmp_path, color_model, capsys):
    headers = tmp_path / "headers"
    headers.write_text("X-Api-Key: s3cret-s3cret\n")
    with HttpServer({"/a.png": image_file("red")}) as private:
        answers = {
            "/metadata.png": redirect("http://169.254.169.254/latest/meta-data/"),
            "/private.png": redirect(private.url("/a.png")),
            "/b.png": image_file("blue"),
        }
        with HttpServer(answers) as server:
            server.answers["/list.txt"] = "\n".join(
                [*answers, private.url("/a.png"), "http://169.254.169.254/a.png"]
            ).encode()
            out = tmp_path / "out"
            flags = {"input": server.url("/list.txt"), "model": color_model, "output": out}
            argv = [f"--http_headers={headers}", "--http_user_agent=Museum 1.0"]
            assert run(*argv, **flags, max_failure_ratio=1) == 0
            assert not private.log
            [labeled] = rows(out, "labels")
            assert labeled["image"] == server.url("/b.png")
            failed = {row["image"]: row for row in rows(out, "failures")}
            assert {row["reason"] for row in failed.values()} == {"forbidden"}
            for name in (server.url("/metadata.png"), "http://169.254.169.254/a.png"):
                assert "never asked" in failed[name]["message"]
            for name in (server.url("/private.png"), private.url("/a.png")):
                assert "give allow_private_addresses" in failed[name]["message"]
            assert {r.headers["User-Agent"] for r in server.log} == {"Museum 1.0"}
            assert {r.headers.get("X-Api-Key") for r in server.log} == {"s3cret-s3cret"}
            # Its thumbnails are asked for in the same way.
            del server.log[:]
            assert main(["report", str(out), "--allow_private_addresses", argv[0]]) == 0
            assert {r.headers.get("X-Api-Key") for r in server.log} == {"s3cret-s3cret"}
            assert {r.headers["User-Agent"] for r in server.log} == {
                f"image-labeling/{__version__}"
            }
            assert "data:image/jpeg" in (out / "report.html").read_text()
    console = capsys.readouterr()
    written = [path.read_text() for path in out.iterdir() if path.is_file()]
    assert not [text for text in (*written, console.out, console.err) if "s3cret" in text]
    assert f"http_headers: {headers}" in (out / "run.yaml").read_text()


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("az://container/photos", "az:// is not supported; give https URLs"),
        ("abfss://c@account.dfs.core.windows.net/p", "abfss:// is not supported"),
        ("wasbs://c@account.blob.core.windows.net/p/a.jpg", "wasbs:// is not supported"),
        ("azfs://account/container/photos", "azfs:// is not supported"),
    ],
)
def test_azure_is_refused_at_once(tmp_path, color_model, capsys, uri, message):
    flags = {"input": "sample", "model": color_model, "output": tmp_path / "out"}
    for name in ("input", "model", "output", "labels_file", "truth", "copy_to"):
        given = f"{uri}/t.csv" if name == "truth" else uri
        assert run(**flags | {name: given}) == 2, name
        error = capsys.readouterr().err.strip()
        assert re.fullmatch(rf"error: --{name} \S+: .*{re.escape(message)}.*", error), error
    assert main(["report", uri]) == 2
    assert message in capsys.readouterr().err
