"""Makes the name of an image out of its URI: what identifies it stays, secrets go.

    https://user:password@host/s--signature--/photo.jpg;jsessionid=1?id=7&sig=abc#access_token=2
    https://host/photo.jpg?id=7#

Nothing is put in the place of what is removed, so a URI that is signed anew keeps its name.
"""

from __future__ import annotations

import base64
import re
import urllib.parse
from typing import NamedTuple

from pipeline.redaction.credentials import (
    NO_NAME,
    Kind,
    in_lists,
    is_credential,
    is_key,
    is_of_signing,
    is_random,
    is_signed_value,
    is_unix_time,
    kind_of,
    known_signing,
    parts_of,
)

# Also blob:https:// and the like.
_SCHEME = re.compile(r"(?:[a-z][a-z0-9+.-]*:)?[a-z][a-z0-9+.-]*://", re.IGNORECASE)
# User and password: everything before the last @ of an authority. It has no slash, so an @ in a
# path is left alone; but a password may have one, if what is before it cannot be a port.
_USERINFO = re.compile(
    r"(://)(?:[^/?#\\]*|[^/?#\\@:\[]*:(?!\d*(?:[/?#\\]|$))[^@\\\s]{1,256})@", re.IGNORECASE
)
# In these the part before an @ is a container, unless it has a password.
_CONTAINER = re.compile(r"(abfs|wasb)s?://[^/:@]*@", re.IGNORECASE)

# What separates parameters, also where a URI is quoted in HTML or JSON. Another question mark
# begins the query of a URI inside of the first, and a semicolon may stand for an ampersand.
SEPARATOR = re.compile(
    r"((?:&amp;|&#0*38;|&#x0*26;|\\u0026|[&?]|;(?=[a-z_][\w.-]*=))+)", re.IGNORECASE
)
_DEEPEST = 5

# A URI in base64, as proxies of images take it, and what may be after it.
_BASE64_URI = re.compile(r"(aHR0c[\w+/-]+)(=*(?:\.\w+)?)")
_ENCODED_TWICE = re.compile("%3a(%2f){2}", re.IGNORECASE)

# A parameter without a name that is shorter is none.
_SHORTEST_TOKEN = 16

# A path without any of these has no secrets.
_MAYBE_SECRET = re.compile(
    r"[;=]|s--|/bot\d|/aHR0c|%3|%40|%25|eyJ|AKIA|ASIA|/[^/]{20,}/|/(?:sig|token|secret|auth|hmac)\w*/"
)
_CLOUDINARY = re.compile(r"s--[\w-]{6,}--")
_TELEGRAM = re.compile(r"bot\d{5,}:[\w-]{20,}")
_DIGEST = re.compile(r"[0-9a-f]{32,}", re.IGNORECASE)
_JWT = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]*")
# Identifiers in a path hardly ever have letters of both cases; signatures in base64 do.
# The hash of a content in IPFS is an exception.
_MIXED = re.compile(r"(?!Qm[1-9A-HJ-NP-Za-km-z]{44}$)(?=[^A-Z]*[A-Z])(?=[^a-z]*[a-z])[\w+=~-]{20,}")


class Naming(NamedTuple):
    """Which parameters of a URL's query are part of an image's name, against the rules.

    ``keep``: those that are. ``drop``: those that are not, and do not tell images apart either.
    Names are as ``in_lists``
    returns them.
    """

    keep: frozenset[str] = frozenset()
    drop: frozenset[str] = frozenset()


def name_of(uri: str, naming: Naming | None = None) -> str:
    """Remove the secrets from a URI; the result is the image's name everywhere.

    Only URLs of servers can have secrets after the host. In a path, ``token=7`` is a folder like
    any other.

    Args:
      uri: a path or a URI.
      naming: which parameters are part of the name, against the rules.
    """
    return _cleaned(uri, naming, False, 0) if "://" in uri else uri


def identity_of(uri: str, naming: Naming | None = None) -> str:
    """Return what tells an image from all others. This has secrets, and is never written.

    Two URIs with one name are of the same image only if all that differs is a signature of a known
    kind, or the user in a URI that is of no server.

    Args:
      uri: a path or a URI.
      naming: as for ``name_of``.
    """
    return _cleaned(uri, naming, True, 0) if "://" in uri else uri


def cleaned_query(query: str, naming: Naming | None = None) -> str:
    """Remove the secrets from a query, without a question mark at its beginning."""
    return _query(query, naming, False, 0)


def cleaned_encoded(text: str) -> str:
    """Remove the secrets from a URI that is encoded as a whole, or from a part of one."""
    return _nested(text, None, False, 0)


def _cleaned(uri: str, naming: Naming | None, only_known: bool, depth: int) -> str:
    scheme = _SCHEME.match(uri)
    if scheme is None:
        return uri
    is_url = scheme[0].lower().endswith(("http://", "https://"))
    count = int("@" in uri and not _CONTAINER.match(uri) and not (is_url and only_known))
    while count:
        uri, count = _USERINFO.subn(r"\1", uri)
    if not is_url:
        return uri
    before, hash_mark, fragment = uri.partition("#")
    address, mark, query = before.partition("?")
    host, slash, path = address[scheme.end() :].partition("/")
    if slash and _MAYBE_SECRET.search(address, len(scheme[0])):
        path = _path(slash + path, only_known, depth)
        address = f"{scheme[0]}{host}{path}"
    if query:
        query = _query(query, naming, only_known, depth)
        mark = "?" if query else ""
    if fragment and not only_known:
        fragment = _query(fragment, naming, False, depth)
    return f"{address}{mark}{query}{hash_mark}{fragment}"


# Paths


def _path(path: str, only_known: bool, depth: int) -> str:
    segments = path.split("/")
    last = len(segments) - 1
    kept: list[str] = []
    is_signed = False
    for number, segment in enumerate(segments):
        if len(segment) < 4:
            kept.append(segment)
            continue
        value = urllib.parse.unquote(segment) if "%" in segment else segment
        before = urllib.parse.unquote(segments[number - 1]) if number else ""
        after = segments[number + 1] if number + 1 < last else ""
        if only_known:
            # A folder may be called by a time and something random.
            if not (is_signed_value(value) and "exp=" in value):
                kept.append(segment)
        elif _is_secret(value, before, after, number == last):
            is_signed = True
        else:
            kept.append(_segment(segment, value, number == last, depth))
    if is_signed:
        kept[1:-1] = [segment for segment in kept[1:-1] if not _is_expiry(segment)]
    return "/".join(kept)


def _is_secret(value: str, before: str, after: str, is_last: bool) -> bool:
    """Tell whether a segment of a path is a credential.

    The last one is a file's name, which identifies, however random it looks.
    """
    if _CLOUDINARY.fullmatch(value) or _TELEGRAM.fullmatch(value) or _JWT.fullmatch(value):
        return True
    if is_last or _BASE64_URI.fullmatch(value):
        return False
    if "=" in value and any(_is_pair(name, inner) for name, inner in parts_of(value)):
        return True
    if kind_of(before) is Kind.CREDENTIAL and is_random(value, 8):
        return True
    if _DIGEST.fullmatch(value):  # a folder, unless a time is beside it
        return is_unix_time(before) or is_unix_time(after)
    if is_unix_time(value):
        return bool(_DIGEST.fullmatch(before) or _DIGEST.fullmatch(after))
    if is_key(value):
        return True
    if _MIXED.fullmatch(value) is None:
        return False
    return is_random(value, 20) or is_unix_time(before) or is_unix_time(after)


def _is_pair(name: str, value: str) -> bool:
    """Tell whether ``name=value`` in a path is a credential and not a folder."""
    kind = kind_of(name)
    if kind is Kind.CREDENTIAL:
        return len(value) >= 4
    return kind is Kind.SUSPECT and is_random(value, 8)


def _is_expiry(segment: str) -> bool:
    name, equals, value = segment.partition("=")
    return is_of_signing(name, value) if equals else is_unix_time(segment)


def _segment(segment: str, value: str, is_last: bool, depth: int) -> str:
    """Remove the credentials after semicolons, and those of a URI inside of a segment."""
    if ";" in segment or (is_last and "=" in segment):
        kept = ""
        sign = ""
        for number, piece in enumerate(re.split(r"([;~,!|])", segment)):
            if number % 2:
                sign = piece
                continue
            name, equals, inner = piece.partition("=")
            is_parameter = sign == ";" and is_credential(name, urllib.parse.unquote(inner))
            if not (equals and "%" not in name and (is_parameter or _is_pair(name, inner))):
                kept += sign + piece
        segment = kept
    is_nested = "%" in segment and (_is_uri(value) or "=" in value.partition("?")[2])
    if is_nested or _BASE64_URI.fullmatch(value):
        return _nested(segment, None, False, depth)
    return segment


# Queries


class _Parameter(NamedTuple):
    """A parameter of a query.

    ``separator``: what is before it. ``raw``: all of it. ``name``: as it is there. ``listed``: the
    same as ``in_lists`` returns it. ``encoded``: its value. ``value``: the same, decoded.
    """

    position: int
    separator: str
    raw: str
    name: str
    listed: str
    encoded: str
    value: str


def _query(query: str, naming: Naming | None, only_known: bool, depth: int) -> str:
    keep, drop = naming or ((), ())
    parameters = _parameters(query, only_known)
    known = known_signing({one.listed: one.value for one in parameters})
    kept: list[_Parameter] = []
    is_signed = bool(known)
    for one in parameters:
        is_short = one.name is NO_NAME and len(one.raw) < _SHORTEST_TOKEN and "=" not in one.value
        if is_short or one.listed in keep:
            kept.append(one)
        elif one.listed in drop or one.listed in known:
            continue
        elif _is_uri(one.value) and kind_of(one.name) is not Kind.CREDENTIAL:
            before = one.raw[: len(one.raw) - len(one.encoded)]
            inner = _nested(one.encoded, naming, only_known, depth)
            kept.append(one._replace(raw=before + inner))
        elif not only_known and is_credential(one.name, one.value):
            is_signed = True
        else:
            kept.append(one)
    if is_signed and not only_known:
        kept = [one for one in kept if one.listed in keep or not is_of_signing(one.name, one.value)]
    if len(kept) == len(parameters):
        return "".join([one.separator + one.raw for one in kept])
    return _joined(parameters, kept)


def _joined(parameters: list[_Parameter], kept: list[_Parameter]) -> str:
    """Join the parameters that are kept; of those of an inner URI, the first has its ``?``."""
    raws = {one.position: one.raw for one in kept}
    text = ""
    is_inner = False
    for one in parameters:
        is_inner = is_inner or "?" in one.separator
        if one.position in raws:
            separator = "?" if is_inner else one.separator if text else ""
            text += separator + raws[one.position]
            is_inner = False
    return text


def _parameters(query: str, only_known: bool) -> list[_Parameter]:
    found: list[_Parameter] = []
    pieces = SEPARATOR.split(query)
    for separator, raw in zip(["", *pieces[1::2]], pieces[::2], strict=True):
        name, equals, value = raw.partition("=")
        if not equals:
            name, value = NO_NAME, raw
        decoded = value
        # What is a credential by its name is not looked at.
        if "%" in value and (only_known or kind_of(name) is not Kind.CREDENTIAL):
            decoded = urllib.parse.unquote(value)
        listed = in_lists(name)
        found.append(_Parameter(len(found), separator, raw, name, listed, value, decoded))
    return found


def _is_uri(value: str) -> bool:
    """Tell whether a decoded value is a URI, with a host or without."""
    return (
        "://" in value
        or ("/" in value and "=" in value.partition("?")[2])
        or _BASE64_URI.fullmatch(value) is not None
        or _ENCODED_TWICE.search(value) is not None
    )


def _nested(encoded: str, naming: Naming | None, only_known: bool, depth: int) -> str:
    """Remove the secrets of a URI inside a URI, plain or encoded."""
    if depth >= _DEEPEST:
        return ""
    value = urllib.parse.unquote(encoded)
    scheme = _SCHEME.search(value) if "://" in value else None  # a search takes time
    packed = _BASE64_URI.fullmatch(value)
    if packed:
        new = _packed(packed[1], naming, only_known, depth + 1) + packed[2]
    elif not scheme and _ENCODED_TWICE.search(value):
        new = _nested(value, naming, only_known, depth + 1)
    elif scheme:
        before, address = value[: scheme.start()], value[scheme.start() :]
        new = before + _cleaned(address, naming, only_known, depth + 1)
    else:
        before, mark, query = value.partition("?")
        query = _query(query, naming, only_known, depth + 1)
        new = before + (mark + query if query else "")
    if new == value:
        return encoded
    if value == encoded:
        return new
    return _encoded_like(encoded, new)


def _packed(text: str, naming: Naming | None, only_known: bool, depth: int) -> str:
    """Remove the secrets of a URI in base64 without padding."""
    standard = text.replace("-", "+").replace("_", "/")
    try:
        uri = base64.b64decode(standard + "=" * (-len(text) % 4)).decode()
    except ValueError:
        return ""
    cleaned = _cleaned(uri, naming, only_known, depth)
    if cleaned == uri:
        return text
    return base64.urlsafe_b64encode(cleaned.encode()).decode().rstrip("=")


def _encoded_like(example: str, text: str) -> str:
    """Encode the characters that are encoded in an example, and only those."""
    upper = example.upper()
    is_lower = example != upper and re.search("%[0-9A-F]?[A-F]", example) is None
    if "%25" in upper:
        text = text.replace("%", "%25")
    for character in {*text} - {*example}:
        escape = urllib.parse.quote(character, safe="", errors="replace")
        if escape in upper:
            text = text.replace(character, escape.lower() if is_lower else escape)
    return text
