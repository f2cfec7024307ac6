import base64
import logging
import os
import random
import sys
import threading
import time
import warnings
from collections import Counter

import pytest
from helpers.signing import KINDS, path_of, sign
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import console
from pipeline.redaction import (
    Naming,
    identity_of,
    name_of,
    redact,
    without,
    without_secret_flags,
)

S3_V4 = (
    "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIA%2F20260101%2Fus-east-1%2Fs3"
    "&X-Amz-Date=20260101T000000Z&X-Amz-Expires=3600&X-Amz-SignedHeaders=host"
    "&X-Amz-Security-Token=abc%3D&X-Amz-Signature=0123abcd"
)
GCS_V4 = S3_V4.replace("X-Amz", "X-Goog")
AZURE = (
    "sv=2023-11-03&st=2026-01-01T00%3A00Z&se=2026-01-02&sr=b&sp=r&spr=https&sip=1.2.3.4"
    "&skoid=a&sktid=b&ske=c&sks=b&skv=d&sig=ab%2Bc%3D"
)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/photos/a.jpg",
        "/photos/a@2x.jpg",
        "user@host.jpg",
        "s3://bucket/a@2x.jpg",
        "https://host/a@2x.jpg",
        "https://host/@user/x?id=7",
        "https://host/x?to=a@b",
        "https://host/x?id=7&size=large",
        "https://host/x?sp=1&sv=2&se=3&expires=4&policy=5&key=6&expiry",
        "https://host/x?",
        "https://host/x?&&",
        "https://host/x?token",
        "/data/year=2026/month=1/a.jpg",
        "/data/token=abc/a.jpg",
        "HTTPConnectionPool(host='h', port=80): Read timed out. (read timeout=30)",
        "a = b, c == d; e <= f",
    ],
)
def test_what_has_no_secrets_stays(text):
    assert redact(text) == text


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("https://user:pw@host/x", "https://host/x"),
        ("https://user@host/x", "https://host/x"),
        ("https://u:p@w@host:80", "https://host:80"),
        ("https://u:p%40w@host?id=7", "https://host?id=7"),
        ("hdfs://u:p@host/a@b", "hdfs://host/a@b"),
        (f"https://host/x?{S3_V4}", "https://host/x"),
        (f"https://host/x?{GCS_V4}", "https://host/x"),
        (f"https://host/x?{AZURE}", "https://host/x"),
        (f"https://host/x?id=7&{S3_V4}", "https://host/x?id=7"),
        (f"https://host/x?{AZURE}&id=7", "https://host/x?id=7"),
        (f"https://host/x?a=1&{AZURE}&id=7#top", "https://host/x?a=1&id=7#top"),
        ("https://host/x?x-amz-signature=abc&ID=7", "https://host/x?ID=7"),
        ("https://h/x?AWSAccessKeyId=A&Signature=b%3D&Expires=1", "https://h/x"),
        ("https://h/x?GoogleAccessId=a@b.c&Expires=1&Signature=d", "https://h/x"),
        ("https://h/x?Policy=a~&Signature=b&Key-Pair-Id=c&v=1", "https://h/x?v=1"),
        ("https://h/x?Expires=1&v=1&Signature=b", "https://h/x?v=1"),
        ("https://h/x?id=7&token=abc", "https://h/x?id=7"),
        ("https://h/x?id=7&amp;token=abc&amp;v=1", "https://h/x?id=7&amp;v=1"),
        ("https://h/x?API-Key=abc&apikey=d&pwd=e&Password=f&client_secret=g", "https://h/x"),
        ("https://h/x?access%5Ftoken=abc&v=1", "https://h/x?v=1"),
        ("https://h/x?token=a%26b=c", "https://h/x"),
        ("https://h/x?token=", "https://h/x"),
        ("https://h/x?token==a=b", "https://h/x"),
        ("https://h/x#access_token=abc", "https://h/x#"),
        ("https://h/x?url=http://u:p@g/y?sig=abc&v=1", "https://h/x?url=http://g/y?v=1"),
        (
            "https://h/x?url=https%3A%2F%2Fu%3Ap%40g%2Fy%3Fsig%3Dabc%26id%3D7&v=1",
            "https://h/x?url=https%3A%2F%2Fg%2Fy%3Fid%3D7&v=1",
        ),
        ("https://h/x?url=%2fy%3ftoken%3dabc", "https://h/x?url=%2fy"),
        (
            "HTTPConnectionPool(host='h', port=80): Max retries exceeded with url: "
            "/p?X-Amz-Signature=abc (Caused by NewConnectionError('refused'))",
            "HTTPConnectionPool(host='h', port=80): Max retries exceeded with url: "
            "/p (Caused by NewConnectionError('refused'))",
        ),
        (
            "404 Client Error: Not Found for url: https://u:p@h/p?sig=abc&id=7",
            "404 Client Error: Not Found for url: https://h/p?id=7",
        ),
        ("cannot open 'https://h/x?v=1&token=abc': 404", "cannot open 'https://h/x?v=1': 404"),
        ("(https://h/x?token=abc), next", "(https://h/x), next"),
        ('<a href="https://h/x?token=abc">here</a>', '<a href="https://h/x">here</a>'),
        ("from https://a:b@h/x\nto https://c:d@h/y?jwt=e", "from https://h/x\nto https://h/y"),
        ('{"url": "https://h/x?token=abc", "n": 1}', '{"url": "https://h/x", "n": 1}'),
    ],
)
def test_secrets_are_taken_out(text, redacted):
    assert redact(text) == redacted
    assert redact(redacted) == redacted


def test_a_url_that_is_signed_anew_keeps_its_name():
    names = {redact(f"https://h/x?id=7&X-Amz-Date={n}&X-Amz-Signature={n}") for n in range(9)}
    assert names == {"https://h/x?id=7"}


def test_any_text_is_taken():
    rng = random.Random(0)
    pieces = [*"?&=#@:/%'\" \n\0\x1b\udcff✓", "sig", "token", "://", "%3F", "%26", "%3d", "&amp;"]
    for _ in range(20_000):
        text = "".join(rng.choices(pieces, k=rng.randrange(12)))
        assert len(redact(text)) <= len(text)


@pytest.mark.parametrize(
    "piece", ["a", "a=", "&", "?", "=", "@", "://", "%3f", "%26", "'", "?token='"]
)
def test_time_grows_with_the_length_and_not_with_its_square(piece):
    started = time.perf_counter()
    redact("https://h/?" + piece * (200_000 // len(piece)) + "=@%")
    name_of("https://h/?u=aHR0c" + "A" * 200_000)
    assert time.perf_counter() - started < 2


def test_control_characters_are_escaped():
    assert console.printable("a\x1b[31mb\rc\x07\x7f\x9b\td\ne ü✓") == (
        "a\\x1b[31mb\\rc\\x07\\x7f\\x9b\\td\ne ü✓"
    )
    assert console.printable("gpj.\u202eexe\u2066\u2028") == "gpj.\\u202eexe\\u2066\\u2028"


def test_say_is_safe_to_read(capsys):
    console.say("cannot read https://u:p@h/\x1b[2Jx?token=abc")
    assert capsys.readouterr().err == "cannot read https://h/\\x1b[2Jx\n"


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("/data/token=7/a?sig=b.jpg", "/data/token=7/a?sig=b.jpg"),
        ("gs://bucket/token=7/user:pw@b.jpg", "gs://bucket/token=7/user:pw@b.jpg"),
        ("https://host/token=7/a.jpg", "https://host/token=7/a.jpg"),
        ("https://host/token=7/a.jpg?id=1&token=8", "https://host/token=7/a.jpg?id=1"),
        ("https://me:pw@host/a@b.jpg?sig=1", "https://host/a@b.jpg"),
        ("https://host/a.jpg?", "https://host/a.jpg?"),
    ],
)
def test_the_name_of_an_image(uri, name):
    assert name_of(uri) == name


def test_flags_that_are_keys_are_left_out():
    argv = ["label", "--s3_secret_access_key=S", "--s3_session_token", "S", "--top_k", "3"]
    assert without_secret_flags([*argv, "--s3_access_key_id", "S"]) == ["label", "--top_k", "3"]


# Names keep what identifies, and nothing else


@pytest.mark.parametrize(
    "uri",
    [
        "https://live.staticflickr.com/65535/53123456789_abcdef0123_b.jpg",
        "https://h/3f/2a/3f2a5c6d7e8f90123f2a5c6d7e8f9012.jpg",
        "https://h/3f2a5c6d7e8f90123f2a5c6d7e8f9012/large.jpg",
        "https://h/550e8400-e29b-41d4-a716-446655440000/a.jpg",
        "https://pbs.twimg.com/media/FxYzAbCXwAEabcd?format=jpg&name=large",
        "https://lh3.googleusercontent.com/pw/AP1GczNabcdEFGH1234567890abcdefghIJKLMN=w2400",
        "https://h/x?id=550e8400-e29b-41d4-a716-446655440000",
        "https://h/x?file=3f2a5c6d7e8f90123f2a5c6d7e8f9012.jpg&w=300",
        "https://h/x?fileId=1AbCdEfGhIjKlMnOpQrStUvWxYz012345",
        "https://h/x?key=photos%2F2024%2F1.jpg",
        "https://h/x?q=elephants+in+the+room&page=12&lang=en-US",
        "https://h/x?v=1712345678",
        "https://h/x?bbox=54.123456,9.123456,55.123456,10.123456",
        "https://h/x?title=The%20Quick%20Brown%20Fox%20Jumps%20Over",
        "https://h/x?tr=w-300,h-200,c-at_max&size=1920x1080&auto=format,compress",
        "https://h/x?date=2024-01-05&t=2024-01-05T10:00:00Z",
        "https://h/x?camera=1&timestamp=1712345678",
        "https://h/x?country_code=US&keyword=cat&design=5&author=Bob&hash=12&session=2",
        "https://h/x?x-oss-process=image/resize,w_300/format,webp",
        "https://h/wms?LAYERS=ortho_2020&BBOX=1,2,3,4&CRS=EPSG:25832&FORMAT=image/png",
        "https://h/photos/MyHolidayInTheSouthOfFranceAndItaly/1.jpg",
        "https://h/S2A_MSIL1C_20200101T101011_N0208_R022_T33UVT.SAFE/IMG_DATA/B02.jp2",
        "https://h/x?src=https%3A%2F%2Fg%2Fy.jpg%3Fid%3D7",
        "https://h/x?q=日本語日本語日本語日本語日本語日本語",
        "https://h/x?newsid=12345&picsid=3",
        "https://h/x?resid=9F86D081884C7D65%21105",
        "https://h/nft?tokenId=5",
        "https://h/x?file=1600000000_my_holiday_photo_2020.jpg",
        "https://h/x?key=1600000000_my_holiday_photo_2020.jpg",
        "https://h/x?id=1600000000-3f2a5c6d7e8f90123f2a",
        "https://h/plot.png?x_start_date=2020-01-01",
        "https://h/x?u=aHR0cHM6Ly9nL2EuanBn&w=3",
        "https://encrypted-tbn0.gstatic.com/images?q=tbn:ANd9GcQkR3v9QzX7bLm2TpWq8Yn4Hc6abcd",
        "https://h/streetview?pano=kR3v9QzX7bLm2TpWq8Yn4H",
        "https://ipfs.io/ipfs/QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWKPBdG/5.png",
        "https://h/x;v=1.2",
        "http://[::1]:80/a@b",
        "gs://b/token=7/x?sig=abc",
        "abfss://container@account.dfs.core.windows.net/a.jpg",
        "/data/https/user:pw@host/token=abcdefgh.jpg",
    ],
)
def test_what_identifies_stays(uri):
    assert name_of(uri) == uri
    assert identity_of(uri) == uri


@pytest.mark.parametrize(
    "secret",
    [
        "?q-signature=abc",
        "?x-signature=abc",
        "?hdnea=st=1~exp=2~acl=/*~hmac=abc",
        "?verify=1767225600-abcdef",
        "?code=abcdef",
        "?accessKey=abc",
        "?secret_key=abc",
        "?user_token=abc",
        "?urlsign=abcdefgh",
        "?loginpas=hunter2",
        "?userpwd=hunter2",
        "?_wpnonce=ab12cd34ef",
        "?asid=12345&usersid=abcdef",
        "?tokenId=abcdef0123456789",
        "?key=abcdef&hash=abcdef&ticket=ST-12345&session=abcdef",
        "?ex=6a1b2c3d&is=6a19daaa&hm=abcdef0123456789abcdef0123456789&",
        "?e=1767225600&v=abcdef0123456789",
        "?abcdef0123456789abcdef0123456789",
        "?x=QWxhZGRpbjpvcGVuIHNlc2FtZQ",
        "?data=%7B%22token%22%3A%22abc%22%7D",
        "?P1=1767225600&P4=aGVsbG8gd29ybGQgaGVsbG8gd29ybGQ",
        "?token=abc;sig=def",
        "?q=st%3D1%7Ehmac%3Dabc",
        ";jsessionid=ABC",
        ";a=1;PHPSESSID=ABC?sid=1",
    ],
)
def test_secrets_of_a_url(secret):
    name = name_of(f"https://h/a.jpg{secret}")
    assert name == ("https://h/a.jpg;a=1" if ";a=1" in secret else "https://h/a.jpg")


PACKED = base64.urlsafe_b64encode(b"https://u:pw@g/a?id=7&token=abc").decode().rstrip("=")
CLEANED = base64.urlsafe_b64encode(b"https://g/a?id=7").decode().rstrip("=")


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("ftp://user:pw@h/a.jpg", "ftp://h/a.jpg"),
        ("sftp://user:pw@h/a.jpg", "sftp://h/a.jpg"),
        ("s3://AKIA:SE/CRET@bucket/a@2x.jpg", "s3://bucket/a@2x.jpg"),
        ("https://user:p/w@h/a.jpg", "https://h/a.jpg"),
        ("abfss://box:key@account/a.jpg", "abfss://account/a.jpg"),
        ("https://h/s--AbC123xY--/v1/a.jpg", "https://h/v1/a.jpg"),
        ("https://h/token=abcdef/a.jpg", "https://h/a.jpg"),
        ("https://h/hdnts=exp=1767225600~acl=/*~hmac=abc123/a.jpg", "https://h/a.jpg"),
        ("https://h/file/bot12345:AAabcdefghijklmnopqrstu/a.jpg", "https://h/file/a.jpg"),
        ("https://h/eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJl/a.jpg", "https://h/a.jpg"),
        ("https://h/security=p:eyJhbGciOiJI,s:abc/a.jpg", "https://h/a.jpg"),
        ("https://h/a;token=abc;v=1/b.jpg", "https://h/a;v=1/b.jpg"),
        ("https://h/a.jpg?id=7;token=abc", "https://h/a.jpg?id=7"),
        ("https://h/a.jpg%3Ftoken=abc", "https://h/a.jpg"),
        ("https://h/sig/abcdef1234567/a.jpg", "https://h/sig/a.jpg"),
        ("https://h/a.jpg?token%3Dabc", "https://h/a.jpg"),
        ("blob:https://user:pw@h/a.jpg?token=abc", "blob:https://h/a.jpg"),
        (
            "https://h/x?url=https%253A%252F%252Fg%252Fa.jpg%253Fid%253D7%2526token%253Dabc&w=3",
            "https://h/x?url=https%253A%252F%252Fg%252Fa.jpg%253Fid%253D7&w=3",
        ),
        (f"https://h/x?u={PACKED}&w=3", f"https://h/x?u={CLEANED}&w=3"),
        (f"https://h/fit/{PACKED}.jpg", f"https://h/fit/{CLEANED}.jpg"),
        (
            "https://h/x?a=1&url=https://u:p@g/y?b=2&token=c&d=3",
            "https://h/x?a=1&url=https://g/y?b=2&d=3",
        ),
    ],
)
def test_secrets_in_other_places(uri, name):
    assert name_of(uri) == name
    assert name_of(name) == name


def test_flags_decide_about_parameters():
    naming = Naming(frozenset(["token"]), frozenset(["utm_source"]))
    uri = "https://h/x?token=abc&utm_source=mail&sig=def"
    assert name_of(uri, naming) == "https://h/x?token=abc"
    assert identity_of(uri, naming) == "https://h/x?token=abc&sig=def"


def test_only_a_known_signature_does_not_tell_images_apart():
    def is_same(one, other):
        assert name_of(one) == name_of(other)
        return identity_of(one) == identity_of(other)

    assert is_same(f"https://h/x?{S3_V4}", f"https://h/x?{S3_V4.replace('0123abcd', 'dcba3210')}")
    assert is_same(f"https://h/x?{AZURE}", f"https://h/x?{AZURE.replace('ab%2Bc', 'cd%2Be')}")
    assert is_same("https://h/x?ex=6a1b2c3d&is=6a1b2c3c&hm=ab", "https://h/x?ex=7&is=7&hm=cd")
    assert not is_same("https://h/x?token=AAA", "https://h/x?token=BBB")
    assert not is_same(
        "https://h/x?v=1600000000-3f2a5c6d7e8f90", "https://h/x?v=1600000000-0123456789ab"
    )
    folder = "https://h/160000000{}-kR3v9QzX7bLm2TpWq8Yn4Hc6abcd/a.jpg"
    assert not is_same(folder.format(0), folder.format(1))
    assert not is_same("https://h/x?auth_key=AAA", "https://h/x?auth_key=BBB")
    assert not is_same("https://a:b@h/x", "https://c:d@h/x")
    assert not is_same("https://h/s--AbC123xY--/a.jpg", "https://h/s--AbC123xZ--/a.jpg")


def messages_about(uri):
    """What clients say of a URI that they cannot read."""
    path = "/" + uri.partition("://")[2].partition("/")[2]
    yield f"404 Client Error: Not Found for url: {uri}"
    yield f"Max retries exceeded with url: {path} (Caused by NewConnectionError('refused'))"
    yield f"cannot open {uri!r}: [Errno 2]"


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(list(KINDS)), st.integers(0, 10**6), st.integers(1, 1000))
def test_no_secret_is_in_a_name_or_in_a_message(kind, number, night):
    signed, anew = sign(kind, number), sign(kind, number, night)
    name = name_of(signed.uri)
    assert name == name_of(anew.uri) == name_of(name)
    assert redact(name) == name
    texts = [name, *(redact(text) for text in messages_about(signed.uri))]
    texts += [redact(without(text, signed.uri)) for text in messages_about(signed.uri)]
    assert [text for text in texts for secret in signed.secrets if secret in text] == []


def test_many_signed_uris(capsys):
    """More of them: LEAK_URIS=10000 python -m pytest tests/test_redaction.py -k many -s."""
    uris = int(os.environ.get("LEAK_URIS", "1500"))
    secrets, leaks, names = 0, [], Counter()
    for number in range(uris):
        kind = list(KINDS)[number % len(KINDS)]
        signed = sign(kind, number)
        name = name_of(signed.uri)
        message = " ".join(redact(text) for text in messages_about(signed.uri))
        secrets += len(signed.secrets)
        leaks += [(kind, one) for one in signed.secrets if one in name or one in message]
        names[name] += 1
    with capsys.disabled():
        print(
            f"\n{uris:,} URIs of {len(KINDS)} kinds, {secrets:,} secrets: {len(leaks)} leaks, ",
            end="",
        )
        print(f"{uris - len(names)} images merged")
    assert leaks == []
    assert len(names) == uris
    assert len({path_of(number) for number in range(uris)}) == uris


@settings(max_examples=500, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                *"?&=#@:/%;~,.-'\" a7✓\udcff",
                *("://", "%3F", "%26", "%3d", "%25", "%2F", "&amp;", "sig", "token"),
                *("https://", "s3://", "3f2a5c6d7e8f90123f2a5c6d7e8f9012", "1767225600"),
            ]
        ),
        max_size=16,
    )
)
def test_any_uri_has_a_name_that_is_its_own_name(pieces):
    uri = "https://h/" + "".join(pieces)
    name = name_of(uri)
    assert name_of(name) == name
    assert len(name) <= len(uri)
    identity_of(uri)


def test_what_python_prints_has_no_secrets(capsys, monkeypatch):
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    uri, error = "https://u:SECRET1@h/x?token=SECRET2&id=7", None
    factory = logging.getLogRecordFactory()
    handler = logging.StreamHandler(sys.stderr)
    logger = logging.getLogger("of_this_test")
    logger.addHandler(handler)
    try:
        console.hide_secrets()
        logger.warning("cannot read %s", uri)
        logger.warning("%s %s", uri)
        try:
            raise ValueError(uri)
        except ValueError as caught:
            logger.exception("failed")
            error = caught
        console.show_exception(error)
        print(warnings.formatwarning(uri, UserWarning, "x.py", 1), file=sys.stderr)
        thread = threading.Thread(target=int, args=[uri])
        thread.start()
        thread.join()
    finally:
        logging.setLogRecordFactory(factory)
        logger.removeHandler(handler)
    printed = capsys.readouterr().err
    assert printed.count("https://h/x?id=7") == 6
    assert "SECRET" not in printed
