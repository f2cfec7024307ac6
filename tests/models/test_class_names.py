import pytest
from helpers.http_server import Answer, HttpServer, unused_url
from helpers.stores import memory_store, public_folder, unprivileged

from pipeline.errors import LabelsError, UsageError
from pipeline.models import class_names
from pipeline.models.class_names import find_labels

pytestmark = pytest.mark.usefixtures("servers_here")

IMAGENET = ["background", *(f"class {n}" for n in range(1000))]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def model(tmp_path):
    (tmp_path / "model" / "assets").mkdir(parents=True)
    return tmp_path / "model"


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


@pytest.mark.parametrize(
    "content",
    [
        "cat\ndog\nbüffel\n",
        "cat\ndog\nbüffel",
        "cat\r\ndog\r\nbüffel\r\n",
        "\ufeffcat\ndog\nbüffel\n",
        "cat\ndog\nbüffel\n\n \n\r\n",
        "  cat \ndog\t\n büffel",
    ],
)
def test_a_label_file(tmp_path, model, content):
    path = write(tmp_path / "labels.txt", content)
    assert find_labels(path, model, 3) == ("cat", "dog", "büffel")


def test_only_line_feeds_end_a_line(tmp_path, model):
    path = write(tmp_path / "labels.txt", "a\u2028b\nc\x0bd, e\n")
    assert find_labels(path, model, 2) == ("a\u2028b", "c\x0bd, e")


def test_an_empty_line_within_is_a_class_without_a_name(tmp_path, model):
    path = write(tmp_path / "labels.txt", "cat\n\ndog\n")
    assert find_labels(path, model, 3) == ("cat", "", "dog")


def test_a_label_file_relative_to_the_current_folder_or_as_a_uri(tmp_path, model, monkeypatch):
    write(tmp_path / "my labels.txt", "cat\ndog")
    monkeypatch.chdir(tmp_path)
    assert find_labels("my labels.txt", model, 2) == ("cat", "dog")
    assert find_labels((tmp_path / "my labels.txt").as_uri(), model, 2) == ("cat", "dog")


def test_a_label_file_over_http_and_in_a_bucket(model):
    with HttpServer({"/labels.txt": b"cat\ndog\n"}) as server:
        assert find_labels(server.url("/labels.txt"), model, 2) == ("cat", "dog")
    with memory_store({"mem://bucket/labels.txt": b"cat\ndog\n"}):
        assert find_labels("mem://bucket/labels.txt", model, 2) == ("cat", "dog")


def test_the_models_own_labels(tmp_path, model):
    write(model / "assets" / "labels.txt", "cat\ndog\n")
    assert find_labels(None, model, 2) == ("cat", "dog")
    path = write(tmp_path / "labels.txt", "Katze\nHund\n")
    assert find_labels(path, model, 2) == ("Katze", "Hund")


def error_of(labels_file, model, classes):
    with pytest.raises(LabelsError) as caught:
        find_labels(labels_file, model, classes)
    return str(caught.value)


def test_a_label_file_of_another_length(tmp_path, model):
    path = write(tmp_path / "labels.txt", "cat\ndog\n")
    assert error_of(path, model, 3) == (
        f"labels_file {path}: has 2 labels, but the model returns 3 numbers for each image; "
        "give this model's own label file with labels_file"
    )
    write(tmp_path / "labels.txt", "\n\n")
    assert "has 0 labels, but the model returns 3 numbers" in error_of(path, model, 3)


def test_own_labels_of_another_length(model):
    path = write(model / "assets" / "labels.txt", "cat\ndog\n")
    assert error_of(None, model, 3).startswith(f"{path}: has 2 labels, but the model returns 3 ")


def test_imagenet_labels_without_the_background_class(tmp_path, model):
    path = write(tmp_path / "labels.txt", "\n".join(IMAGENET[1:]))
    message = error_of(path, model, 1001)
    assert "has 1000 labels, but the model returns 1001 numbers" in message
    assert "'background' before ImageNet's 1000" in message
    assert "background" not in error_of(path, model, 999)


def test_label_files_that_cannot_be_read(tmp_path, model):
    absent = str(tmp_path / "absent.txt")
    assert error_of(absent, model, 2).startswith(
        f"labels_file {absent}: cannot be read: not_found: "
    )
    assert ": cannot be read: unreadable: " in error_of(str(tmp_path), model, 2)
    assert ": cannot be read: unreadable: " in error_of("ipfs://labels.txt", model, 2)
    with HttpServer({"/labels.txt": Answer(status=403)}) as server:
        url = server.url("/labels.txt")
        assert error_of(url, model, 2).startswith(f"labels_file {url}: cannot be read: forbidden: ")


def test_label_files_that_are_not_text(tmp_path, model):
    path = write(tmp_path / "labels.txt", b"K\xe4fer\nHund\n")
    message = error_of(path, model, 2)
    assert message.startswith(f"labels_file {path}: is not a UTF-8 text file: ")


def test_own_labels_that_may_not_be_read():
    with public_folder() as folder:
        (folder / "assets").mkdir()
        write(folder / "assets" / "labels.txt", "cat\ndog")
        (folder / "assets" / "labels.txt").chmod(0)
        with unprivileged(folder):
            assert "labels.txt: cannot be read: forbidden: " in error_of(None, folder, 2)


def test_no_labels_anywhere(model):
    assert error_of(None, model, 1000) == (
        "the model has 1000 classes and no assets/labels.txt; "
        "give a file with one label per line with labels_file"
    )


# ImageNet's public list


def test_imagenet_labels_are_fetched_once(model, monkeypatch):
    with HttpServer({"/ImageNetLabels.txt": "\n".join(IMAGENET).encode()}) as server:
        monkeypatch.setattr(class_names, "IMAGENET_LABELS_URL", server.url("/ImageNetLabels.txt"))
        assert find_labels(None, model, 1001) == tuple(IMAGENET)
        assert find_labels(None, model, 1001) == tuple(IMAGENET)
        assert server.requests["/ImageNetLabels.txt"] == 1
    assert find_labels(None, model, 1001) == tuple(IMAGENET)  # without any network


def test_the_cache_is_of_one_url(model, monkeypatch):
    with HttpServer({"/1": "\n".join(IMAGENET).encode(), "/2": b"x\n" * 1001}) as server:
        monkeypatch.setattr(class_names, "IMAGENET_LABELS_URL", server.url("/1"))
        find_labels(None, model, 1001)
        monkeypatch.setattr(class_names, "IMAGENET_LABELS_URL", server.url("/2"))
        assert find_labels(None, model, 1001) == ("x",) * 1001


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (b"<html>please log in</html>", "has 1 labels, but the model returns 1001"),
        (b"\x80\xfe", "is not a UTF-8 text file"),
        (Answer(status=500), "cannot be fetched (unavailable: 500 "),
        (Answer(b"background\n", length=10000), "cannot be fetched (unavailable: "),
    ],
)
def test_a_wrong_answer_is_not_kept(model, monkeypatch, wrong, message):
    with HttpServer({"/ImageNetLabels.txt": wrong}) as server:
        monkeypatch.setattr(class_names, "IMAGENET_LABELS_URL", server.url("/ImageNetLabels.txt"))
        error = error_of(None, model, 1001)
        assert message in error
        server.answers["/ImageNetLabels.txt"] = "\n".join(IMAGENET).encode()
        assert find_labels(None, model, 1001) == tuple(IMAGENET)


def test_one_name_for_two_classes(tmp_path, model):
    """A file that only names the class that a single number is for."""
    path = tmp_path / "labels.txt"
    path.write_text("dog\n")
    assert "has 1 label, but the model has two classes" in error_of(str(path), model, 2)
    path.write_text("no dog\ndog\n")
    assert find_labels(str(path), model, 2) == ("no dog", "dog")


def test_without_network_the_error_names_the_flag(model, monkeypatch):
    monkeypatch.setattr(class_names, "IMAGENET_LABELS_URL", unused_url("/ImageNetLabels.txt"))
    message = error_of(None, model, 1001)
    assert "ImageNet's cannot be fetched (unavailable: " in message
    assert message.endswith("; give a label file with labels_file")


def test_a_cache_that_cannot_be_made(tmp_path, model, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UsageError, match=r"cannot be made: .*; set the .* XDG_CACHE_HOME"):
        find_labels(None, model, 1001)
