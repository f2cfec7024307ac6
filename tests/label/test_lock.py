import json
import random
import signal
import threading
import time

import pytest
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from helpers.dataflow_server import DataflowServer
from helpers.emulators import EMULATORS, FaultyProxy
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
        while json.loads(OBJECTS[f"{BUCKET}/{FILE_NAME}"])["renewed"] == first:
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
        lock.release_all()
        assert not exists(BUCKET)


@pytest.fixture(params=EMULATORS)
def slow_store(request):
    """A bucket whose writes arrive late, and in another order than they were sent in."""
    delays = random.Random(7)

    def delay(method):
        return delays.uniform(0, 0.1) if method in ("POST", "PUT") else 0

    with (
        EMULATORS[request.param]() as store,
        FaultyProxy(store.url, delay=delay, at_once=1) as proxy,
        store.reached_at(proxy.url) as flags,
    ):
        FileSystems.set_options(PipelineOptions(flags))
        yield store
    FileSystems.set_options(PipelineOptions())


class Claimants:
    """Threads that claim one output at the same moment; who has it waits for the others."""

    def __init__(self, output, number=3):
        self.held = self.refused = 0
        self._output = output
        self._changed = threading.Condition()
        self._threads = [threading.Thread(target=self._claim) for _ in range(number)]
        for thread in self._threads:
            thread.start()
        for thread in self._threads:
            thread.join()

    def _claim(self):
        try:
            with held(self._output):
                self._count("held")
                with self._changed:
                    assert self._changed.wait_for(self._all_know, 30)
        except OutputError:
            self._count("refused")

    def _all_know(self):
        return self.held + self.refused == len(self._threads)

    def _count(self, name):
        with self._changed:
            setattr(self, name, getattr(self, name) + 1)
            self._changed.notify_all()


def test_of_several_with_slow_writes_one_holds(slow_store, monkeypatch):
    monkeypatch.setattr(lock, "_SETTLES_IN", 0)  # it is the store that decides, not time
    for n in range(6):
        output = slow_store.uri(f"out-{n}")
        if n % 2:  # all of them take over a claim whose holder is dead
            dead = lock_of_another(time.time() - lock.EXPIRES_AFTER - 1)
            slow_store.put({f"out-{n}/{FILE_NAME}": dead})
        assert Claimants(output).held == 1
        assert not exists(output)


# Jobs elsewhere


@pytest.fixture
def dataflow():
    with DataflowServer() as server, memory_store({}):
        FileSystems.set_options(PipelineOptions(server.flags))
        yield server
    FileSystems.set_options(PipelineOptions())


def job_named(id_, name="label-out"):
    return {
        "runner": "DataflowRunner",
        "id": id_,
        "name": name,
        "project": "my-project",
        "region": "europe-west1",
    }


def left_to(job, renewed=0.0):
    """What a claim says after ``kill -9`` of the process that has started the job."""
    return json.dumps(json.loads(lock_of_another(renewed)) | {"job": job}).encode()


def test_a_job_holds_the_output_until_it_has_ended(dataflow):
    dataflow.add("job-7", "label-out", "RUNNING", "CANCELLING", "DONE")
    OBJECTS[f"{BUCKET}/{FILE_NAME}"] = left_to(job_named("job-7"))
    for state in ("running", "cancelling"):
        with pytest.raises(OutputError) as caught, held(BUCKET):
            pass
        assert str(caught.value) == (
            f"output {BUCKET}: a job is writing there (the Dataflow job label-out, job-7, {state}; "
            "gcloud dataflow jobs cancel job-7 --region=europe-west1 --project=my-project cancels "
            "it); wait until it has ended, or cancel it"
        )
    with held(BUCKET):
        pass


def test_a_job_whose_id_was_not_noted_is_found_by_its_name(dataflow):
    dataflow.add("job-7", "label-out", "QUEUED")
    dataflow.add("job-8", "label-other", "RUNNING")
    OBJECTS[f"{BUCKET}/{FILE_NAME}"] = left_to(job_named(None))
    with pytest.raises(OutputError, match="label-out, job-7, queued"):
        lock.refuse_held(BUCKET)
    dataflow.states["job-7"] = ["FAILED"]
    lock.refuse_held(BUCKET)
    assert exists(BUCKET)


@pytest.mark.parametrize("own", [job_named("job-7"), job_named(None)])
def test_a_launcher_is_not_in_its_own_way(dataflow, own):
    """Its job exists before it is described; it may have been described before."""
    dataflow.add("job-7", "label-out", "QUEUED")
    OBJECTS[f"{BUCKET}/{FILE_NAME}"] = left_to(own)
    with held(BUCKET, own):
        pass


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        (403, "give this account the role roles/dataflow.viewer"),
        (401, "run 'gcloud auth application-default login'"),
        (400, "run the same command again later"),
    ],
)
def test_a_job_that_cannot_be_asked_holds_the_output(dataflow, status, remedy):
    dataflow.errors["GET job"] = [status]
    OBJECTS[f"{BUCKET}/{FILE_NAME}"] = left_to(job_named("job-7"))
    with pytest.raises(OutputError) as caught, held(BUCKET):
        pass
    message = str(caught.value)
    assert message.startswith(
        f"output {BUCKET}: a job was writing there, and whether it has ended is not known: "
        "Dataflow does not tell the state of the job job-7 in my-project, europe-west1: "
    )
    assert f": {status} the service says so; " in message or status == 401
    assert message.endswith(f"; {remedy}; if you know that it has ended, delete .claim there")
    assert "\n" not in message


def test_a_claim_is_left_to_its_job_and_released_by_it(dataflow):
    dataflow.add("job-7", "label-out", "RUNNING")
    with held(BUCKET) as claim:
        claim.name_job(job_named("job-7"))
    # At once, though the claim was just renewed: the process that did so has ended.
    with pytest.raises(OutputError, match="the Dataflow job label-out"), held(BUCKET):
        pass
    lock.release(lock.Key(claim.key.path, "of another"))
    assert exists(BUCKET)
    lock.release(claim.key)
    lock.release(claim.key)  # as the last step does that is tried again
    assert not exists(BUCKET)


def test_a_job_that_has_ended_leaves_no_claim(output):
    with held(output) as claim:
        claim.name_job(job_named("job-7"))
        claim.name_job(None)
    assert not exists(output)


def test_a_folder_on_this_machine_is_left_to_its_job(dataflow, tmp_path):
    dataflow.add("job-7", "label-out", "RUNNING", "RUNNING", "DONE")
    output = str(tmp_path)
    with held(output) as claim:
        claim.name_job(job_named("job-7"))
    with pytest.raises(OutputError, match="the Dataflow job label-out"), held(output):
        pass
    with pytest.raises(OutputError, match="the Dataflow job label-out"):
        lock.refuse_held(output)
    with held(output):
        pass
    assert not exists(output)
