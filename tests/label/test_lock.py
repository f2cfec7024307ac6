import json
import signal
import threading
import time

import pytest
from helpers.stores import OBJECTS, memory_store

from pipeline.errors import OutputError
from pipeline.label import lock
from pipeline.label.lock import FILE_NAME, held

BUCKET = "mem://bucket/out"


@pytest.fixture(params=["folder", "mounted", "bucket"])
def output(request, tmp_path, monkeypatch):
    """A folder, one on a filesystem that cannot lock files, and a bucket."""
    monkeypatch.setattr(lock, "_SETTLES_IN", 0.01)
    if request.param == "bucket":
        with memory_store({}):
            yield BUCKET
        return
    if request.param == "mounted":

        def refuse(*_):
            raise OSError("Function not implemented")

        monkeypatch.setattr(lock.fcntl, "flock", refuse)
    yield str(tmp_path)


def exists(output):
    return lock.storage.exists(f"{output}/{FILE_NAME}")


def test_is_held_and_given_up(output):
    with held(output):
        assert exists(output)
    assert not exists(output)
    with held(output):
        assert exists(output)


def test_is_given_up_after_an_error(output):
    with pytest.raises(ValueError, match="oops"), held(output):
        raise ValueError("oops")
    assert not exists(output)


def test_the_second_is_refused_and_told_who_holds_it(output):
    with held(output):
        with pytest.raises(OutputError) as caught, held(output):
            pass
        assert exists(output)
    message = str(caught.value)
    assert message.startswith(f"output {output}: a run is writing there (process ")
    assert f"process {lock.os.getpid()} on {lock.socket.gethostname()}, since 20" in message


def test_another_output_has_another_lock(output):
    with held(output), held(f"{output}2" if output == BUCKET else _below(output)):
        pass


def _below(output):
    folder = lock.Path(output) / "other"
    folder.mkdir()
    return str(folder)


def lock_of_another(renewed):
    return json.dumps(
        {"token": "1", "host": "h", "process": 7, "since": "2026", "renewed": renewed}
    ).encode()


def test_a_dead_holders_lock_expires(monkeypatch):
    monkeypatch.setattr(lock, "_SETTLES_IN", 0.01)
    path = f"{BUCKET}/{FILE_NAME}"
    with memory_store({path: lock_of_another(time.time() - lock.EXPIRES_AFTER - 1)}):
        with held(BUCKET):
            assert json.loads(OBJECTS[path])["process"] == lock.os.getpid()
        OBJECTS[path] = lock_of_another(time.time() - lock.EXPIRES_AFTER + 60)
        expected = r"process 7 on h.*if it is dead, its lock expires in (60|59) s"
        with pytest.raises(OutputError, match=expected), held(BUCKET):
            pass


def test_of_two_at_the_same_moment_one_is_refused(monkeypatch):
    """The other overwrites the lock before this one looks at it again."""
    with memory_store({}):

        def overwritten(_):
            OBJECTS[f"{BUCKET}/{FILE_NAME}"] = lock_of_another(time.time())

        monkeypatch.setattr(lock.time, "sleep", overwritten)
        with pytest.raises(OutputError, match="process 7 on h"), held(BUCKET):
            pass
        assert json.loads(OBJECTS[f"{BUCKET}/{FILE_NAME}"])["process"] == 7


def test_a_lock_in_a_bucket_is_renewed(monkeypatch):
    monkeypatch.setattr(lock, "_SETTLES_IN", 0.01)
    monkeypatch.setattr(lock, "RENEWED_EVERY", 0.01)
    with memory_store({}), held(BUCKET):
        first = json.loads(OBJECTS[f"{BUCKET}/{FILE_NAME}"])["renewed"]
        deadline = time.monotonic() + 30
        while lock._read(f"{BUCKET}/{FILE_NAME}")["renewed"] == first:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_who_loses_its_lock_ends(monkeypatch, capsys):
    monkeypatch.setattr(lock, "_SETTLES_IN", 0.01)
    monkeypatch.setattr(lock, "RENEWED_EVERY", 0.01)
    ended = threading.Event()
    previous = signal.signal(signal.SIGTERM, lambda *_: ended.set())
    try:
        with memory_store({}), held(BUCKET):
            # As a store does it, at once; a file's rename would do.
            OBJECTS[f"{BUCKET}/{FILE_NAME}"] = lock_of_another(time.time())
            deadline = time.monotonic() + 30
            while not ended.is_set() and time.monotonic() < deadline:
                time.sleep(0.01)
        assert ended.is_set()
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert "another run has locked the output (process 7 on h" in capsys.readouterr().err


def test_locks_are_released_by_a_process_that_is_about_to_end(monkeypatch):
    monkeypatch.setattr(lock, "_SETTLES_IN", 0.01)
    with memory_store({}), held(BUCKET):
        lock.release()
        assert not exists(BUCKET)
