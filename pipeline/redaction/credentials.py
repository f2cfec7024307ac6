"""Tells what in a URI looks like a credential: by the name of a parameter, or by its value.

Nothing here knows how a URI is put together; ``uris`` does.
"""

from __future__ import annotations

import functools
import itertools
import re
import urllib.parse
from collections.abc import Collection, Mapping
from enum import Enum, auto


class Kind(Enum):
    """What the name of a parameter says about its value.

    ``CREDENTIAL``: it is one. ``SUSPECT``: it is one unless it is obviously not, as a small number
    or a file's name. ``EXPIRY``: it says how long a signature is good. ``TIME``: if something is
    signed, it may say when. ``IDENTITY``: it says which image, however random it looks.
    ``OTHER``: the value decides.
    """

    CREDENTIAL = auto()
    SUSPECT = auto()
    EXPIRY = auto()
    TIME = auto()
    IDENTITY = auto()
    OTHER = auto()


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Anywhere in a name, without what separates its words: x-oss-security-token, userToken, txSecret.
_CREDENTIAL_PARTS = re.compile(
    "signature|token|secret|passw|passphrase|passcode|credential|hmac|jwt|bearer|authori[sz]"
    "|authenti|(api|access|private|auth|session|subscription|encryption)_?key|sess_?id|session_?id"
    "|oauth|tempauth"
)
# As words of a name: q-sign-algorithm, authSig.
_CREDENTIAL_WORDS = _words(
    "auth contrasena cred creds csrf gda hdnea hdntl hdnts mdp otp pas pass pin psw pswd pw pwd "
    "resourcekey rlkey sas saml senha sid sig sign signed signing tkn tok wpnonce xsrf"
)
_CREDENTIAL_ENDINGS = ("sig", "sessid", "sid", "loginpas", "pwd")
_SUSPECT_WORDS = _words(
    "challenge checksum code cookie digest hash key keys mac md5 nonce salt security sess session "
    "sha sha1 sha256 sha512 ticket verification verify"
)
_SUSPECT_ENDINGS = ("auth", "authcode", "hash", "key", "sign", "ticket")
_EXPIRY_PARTS = re.compile("expir|valid_?(until|to|from)|deadline|not_?(before|after)|max_?age")
_EXPIRY_WORDS = _words("e ex exp iat lifetime nbf oe se ttl until valid")
_TIME_WORDS = _words("created date is issued st start t time timestamp ts")
_TIME_ENDINGS = ("date", "time", "timestamp")
_IDENTITY_WORDS = _words(
    "album asset bucket dir doc document ean file filename folder guid id ids image img isbn item "
    "media name no number obj object page pano path photo pic picture prefix product sku slug "
    "source src title uri url uuid version"
)
# These end as session IDs do, or have a part of a credential's name: OneDrive's files, plurals, and
# tokens of which each has an image.
_IDENTITY_NAMES = re.compile(rf"(res|news|goods|({'|'.join(sorted(_IDENTITY_WORDS))})s)id")
_NUMBERED_TOKEN = re.compile(r"token_?id")
# Usual names of hashes, which may happen to have no letters, and of small numbers.
_HASHES = _words("h hm k s")
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_]+|\d+")


@functools.lru_cache(4096)
def in_lists(name: str) -> str:
    """Return the name of a parameter as lists of names have it: in lowercase, with ``_``."""
    if "%" in name:
        name = urllib.parse.unquote(name)
    return name.lower().replace("-", "_").replace(".", "_")


@functools.lru_cache(4096)
def kind_of(name: str) -> Kind:
    """Tell what the name of a parameter says; it may be encoded, as in a URI."""
    joined = in_lists(name)
    # CamelCase, and what is joined by something else; a digit belongs to the word before it.
    words = {word.lower() for word in _WORD.findall(urllib.parse.unquote(name))}
    words |= {*joined.split("_"), joined}
    if _IDENTITY_NAMES.fullmatch(joined):
        return Kind.IDENTITY
    if _NUMBERED_TOKEN.fullmatch(joined):
        return Kind.SUSPECT
    if (
        _CREDENTIAL_PARTS.search(joined)
        or not words.isdisjoint(_CREDENTIAL_WORDS)
        or joined.endswith(_CREDENTIAL_ENDINGS)
    ):
        return Kind.CREDENTIAL
    if not words.isdisjoint(_SUSPECT_WORDS) or joined.endswith(_SUSPECT_ENDINGS):
        return Kind.SUSPECT
    if not words.isdisjoint(_IDENTITY_WORDS) or (joined.endswith("id") and joined != "valid"):
        return Kind.IDENTITY
    if not words.isdisjoint(_EXPIRY_WORDS) or _EXPIRY_PARTS.search(joined):
        return Kind.EXPIRY
    if not words.isdisjoint(_TIME_WORDS) or joined.endswith(_TIME_ENDINGS):
        return Kind.TIME
    return Kind.OTHER


# Stands for the name of a parameter that has none.
NO_NAME = "(none)"

# Formats of well-known keys, and JSON in base64, with which a JWT begins.
_KEY = re.compile(
    r"(?<![A-Za-z0-9])("
    r"eyJ[A-Za-z0-9_-]{10,}|(AKIA|ASIA)[A-Z0-9]{16}|AIza[\w-]{30,}|ya29\.[\w-]+"
    r"|(gh[pousr]|github_pat|glpat|xox[a-z]|xapp|sk_live|sk_test|sk|hf|dop_v1|shpat)[-_][\w-]{16,}"
    r")"
)
# A credential among the parts of a value: st=1~exp=2~acl=/*~hmac=3.
_PART = re.compile(r"(?:^|[~;,!|&])([\w.-]+)=([^~;,!|&]*)")
_PART_OF_JSON = re.compile(r"""["']([\w.-]+)["']\s*:\s*["']""")

_HARMLESS = re.compile(
    r"\d{1,4}|\w{0,3}"  # a page, a country
    r"|\d{4}-?\d\d-?\d\d(T[\d:]+(\.\d+)?(Z|[+-][\d:]+)?)?"
    r"|[\w./@+ -]*\.(jpe?g|png|gif|webp|tiff?|bmp|avif|hei[cf]|svg)"
    r"|tbn:[\w-]+",  # a thumbnail of Google's
    re.IGNORECASE,
)


def is_key(value: str) -> bool:
    """Tell whether a decoded value has a well-known key in it, or a JWT."""
    return _KEY.search(value) is not None


def parts_of(value: str) -> list[tuple[str, str]]:
    """List the names and values in a decoded value that is a list of them."""
    return _PART.findall(value)


def has_credential_part(value: str) -> bool:
    """Tell whether a decoded value is a list of names and values, one of which is a credential."""
    names = [name for name, inner in parts_of(value) if inner] + _PART_OF_JSON.findall(value)
    return any(kind_of(name) is Kind.CREDENTIAL for name in names)


def is_credential(name: str, value: str) -> bool:
    """Tell whether a parameter looks like a credential.

    Args:
      name: as in the URI, or ``NO_NAME``.
      value: decoded.
    """
    kind = kind_of(name)
    if kind is Kind.CREDENTIAL:
        return True
    if len(value) < 4:
        return False
    if kind is Kind.SUSPECT:
        return _HARMLESS.fullmatch(value) is None
    if (("=" in value or ":" in value) and has_credential_part(value)) or (
        len(value) >= 12 and is_key(value)
    ):
        return True
    if len(value) < 8:
        return False
    if in_lists(name) in _HASHES and value.isdecimal():
        return len(value) >= 8
    if kind is Kind.IDENTITY or not is_random(value, 8 if len(name) <= 2 else 16):
        return False
    return _HARMLESS.fullmatch(value) is None


_UNIX_TIME = re.compile(r"1\d{9}(\d{3})?|20\d{10}|(0x)?[5-9a-f][0-9a-f]{7}|\d{10}[,;~-]\d{10}")
_ISO_TIME = re.compile(r"\d{4}-?\d\d-?\d\d(T[\d:]*(\.\d+)?(Z|[+-][\d:]+)?)?", re.IGNORECASE)
_ISO_BASIC = re.compile(r"\d{8}T\d{6}Z?")
_RECENT = re.compile(r"1[5-9]\d{8}(\d{3})?")
_DURATION = re.compile(r"\d+[smhd]?")


def is_unix_time(value: str) -> bool:
    """Tell whether a decoded value may be a Unix time, also in milliseconds or hexadecimal."""
    return _UNIX_TIME.fullmatch(value.lower()) is not None


def is_of_signing(name: str, value: str) -> bool:
    """Tell whether a parameter says when a signature beside it was made, or how long it is good.

    Args:
      name: as in the URI.
      value: decoded.
    """
    kind = kind_of(name)
    if kind is Kind.EXPIRY:
        return is_unix_time(value) or bool(
            _ISO_TIME.fullmatch(value) or (len(in_lists(name)) > 2 and _DURATION.fullmatch(value))
        )
    if kind is Kind.TIME:
        return is_unix_time(value) or bool(_ISO_BASIC.fullmatch(value))
    return kind is Kind.OTHER and _RECENT.fullmatch(value) is not None


# The 240 most frequent pairs of letters in English and in computing; each word is a letter and what
# follows it. They are 93 of 100 pairs there, but only 36 of 100 in random letters.
_PAIRS = frozenset(
    word[0] + second
    for word in _words(
        "abcdfgiklmnprstuvy baeilorsu cacehiklortu dabeiorsu eabcdefgilmnprstvwxy faefiloru "
        "gaehilnorsu haeiortu iabcdefglmnoprstvz keis ladeilostuy mabeimopsu nacdefgiknostuv "
        "oabcdfgiklmnoprstuvw paehiloprstuy qu racdegiklmnoprstuvy sacehiklopstuy tacehilorstuy "
        "uabcegilmnprst vaei waeio xp yps ze"
    )
    for second in word[1:]
)
_SEPARATORS = re.compile(r"[,;:|\s]+")
_HEXADECIMAL = re.compile(r"(?=[\d-]*[a-f])[0-9a-f-]+", re.IGNORECASE)
_LOOKED_AT = 40


def is_random(value: str, length: int) -> bool:
    """Tell whether a decoded value has a piece of this length or more that no person has written.

    Words, numbers, paths and times are not random. Hexadecimal numbers with letters are.
    """
    if len(value) < length:
        return False
    return any(
        len(piece) >= length and _is_random(piece[:_LOOKED_AT])
        for piece in _SEPARATORS.split(value)
    )


def _is_random(piece: str) -> bool:
    if piece.isdecimal():
        return len(piece) >= 32
    if _HEXADECIMAL.fullmatch(piece):
        return True
    # In CamelCase, a capital after a lowercase letter is where words meet; else it is chance.
    has_words = len(piece) >= 3 * len(_WORD.findall(piece))
    pairs = known = 0
    for first, second in itertools.pairwise(piece):
        if not (first.isalnum() and second.isalnum()):
            continue
        if first.islower() and second.isupper():
            pairs += not has_words
        else:
            pairs += 1
            known += (
                second.isdecimal()
                if first.isdecimal()
                else (first + second).lower() in _PAIRS or not second.isascii()
            )
    # The shorter it is, the more of them there are by chance.
    return pairs >= 4 and known < (0.8 if len(piece) >= 20 else 0.87) * pairs


# Ways of signing whose parameters are known: when one has all names of the first column, then the
# parameters that match the second are of the signature, and none of them says which image it is.
_KNOWN = [
    (frozenset(names.split()), re.compile(pattern))
    for names, pattern in (
        # Version 2 of Amazon and Google; CloudFront, Alibaba, Huawei
        ("signature awsaccesskeyid", "signature|awsaccesskeyid|expires|x_amz_security_token"),
        ("signature googleaccessid", "signature|googleaccessid|expires"),
        ("signature key_pair_id", "signature|key_pair_id|expires|policy|hash_algorithm"),
        ("signature ossaccesskeyid", "signature|ossaccesskeyid|expires|security_token"),
        ("signature accesskeyid", "signature|accesskeyid|expires|security_token"),
        # Azure's shared access signatures
        (
            "sig sv",
            "sig|saoid|scid|sdd|se|ses|si|sip|ske|skoid|sks|skt|sktid|skv|sp|spr|sr|srt|ss|st|suoid"
            "|sv",
        ),
        ("sig exp", "sig|exp"),  # Cloudflare's images
        ("q_signature", "q_(sign_.*|ak|key_time|header_list|url_param_list|signature)"),  # Tencent
        ("ex is hm", "ex|is|hm"),  # Discord
        ("oh oe", "oh|oe|_nc_.*|efg|edm"),  # Facebook and Instagram
        ("x_signature x_expires", "x_signature|x_expires|refresh_token|nonce"),  # TikTok
        ("temp_url_sig", "temp_url_(sig|expires|prefix|ip_range)"),  # OpenStack
        ("rlkey", "rlkey|st|e"),  # Dropbox
        ("wssecret wstime", "wssecret|wstime"),
        ("txsecret txtime", "txsecret|txtime"),
    )
]
_SIGNERS = frozenset().union(*(names for names, _ in _KNOWN))
# The same with names that say it on their own.
_KNOWN_NAMES = re.compile(
    r"x_(amz|goog)_.*"
    r"|x_[a-z0-9]+_(algorithm|credential|signed_?headers|additional_?headers|signature"
    r"|signature_version|security_token)"
    r"|hdnea|hdnts|hdntl|__token__|__gda__"
)
# Beside the signature of the first group, these are its times.
_TIME_OF = re.compile(r"(x_[a-z0-9]+_)(date|expires)")
# A value that is a signature with its time: 1767225600-0-0-3b5d…, exp=1767225600~hmac=3b5d….
_SIGNED_VALUE = re.compile(
    r"\d{10}[-_.~](0x)?[\w+/=.-]{20,}|(.*[~;,&])?exp=\d{10}[~;,&].*hmac=\w+.*", re.DOTALL
)


def is_signed_value(value: str) -> bool:
    """Tell whether a decoded value is a signature that says when it ends."""
    if len(value) <= 20 or not (value[0].isdecimal() or "exp=" in value):
        return False
    return _SIGNED_VALUE.fullmatch(value) is not None


@functools.lru_cache(4096)
def _is_known_name(name: str) -> bool:
    return _KNOWN_NAMES.fullmatch(name) is not None


def _is_named_credential(name: str, value: str) -> bool:
    return kind_of(name) in (Kind.CREDENTIAL, Kind.SUSPECT) and is_credential(name, value)


def known_signing(parameters: Mapping[str, str]) -> Collection[str]:
    """Find the parameters that only sign, in a way that is known.

    Args:
      parameters: decoded values, by names as ``in_lists`` returns them.

    Returns:
      Their names.
    """
    found = {
        name
        for name, value in parameters.items()
        if _is_known_name(name)
        or ((time := _TIME_OF.fullmatch(name)) and f"{time[1]}signature" in parameters)
        # A file's name may begin with a time as well.
        or (is_signed_value(value) and _is_named_credential(name, value))
    }
    if _SIGNERS.isdisjoint(parameters):
        return found
    for names, pattern in _KNOWN:
        if names <= parameters.keys():
            found |= {name for name in parameters if pattern.fullmatch(name)}
    return found
