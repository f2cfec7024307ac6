import random
import time

import pytest

from pipeline import console
from pipeline.redaction import name_of, redact, without_secret_flags

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
