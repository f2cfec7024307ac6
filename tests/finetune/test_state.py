"""What a training promises holds for models with state that is not trained, and with draws."""

import hashlib
import json

import numpy as np
import pytest
from helpers import training as training_helpers
from helpers.models import write_class_folders
from helpers.training import CLASSES

from pipeline.__main__ import main
from pipeline.errors import ModelError
from pipeline.finetune import job, training
from pipeline.finetune.dataset import split_of
from pipeline.finetune.networks import Draw, Head, WholeNetwork, augment
from pipeline.finetune.splits import VALIDATION
from pipeline.finetune.training import History, Part, Phase, adam
from pipeline.images.decode import decode
from pipeline.models.probing import probe_extractor
from pipeline.models.tensorflow_import import tf

import tf_keras  # isort: skip - after TensorFlow, whose notes are kept off the console

SIDE = 16


class Normalized(Head):
    """Moves its own statistics while it is trained, as batch normalization does."""

    def __init__(self):
        super().__init__(3, CLASSES)
        self.mean = tf.Variable(tf.zeros([3]), trainable=False)
        self.state = [*self.variables, self.mean]

    def logits(self, inputs, draw):
        if draw is not None:
            self.mean.assign(0.7 * self.mean + 0.3 * tf.reduce_mean(inputs, 0))
        return super().logits(inputs - self.mean, draw)


def clouds(count, seed):
    """Points whose mean is not 0, so that statistics of it matter."""
    return training_helpers.clouds(count, seed, shift=1.0)


def phase(tmp_path, network, **changes):
    own = {
        "name": "network",
        "optimizer": adam(0.3, mixed_precision=False),
        "train": clouds(200, 0),
        "validation": clouds(60, 1),
    }
    return training_helpers.phase(tmp_path, network, **(own | changes))


def values_of(network):
    return np.concatenate([variable.numpy().ravel() for variable in network.state])


def test_the_best_epoch_has_the_statistics_of_that_epoch(tmp_path):
    history, network = History(), Normalized()
    trained = phase(tmp_path, network, history=history)
    trained.run(8)
    losses = [epoch.validation_loss for epoch in history.epochs]
    assert np.argmin(losses) < len(losses) - 1  # else the last epoch's would do
    assert trained.evaluate(clouds(60, 1))[0] == pytest.approx(min(losses), rel=1e-5)


@pytest.mark.parametrize("at_step", [3, 10])
def test_a_killed_run_goes_on_with_its_statistics(tmp_path, monkeypatch, at_step):
    class Killed(Exception):
        pass

    monkeypatch.setattr(training, "_SECONDS_BETWEEN_CHECKPOINTS", -1.0)  # after each step
    whole = Normalized()
    phase(tmp_path, whole).run(3)
    part, reads = clouds(200, 0), iter(range(at_step))

    def killed_read(indices):
        if next(reads, None) is None:
            raise Killed
        return part.read(indices)

    doomed, checkpoints = Part(part.indices, part.classes, killed_read), tmp_path / "checkpoints"
    with pytest.raises(Killed):
        phase(tmp_path, Normalized(), train=doomed, checkpoints=checkpoints).run(3)
    resumed = Normalized()
    phase(tmp_path, resumed, checkpoints=checkpoints).run(3)
    np.testing.assert_array_equal(values_of(resumed), values_of(whole))


# A feature vector with batch normalization


@pytest.fixture(scope="module")
def normalized_model(tmp_path_factory):
    """A feature vector of tf_keras with batch normalization, whose statistics fit nothing."""
    tf_keras.utils.set_random_seed(0)
    layers = tf_keras.layers
    images = layers.Input((SIDE, SIDE, 3))
    x = layers.Conv2D(8, 3, strides=2, use_bias=False)(images)
    x = layers.ReLU()(layers.BatchNormalization(momentum=0.5)(x))
    x = layers.Dropout(0.3)(layers.Conv2D(8, 3, activation="relu")(x))
    model = tf_keras.Model(images, layers.GlobalAveragePooling2D()(x))
    noise = np.random.default_rng(0).random((64, SIDE, SIDE, 3), np.float32)
    for _ in range(10):
        model(noise, training=True)
    folder = tmp_path_factory.mktemp("models") / "normalized"
    model.save(folder, include_optimizer=False)
    return str(folder)


def images_of(count):
    rng = np.random.default_rng(1)
    classes = np.arange(count) % CLASSES
    pixels = rng.integers(0, 120, (count, SIDE, SIDE, 3))
    pixels[..., :] += np.eye(3, dtype=int)[classes][:, None, None] * 60
    pixels = pixels.astype(np.uint8)
    return Part(np.arange(count), classes, lambda indices: pixels[indices])


def unfrozen(model, tmp_path, micro_batch=None, epochs=2):
    """A network that has been trained, taken some images at a time."""
    spec, _ = probe_extractor(model)
    network = WholeNetwork(spec, Head(spec.outputs, CLASSES))
    part = images_of(60)
    trained = phase(
        tmp_path, network, optimizer=adam(0.01, False), train=part, validation=part, batch_size=20
    )
    trained._progress.micro_batch = micro_batch or 20
    trained.run(epochs)
    return network, trained.predict(part)


def test_a_batch_in_several_goes_is_the_same_step(normalized_model, tmp_path):
    _, once = unfrozen(normalized_model, tmp_path)
    _, in_goes = unfrozen(normalized_model, tmp_path, micro_batch=7)
    np.testing.assert_allclose(in_goes, once, atol=1e-5)


def test_training_changes_no_other_copy_of_the_model(normalized_model, tmp_path):
    spec, _ = probe_extractor(normalized_model)
    before = WholeNetwork(spec, Head(spec.outputs, CLASSES))
    images = tf.constant(images_of(6).read(np.arange(6)) / np.float32(255))
    features = before.features(images).numpy()
    trained, _ = unfrozen(normalized_model, tmp_path)
    assert np.abs(trained.features(images).numpy() - features).max() > 1e-3
    again = WholeNetwork(spec, Head(spec.outputs, CLASSES))
    np.testing.assert_array_equal(again.features(images).numpy(), features)


def test_draws_of_a_part_are_those_of_the_whole():
    def draw(first):
        return Draw(tf.constant([5, 0], tf.int64), tf.constant(first), tf.constant(10))

    images = tf.random.stateless_uniform([10, 8, 8, 3], [1, 2])
    whole = augment(images, draw(0)).numpy()
    parts = [augment(images[at : at + 4], draw(at)).numpy() for at in (0, 4, 8)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    head = Head(6, CLASSES)
    head.weights.assign(tf.random.stateless_normal([6, CLASSES], [0, 1]))
    features = tf.random.stateless_uniform([10, 6], [3, 4])
    parts = [head.logits(features[at : at + 4], draw(at)).numpy() for at in (0, 4, 8)]
    np.testing.assert_allclose(np.concatenate(parts), head.logits(features, draw(0)), rtol=1e-6)
    assert np.abs(head.logits(features, draw(0)) - head.logits(features, None)).max() > 0.01


# What is trained is what was probed


def finetune(tmp_path, model, *argv):
    photos = tmp_path / "photos"
    if not photos.exists():
        write_class_folders(photos, count=40)
    output = tmp_path / "out"
    argv = ("--unfreeze", "--unfreeze_epochs=6", "--unfreeze_learning_rate=0.003", *argv)
    code = main(["finetune", f"--input={photos}", f"--model={model}", f"--output={output}", *argv])
    return code, output


def test_the_export_is_the_model_that_was_measured(normalized_model, tmp_path, monkeypatch):
    """Validation loss of the export, on the images that validated, is the one that was noted."""
    kept = {}
    run = Phase.run

    def spy(self, epochs):
        run(self, epochs)
        kept[self._name] = self

    monkeypatch.setattr(Phase, "run", spy)
    # The best one is so low here that probabilities are 0 in float32.
    monkeypatch.setattr(job, "best_temperature", lambda *_: 2.0)
    code, output = finetune(tmp_path, normalized_model)
    assert code == 0
    summary = json.loads((output / "summary.json").read_text())
    losses = [e["validation_loss"] for e in summary["epochs"] if e["phase"] == "network"]
    (export,) = (output / "export").iterdir()
    exported = tf.saved_model.load(str(export))
    head = min(e["validation_loss"] for e in summary["epochs"] if e["phase"] == "head")
    part = kept["network"]._validation
    # The pixels are no longer open, so they are read from the files that the rows name.
    assert len(part) > 5
    assert min(*losses, head) == pytest.approx(_loss(exported, tmp_path / "photos", summary), 1e-4)


def _loss(exported, photos, summary):
    """Mean cross entropy of a model on the validation images of class folders.

    The export divides its logits by a temperature, and here they are multiplied by it again.
    """
    temperature = summary["calibration"]["temperature"]
    losses = []
    for class_id, name in enumerate(summary["labels"]):
        for path in sorted((photos / name).iterdir()):
            data = path.read_bytes()
            if split_of(hashlib.sha256(data).hexdigest()) == VALIDATION:
                pixels = decode(data, SIDE, SIDE).pixels
                probabilities = exported(tf.constant(pixels[None] / np.float32(255)))
                logits = temperature * np.log(probabilities[0])
                losses.append(np.log(np.exp(logits).sum()) - logits[class_id])
    return np.mean(losses)


@pytest.fixture(scope="module")
def preprocessing_model(tmp_path_factory):
    """Its signature scales images to [-1, 1]; called as an object, it does not."""
    tf_keras.utils.set_random_seed(0)
    layers = tf_keras.layers
    model = tf_keras.Sequential(
        [
            layers.Input((SIDE, SIDE, 3)),
            layers.Conv2D(8, 3, activation="relu"),
            layers.GlobalAveragePooling2D(),
        ]
    )

    @tf.function(input_signature=[tf.TensorSpec((None, SIDE, SIDE, 3), tf.float32, "image")])
    def serve(image):
        return {"features": model(image * 20.0 - 10.0)}

    folder = tmp_path_factory.mktemp("models") / "preprocessing"
    model.save(folder, signatures={"serving_default": serve}, include_optimizer=False)
    return str(folder)


def test_the_signature_that_was_probed_is_trained(preprocessing_model, tmp_path):
    spec, _ = probe_extractor(preprocessing_model)
    assert spec.signature == "serving_default"
    network = WholeNetwork(spec, Head(spec.outputs, CLASSES))
    images = tf.constant(images_of(6).read(np.arange(6)) / np.float32(255))
    expected = network.extractor.signatures["serving_default"](image=images)["features"]
    np.testing.assert_allclose(network.features(images), expected, rtol=1e-6)
    code, output = finetune(tmp_path, preprocessing_model)
    assert code == 0
    summary = json.loads((output / "summary.json").read_text())
    best = max(e["validation_accuracy"] for e in summary["epochs"])
    assert summary["test"]["accuracy"] >= best - 0.2


def test_a_function_without_a_gradient_is_refused_before_the_features(tmp_path, capsys):
    weights = tf.Variable(tf.eye(3), name="weights")
    module = tf.train.Checkpoint(weights=weights)
    images = tf.TensorSpec((None, SIDE, SIDE, 3), tf.float32, "inputs")

    @tf.function(input_signature=[images])
    def rounded(inputs):
        return {"features": tf.round((tf.reduce_mean(inputs, [1, 2]) @ weights) * 100.0)}

    folder = tmp_path / "rounded"
    tf.saved_model.save(module, str(folder), signatures=rounded)
    spec, _ = probe_extractor(str(folder))
    with pytest.raises(ModelError, match="has nothing that can be trained"):
        WholeNetwork(spec, Head(spec.outputs, CLASSES))
    code, output = finetune(tmp_path, folder)
    assert code == 2
    assert "has nothing that can be trained; leave --unfreeze out" in capsys.readouterr().err
    assert not (output / "summary.json").exists()
