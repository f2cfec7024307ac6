import pytest

from pipeline import shutdown
from pipeline.errors import StoreError
from pipeline.label import lock
from pipeline.outputs import rows
from pipeline.records import Reason
from pipeline.runner import cancel
from pipeline.shutdown import Step, at


@pytest.fixture
def _no_hooks(monkeypatch):
    monkeypatch.setattr(shutdown, "_hooks", {})


def test_every_step_has_its_hook():
    assert shutdown._hooks == {
        Step.KEEP_ROWS: rows.keep_all_rows,
        Step.CANCEL_JOB: cancel,
        Step.RELEASE_LOCK: lock.release,
    }


@pytest.mark.usefixtures("_no_hooks")
def test_the_steps_decide_the_order():
    called = []
    for step in reversed(Step):
        at(step)(lambda step=step: called.append(step))
    shutdown.run()
    assert called == [Step.KEEP_ROWS, Step.CANCEL_JOB, Step.RELEASE_LOCK]


@pytest.mark.usefixtures("_no_hooks")
def test_a_step_that_fails_is_said_and_the_others_have_their_turn(capsys):
    called = []

    @at(Step.KEEP_ROWS)
    def keep():
        raise StoreError(Reason.UNAVAILABLE, "the bucket is gone")

    at(Step.RELEASE_LOCK)(lambda: called.append("released"))
    shutdown.run()
    assert called == ["released"]
    assert capsys.readouterr().err == "warning: the bucket is gone\n"
