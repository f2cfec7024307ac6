"""Says what is not a SavedModel: the files and folders that people take for one, and what to do."""

from __future__ import annotations

import json
import re
import shlex
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

# So many bytes at the beginning of a file tell what it is.
HEAD = 64

_LFS = b"version https://git-lfs"


class Found(NamedTuple):
    """What something is, with an article, and what to do with it."""

    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what}; {self.remedy}"


_WEB_PAGE = Found("a web page", "download the model's archive in a browser, and give its path")
_LFS_POINTER = Found(
    "a Git LFS pointer in place of the file", "fetch it with git lfs pull, or download it"
)
_LITE = Found(
    "a TensorFlow Lite model",
    "give the SavedModel that it was converted from; there is no way back",
)
_TORCH = Found(
    "a PyTorch file",
    "export the model to ONNX, and convert that to a SavedModel, with onnx2tf, say",
)
_ONNX = Found("an ONNX model", "convert it to a SavedModel, with onnx2tf, say")
_CHECKPOINT = Found(
    "part of a checkpoint, which has variables but no graph",
    "build the network by its code, load the checkpoint into it, export it with "
    "tf.saved_model.save, and give that folder",
)
_KERAS_WEIGHTS = Found(
    "a file of Keras weights, without the network",
    "build the network by its code, load_weights, then export(), and give that folder",
)
_KERAS = Found(
    "a Keras file, not a SavedModel",
    'export it with keras.models.load_model("m.keras").export("m"), and give the folder m',
)
_DAMAGED = Found("called a Keras file, but no whole one", "fetch it again")
_JS = Found("a TensorFlow.js model", "give the SavedModel that it was converted from")
_TRANSFORMERS = Found(
    "a model of Hugging Face's transformers",
    "export it as a SavedModel, and give that folder",
)
_PICKLE = Found("a Python pickle", "export the model as a SavedModel, and give that folder")
_TEXT = Found(
    "a SavedModel in text form",
    "save it in binary form, with tf.saved_model.save(tf.saved_model.load(…), …)",
)
_IN_SAVED_MODEL = Found("a file of a SavedModel", "give the folder that it is in")
_FROZEN = Found(
    "a graph alone, a frozen one perhaps",
    "make a SavedModel of it, with tf.compat.v1.import_graph_def and "
    "tf.compat.v1.saved_model.simple_save, which names its input and its output",
)
_GZIP = Found("a compressed file", "name it .tar.gz, if it is the archive of a SavedModel")
_ARCHIVE = Found("an archive of another kind than .tar.gz", "unpack it, and give the folder")

# The beginning of a file, or part of it, and what has it.
_HEADS = (
    (re.compile(rb"\x89HDF\r\n\x1a\n"), _KERAS),
    (re.compile(rb".{4}TFL3", re.DOTALL), _LITE),
    (re.compile(rb"\x1f\x8b"), _GZIP),
    (re.compile(rb"BZh|\xfd7zXZ|7z\xbc\xaf|PK\x03\x04"), _ARCHIVE),
    (re.compile(rb"\s*<(!doctype|html)", re.IGNORECASE), _WEB_PAGE),
    (re.compile(re.escape(_LFS)), _LFS_POINTER),
)

# The end of a name, and what is called so. The first that matches counts.
_NAMES = (
    (r"/saved_model\.pb|/fingerprint\.pb|/keras_metadata\.pb", _IN_SAVED_MODEL),
    (r"/variables\.(index|data-\d+-of-\d+)", _IN_SAVED_MODEL),
    (r"/tfhub_module\.pb", _IN_SAVED_MODEL),
    (r"\.pbtxt", _TEXT),
    (r"\.weights\.h5", _KERAS_WEIGHTS),
    (r"\.keras|\.h5|\.hdf5", _KERAS),
    (r"\.tflite|\.lite", _LITE),
    (r"\.onnx", _ONNX),
    (r"\.pt|\.pth|\.pt2|\.torchscript|\.safetensors|/pytorch_model\.bin", _TORCH),
    (r"\.pkl|\.pickle|\.joblib", _PICKLE),
    (r"/checkpoint|\.ckpt|\.ckpt-\d+|\.index|\.meta|\.data-\d+-of-\d+", _CHECKPOINT),
    (r"\.pb", _FROZEN),
    (r"/model\.json", _JS),
    (r"\.tar|\.gz|\.tgz", _GZIP),
    (r"\.zip|\.tar\.(bz2|xz|zst)|\.tbz2?|\.txz|\.7z|\.rar", _ARCHIVE),
)


def by_name(name: str) -> Found | None:
    """Tell what a file is by its name, a path or URI; None if that does not say."""
    for ending, found in _NAMES:
        if re.search(f"(?:{ending})$", f"/{name}", re.IGNORECASE):
            return found
    return None


def by_head(head: bytes) -> Found | None:
    """Tell what a file is by its first ``HEAD`` bytes; None if they do not say."""
    for pattern, found in _HEADS:
        if pattern.match(head):
            return found
    return None


def is_pointer(path: Path) -> bool:
    """Tell whether a file is only Git LFS's note of where the file is."""
    return _head(path).startswith(_LFS)


def of_file(path: Path) -> Found | None:
    """Tell what a file on this machine is; None if that is not known.

    Raises:
      OSError: it cannot be read.
    """
    head = _head(path)
    found = _of_zip(path) if head.startswith(b"PK\x03\x04") else by_head(head)
    if found is _KERAS:
        return _keras(path)
    named = by_name(str(path))
    if found in (None, _GZIP, _ARCHIVE) and named is not None:
        return _DAMAGED if named is _KERAS else named
    return found


def of_folder(folder: Path) -> Found | None:
    """Tell what a folder on this machine is that has no ``saved_model.pb``; None if not known.

    Raises:
      OSError: it cannot be read.
    """
    if (folder / "saved_model.pbtxt").is_file():
        return _TEXT
    models = below(folder)
    if models:
        names = ", ".join(models[:5]) + (", …" if len(models) > 5 else "")
        return Found(
            f"a folder with {'a SavedModel' if len(models) == 1 else 'SavedModels'} in {names}",
            f"give {folder / models[0]}" if len(models) == 1 else "give one of them",
        )
    files = sorted(path.name for path in folder.iterdir() if path.is_file())
    if "config.json" in files and {"model.weights.h5", "metadata.json"} <= {*files}:
        return Found(
            "a Keras file that was unpacked",
            "pack it again as a .zip, name that m.keras, and export it with "
            'keras.models.load_model("m.keras").export("m")',
        )
    if "config.json" in files and _is_transformers(folder / "config.json"):
        return _TRANSFORMERS
    if "model.json" in files:
        return _JS
    for name in files:
        found = of_file(folder / name) if by_name(name) else None
        if found not in (None, _IN_SAVED_MODEL, _GZIP, _ARCHIVE, _WEB_PAGE):
            return Found(f"a folder with {name}, {found.what}", found.remedy)
    return None


def below(folder: Path) -> list[str]:
    """List the SavedModels in a folder's folders, and theirs, by their paths in it."""
    paths = [*folder.glob("*/saved_model.pb"), *folder.glob("*/*/saved_model.pb")]
    return sorted(path.parent.relative_to(folder).as_posix() for path in paths)


def newest(names: Iterable[str]) -> str | None:
    """Choose from names of folders the version that TensorFlow Serving would serve.

    Returns:
      The greatest number; None if there is none.
    """
    return max((name for name in names if name.isdecimal()), key=int, default=None)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD)


def _of_zip(path: Path) -> Found | None:
    try:
        with zipfile.ZipFile(path) as packed:
            names = packed.namelist()
    except (zipfile.BadZipFile, OSError):
        return None
    if "config.json" in names and "model.weights.h5" in names:
        return _KERAS
    if any(name.endswith("/data.pkl") for name in names):
        return _TORCH
    return Found("a .zip archive", "unpack it, and give the folder")


def _keras(path: Path) -> Found:
    """Say what to do with a Keras file: the line that exports it, with the Keras that made it."""
    version = _keras_version(path)
    if version is None:
        return _KERAS_WEIGHTS
    library = "tf_keras" if version.startswith("2.") else "keras"
    target = path.with_suffix("")
    if target.exists() or target == path:
        target = path.with_name(f"{path.stem}_saved_model")
    given, made = (json.dumps(str(name), ensure_ascii=False) for name in (path, target))
    code = f"import {library}; {library}.models.load_model({given}).export({made})"
    return Found(
        "a Keras file, not a SavedModel",
        f"if you trust it, export it with python -c {shlex.quote(code)} and give {target}",
    )


def _keras_version(path: Path) -> str | None:
    """Read which version wrote a Keras file, "" if it does not say; None without a network."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as packed:
                return str(json.loads(packed.read("metadata.json")).get("keras_version", ""))
        import h5py  # half a second to import

        with h5py.File(path) as file:
            if "model_config" not in file.attrs:
                return None
            version = file.attrs.get("keras_version", "")
            return version.decode() if isinstance(version, bytes) else str(version)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, AttributeError):
        return ""


def _is_transformers(config: Path) -> bool:
    try:
        found = json.loads(config.read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and ("model_type" in found or "architectures" in found)
