"""Removes secrets from texts that quote URIs, such as messages of clients."""

from __future__ import annotations

import re
import urllib.parse
from typing import Any

from pipeline.redaction.credentials import Kind, kind_of
from pipeline.redaction.uris import (
    SEPARATOR,
    cleaned_encoded,
    cleaned_query,
    name_of,
)

# What a message may put after a URI that it quotes.
_AFTER = "'`),.:;]}"

# A stretch that may be a URI or a part of one, and what tells that it may have a secret.
_STRETCH = re.compile(r"[^\s\"<>]+")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_ENCODED = re.compile(r"%3a%2f%2f|%3f[^&]*%3d", re.IGNORECASE)
# How urllib3 quotes the part of a URL after its host.
_URL = "url: "
_SOME_HOST = "http://h"
# Whatever may be a value in a URI; and a password.
_VALUE = re.compile(r"(?<=[/=:;~?&#])[^/=:;~?&#@]+")
_USER = re.compile(r"://([^/?#@]*:[^/?#]*)@")


def redact(text: str) -> str:
    """Remove the secrets of all URIs in a text, as ``name_of`` does.

    Outside of URIs, this removes only parameters whose names say that they are credentials:
    ``token=abc``.

    Args:
      text: a URI, or a message that quotes URIs or parts of them.
    """
    if "://" in text or "=" in text or "%" in text or _URL in text:
        return _STRETCH.sub(_redacted, text)
    return text


def _redacted(match: re.Match[str]) -> str:
    stretch = match[0]
    end = stretch.rstrip(_AFTER)
    after = stretch[len(end) :]
    if end.startswith("/") and match.string.endswith(_URL, 0, match.start()):
        return name_of(_SOME_HOST + end).removeprefix(_SOME_HOST) + after
    scheme = _SCHEME.search(end)
    if scheme is None:
        return _part(end) + after
    return _part(end[: scheme.start()]) + name_of(end[scheme.start() :]) + after


def _part(text: str) -> str:
    """Remove the secrets of a part of a URI, or of what only looks like one."""
    if _ENCODED.search(text):
        text = cleaned_encoded(text)
    before, mark, query = text.partition("?")
    if "=" in before:
        before = _without_credentials(before)
    if query:
        query = cleaned_query(query)
    return before + (mark if query or text.endswith("?") else "") + query


def _without_credentials(text: str) -> str:
    """Remove the parameters that are credentials by name: ``a=1&token=2`` → ``a=1``."""
    pieces = SEPARATOR.split(text)
    kept = ""
    for separator, piece in zip(["", *pieces[1::2]], pieces[::2], strict=True):
        name, equals, _ = piece.partition("=")
        is_name = equals and re.fullmatch(r"[\w.%-]+", name)
        if not (is_name and kind_of(name) is Kind.CREDENTIAL):
            kept += (separator if kept else "") + piece
    return kept


def without(message: str, uri: str) -> str:
    """Remove from a message the secrets of one URI, whatever the form in which they are quoted.

    A client may quote only a part of a URI, or have decoded or encoded it.
    """
    name = name_of(uri)
    if name == uri:
        return message
    secrets = set()
    for value in _VALUE.findall(uri):
        decoded = urllib.parse.unquote(value)
        forms = {value, decoded, urllib.parse.quote(decoded), urllib.parse.quote(decoded, safe="")}
        secrets |= {form for form in forms if len(form) >= 8 and form not in name}
    if user := _USER.search(uri):
        secrets |= {user[1], urllib.parse.unquote(user[1])}
    for secret in sorted(secrets, key=len, reverse=True):
        message = message.replace(secret, "")
    return message


def redact_all(value: Any) -> Any:
    """Remove the secrets from all texts of a JSON value; tuples become lists."""
    if isinstance(value, dict):
        return {key: redact_all(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [redact_all(item) for item in value]
    return redact(value) if isinstance(value, str) else value
