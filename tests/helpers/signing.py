"""URIs as people sign them, with the secrets that they contain."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import string
import uuid
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import quote


class Signed(NamedTuple):
    """A URI, and every credential in it, as it stands there and decoded."""

    uri: str
    secrets: list[str]


class Signer:
    """Draws credentials, and remembers them.

    Args:
      seed: another one signs anew.
    """

    def __init__(self, seed: object):
        self.rng = random.Random(repr(seed))
        self.secrets: list[str] = []

    def secret(self, value: str) -> str:
        """Remember a credential, and return it encoded."""
        encoded = quote(value, safe="")
        self.secrets += {value, encoded}
        return encoded

    def hex(self, digits: int) -> str:
        return self.secret(f"{self.rng.getrandbits(4 * digits):0{digits}x}")

    def base64(self, size: int) -> str:
        return self.secret(base64.b64encode(self.rng.randbytes(size)).decode())

    def urlsafe(self, size: int) -> str:
        return self.secret(base64.urlsafe_b64encode(self.rng.randbytes(size)).decode().rstrip("="))

    def letters(self, size: int, alphabet: str = string.ascii_letters + string.digits) -> str:
        return self.secret("".join(self.rng.choices(alphabet, k=size)))

    def uuid(self) -> str:
        return self.secret(str(uuid.UUID(int=self.rng.getrandbits(128), version=4)))

    def jwt(self) -> str:
        head = '{"alg":"HS256","typ":"JWT"}'
        body = json.dumps({"sub": f"{self.rng.getrandbits(40)}", "exp": self.time()})
        parts = [base64.urlsafe_b64encode(part.encode()).decode() for part in (head, body)]
        return self.secret(".".join([*parts, self.urlsafe(32)]).replace("=", ""))

    def time(self) -> int:
        return self.rng.randrange(1_700_000_000, 1_900_000_000)

    def hex_time(self) -> str:
        return f"{self.time():x}"

    def day(self) -> str:
        return f"{self.year()}{self.rng.randrange(1001, 1028)}"

    def year(self) -> int:
        return self.rng.randrange(2024, 2040)


def _aws_v4(s: Signer, path: str) -> str:
    day = s.day()
    credential = s.secret("AKIA" + s.letters(16, string.ascii_uppercase + "234567"))
    return (
        f"https://bucket.s3.amazonaws.com{path}?X-Amz-Algorithm=AWS4-HMAC-SHA256"
        f"&X-Amz-Credential={credential}%2F{day}%2Fus-east-1%2Fs3%2Faws4_request"
        f"&X-Amz-Date={day}T101112Z&X-Amz-Expires=3600&X-Amz-Security-Token={s.base64(90)}"
        f"&X-Amz-SignedHeaders=host&x-id=GetObject&X-Amz-Signature={s.hex(64)}"
    )


def _aws_v2(s: Signer, path: str) -> str:
    key = s.letters(20, string.ascii_uppercase)
    return (
        f"https://s3.amazonaws.com/bucket{path}?AWSAccessKeyId={key}&Expires={s.time()}"
        f"&Signature={s.base64(20)}"
    )


def _gcs_v4(s: Signer, path: str) -> str:
    account = s.secret(f"robot-{s.rng.getrandbits(40)}@project.iam.gserviceaccount.com")
    return (
        f"https://storage.googleapis.com/bucket{path}?X-Goog-Algorithm=GOOG4-RSA-SHA256"
        f"&X-Goog-Credential={account}%2F{s.day()}%2Fauto%2Fstorage%2Fgoog4_request"
        f"&X-Goog-Date={s.day()}T101112Z&X-Goog-Expires=900&X-Goog-SignedHeaders=host"
        f"&X-Goog-Signature={s.hex(512)}"
    )


def _gcs_v2(s: Signer, path: str) -> str:
    account = s.secret(f"robot-{s.rng.getrandbits(40)}@project.iam.gserviceaccount.com")
    return (
        f"https://storage.googleapis.com/bucket{path}?GoogleAccessId={account}"
        f"&Expires={s.time()}&Signature={s.base64(256)}"
    )


def _azure(s: Signer, path: str) -> str:
    return (
        f"https://account.blob.core.windows.net/box{path}?sv=2023-11-03&st={s.year()}"
        f"-01-01T00%3A00%3A00Z&se={s.year()}-01-02T00%3A00%3A00Z&sr=b&sp=r"
        f"&skoid={s.uuid()}&sktid={s.uuid()}&sig={s.base64(32)}"
    )


def _cloudfront(s: Signer, path: str) -> str:
    policy = base64.b64encode(json.dumps({"until": s.time()}).encode()).decode()
    policy = s.secret(policy.replace("+", "-").replace("=", "_").replace("/", "~"))
    key = s.letters(14, string.ascii_uppercase)
    signature = s.base64(128).replace("%2B", "-").replace("%3D", "_").replace("%2F", "~")
    s.secrets.append(signature)
    return (
        f"https://d111.cloudfront.net{path}?Policy={policy}&Signature={signature}&Key-Pair-Id={key}"
    )


def _akamai(s: Signer, path: str) -> str:
    name = s.rng.choice(["hdnea", "hdnts", "__token__", "__gda__"])
    return f"https://e1.akamaized.net{path}?{name}=st={s.time()}~exp={s.time()}~acl=/*~hmac={s.hex(64)}"


def _akamai_path(s: Signer, path: str) -> str:
    return f"https://e1.akamaized.net/hdnts=exp={s.time()}~acl=/*~hmac={s.hex(64)}{path}"


def _tencent_cos(s: Signer, path: str) -> str:
    times = f"{s.time()}%3B{s.time()}"
    return (
        f"https://bucket.cos.ap-guangzhou.myqcloud.com{path}?q-sign-algorithm=sha1"
        f"&q-ak=AKID{s.letters(32)}&q-sign-time={times}&q-key-time={times}&q-header-list=host"
        f"&q-url-param-list=&q-signature={s.hex(40)}&x-cos-security-token={s.urlsafe(100)}"
    )


def _aliyun_oss(s: Signer, path: str) -> str:
    key = s.letters(20)
    return (
        f"https://bucket.oss-cn-hangzhou.aliyuncs.com{path}?Expires={s.time()}"
        f"&OSSAccessKeyId=LTAI{key}&Signature={s.base64(20)}&x-oss-process=image/resize,w_300"
    )


def _aliyun_cdn(s: Signer, path: str) -> str:
    return f"https://cdn.example.com{path}?auth_key={s.time()}-0-0-{s.hex(32)}"


def _aliyun_cdn_path(s: Signer, path: str) -> str:
    return f"https://cdn.example.com/{s.hex(32)}/{s.hex_time()}{path}"


def _discord(s: Signer, path: str) -> str:
    return (
        f"https://cdn.discordapp.com/attachments{path}?ex={s.hex_time()}&is={s.hex_time()}"
        f"&hm={s.hex(64)}&"
    )


def _facebook(s: Signer, path: str) -> str:
    return (
        f"https://scontent.xx.fbcdn.net{path}?_nc_cat=101&ccb=1-7&_nc_sid=127cfc"
        f"&_nc_ohc={s.letters(23)}&_nc_oc={s.urlsafe(60)}&_nc_ht=scontent&_nc_gid={s.urlsafe(16)}"
        f"&oh=00_{s.urlsafe(40)}&oe={s.hex_time().upper()}"
    )


def _imgix(s: Signer, path: str) -> str:
    return f"https://a.imgix.net{path}?w=300&h=200&expires={s.time()}&s={s.hex(32)}"


def _cloudinary(s: Signer, path: str) -> str:
    sign = s.urlsafe(6)
    s.secrets.append(f"s--{sign}--")
    return (
        f"https://res.cloudinary.com/demo/image/upload/s--{sign}--/c_scale,w_300/v1712345678{path}"
    )


def _backblaze(s: Signer, path: str) -> str:
    return f"https://f001.backblazeb2.com/file/box{path}?Authorization=3_{s.base64(60)}"


def _bunny(s: Signer, path: str) -> str:
    return f"https://a.b-cdn.net{path}?token={s.urlsafe(32)}&expires={s.time()}&token_path=%2F"


def _bunny_path(s: Signer, path: str) -> str:
    return f"https://a.b-cdn.net/bcdn_token={s.urlsafe(32)}&expires={s.time()}&token_path=%2F{path}"


def _fastly(s: Signer, path: str) -> str:
    return f"https://a.global.ssl.fastly.net{path}?token={s.time()}_0x{s.hex(40)}"


def _firebase(s: Signer, path: str) -> str:
    name = quote(path[1:], safe="")
    return (
        f"https://firebasestorage.googleapis.com/v0/b/app.appspot.com/o/{name}?alt=media"
        f"&token={s.uuid()}"
    )


def _slack(s: Signer, path: str) -> str:
    return f"https://files.slack.com/files-pri/T01234567-F89{path}?t=xoxe-{s.letters(40)}"


def _dropbox(s: Signer, path: str) -> str:
    lower = string.ascii_lowercase + string.digits
    return (
        f"https://www.dropbox.com/scl/fi/k3jd8s9xk2lq7{path}?rlkey={s.letters(25, lower)}"
        f"&st={s.letters(8, lower)}&raw=1"
    )


def _drive(s: Signer, path: str) -> str:
    return (
        f"https://drive.google.com/uc?id=1{hashlib.sha1(path.encode()).hexdigest()[:32]}"
        f"&export=download&resourcekey=0-{s.urlsafe(16)}"
    )


def _cloudflare(s: Signer, path: str) -> str:
    return f"https://example.com{path}?verify={s.time()}-{s.base64(32)}"


def _cloudflare_images(s: Signer, path: str) -> str:
    return f"https://imagedelivery.net/account{path}/public?exp={s.time()}&sig={s.hex(64)}"


def _vimeo(s: Signer, path: str) -> str:
    return f"https://i.vimeocdn.com{path}?token={s.time()}-0x{s.hex(40)}&mw=300&h={s.hex(10)}"


def _linkedin(s: Signer, path: str) -> str:
    return f"https://media.licdn.com/dms/image{path}?e={s.time()}&v=beta&t={s.urlsafe(32)}"


def _tiktok(s: Signer, path: str) -> str:
    return (
        f"https://p16-sign.tiktokcdn.com{path}?nonce={s.time()}&refresh_token={s.hex(32)}"
        f"&x-expires={s.time()}&x-signature={s.base64(20)}&idc=maliva&ps=13740610"
    )


def _reddit(s: Signer, path: str) -> str:
    return f"https://preview.redd.it{path}?width=640&crop=smart&auto=webp&s={s.hex(40)}"


def _github(s: Signer, path: str) -> str:
    return f"https://private-user-images.githubusercontent.com{path}?jwt={s.jwt()}"


def _telegram(s: Signer, path: str) -> str:
    return (
        f"https://api.telegram.org/file/bot{s.rng.randrange(10**9, 10**10)}:AA{s.urlsafe(24)}{path}"
    )


def _thumbor(s: Signer, path: str) -> str:
    sign = s.urlsafe(20) + "="
    return f"https://thumbor.example.com/{sign}/300x200/smart/host{path}"


def _imgproxy(s: Signer, path: str) -> str:
    return f"https://imgproxy.example.com/{s.urlsafe(32)}/rs:fit:300:300/plain/s3://bucket{path}"


def _nginx(s: Signer, path: str) -> str:
    return f"https://example.com{path}?md5={s.urlsafe(16)}&expires={s.time()}"


def _nginx_path(s: Signer, path: str) -> str:
    return f"https://example.com/s/{s.urlsafe(16)}/{s.time()}{path}"


def _swift(s: Signer, path: str) -> str:
    return (
        f"https://swift.example.com/v1/AUTH_account/box{path}?temp_url_sig={s.hex(40)}"
        f"&temp_url_expires={s.time()}"
    )


def _oracle(s: Signer, path: str) -> str:
    return f"https://objectstorage.example.com/p/{s.urlsafe(48)}/n/space/b/bucket/o{path}"


def _session(s: Signer, path: str) -> str:
    return f"https://example.com{path};jsessionid={s.letters(32)}?PHPSESSID={s.letters(26)}"


def _password(s: Signer, path: str) -> str:
    scheme = ["http", "https", "ftp", "sftp", "webdav"][len(path) % 5]
    return f"{scheme}://user{s.hex(8)}:{s.base64(12)}@example.com{path}"


def _store_keys(s: Signer, path: str) -> str:
    return f"s3://AKIA{s.letters(16, string.ascii_uppercase)}:{s.base64(30)}@bucket{path}"


def _fragment(s: Signer, path: str) -> str:
    return f"https://example.com{path}#access_token={s.urlsafe(30)}&expires_in=3600"


def _in_another(s: Signer, path: str) -> str:
    inner = quote(f"https://u:{s.base64(12)}@example.com{path}?sig={s.hex(64)}&v=1", safe="")
    s.secrets += [quote(secret, safe="") for secret in s.secrets]
    return f"https://proxy.example.com/fetch?url={inner}&w=300"


# What nobody has listed: names that only sound like a credential, and values without a name.
_NAMES = [
    "x-signature",
    "accessKey",
    "secret_key",
    "user_token",
    "apiKey",
    "sessionToken",
    "code",
    "verify",
    "ticket",
    "authSig",
    "hmacValue",
    "urlsign",
    "pwd",
    "client-secret",
    "X-Plex-Token",
    "authkey",
    "checksum",
    "sid",
    "otp",
    "credential",
]
_TIMES = ("expires", "Expire", "exp", "e", "ttl", "validUntil", "timestamp", "ts")


def _made_up(s: Signer, path: str) -> str:
    value = s.rng.choice([s.urlsafe, s.base64])(s.rng.randrange(9, 40))
    return f"https://example.com{path}?{s.rng.choice(_NAMES)}={value}&{s.rng.choice(_TIMES)}={s.time()}"


def _without_name(s: Signer, path: str) -> str:
    return f"https://example.com{path}?{s.rng.choice([s.hex, s.letters])(s.rng.randrange(24, 80))}"


def _with_another_name(s: Signer, path: str) -> str:
    value = s.rng.choice([s.hex, s.letters, s.urlsafe])(s.rng.randrange(24, 64))
    return f"https://example.com{path}?size=large&{s.rng.choice(['x', 'q1', 'data'])}={value}"


KINDS: dict[str, Callable[[Signer, str], str]] = {
    name[1:]: function
    for name, function in list(globals().items())
    if name.startswith("_") and getattr(function, "__module__", "") == __name__
}

_FILES = ("/photos/{}.jpg", "/3f/2a/{:032x}.png", "/65535/{}_abcdef0123_b.jpg", "/2024/IMG_{}.JPG")


def path_of(number: int) -> str:
    """A path that only one image has."""
    return _FILES[number % len(_FILES)].format(number)


def sign(kind: str, number: int, night: int = 0) -> Signed:
    """Sign the URI of an image; on another night, with other credentials."""
    signer = Signer((kind, number, night))
    uri = KINDS[kind](signer, path_of(number))
    return Signed(uri, sorted({secret for secret in signer.secrets if secret}))
