"""Turns a model handle into a local folder with a complete SavedModel; computes its fingerprint."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import tarfile
import tempfile
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from pipeline import sample, storage
from pipeline.errors import ModelError, StoreError
from pipeline.storage import cache

# Models that come with the package.
EMBEDDED = {"sample": sample.MODEL_DIR, "sample_features": sample.FEATURES_DIR}

_ARCHIVES = (".tar.gz", ".tgz", ".tar")
# What reading a damaged archive raises.
_ARCHIVE_ERRORS = (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error, ValueError)

_TRY_AGAIN = "try again, or download the model and give its .tar.gz"

# Seconds without progress after which another process's download counts as abandoned; longer than a
# download waits for a silent server. Hub's own is ten minutes.
_HUB_LOCK_TIMEOUT = 60


def resolve(handle: str) -> Path:
    """Find the folder of a model; fetch and unpack it into the cache where needed.

    Args:
      handle: one of ``EMBEDDED``, a SavedModel folder or a ``.tar.gz`` of one (on this machine or
        any filesystem that Beam knows), or the http(s) handle of a TensorFlow Hub model.

    Raises:
      ModelError: it does not exist, cannot be fetched, or is not a complete SavedModel.
    """
    if handle in EMBEDDED:
        return EMBEDDED[handle]
    if storage.is_http(handle):
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
    if not os.path.isdir(uri):
        raise _error(
            handle,
            "there is no such folder",
            "give a SavedModel folder, a .tar.gz of one, an http(s) Hub handle, or 'sample'",
        )
    return _complete(handle, Path(uri))


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
    if not (path / "saved_model.pb").is_file():
        return "saved_model.pb"
    if not (path / "variables").is_dir():  # a model without variables
        return None
    if not (path / "variables" / "variables.index").is_file():
        return "variables/variables.index"
    if not any((path / "variables").glob("variables.data-*")):
        return "variables/variables.data-*"
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
        return path
    problem = f"is not a complete SavedModel: {path / missing} is missing"
    if cached is not None:
        problem += f"; delete the folder {cached}, so that it is fetched again"
    raise _error(handle, problem)


def _error(handle: str, problem: str, remedy: str = "") -> ModelError:
    return ModelError(problem, subject="model", given=handle, remedy=remedy)


def _top(folder: Path) -> Path:
    """Find the model in an unpacked archive; ``tar czf m.tar.gz model/`` packs its folder."""
    below = list(folder.glob("*/saved_model.pb"))
    if len(below) == 1 and not (folder / "saved_model.pb").is_file():
        return below[0].parent
    return folder


def _resolve_hub(handle: str) -> Path:
    """Do what ``hub.resolve`` does, in the same cache, but notice an archive that was cut off.

    Hub unpacks what has arrived and keeps it for good, since neither ``http.client`` nor
    ``tarfile`` notices a stream that ends between two members.
    """
    from pipeline.models.tensorflow_import import tf  # TensorFlow takes seconds to import

    with warnings.catch_warnings():  # tensorflow_hub imports pkg_resources, which warns
        warnings.simplefilter("ignore")
        from tensorflow_hub import resolver

    # Hub's own default is below /tmp, where others can write and cleaners delete in part.
    root = resolver.tfhub_cache_dir(str(cache.folder("hub")))
    folder = os.path.join(root, hashlib.sha1(handle.encode()).hexdigest())

    def download(handle: str, temporary: str) -> None:
        query = {"tf-hub-format": "compressed"}
        with storage.open_http(handle, query) as response:
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
        raise _error(handle, f"the download failed or is truncated: {error}", _TRY_AGAIN) from error


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
        if packed.peek(2)[:2] == b"\x1f\x8b":
            plain = gzip.GzipFile(fileobj=packed)  # tarfile's own reader does not mind an early end
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
        raise _error(handle, f"has no complete SavedModel in it: no {missing}")


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
