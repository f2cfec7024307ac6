"""Turns a model handle into a local folder with a complete SavedModel; computes its fingerprint."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import shutil
import tarfile
import tempfile
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from pipeline import console, sample, storage
from pipeline.errors import ModelError, StoreError
from pipeline.models import handles, meta_graphs, other_formats
from pipeline.records import Reason
from pipeline.storage import cache

# Models that come with the package.
EMBEDDED = {"sample": sample.MODEL_DIR, "sample_features": sample.FEATURES_DIR}

_ARCHIVES = (".tar.gz", ".tgz", ".tar")
# What reading a damaged archive raises.
_ARCHIVE_ERRORS = (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error, ValueError)

_TRY_AGAIN = "try again, or download the model and give its .tar.gz"
_BY_HAND = (
    "open the model's page in a browser, sign in if it asks, download its .tar.gz, and give "
    "{model} the path of that"
)

# Why a server does not give out a model, however often it is asked.
_REFUSED = (Reason.FORBIDDEN, Reason.NOT_FOUND)

# Seconds without progress after which another process's download counts as abandoned; longer than a
# download waits for a silent server. Hub's own is ten minutes.
_HUB_LOCK_TIMEOUT = 60


def resolve(handle: str) -> Path:
    """Find the folder of a model; fetch and unpack it into the cache where needed.

    Args:
      handle: one of ``EMBEDDED``, a SavedModel folder or a ``.tar.gz`` of one (on this machine or
        any filesystem that Beam knows), the http(s) handle of a TensorFlow Hub model, or a model's
        version on Kaggle.

    Raises:
      ModelError: it does not exist, cannot be fetched, or is not a complete SavedModel.
    """
    if handle in EMBEDDED:
        return EMBEDDED[handle]
    if handles.is_hub(handle):
        folder = _resolve_hub(handle)
        return _complete(handle, _top(folder), folder)
    uri = storage.absolute(handle)
    try:
        storage.check_access(uri)
        if uri.endswith(_ARCHIVES):
            folder = _unpack(handle, uri)
            return _complete(handle, _top(folder), folder)
        if storage.is_remote(uri):
            folder = _copy(handle, uri)
            return _complete(handle, folder, folder)
    except (StoreError, OSError) as error:  # OSError: of the cache
        raise _error(handle, f"cannot be read: {error}") from error
    path = Path(uri)
    try:
        found = _something_else(path)
    except OSError as error:
        raise _error(handle, f"cannot be read: {error}") from error
    if found is not None:
        raise _error(handle, f"is {found}")
    if not path.is_dir():
        kaggle = handles.kaggle_of(handle)
        raise _error(
            handle,
            "there is no such folder" + (f"; Kaggle has {kaggle}" if kaggle else ""),
            "give a SavedModel folder, a .tar.gz of one, an http(s) Hub handle, or 'sample'",
        )
    return _complete(handle, path)


def newest_version(handle: str) -> str:
    """Choose a version where a handle is a folder with versions in it, and say which.

    TensorFlow Serving's folders are such, and those that ``finetune`` exports to: their names are
    numbers, and the greatest is the newest.

    Args:
      handle: see ``resolve``.

    Returns:
      The handle of the newest version; the same handle if it has no versions.

    Raises:
      ModelError: it cannot be listed.
    """
    if handle in EMBEDDED or handles.is_hub(handle) or handle.endswith(_ARCHIVES):
        return handle
    uri = storage.absolute(handle)
    try:
        storage.check_access(uri)
        if storage.find(uri, "saved_model.pb"):
            return handle
        graphs = storage.find(uri, "*/saved_model.pb")
    except (StoreError, OSError) as error:
        raise _error(handle, f"cannot be read: {error}") from error
    version = other_formats.newest(graph.split("/")[-2] for graph in graphs)
    if version is None:
        return handle
    console.say(f"{handle} has versions of a model: taking {version}, the newest")
    return f"{handle.rstrip('/')}/{version}"


def _something_else(path: Path) -> other_formats.Found | None:
    """Tell what a path has in place of a SavedModel; None if it has one, or nothing."""
    if path.is_dir():
        return None if (path / "saved_model.pb").is_file() else other_formats.of_folder(path)
    if not path.exists():
        return None
    return other_formats.of_file(path) or other_formats.Found("a file", "give a SavedModel folder")


def fingerprint(path: Path) -> str:
    """Compute ``sha256:…`` of what makes the model's answers: graph, variables and assets.

    It depends on their names and contents alone, so the same model has the same fingerprint as a
    folder, as an archive and on a Hub.
    """
    digest = hashlib.sha256()
    files = [path / "saved_model.pb"]
    for folder in ("variables", "assets"):
        files += (file for file in (path / folder).rglob("*") if file.is_file())
    for file in sorted(files):
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        digest.update(f"{file.relative_to(path).as_posix()}\0{content}\n".encode())
    return f"sha256:{digest.hexdigest()}"


def _missing(path: Path) -> str | None:
    """Find the first file that a SavedModel has and this folder lacks; None if it is complete."""
    variables = path / "variables"
    if not (path / "saved_model.pb").is_file():
        return "saved_model.pb"
    if not variables.is_dir():  # a model without variables
        return None
    if not (variables / "variables.index").is_file():
        return "variables/variables.index" if meta_graphs.has_variables(path) else None
    parts = sorted(file.name for file in variables.glob("variables.data-*-of-*"))
    if not parts:
        return "variables/variables.data-*"
    count = parts[0].rpartition("-of-")[2]
    for number in range(int(count) if count.isdecimal() else 0):
        if (name := f"variables.data-{number:05}-of-{count}") not in parts:
            return f"variables/{name}"
    return None


def _complete(handle: str, path: Path, cached: Path | None = None) -> Path:
    """Return the path if it has a complete SavedModel.

    Args:
      handle: of the model, for the message.
      path: the expected folder of the model.
      cached: its folder in the cache, if it is there.
    """
    missing = _missing(path)
    if missing is None:
        files = (path / "saved_model.pb", *(path / "variables").glob("variables.*"))
        pointers = [file for file in files if file.is_file() and other_formats.is_pointer(file)]
        if not pointers:
            return path
        raise _error(
            handle,
            f"is not a complete SavedModel: {pointers[0]} is a Git LFS pointer",
            "fetch the file with git lfs pull, or download it",
        )
    problem = f"is not a complete SavedModel: {path / missing} is missing"
    if cached is not None:
        problem += f"; delete the folder {cached}, so that it is fetched again"
    raise _error(handle, problem)


def _error(handle: str, problem: str, remedy: str = "") -> ModelError:
    return ModelError(problem, subject="model", given=handle, remedy=remedy)


def _top(folder: Path) -> Path:
    """Find the model in an unpacked archive; ``tar czf m.tar.gz model/`` packs its folder."""
    if (folder / "saved_model.pb").is_file():
        return folder
    below = other_formats.below(folder)
    return folder / below[0] if len(below) == 1 else folder


def _resolve_hub(handle: str) -> Path:
    """Do what ``hub.resolve`` does, in the same cache, but notice an archive that was cut off.

    Hub unpacks what has arrived and keeps it for good, since neither ``http.client`` nor
    ``tarfile`` notices a stream that ends between two members.
    """
    archive = handles.archive_of(handle)
    found = other_formats.by_name(re.split("[?#]", archive.url)[0])
    if found is not None and not archive.url.endswith(_ARCHIVES):
        raise _error(handle, f"is {found}")

    from pipeline.models.tensorflow_import import tf  # TensorFlow takes seconds to import

    with warnings.catch_warnings():  # tensorflow_hub imports pkg_resources, which warns
        warnings.simplefilter("ignore")
        from tensorflow_hub import resolver

    # Hub's own default is below /tmp, where others can write and cleaners delete in part.
    root = resolver.tfhub_cache_dir(str(cache.folder("hub")))
    folder = os.path.join(root, hashlib.sha1(archive.url.encode()).hexdigest())

    def download(handle: str, temporary: str) -> None:
        with storage.open_http(*archive) as response:
            _extract(handle, response, Path(temporary))

    try:
        tf.io.gfile.makedirs(root)
        return Path(resolver.atomic_download(handle, download, folder, _HUB_LOCK_TIMEOUT))
    except _ARCHIVE_ERRORS as error:
        raise _error(
            handle,
            f"what the server sent is truncated or no .tar.gz archive: {error}",
            _TRY_AGAIN,
        ) from error
    except (StoreError, OSError, tf.errors.OpError) as error:
        is_refused = isinstance(error, StoreError) and error.reason in _REFUSED
        raise _error(
            handle,
            f"the download failed or is truncated: {error}",
            _BY_HAND if is_refused else _TRY_AGAIN,
        ) from error


def _unpack(handle: str, uri: str) -> Path:
    """Unpack an archive into the cache, under the checksum of its bytes."""
    with storage.open_file(uri) as file:
        checksum = hashlib.sha256()
        while chunk := file.read(2**20):
            checksum.update(chunk)

    def fill(folder: Path) -> None:
        with storage.open_file(uri) as file:
            try:
                _extract(handle, file, folder)
            except _ARCHIVE_ERRORS as error:
                raise _error(
                    handle, f"is truncated or no .tar.gz archive: {error}", "fetch it again"
                ) from error

    return _fill_once(cache.folder("models") / checksum.hexdigest(), fill)


def _extract(handle: str, file: IO[bytes], folder: Path) -> None:
    """Unpack a .tar.gz or .tar into a folder, and nothing outside of it.

    Raises:
      one of ``_ARCHIVE_ERRORS``: the archive is damaged, ends early, or has links or names that
        lead out of the folder.
      ModelError: there is no complete SavedModel in it.
    """
    with io.BufferedReader(file) as packed:  # type: ignore[type-var]
        plain: Any = packed
        head = packed.peek(other_formats.HEAD)
        if head[:2] == b"\x1f\x8b":
            plain = gzip.GzipFile(fileobj=packed)  # tarfile's own reader does not mind an early end
        elif found := other_formats.by_head(head):
            raise tarfile.ReadError(f"it is {found.what}")
        with tarfile.open(fileobj=plain, mode="r|") as archive:
            archive.extractall(folder, filter="data")
            # Two blocks of zeros end an archive. tarfile stops at the first of them, or without a
            # word where the next header is cut off.
            stream: Any = archive.fileobj
            if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError("the end of the archive is missing")
        while plain.read(2**20):
            pass  # gzip's checksum is at the very end
    missing = _missing(_top(folder))
    if missing:
        found = other_formats.of_folder(folder) if missing == "saved_model.pb" else None
        what = f", but {found.what}" if found else ""
        raise _error(handle, f"has no complete SavedModel in it: no {missing}{what}")


def _copy(handle: str, uri: str) -> Path:
    """Copy a remote folder into the cache, under a checksum of its listing."""
    prefix = uri.rstrip("/") + "/"
    files = sorted(
        (file.path, file.size_in_bytes, file.last_updated_in_seconds)
        for file in storage.list_files(prefix)
        if not file.path.endswith("/")
    )
    if not any(path == prefix + "saved_model.pb" for path, _, _ in files):
        # Check before fetching anything: a mistyped path may hold a terabyte of something else.
        found = other_formats.by_name(uri) if not files else None
        if found is not None:
            raise _error(handle, f"is {found}")
        raise _error(handle, f"is not a SavedModel: no {prefix}saved_model.pb")
    if any(".." in path.split("/") for path, _, _ in files):
        raise _error(handle, "has a file that leads out of its folder")

    def fill(folder: Path) -> None:
        for path, _, _ in files:
            target = folder / path[len(prefix) :]
            target.parent.mkdir(parents=True, exist_ok=True)
            with (
                storage.open_file(path) as source,
                target.open("wb") as copy,
            ):
                shutil.copyfileobj(source, copy)

    checksum = hashlib.sha256(repr(files).encode()).hexdigest()
    return _fill_once(cache.folder("models") / checksum, fill)


def _fill_once(folder: Path, fill: Callable[[Path], None]) -> Path:
    """Fill a folder unless it exists; other processes see it as a whole or not at all."""
    if not folder.is_dir():
        temporary = Path(tempfile.mkdtemp(dir=folder.parent))
        try:
            fill(temporary)
            temporary.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster
                raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder
