"""Listing buckets in ranges of names."""

import bisect
import contextlib
import random
import subprocess
import sys
import threading
import time

import apache_beam as beam
import pytest
from apache_beam.io.filesystem import FileMetadata
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that, equal_to
from helpers import ROOT
from helpers.emulators import Emulator, s3_emulator

from pipeline import storage
from pipeline.errors import StoreError
from pipeline.inputs.find import FindImages, identify, list_images
from pipeline.inputs.passed_over import PassedOver
from pipeline.records import ImageRef, Reason
from pipeline.runners.options import LOCAL_RUNNER
from pipeline.storage import object_stores, ranges
from pipeline.storage.ranges import Answer, Page, Range, between, in_ranges

sys.path.append(str(ROOT / "benchmarks"))
import synthetic_bucket

LAYOUTS = ["numbered", "hashed", "dated", "uneven", "unicode"]


class Store:
    """A store of some names, in their order, that counts what it is asked.

    Args:
      names: without duplicates.
      most: names in an answer.
    """

    def __init__(self, names, most=10):
        self.names = names
        self.most = most
        self.requests = 0

    def ask(self, range_, token):
        self.requests += 1
        first = int(token) if token else bisect.bisect_left(self.names, range_.after)
        behind = len(self.names)
        if range_.upto is not None:
            behind = bisect.bisect_left(self.names, f"{range_.upto} ")
        last = min(first + self.most, behind)
        return answer(self.names[first:last], str(last) if last < behind else "")


def answer(names, token):
    return Answer(names, [FileMetadata(name, 1, 0.0) for name in names], token)


ALL = Range()


def listed(ask, whole=ALL):
    """All names, from the ranges as well that are left to others, in the order of their arrival."""
    found = []
    for one in in_ranges(ask, whole, shares=whole == ALL):
        if isinstance(one, Page):
            found += [file.path for file in one.files]
        else:
            found += listed(ask, one)
    return found


@pytest.fixture
def shares_early(monkeypatch):
    monkeypatch.setattr(ranges, "_PAGES_ALONE", 20)
    monkeypatch.setattr(ranges, "_MOST_RANGES", 24)
    monkeypatch.setattr(ranges, "_PAGES_TO_CUT", 96)


def layout(kind, names):
    make = synthetic_bucket.layout(kind, names)
    return [make(n) for n in range(names)]


ODD = ["", "/", "//", " ", "!", "\x01", "\x1f\x7f", "a\x01", "a", "a ", "a/", "A", "é", "e\u0301"]
ODD += ["\ud7ff", "\ue000", "\uffff", "😀", "\U0010ffff", "\U0010ffff\U0010ffff", "z" * 1024]


@pytest.mark.parametrize("kind", [*LAYOUTS, "odd"])
def test_each_name_is_listed_once(kind, shares_early):
    chance = random.Random(0)
    odd = sorted({"".join(chance.choices(ODD, k=4))[:300] for _ in range(3000)} - {""})
    names = odd if kind == "odd" else layout(kind, 9000)
    for count in (0, 1, 9, 10, 11, 20, 21, 300, len(names)):
        store = Store(names[:count])
        found = listed(store.ask)
        assert sorted(found) == names[:count], count
        assert store.requests <= 2 * (count // 10) + 400


@pytest.mark.parametrize("kind", LAYOUTS)
def test_a_long_listing_is_shared_about_evenly(kind):
    names, ended, shares = 10**7, 0, []
    bucket = synthetic_bucket.Bucket(names, kind)

    def ask(range_, token):
        found, token = bucket.page("", range_.after, range_.upto, token, 100)
        return answer(found, token)

    for one in in_ranges(ask, ALL, shares=True):
        if isinstance(one, Range):
            shares.append(one)
        else:
            ended += len(one.files)
    index = bucket.index
    sizes = [(index(x.upto) if x.upto else names) - index(x.after) for x in shares]
    assert abs(sum(sizes) + ended - names) <= len(shares)
    assert ended < 200_000
    assert max(sizes) < names / 2  # a busy machine answers late, and cuts elsewhere


def test_a_small_bucket_takes_one_request():
    store = Store(layout("numbered", 10))
    assert len(listed(store.ask)) == 10
    assert store.requests == 1


@pytest.mark.parametrize(
    ("low", "high"),
    [
        *(("a", "c"), ("a", "b"), ("a0", "a8"), ("09", "1"), ("", None), ("a", None)),
        *(("\x7f", None), ("\ud7fe", "\ue000"), ("\ud7ff", "\ue001"), ("a", "a\x7f")),
        ("\U0010ffff", None),
    ],
)
def test_between(low, high):
    middle = between(low, high)
    assert middle.encode() > low.encode()
    assert high is None or middle.encode() < high.encode()


def test_there_may_be_nothing_between():
    assert between("a", "a\0") is between("a", "a\x20") is None


def test_names_come_and_go_meanwhile(shares_early):
    names = layout("numbered", 5000)
    stays, store, chance = set(names[::2]), Store(list(names)), random.Random(0)

    def ask(range_, token):
        for _ in range(3):
            name = chance.choice(names[1::2])
            at = bisect.bisect_left(store.names, name)
            if store.names[at : at + 1] == [name]:
                del store.names[at]
            else:
                store.names.insert(at, name)
        return store.ask(range_, token)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranges, "THREADS", 1)
        found = listed(ask)
    assert len(set(found)) == len(found)
    assert stays <= set(found) <= set(names)


def test_stores_with_ways_of_their_own():
    store = Store(layout("numbered", 500))

    def empty_pages(range_, token):  # a token may come with no names
        first = not token
        return answer([], "0") if first and not range_.after else store.ask(range_, token)

    def ignores_ranges(_, token):
        return store.ask(Range(), token)

    shuffled = Store(random.Random(0).sample(store.names, 500))
    for ask in (empty_pages, ignores_ranges, lambda _, token: shuffled.ask(Range(), token)):
        assert sorted(listed(ask)) == store.names
    backwards = Store(store.names[:10] + store.names[:9:-1])
    with pytest.raises(StoreError, match="does not list names in order"):
        listed(lambda range_, token: backwards.ask(Range(), token))


def test_a_failure_ends_the_listing():
    store = Store(layout("numbered", 500))

    def ask(range_, token):
        if store.requests > 20:
            raise StoreError(Reason.FORBIDDEN, "broken")
        return store.ask(range_, token)

    with pytest.raises(StoreError, match="broken"):
        listed(ask)


def test_pages_are_asked_for_at_the_same_time():
    store, lock, running, most = Store(layout("hashed", 1000)), threading.Lock(), 0, 0

    def ask(range_, token):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.005)
        with lock:
            running -= 1
            return store.ask(range_, token)

    assert len(listed(ask)) == 1000
    assert most > ranges.THREADS // 2


@contextlib.contextmanager
def synthetic(scheme, names, kind):
    """A server of so many names, on which Beam and this package find their store."""
    argv = [sys.executable, str(ROOT / "benchmarks" / "synthetic_bucket.py"), str(names), kind]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as server:
        url = server.stdout.readline().strip()
        with Emulator(scheme, url).reached_at(url) as flags, pytest.MonkeyPatch.context() as patch:
            patch.setattr(FileSystems, "_pipeline_options", PipelineOptions(flags))
            try:
                yield flags
            finally:
                server.kill()


@pytest.mark.parametrize("scheme", ["gs", "s3"])
def test_over_http(scheme):
    with synthetic(scheme, 3_000, "unicode"):
        in_turn = [file.path for file in storage.list_files(f"{scheme}://bucket/photos/")]
        assert in_turn == [f"{scheme}://bucket/{name}" for name in layout("unicode", 3_000)]
        pages = storage.list_pages(f"{scheme}://bucket/photos/", Range())
        assert sorted(file.path for page in pages for file in page.files) == in_turn


@pytest.fixture(scope="module")
def photos():
    """An S3 with 200 objects, of which some are passed over, in several ways."""
    with s3_emulator() as store, store.reached_at(store.url) as flags:
        names = [f"a/{n:02}.jpg" for n in range(30)] + [f"b/{n:02}.xmp" for n in range(20)]
        names += [f"{folder}/{n:02}.jpg" for folder in (".h", "@eaDir", "c/d") for n in range(40)]
        names += ["c/", "c/.jpg", "c/x.JPG", "d.jpg/", "d.jpg/1.jpg", "d.jpg/2.jpg", "é/😀.jpg"]
        store.put({f"p/{name}": b"1" for name in names})
        yield store, flags


@pytest.mark.parametrize("glob", ["p", "p/*.jpg", "p/[abc]/*"])
def test_parts_pass_over_the_same(photos, glob, monkeypatch, shares_early):
    store, flags = photos
    monkeypatch.setattr(FileSystems, "_pipeline_options", PipelineOptions(flags))
    source = identify(store.uri(glob), exclude=("*7.jpg",))
    expected = list(list_images(source))
    monkeypatch.setattr(object_stores, "PAGE", 3)
    monkeypatch.setattr(ranges, "_PAGES_ALONE", 3)
    options = PipelineOptions([*flags, f"--runner={LOCAL_RUNNER}"])
    with beam.Pipeline(options=options) as pipeline:
        _, refs, passed_over = pipeline | FindImages([source])
        images = [one.uri for one in expected if isinstance(one, ImageRef)]
        assert_that(refs | beam.Map(lambda ref: ref.uri), equal_to(images))
        passed = [one for one in expected if isinstance(one, PassedOver)]
        assert_that(passed_over, equal_to(passed), label="passed over")
