import gzip
import io
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from google.api_core.exceptions import Forbidden
from helpers import ROOT
from helpers.http_server import Answer, HttpServer, redirect, truncated, unused_url
from helpers.stores import ERRORS, OPENED, memory_store, public_folder, unprivileged

from pipeline import sample
from pipeline.errors import ModelError, UsageError
from pipeline.models import files as model_files
from pipeline.models.files import fingerprint, newest_version, resolve
from pipeline.storage import http

# Not a real SavedModel: nothing here loads it.
pytestmark = pytest.mark.usefixtures("servers_here")

MODEL = {
    "saved_model.pb": b"graph" * 1000,
    "variables/variables.index": b"index" * 10,
    "variables/variables.data-00000-of-00001": bytes(range(256)) * 200,
    "assets/labels.txt": b"cat\ndog\n",
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The cache folder of this test; Hub's own environment variable is not set."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TFHUB_CACHE_DIR", raising=False)
    return tmp_path / "cache" / "image-labeling"


def write_model(folder, model=MODEL):
    for name, content in model.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def read_model(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def packed(model=MODEL, prefix="", mode="w:gz", folders=True):
    """A tar archive; with entries for the folders, as Hub's have, or without."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=mode) as archive:
        made = set()
        for name, content in model.items():
            parent = tarfile.TarInfo(str(Path(prefix + name).parent))
            if folders and parent.name != "." and parent.name not in made:
                made.add(parent.name)
                parent.type, parent.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(parent)
            info = tarfile.TarInfo(prefix + name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return data.getvalue()


def error_of(handle):
    with pytest.raises(ModelError) as caught:
        resolve(str(handle))
    assert str(caught.value).startswith(f"model {handle}: ")
    assert "Traceback" not in str(caught.value)
    return str(caught.value)


# Folders


def test_the_sample():
    assert resolve("sample") == sample.MODEL_DIR


@pytest.mark.parametrize("given", ["m [1]", "m [1]/", "./m [1]", "{cwd}/m [1]", "{uri}"])
def test_a_folder_is_used_where_it_is(tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    model = write_model(tmp_path / "m [1]")
    assert resolve(given.format(cwd=tmp_path, uri=model.as_uri())) == model


def test_a_model_without_variables_or_assets(tmp_path):
    assert resolve(str(write_model(tmp_path, {"saved_model.pb": b"graph"}))) == tmp_path


@pytest.mark.parametrize(
    ("absent", "named"),
    [
        ("saved_model.pb", "saved_model.pb"),
        ("variables/variables.index", "variables/variables.index"),
        ("variables/variables.data-00000-of-00001", "variables/variables.data-*"),
    ],
)
def test_an_incomplete_folder(tmp_path, absent, named):
    write_model(tmp_path).joinpath(absent).unlink()
    assert error_of(tmp_path) == (
        f"model {tmp_path}: is not a complete SavedModel: {tmp_path}/{named} is missing"
    )


def test_handles_that_lead_nowhere(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder.tar.gz").mkdir()
    assert "there is no such folder; give a SavedModel folder" in error_of(tmp_path / "absent")
    assert error_of(tmp_path / "file").endswith("is a file; give a SavedModel folder")
    assert "No such file" in error_of(tmp_path / "absent.tar.gz")
    assert "Is a directory" in error_of(tmp_path / "folder.tar.gz")
    assert "Not a directory" in error_of(tmp_path / "file" / "model.tar.gz")
    assert "filesystem" in error_of("ipfs://bucket/model")
    assert "filesystem" in error_of("ipfs://bucket/model.tar.gz")


def test_an_archive_without_permission():
    with public_folder() as folder:
        (folder / "model.tar.gz").write_bytes(packed())
        (folder / "model.tar.gz").chmod(0)
        with unprivileged(folder):
            assert "Permission denied" in error_of(folder / "model.tar.gz")


def test_a_cache_that_cannot_be_made(tmp_path, monkeypatch):
    (tmp_path / "model.tar").write_bytes(packed(mode="w"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "model.tar"))
    for handle in (f"{tmp_path}/model.tar", unused_url("/model")):
        with pytest.raises(UsageError, match=r"cannot be made: .* XDG_CACHE_HOME"):
            resolve(handle)


# Archives


@pytest.mark.parametrize(
    ("name", "mode"),
    [("m.tar.gz", "w:gz"), ("m.tgz", "w:gz"), ("m.tar", "w"), ("m.tar.gz", "w"), ("a b", "w:gz")],
)
@pytest.mark.parametrize("prefix", ["", "./", "model/", "./my model/"])
@pytest.mark.parametrize("folders", [True, False])
def test_archives(tmp_path, cache, name, mode, prefix, folders):
    path = tmp_path / (name if "." in name else f"{name}.tar.gz")
    path.write_bytes(packed(prefix=prefix, mode=mode, folders=folders))
    model = resolve(str(path))
    assert read_model(model) == MODEL
    assert model.is_relative_to(cache / "models")
    assert resolve(path.as_uri()) == model


def test_an_archive_made_by_tar(tmp_path):
    write_model(tmp_path / "model")
    for command in ("tar czf m.tar.gz model", "tar czf n.tar.gz -C model .", "tar cf o.tar model/"):
        subprocess.run(command.split(), cwd=tmp_path, check=True)
        assert read_model(resolve(str(tmp_path / command.split()[2]))) == MODEL


def test_an_archive_is_unpacked_once(tmp_path, cache):
    path = tmp_path / "model.tar.gz"
    path.write_bytes(packed())
    model = resolve(str(path))
    (model / "saved_model.pb").write_bytes(b"touched")
    assert (resolve(str(path)) / "saved_model.pb").read_bytes() == b"touched"
    assert [entry.name for entry in (cache / "models").iterdir()] == [model.name]


def test_a_changed_archive_under_the_same_path_is_the_changed_model(tmp_path):
    path = tmp_path / "model.tar.gz"
    path.write_bytes(packed())
    before = resolve(str(path))
    path.write_bytes(packed(MODEL | {"saved_model.pb": b"other"}))
    assert (resolve(str(path)) / "saved_model.pb").read_bytes() == b"other"
    assert read_model(before) == MODEL


def every_cut(data, mode):
    """Lengths at which to cut an archive: among them the ends and starts of all its members."""
    whole = gzip.decompress(data) if mode == "w:gz" else data
    end = len(whole.rstrip(b"\0"))
    cuts = {0, 1, 10, len(data) // 2, len(data) - 9, len(data) - 8, len(data) - 1}
    return sorted(cut for cut in cuts if mode == "w:gz" or cut < end)


@pytest.mark.parametrize("name", ["model.tar.gz", "model.tar"])
def test_archives_that_are_cut_off(tmp_path, cache, name):
    data = packed(mode="w:gz" if name.endswith("gz") else "w")
    blocks = range(0, len(packed(mode="w").rstrip(b"\0")), 512)
    if name.endswith("gz"):
        cuts = {*range(0, len(data), len(data) // 50), *range(1, 20)}
        cuts |= {len(data) - cut for cut in range(1, 30)}
    else:
        cuts = {cut for block in blocks for cut in (block, block + 1, block + 511)}
    for cut in sorted(cuts):
        (tmp_path / name).write_bytes(data[:cut])
        message = error_of(tmp_path / name)
        assert "is truncated or no .tar.gz archive" in message, cut
        assert "fetch it again" in message
    assert list((cache / "models").iterdir()) == []
    (tmp_path / name).write_bytes(data)
    assert read_model(resolve(str(tmp_path / name))) == MODEL


@pytest.mark.parametrize("cut_before", [2, 3, 4, 5, 6])
def test_a_tar_that_ends_between_two_members_and_was_then_compressed(tmp_path, cut_before):
    whole = packed(mode="w")
    with tarfile.open(fileobj=io.BytesIO(whole)) as archive:
        offsets = [member.offset for member in archive] + [len(whole.rstrip(b"\0"))]
    for cut in (0, 100, 512):
        data = gzip.compress(whole[: min(offsets[cut_before - 1] + cut, offsets[-1])])
        (tmp_path / "model.tar.gz").write_bytes(data)
        assert "is truncated or no .tar.gz archive" in error_of(tmp_path / "model.tar.gz")


def test_a_damaged_byte_is_noticed(tmp_path):
    data = bytearray(packed())
    for position in range(20, len(data) - 8, len(data) // 40):
        damaged = data.copy()
        damaged[position] ^= 0x10
        (tmp_path / "model.tar.gz").write_bytes(damaged)
        error_of(tmp_path / "model.tar.gz")


@pytest.mark.parametrize(
    "content", [b"", b"no archive", b"\x1f\x8b", b"\0" * 2048, b"<html>" * 999]
)
def test_what_is_no_archive(tmp_path, content):
    (tmp_path / "model.tar.gz").write_bytes(content)
    error_of(tmp_path / "model.tar.gz")


@pytest.mark.parametrize("absent", [name for name in MODEL if not name.startswith("assets")])
def test_an_archive_of_something_else_is_not_kept(tmp_path, cache, absent):
    model = {name: content for name, content in MODEL.items() if name != absent}
    (tmp_path / "model.tar.gz").write_bytes(packed(model))
    assert "has no complete SavedModel in it: no " in error_of(tmp_path / "model.tar.gz")
    assert list((cache / "models").iterdir()) == []


def test_an_archive_of_two_models(tmp_path):
    model = {f"{n}/{name}": content for n in (1, 2) for name, content in MODEL.items()}
    (tmp_path / "models.tar.gz").write_bytes(packed(model))
    assert "no saved_model.pb" in error_of(tmp_path / "models.tar.gz")


def hostile(kind, target):
    """An archive with a whole model and one member that is to end up outside."""
    data = io.BytesIO(packed(mode="w"))
    with tarfile.open(fileobj=data, mode="a") as archive:
        info = tarfile.TarInfo(target if kind == "file" else "link")
        if kind != "file":
            info.type = tarfile.SYMTYPE if kind == "symlink" else tarfile.LNKTYPE
            info.linkname = target
            archive.addfile(info)
            info = tarfile.TarInfo("link/evil" if kind == "symlink" else "link")
        info.size = 4
        archive.addfile(info, io.BytesIO(b"evil"))
    return data.getvalue()


@pytest.mark.parametrize("kind", ["file", "symlink", "hardlink"])
@pytest.mark.parametrize("target", ["../../../evil", "{outside}/evil", "a/../../evil"])
def test_nothing_is_written_outside(tmp_path, kind, target):
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "model.tar").write_bytes(hostile(kind, target.format(outside=outside)))
    before = {path for path in tmp_path.rglob("*") if "cache" not in path.parts}
    if kind == "file" and target.startswith("{"):
        # As tar does it: without the slash in front, below the folder.
        model = resolve(str(tmp_path / "model.tar"))
        assert model.joinpath(str(outside / "evil").lstrip("/")).read_bytes() == b"evil"
    else:
        error_of(tmp_path / "model.tar")
        assert list((tmp_path / "cache").rglob("*evil*")) == []
    assert {path for path in tmp_path.rglob("*") if "cache" not in path.parts} == before


def test_a_device_in_an_archive(tmp_path):
    data = io.BytesIO(packed(mode="w"))
    with tarfile.open(fileobj=data, mode="a") as archive:
        info = tarfile.TarInfo("fifo")
        info.type = tarfile.FIFOTYPE
        archive.addfile(info)
    (tmp_path / "model.tar").write_bytes(data.getvalue())
    error_of(tmp_path / "model.tar")


@pytest.mark.parametrize("prefix", ["", "model/"])
def test_a_cached_archive_of_which_a_cleaner_took_a_file(tmp_path, cache, prefix):
    (tmp_path / "model.tar.gz").write_bytes(packed(prefix=prefix))
    model = resolve(str(tmp_path / "model.tar.gz"))
    (model / "variables" / "variables.index").unlink()
    (kept,) = (cache / "models").iterdir()
    assert f"variables.index is missing; delete the folder {kept}," in error_of(
        tmp_path / "model.tar.gz"
    )
    shutil.rmtree(kept)
    assert read_model(resolve(str(tmp_path / "model.tar.gz"))) == MODEL


# Hub handles


def test_a_hub_handle_is_fetched_once(cache):
    with HttpServer({"/google/model/1": packed(prefix="./")}) as server:
        model = resolve(server.url("/google/model/1"))
        assert read_model(model) == MODEL
        assert model.is_relative_to(cache / "hub")
        assert server.queries == ["tf-hub-format=compressed"]
        assert resolve(server.url("/google/model/1")) == model
        assert server.requests["/google/model/1"] == 1
    assert resolve(server.url("/google/model/1")) == model


def test_the_cache_is_the_one_of_tensorflow_hub(tmp_path, monkeypatch):
    hub = pytest.importorskip("tensorflow_hub")
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "hub cache"))
    with HttpServer({"/1": packed(), "/2": packed()}) as server:
        ours = resolve(server.url("/1"))
        assert ours.is_relative_to(tmp_path / "hub cache")
        assert hub.resolve(server.url("/1")) == str(ours)
        theirs = hub.resolve(server.url("/2"))
        assert str(resolve(server.url("/2"))) == theirs
        assert server.requests == {"/1": 1, "/2": 1}


def test_a_handle_that_redirects_or_has_a_query_or_odd_characters(cache):
    with HttpServer({"/storage/m.tar.gz": packed(), "/a b/ü": packed()}) as server:
        server.answers["/model"] = redirect("/storage/m.tar.gz?signature=1", status=303)
        assert read_model(resolve(server.url("/model?lite=0"))) == MODEL
        assert server.queries[0] == "lite=0&tf-hub-format=compressed"
        assert read_model(resolve(server.url("/a b/ü"))) == MODEL


@pytest.mark.parametrize("mode", ["w:gz", "w"])
@pytest.mark.parametrize("prefix", ["", "model/"])
def test_a_server_of_archives_that_tar_made(mode, prefix):
    with HttpServer({"/m": packed(prefix=prefix, mode=mode, folders=False)}) as server:
        server.answers["/m"] = Answer(server.answers["/m"], headers={"Content-Encoding": "gzip"})
        assert read_model(resolve(server.url("/m"))) == MODEL


@pytest.mark.parametrize("mode", ["w:gz", "w"])
@pytest.mark.parametrize("claims_the_whole", [True, False])
def test_a_download_that_is_cut_off(cache, mode, claims_the_whole):
    whole = packed(mode=mode)
    end = len(whole.rstrip(b"\0")) if mode == "w" else len(whole)
    cuts = [0, 1, 30, 512, end // 3, end // 2, end - 2048, end - 1024, end - 9, end - 1]
    with HttpServer() as server:
        handle = server.url("/model")
        for cut in cuts:
            server.answers["/model"] = truncated(whole, cut) if claims_the_whole else whole[:cut]
            message = error_of(handle)
            assert "truncated" in message, cut
            assert "try again, or download the model and give its .tar.gz" in message
        assert read_model(cache / "hub") == {}
        server.answers["/model"] = whole
        assert read_model(resolve(handle)) == MODEL


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer(status=403), "the download failed or is truncated: 403 "),
        (Answer(status=403), "open the model's page in a browser, sign in if it asks, download"),
        (Answer(status=404), "the download failed or is truncated: 404 "),
        (Answer(status=404), "download its .tar.gz, and give model the path of that"),
        (Answer(status=410), "the download failed or is truncated: 410 "),
        (Answer(status=500), "the download failed or is truncated: 500 "),
        (Answer(b"<html>please log in</html>"), "truncated or no .tar.gz archive"),
        (Answer(b"<!DOCTYPE html>\n<html>"), "truncated or no .tar.gz archive: it is a web page"),
        (Answer(b"\x89HDF\r\n\x1a\n" * 99), "no .tar.gz archive: it is a Keras file"),
        (Answer(b"PK\x03\x04" * 99), "it is an archive of another kind than .tar.gz"),
        (redirect("file:///etc/passwd"), "the download failed"),
        (packed({"readme.md": b"nothing"}), "has no complete SavedModel in it: no saved_model.pb"),
        (hostile("file", "../evil"), "no .tar.gz archive"),
    ],
)
def test_a_server_with_another_answer(cache, answer, message):
    with HttpServer({"/model": answer}) as server:
        assert message in error_of(server.url("/model"))
        server.answers["/model"] = packed()
        assert read_model(resolve(server.url("/model"))) == MODEL
    assert not list(cache.rglob("*evil*"))


@pytest.mark.parametrize("answer", [Answer(delay=60), Answer(packed(), stall_after=300, stall=60)])
def test_a_server_that_falls_silent(monkeypatch, answer):
    monkeypatch.setattr(http, "_TIMEOUT", 0.2)
    with HttpServer({"/model": answer}) as server:
        assert "timed out" in error_of(server.url("/model"))


@pytest.mark.parametrize("handle", ["http://host.invalid/model", "http://[x/model", "http://"])
def test_hub_handles_that_lead_nowhere(handle):
    assert "the download failed" in error_of(handle)


def test_a_refused_connection():
    assert "the download failed" in error_of(unused_url("/model"))


def test_a_broken_cache_folder_is_named_with_the_remedy(cache):
    with HttpServer({"/model": packed()}) as server:
        handle = server.url("/model")
        model = resolve(handle)
        (model / "saved_model.pb").unlink()
        assert error_of(handle) == (
            f"model {handle}: is not a complete SavedModel: {model}/saved_model.pb is missing; "
            f"delete the folder {model}, so that it is fetched again"
        )
        shutil.rmtree(model)
        assert read_model(resolve(handle)) == MODEL


def test_an_unwritable_hub_cache(monkeypatch):
    with public_folder() as folder, HttpServer({"/model": packed()}) as server:
        monkeypatch.setenv("TFHUB_CACHE_DIR", str(folder / "cache"))
        resolve(server.url("/model"))  # imports what another user may not be able to import
        monkeypatch.setenv("TFHUB_CACHE_DIR", str(folder / "other"))
        monkeypatch.setattr(model_files.cache, "folder", lambda _: folder)
        with unprivileged(folder):
            assert "Permission denied" in error_of(server.url("/model"))


@pytest.mark.parametrize(
    ("name", "what"),
    [
        (
            "model.keras",
            "is a Keras file, not a SavedModel; export it with keras.models.load_model(",
        ),
        ("model.weights.h5", "is a file of Keras weights"),
        ("model.tflite?download=true", "is a TensorFlow Lite model"),
        ("m/saved_model.pb", "is a file of a SavedModel; give the folder that it is in"),
    ],
)
def test_a_url_of_another_kind_of_file_is_not_fetched(name, what):
    with HttpServer() as server:
        assert what in error_of(server.url(f"/{name}"))
        assert server.requests == {}


# Kaggle

DOWNLOAD = "/api/v1/models/google/mobilenet-v2/tensorFlow2/100-224-classification/2/download"


@pytest.fixture
def kaggle(monkeypatch):
    """Stands for Kaggle, as a proxy for all http URLs."""
    with HttpServer({DOWNLOAD: packed(prefix="./")}) as server:
        monkeypatch.setenv("http_proxy", server.url())
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        yield server


def test_kaggles_handles_as_a_browser_shows_them(kaggle):
    page = "http://www.kaggle.com/models/google/mobilenet-v2/TensorFlow2/100-224-classification/2"
    model = resolve(page)
    assert read_model(model) == MODEL
    assert kaggle.requests == {DOWNLOAD: 1}
    assert kaggle.queries == [""]
    older = (
        "google/mobilenet-v2/frameworks/tensorFlow2/variations/100-224-classification/versions/2"
    )
    for other in (
        f"{page}?tfhub-redirect=true",
        f"{page}/#files",
        f"http://kaggle.com/models/{older}",
    ):
        assert resolve(other) == model
    assert kaggle.requests == {DOWNLOAD: 1}


def test_a_model_on_kaggle_that_needs_a_signature(kaggle):
    kaggle.answers[DOWNLOAD] = Answer(status=403)
    message = error_of(
        "http://www.kaggle.com/models/google/mobilenet-v2/tensorFlow2/100-224-classification/2"
    )
    assert "403 " in message
    assert "open the model's page in a browser, sign in if it asks" in message


def test_kaggles_form_without_a_scheme():
    message = error_of("google/mobilenet-v2/tensorFlow2/100-224-classification/2")
    assert (
        "there is no such folder; Kaggle has https://www.kaggle.com/models/google/mobil" in message
    )


# Versions


def test_the_newest_version_is_taken_and_said(tmp_path, capsys):
    for version in ("9", "10", "11-draft"):
        write_model(tmp_path / "export" / version)
    (tmp_path / "export" / "12").mkdir()  # not whole yet
    assert newest_version(f"{tmp_path}/export/") == f"{tmp_path}/export/10"
    said = capsys.readouterr().err
    assert said == f"{tmp_path}/export/ has versions of a model: taking 10, the newest\n"
    for handle in (f"{tmp_path}/export/9", f"{tmp_path}/absent", "sample", unused_url("/m")):
        assert newest_version(handle) == handle
    assert capsys.readouterr().err == ""


def test_the_newest_version_in_a_bucket():
    models = bucket(prefix="mem://bucket/export/9/") | bucket(prefix="mem://bucket/export/10/")
    with memory_store(models):
        assert newest_version("mem://bucket/export") == "mem://bucket/export/10"
        assert newest_version("mem://bucket/export/9") == "mem://bucket/export/9"
        assert newest_version("mem://bucket/absent") == "mem://bucket/absent"


def test_an_archive_of_one_version(tmp_path):
    (tmp_path / "m.tar.gz").write_bytes(packed(prefix="export/1795/"))
    assert read_model(resolve(f"{tmp_path}/m.tar.gz")) == MODEL


# Folders in buckets


def bucket(model=MODEL, prefix="mem://bucket/model/"):
    return {prefix + name: content for name, content in model.items()}


@pytest.mark.parametrize("handle", ["mem://bucket/model", "mem://bucket/model/"])
def test_a_folder_in_a_bucket_is_copied_once(cache, handle):
    others = {"mem://bucket/model/": b"", "mem://bucket/model/variables/": b""}
    with memory_store(bucket() | others | bucket(prefix="mem://bucket/model2/")):
        model = resolve(handle)
        assert read_model(model) == MODEL
        assert model.is_relative_to(cache / "models")
        assert sorted(OPENED) == sorted(bucket())
        assert resolve("mem://bucket/model") == model
        assert len(OPENED) == len(MODEL)


def test_a_changed_folder_in_a_bucket_is_the_changed_model():
    with memory_store(bucket()) as objects:
        resolve("mem://bucket/model")
        objects["mem://bucket/model/saved_model.pb"] = b"other"
        assert (resolve("mem://bucket/model") / "saved_model.pb").read_bytes() == b"other"


def test_an_archive_in_a_bucket():
    with memory_store({"mem://bucket/model.tar.gz": packed()}):
        assert read_model(resolve("mem://bucket/model.tar.gz")) == MODEL
        error_of("mem://bucket/absent.tar.gz")


def test_a_bucket_with_something_else_is_not_copied(cache):
    with memory_store({"mem://bucket/photos/a.jpg": b"", "mem://bucket/saved_model.pb": b""}):
        assert "no mem://bucket/photos/saved_model.pb" in error_of("mem://bucket/photos")
        assert "no mem://bucket/absent/saved_model.pb" in error_of("mem://bucket/absent")
        assert OPENED == []


def test_a_file_in_a_bucket_that_is_no_model():
    with memory_store({"mem://bucket/m.keras": b"PK", "mem://bucket/n.onnx": b""}):
        assert 'load_model("m.keras").export("m")' in error_of("mem://bucket/m.keras")
        assert "is an ONNX model; convert it" in error_of("mem://bucket/n.onnx")


def test_a_copy_that_fails_is_not_kept(cache):
    name = "mem://bucket/model/variables/variables.data-00000-of-00001"
    with memory_store(bucket()):
        ERRORS[name] = Forbidden("no access to object")
        assert "no access to object" in error_of("mem://bucket/model")
        assert list((cache / "models").iterdir()) == []
        del ERRORS[name]
        assert read_model(resolve("mem://bucket/model")) == MODEL


def test_an_incomplete_folder_in_a_bucket():
    model = {name: content for name, content in MODEL.items() if "index" not in name}
    with memory_store(bucket(model)):
        assert "variables.index is missing" in error_of("mem://bucket/model")


def test_a_name_in_a_bucket_that_leads_outside(cache):
    evil = {"mem://bucket/model/../../../evil": b"evil"}
    with memory_store(bucket() | evil):
        assert "leads out of its folder" in error_of("mem://bucket/model")
    assert not list(cache.parent.parent.rglob("evil"))


# Fingerprints


def test_the_fingerprint_is_of_the_model_not_of_where_it_is(tmp_path):
    folder = write_model(tmp_path / "model")
    (tmp_path / "m.tar.gz").write_bytes(packed(prefix="m/"))
    (tmp_path / "m.tar").write_bytes(packed(mode="w", folders=False))
    with HttpServer({"/model": packed()}) as server, memory_store(bucket()):
        handles = [folder, tmp_path / "m.tar.gz", tmp_path / "m.tar", server.url("/model")]
        paths = [resolve(str(handle)) for handle in [*handles, "mem://bucket/model"]]
    assert len(set(paths)) == 5
    assert {fingerprint(path) for path in paths} == {fingerprint(folder)}
    assert fingerprint(folder).startswith("sha256:")
    assert len(fingerprint(folder)) == len("sha256:") + 64


@pytest.mark.parametrize("name", sorted(MODEL))
def test_the_fingerprint_differs_if_one_byte_does(tmp_path, name):
    before = fingerprint(write_model(tmp_path))
    content = bytearray(MODEL[name])
    content[-1] ^= 1
    (tmp_path / name).write_bytes(content)
    assert fingerprint(tmp_path) != before


def test_the_fingerprint_differs_if_a_name_does(tmp_path):
    before = fingerprint(write_model(tmp_path))
    (tmp_path / "assets" / "labels.txt").rename(tmp_path / "assets" / "names.txt")
    assert fingerprint(tmp_path) != before


def test_the_fingerprint_is_of_what_makes_the_answers_only(tmp_path):
    before = fingerprint(write_model(tmp_path))
    (tmp_path / "README.md").write_text("notes")
    (tmp_path / "fingerprint.pb").write_text("another one on each export")
    assert fingerprint(tmp_path) == before


def test_the_fingerprint_is_the_same_in_every_process(tmp_path):
    code = (
        "import sys; from pathlib import Path; from pipeline.models.files import fingerprint; "
        "print(fingerprint(Path(sys.argv[1])))"
    )
    folder = write_model(tmp_path / "model")
    other = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    assert other.stdout.strip() == fingerprint(folder)
