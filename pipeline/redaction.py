"""Removes secrets from URIs, and from messages that quote URIs."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Iterable
from typing import Any

# User and password: everything before the last @ of an authority. It has no slash, so an @ in a
# path is left alone.
_USERINFO = re.compile(r"(://)[^/?#\\\s]*@")
_USERINFO_ENCODED = re.compile(r"(%3a%2f%2f)(?:(?!%2f|%3f|%23)[^/?#\\\s])*%40", re.IGNORECASE)

# A stretch that may be a query, with the question mark before it; its separators; and what stands
# between a name and its value. Each in plain form, and encoded, as inside another query.
_QUERY = re.compile(r"(\??)([^\s\"<>#?]+)")
_SEPARATOR = re.compile(r"(&amp;|&#0*38;|&#x0*26;|&)", re.IGNORECASE)
_EQUALS = re.compile(r"=")
_QUERY_ENCODED = re.compile(r"(%3f)((?:(?!%3f|%23)[^\s\"<>#?&])+)", re.IGNORECASE)
_SEPARATOR_ENCODED = re.compile(r"(%26amp%3b|%26)", re.IGNORECASE)
_EQUALS_ENCODED = re.compile(r"%3d", re.IGNORECASE)

# What a message may put after a URI that it quotes.
_AFTER = "'`),.:;]}"

# Names of parameters, in lowercase and with _ for -. First, all names in presigned URLs of S3
# (version 4), GCS (version 4), and services that copied them.
_SECRET = re.compile(
    r"x_(amz|goog|oss)_.*"
    r"|((access|auth|id|oauth|private|refresh|sas|security|session)_?)?token"
    r"|(x_)?api_?key|subscription_key|(client_)?secret|credentials?|jwt|bearer|auth(orization)?"
    r"|passw(or)?d|pwd|sig|(oauth_)?signature",
    re.DOTALL,
)
# The next are secret only together with one of the others: URLs signed for CloudFront, S3
# (version 2) and GCS (version 2).
_SIGNED_BY = frozenset(["awsaccesskeyid", "googleaccessid", "key_pair_id", "signature"])
_SIGNED_WITH = re.compile(r"awsaccesskeyid|googleaccessid|key_pair_id|expires|policy")
# Together with sig, these are Azure's shared access signatures.
_AZURE_WITH = re.compile(
    r"saoid|scid|sdd|se|ses|si|sip|ske|skoid|sks|skt|sktid|skv|sp|spr|sr|srt|ss|st|suoid|sv"
)


def name_of(uri: str) -> str:
    """Remove the secrets from a URI; the result is the image's name everywhere.

    Only URLs of servers can have secrets; in a path, ``token=7`` is a folder like any other.
    """
    if not uri.lower().startswith(("http://", "https://")):
        return uri
    address, mark, query = uri.partition("?")
    return _USERINFO.sub(r"\1", address) + (redact(mark + query) if mark else "")


def redact(text: str) -> str:
    """Remove the secrets of all URIs in a text.

    This removes user and password, and the parameters that sign a URL or carry a token, names and
    values. The other parameters stay: ``?id=7`` may be what tells two images apart. Nothing is put
    in the place of what is removed, so a URL that is signed anew every night keeps its name.

    Args:
      text: a URI, or a message that quotes URIs or parts of them.
    """
    if "@" in text:
        text = _USERINFO.sub(r"\1", text)
    if "=" in text:
        text = _QUERY.sub(lambda query: _without_secrets(query, _SEPARATOR, _EQUALS), text)
    if "%" in text:
        text = _redact_encoded(text)
    return text


def _redact_encoded(text: str) -> str:
    """Do the same for a URI that is a parameter of another URI; deeper levels are left alone."""
    text = _USERINFO_ENCODED.sub(r"\1", text)
    return _QUERY_ENCODED.sub(
        lambda query: _without_secrets(query, _SEPARATOR_ENCODED, _EQUALS_ENCODED), text
    )


def _without_secrets(
    query: re.Match[str], separator: re.Pattern[str], equals: re.Pattern[str]
) -> str:
    mark, content = query[1], query[2]
    if not equals.search(content):
        return query[0]
    parts = separator.split(content)  # parameters, and between them the separators
    names = [_name(parameter, equals) for parameter in parts[::2]]
    patterns = [_SECRET]
    if not _SIGNED_BY.isdisjoint(names):
        patterns.append(_SIGNED_WITH)
    if "sig" in names:
        patterns.append(_AZURE_WITH)
    is_secret = [any(pattern.fullmatch(name) for pattern in patterns) for name in names]
    kept = ""
    for n, (parameter, secret) in enumerate(zip(parts[::2], is_secret, strict=True)):
        if not secret:
            kept += (parts[2 * n - 1] if kept else "") + parameter
    if not is_secret[-1]:
        return mark + kept
    # What belongs to the message, and not to the value.
    after = parts[-1][len(parts[-1].rstrip(_AFTER)) :]
    return (mark + kept if kept else "") + after


def _name(parameter: str, equals: re.Pattern[str]) -> str:
    """Return a parameter's name as the lists spell it; empty if the parameter has no value."""
    match = equals.search(parameter)
    if match is None:
        return ""
    name = urllib.parse.unquote(parameter[: match.start()])
    return name.lower().replace("-", "_")


# Beam's flags that are keys: --s3_secret_access_key, --s3_session_token and the like.
_SECRET_FLAG = re.compile(r"--\w*(secret|token|password|access_key)\w*")


def without_secret_flags(arguments: Iterable[str]) -> list[str]:
    """Remove the flags that are keys from a command's arguments, with their values."""
    return without_flags(arguments, _SECRET_FLAG)


def without_flags(arguments: Iterable[str], pattern: re.Pattern[str]) -> list[str]:
    """Remove the flags that a pattern matches from a command's arguments, with their values."""
    kept: list[str] = []
    is_value = False
    for argument in arguments:
        flag, has_value, _ = argument.partition("=")
        dropped = pattern.fullmatch(flag) is not None
        if not dropped and not (is_value and not argument.startswith("--")):
            kept.append(argument)
        is_value = dropped and not has_value
    return kept


def redact_all(value: Any) -> Any:
    """Remove the secrets from all texts of a JSON value; tuples become lists."""
    if isinstance(value, dict):
        return {key: redact_all(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [redact_all(item) for item in value]
    return redact(value) if isinstance(value, str) else value
