"""Runs whose URIs have credentials: none of them is written, and no image is lost to them."""

import os

from helpers.http_server import Answer, HttpServer, unused_url
from helpers.models import image_file
from helpers.runs import nights, rows, run, run_process, summary
from helpers.signing import KINDS, sign


def by_label(output):
    return {row["label"]: row["image"] for row in rows(output, "labels")}


def at(server, uri):
    """The same URI on a server of this machine."""
    scheme, _, rest = uri.partition("://")
    authority, slash, path = rest.partition("/")
    user, sign, _ = authority.rpartition("@")
    host = server.url("").removeprefix("http://")
    return f"{scheme.replace('https', 'http')}://{user}{sign}{host}{slash}{path}"


def test_no_secret_is_in_what_a_run_writes(tmp_path, color_model):
    """Not in rows, summary, settings, report or leftovers, nor on the console or in warnings."""
    kinds = [kind for kind in KINDS if kind != "store_keys"]
    signed = [sign(kind, number) for number, kind in enumerate(kinds * 6)]
    secrets = {secret for one in signed for secret in one.secrets} | {"SECRET"}
    with HttpServer(default=image_file("red")) as server:
        uris = [at(server, one.uri) for one in signed]
        for number, uri in enumerate(uris):
            path = "/" + uri.partition("#")[0].split("/", 3)[3]
            if number % 5 == 0:
                server.answers[path] = Answer(status=[403, 404, 410][number % 3])
            if number % 5 == 1:
                server.answers[path] = b"<html>"
        uris.append(unused_url("/gone.png?token=SECRET"))
        uris.append("http://user:SECRET@[no-host/a.png?token=SECRET")
        server.answers["/list.txt"] = "\n".join(uris).encode()
        done = run_process(
            *("--input", server.url("/list.txt?X-Amz-Signature=SECRET")),
            *("--model", str(color_model), "--output", str(tmp_path / "out")),
            *("--max_failure_ratio", "1", "--checkpoint_every", "50"),
            env={**os.environ, "PYTHONWARNINGS": "always"},
        )
    assert done.returncode == 0, done.stderr
    counts = summary(tmp_path / "out")
    assert counts["found"] == len(uris)
    assert (counts["merged"], counts["told_apart"]) == (0, 0)
    assert counts["labeled"] > len(uris) // 2
    assert len(counts["failure_reasons"]) > 3
    written = [path.read_text("utf-8") for path in (tmp_path / "out").rglob("*") if path.is_file()]
    for text in [*written, done.stdout, done.stderr]:
        assert [secret for secret in secrets if secret in text] == []


def test_images_that_only_credentials_tell_apart(tmp_path, color_model, capsys):
    """Each is labeled, also on later nights, and an image that is signed anew is not."""
    flags = {"input": tmp_path / "list.txt", "model": color_model, "output": tmp_path / "out"}

    reaching = ["--allow_private_addresses"]

    def serve(server, **answers):
        """Serve images with a version of their own, and list them."""
        uris = []
        for token, color in answers.items():
            path = f"/x.png?token={token}"
            server.answers[path] = Answer(image_file(color), headers={"ETag": f'"{color}"'})
            uris.append(server.url(path))
        (tmp_path / "list.txt").write_text("\n".join(uris))

    with HttpServer() as server:
        serve(server, AAAA="red", BBBB="green")
        assert run("--incremental", *reaching, **flags) == 0
        first = nights(tmp_path / "out")[0]
        assert (summary(first)["labeled"], summary(first)["told_apart"]) == (2, 2)
        assert "told apart: only credentials in their URIs tell 2 images apart" in (
            capsys.readouterr().out
        )
        names = by_label(first)
        assert all(name.startswith(server.url("/x.png#version=")) for name in names.values())
        serve(server, CCCC="green", DDDD="red", EEEE="blue")
        assert run("--incremental", *reaching, **flags) == 0
        second = nights(tmp_path / "out")[1]
        assert (summary(second)["labeled"], summary(second)["skipped"]) == (1, 2)
        assert set(by_label(second)) == {"blue"}
        serve(server, AAAA="red", BBBB="green")
        flags["output"] = tmp_path / "kept"
        assert run(*reaching, **flags, keep_parameters="token") == 0
        assert by_label(tmp_path / "kept")["red"] == server.url("/x.png?token=AAAA")
        assert run(*reaching, **flags, keep_parameters="token") == 0
        assert summary(tmp_path / "kept")["taken_over"] == 2
    assert "AAAA" not in "".join(
        path.read_text("utf-8") for path in first.rglob("*") if path.is_file()
    )
