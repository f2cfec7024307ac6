import numpy as np
import pytest
from helpers.training import CLASSES, clouds, phase

from pipeline.errors import RunError
from pipeline.finetune import training
from pipeline.finetune.networks import Head
from pipeline.finetune.temperature import best_temperature, softmax
from pipeline.finetune.training import History, Part, adam, class_weights
from pipeline.models.tensorflow_import import tf


def test_learns_and_keeps_every_step(tmp_path):
    head, history = Head(3, CLASSES), History()
    trained = phase(tmp_path, head, history=history)
    trained.run(5)
    assert trained.evaluate(clouds(300, 2))[1] > 0.8
    assert [step.step for step in history.steps] == list(range(1, 36))  # 7 steps an epoch
    assert [epoch.step for epoch in history.epochs] == [7, 14, 21, 28, 35]
    assert history.steps[0].loss == pytest.approx(np.log(3), abs=1e-6)  # zeros: all the same
    assert list((tmp_path / "tensorboard").glob("events.*"))


def test_an_epochs_figures_are_averages_over_its_images(tmp_path):
    history = History()
    phase(tmp_path, Head(3, CLASSES), history=history).run(1)
    sizes = [32] * 6 + [8]
    (epoch,) = history.epochs
    for name in ("loss", "accuracy"):
        steps = [getattr(step, name) for step in history.steps]
        assert getattr(epoch, name) == pytest.approx(np.average(steps, weights=sizes))
    assert epoch.accuracy != history.steps[-1].accuracy


def test_stops_when_validation_does_not_improve_and_ends_with_the_best(tmp_path):
    history, head = History(), Head(3, CLASSES)
    trained = phase(tmp_path, head, history=history, optimizer=adam(0.9, mixed_precision=False))
    trained.run(100)
    losses = [epoch.validation_loss for epoch in history.epochs]
    assert len(losses) == np.argmin(losses) + 1 + training.PATIENCE
    assert trained.evaluate(clouds(60, 1))[0] == pytest.approx(min(losses), rel=1e-5)


def test_a_second_phase_never_ends_worse(tmp_path):
    history, head = History(), Head(3, CLASSES)
    first = phase(tmp_path, head, history=history)
    first.run(8)
    before = first.evaluate(clouds(60, 1))[0]
    second = phase(
        tmp_path, head, name="network", history=history, optimizer=adam(0.9, mixed_precision=False)
    )
    second.run(2)
    assert second.evaluate(clouds(60, 1))[0] <= before * (1 + 1e-6)
    assert {step.phase for step in history.steps} == {"head", "network"}
    assert history.steps[-1].step == len(history.steps)


def weights_of(head):
    return np.concatenate([variable.numpy().ravel() for variable in head.variables])


def test_the_same_seed_gives_the_same(tmp_path):
    heads = [Head(3, CLASSES), Head(3, CLASSES)]
    for head in heads:
        phase(tmp_path, head).run(3)
    np.testing.assert_array_equal(weights_of(heads[0]), weights_of(heads[1]))


class Killed(Exception):
    pass


@pytest.mark.parametrize("at_step", [3, 7, 10, 20])
def test_a_killed_run_goes_on_as_if_it_had_not_been(tmp_path, monkeypatch, at_step):
    monkeypatch.setattr(training, "_SECONDS_BETWEEN_CHECKPOINTS", -1.0)  # after each step
    whole, whole_history = Head(3, CLASSES), History()
    phase(tmp_path, whole, history=whole_history).run(4)

    def killed_read(indices, read=clouds(200, 0).read):  # noqa: B008
        nonlocal reads
        reads += 1
        if reads > at_step:
            raise Killed
        return read(indices)

    reads = 0
    part = clouds(200, 0)
    checkpoints = tmp_path / "checkpoints"
    doomed = Part(part.indices, part.classes, killed_read)
    with pytest.raises(Killed):
        phase(tmp_path, Head(3, CLASSES), train=doomed, checkpoints=checkpoints).run(4)

    head, history = Head(3, CLASSES), History()
    phase(tmp_path, head, history=history, checkpoints=checkpoints).run(4)
    assert history.epochs == whole_history.epochs
    assert history.steps == whole_history.steps
    np.testing.assert_array_equal(weights_of(head), weights_of(whole))


class Small(Head):
    """Really asks for 256 TB, more than can be addressed, for more than ``fits`` images at once."""

    def __init__(self, fits):
        super().__init__(3, CLASSES)
        self.fits = fits

    def logits(self, inputs, seed):
        if seed is not None:
            size = tf.where(tf.shape(inputs)[0] > self.fits, tf.constant(2**46, tf.int64), 1)
            inputs += tf.reduce_min(tf.random.uniform([size])) * 0.0
        return super().logits(inputs, None)  # without dropout, which depends on the batch


def test_out_of_memory_halves_the_batch_with_the_same_result(tmp_path, capsys):
    roomy, cramped = Small(8), Small(5)
    phase(tmp_path, roomy, batch_size=8).run(2)
    assert capsys.readouterr().err.count("out of memory") == 0
    phase(tmp_path, cramped, batch_size=8).run(2)
    line = "head: out of memory; a batch of 8 is now taken 4 images at a time, with the same result"
    assert capsys.readouterr().err.splitlines()[0] == line
    np.testing.assert_allclose(weights_of(cramped), weights_of(roomy), atol=1e-4)


def test_out_of_memory_with_one_image(tmp_path):
    with pytest.raises(RunError, match="out of memory even with one image at a time"):
        phase(tmp_path, Small(0), batch_size=1).run(1)


def test_a_training_that_diverges(tmp_path):
    part = clouds(200, 0)
    huge = Part(part.indices, part.classes, lambda indices: part.read(indices) * np.float32(1e38))
    with pytest.raises(RunError, match="the training of the head diverges: in epoch 1 the loss"):
        phase(tmp_path, Head(3, CLASSES), train=huge).run(3)


def test_class_weights_make_classes_equal():
    classes = np.array([0, 0, 0, 0, 0, 0, 1, 1, 2, 2])
    weights = class_weights(classes, 3)
    totals = [weights[class_id] * (classes == class_id).sum() for class_id in range(3)]
    np.testing.assert_allclose(totals, 10 / 3)
    np.testing.assert_allclose(class_weights(np.array([0, 1, 0, 1]), 2), 1.0)


def test_weights_count_in_the_loss(tmp_path):
    """With all weight on one class, it is predicted for everything."""
    head = Head(3, CLASSES)
    trained = phase(tmp_path, head, class_weights=np.array([1e-6, 1.0, 1e-6]))
    trained.run(5)
    assert (trained.predict(clouds(60, 1)).argmax(1) == 1).mean() > 0.9


def test_mixed_precision_scales_the_loss_and_not_the_result(tmp_path):
    """What float16 needs, on float32, since there is no GPU: the code path, not the precision."""
    optimizer = adam(0.01, mixed_precision=True)
    tf.config.optimizer.set_experimental_options({"auto_mixed_precision": False})
    scaled, plain = Head(3, CLASSES), Head(3, CLASSES)
    phase(tmp_path, scaled, optimizer=optimizer).run(2)
    phase(tmp_path, plain).run(2)
    np.testing.assert_allclose(weights_of(scaled), weights_of(plain), atol=1e-4)


def test_softmax():
    logits = np.array([[1000.0, 0.0], [0.0, 0.0]], np.float32)
    np.testing.assert_allclose(softmax(logits), [[1, 0], [0.5, 0.5]])


@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
def test_the_temperature_undoes_a_scale_of_the_logits(scale):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20_000, 4)) * 2
    drawn = softmax(logits).cumsum(1) > rng.random((len(logits), 1))
    classes = drawn.argmax(1)
    assert best_temperature(logits * scale, classes) == pytest.approx(scale, rel=0.05)


def test_right_answers_alone_do_not_make_the_classifier_certain():
    logits = np.tile([2.0, 0.0], (18, 1))
    temperature = best_temperature(logits, np.zeros(18, np.int64))
    assert softmax(logits / temperature)[0, 0] == pytest.approx(19 / 20, abs=1e-4)
