"""Handles of models on the Hub and on Kaggle: the archives that they stand for."""

from __future__ import annotations

import re
import urllib.parse
from typing import NamedTuple

from pipeline import storage
from pipeline.errors import ModelError

# The scheme, the host and the path; what follows is a query or a place on the page.
_URL = re.compile("([a-z]+)://([^/?#]*)([^?#]*)", re.IGNORECASE)

_KAGGLE_HOSTS = ("kaggle.com", "www.kaggle.com")

# As Kaggle's own client spells them; its pages have other capitals as well.
_FRAMEWORKS = {"tensorflow1": "tensorFlow1", "tensorflow2": "tensorFlow2"}

_OTHER_FRAMEWORKS = (
    "api", "coreml", "flax", "gemmacpp", "gguf", "jax", "keras", "mindspore", "onnx", "other",
    "paddlepaddle", "pytorch", "scikitlearn", "tensorrtllm", "tfjs", "tflite", "transformers",
    "triton",
)  # fmt: skip

_LIKE = "https://www.kaggle.com/models/OWNER/MODEL/tensorFlow2/VARIATION/VERSION"


class Archive(NamedTuple):
    """A model's archive on a server. ``query``: to ask with."""

    url: str
    query: dict[str, str]


def is_hub(handle: str) -> bool:
    """Tell whether a handle is for a server of models."""
    return storage.is_http(handle) or handle.lower().startswith("kaggle://")


def has_hub_convention(handle: str) -> bool:
    """Tell whether a model's publisher promises TensorFlow Hub's convention for images.

    Google's own models do, on the Hub and on Kaggle. Anybody may upload there, or serve the Hub's
    protocol, so the handles of others promise nothing.
    """
    match = _URL.match(handle)
    if match is None:
        return False
    scheme, host, path = match.groups()
    path = path.strip("/").lower()
    if scheme.lower() == "kaggle":
        path = f"models/{host}/{path}".replace("models/models/", "models/")
    elif host.lower() not in (*_KAGGLE_HOSTS, "tfhub.dev", "www.tfhub.dev"):
        return False
    return path.startswith(("google/", "tensorflow/", "models/google/", "models/tensorflow/"))


def archive_of(handle: str) -> Archive:
    """Find out where the archive of a model on the Hub, or on Kaggle, is.

    Args:
      handle: a URL of the Hub's protocol, which has the archive at the address of its page; or
        Kaggle's, as a browser or its client shows it.

    Raises:
      ModelError: it is a page that has no TensorFlow model, or not just one.
    """
    scheme, host, path = _URL.match(handle).groups()  # type: ignore[union-attr]
    path = path.strip("/")
    if scheme.lower() == "kaggle":
        address = f"{host}/{path}".strip("/").removeprefix("models/")
        return _on_kaggle(handle, "https", f"models/{address}")
    if host.lower() in _KAGGLE_HOSTS:
        if path.startswith("api/"):
            return Archive(handle, {})
        return _on_kaggle(handle, scheme.lower(), path)
    if host.lower() in ("huggingface.co", "hf.co"):
        raise ModelError(
            "is a page of Hugging Face, which has no archive of a SavedModel",
            subject="model",
            given=handle,
            remedy="export the model as a SavedModel, and give its folder",
        )
    if host.lower() == "tfhub.dev" and {"tfjs-model", "lite-model"} & {*path.split("/")}:
        raise ModelError(
            "is a model for TensorFlow.js or TensorFlow Lite",
            subject="model",
            given=handle,
            remedy="give the handle of the same model's TensorFlow 2 form",
        )
    return Archive(handle, {"tf-hub-format": "compressed"})


def kaggle_of(handle: str) -> str | None:
    """Find out whether what is no path is a handle of Kaggle's client, ``OWNER/MODEL/…``.

    Returns:
      The URL of its page, or None.
    """
    parts = handle.rstrip("/").split("/")
    if (
        len(parts) in (4, 5)
        and all(parts)
        and parts[2].lower() in (*_FRAMEWORKS, *_OTHER_FRAMEWORKS)
    ):
        return f"https://www.kaggle.com/models/{'/'.join(parts)}"
    return None


def _on_kaggle(handle: str, scheme: str, path: str) -> Archive:
    """Find the archive of one version of one of a model's variations."""
    parts = [part for part in urllib.parse.unquote(path).split("/") if part]
    owner, model, rest = "".join(parts[1:2]), "".join(parts[2:3]), parts[3:]
    if rest[:1] == ["frameworks"]:  # its older form, …/frameworks/F/variations/V/versions/N
        rest = rest[1::2]
    if parts[:1] != ["models"] or not model:
        raise _page(handle, "is a page of Kaggle's that has no model")
    if not rest:
        raise _page(handle, "is the page of a model that has several variations")
    framework = _FRAMEWORKS.get(rest[0].lower())
    if framework is None:
        raise _page(handle, f"is a model for {rest[0]}, not for TensorFlow")
    if len(rest) == 1:
        raise _page(handle, "names no variation of the model")
    if len(rest) == 2:
        raise _page(handle, "names no version of the model")
    names = [owner, model, framework, *rest[1:]]
    address = "/".join(names)
    if len(rest) > 3 or not re.fullmatch(r"(\w[\w.-]*/){4}\d+", address):
        raise _page(handle, "is not the address of a model's version")
    return Archive(f"{scheme}://www.kaggle.com/api/v1/models/{address}/download", {})


def _page(handle: str, problem: str) -> ModelError:
    return ModelError(problem, subject="model", given=handle, remedy=f"give it as {_LIKE}")
