"""The budget for files in memory."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from helpers.emulators import s3_emulator

from pipeline import storage
from pipeline.errors import ImageError
from pipeline.images import loading
from pipeline.limits import Limits
from pipeline.records import ImageRef, Reason
from pipeline.storage.memory import Budget, NeedsMemoryError

MB = 2**20


class Watched(Budget):
    """A budget that knows the most that it has given."""

    def __init__(self, most):
        super().__init__(most)
        self.peak = 0

    def take(self, claim, size):
        super().take(claim, size)
        self.peak = max(self.peak, self._held)

    def grow(self, claim, size):
        grown = super().grow(claim, size)
        self.peak = max(self.peak, self._held)
        return grown


def test_more_threads_than_room():
    budget, inside, most, lock = Watched(100), 0, 0, threading.Lock()

    def work(size):
        nonlocal inside, most
        with budget.claim(size):
            with lock:
                inside += size
                most = max(most, inside)
            time.sleep(0.001)
            with lock:
                inside -= size

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, [30, 70, 100, 1, 0, 400] * 20))
    assert 70 < most <= 400
    assert budget.peak == 400  # one that is larger than all goes alone
    with budget.claim(100):
        pass


def test_what_grows_never_waits():
    budget = Budget(100)
    with budget.claim(10) as one, budget.claim(10) as other:
        one.grow(80, 100)
        other.grow(20, 100)
        with pytest.raises(NeedsMemoryError) as caught:
            other.grow(21, 60)
        assert caught.value.size == 60
        waiting = threading.Thread(target=other.renew, args=(60,))
        waiting.start()
        time.sleep(0.05)
        assert waiting.is_alive()
        one.grow(50, 100)  # less than it has
        one.renew(40)
        waiting.join(10)
        assert not waiting.is_alive()
    with pytest.raises(NeedsMemoryError):  # a thread that was given up goes on
        one.grow(1, 1)
    with budget.claim(100):
        pass


@pytest.fixture(scope="module")
def store():
    with s3_emulator() as store, store.reached_at(store.url) as flags:
        store.put({f"{n}.jpg": bytes(MB) for n in range(12)} | {"small.jpg": b"1"})
        yield store, flags


@pytest.mark.parametrize("version", ["", f"{MB} 0", "1 0"])
def test_many_large_objects(store, monkeypatch, version):
    store, flags = store
    budget = Watched(3 * MB)
    monkeypatch.setattr(FileSystems, "_pipeline_options", PipelineOptions(flags))
    monkeypatch.setattr(storage, "BUDGET", budget)
    monkeypatch.setattr(storage, "UNKNOWN", 1000)

    def read(n):
        ref = ImageRef(store.uri(f"{n}.jpg"), version=version)
        with loading.room_for(ref, Limits()) as claim:
            data, _ = loading.read_image(ref, Limits(), claim)
            time.sleep(0.02)
            return len(data)

    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(read, range(12))) == [MB] * 12
    assert 2 * MB < budget.peak <= 3 * MB
    assert read("small") == 1


def test_local_files(tmp_path, monkeypatch):
    (tmp_path / "1.jpg").write_bytes(bytes(MB))
    budget = Watched(MB // 2)
    ref, claim = ImageRef(str(tmp_path / "1.jpg")), budget.claim(1)
    with claim as claim:
        assert len(loading.read_image(ref, Limits(), claim)[0]) == MB
    assert budget.peak == MB
    with pytest.raises(ImageError) as caught, budget.claim(1) as claim:
        loading.read_image(ref, Limits(max_image_bytes=MB - 1), claim)
    assert caught.value.reason is Reason.TOO_LARGE
