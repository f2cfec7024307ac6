import numpy as np
import pytest
from helpers.models import save_extractor

from pipeline.errors import ModelError
from pipeline.finetune.networks import Draw, Head, WholeNetwork, augment, number_of_weights
from pipeline.models.probing import probe_extractor
from pipeline.models.tensorflow_import import tf


def seed(number, first=0, total=None):
    """The draw of a step, for a whole batch of up to 500 images, or for a part of one."""
    return Draw(tf.constant([number, 0], tf.int64), tf.constant(first), tf.constant(total or 500))


def test_a_head_is_one_dense_layer_with_dropout_while_training():
    head = Head(4, 2)
    head.weights.assign(tf.random.stateless_normal([4, 2], [0, 1]))
    head.bias.assign([1.0, -1.0])
    features = tf.ones([500, 4])
    logits = head.logits(features, None)
    expected = head.weights.numpy().sum(0) + head.bias.numpy()
    np.testing.assert_allclose(logits[0], expected, rtol=1e-5)
    dropped = head.logits(features, seed(1))
    assert len(np.unique(dropped.numpy(), axis=0)) > 5
    np.testing.assert_array_equal(dropped, head.logits(features, seed(1)))
    np.testing.assert_allclose(dropped.numpy().mean(0), logits[0], atol=0.3)


def test_a_whole_network_trains_everything(tmp_path):
    spec, _ = probe_extractor(save_extractor(tmp_path))
    head = Head(3, 2)
    network = WholeNetwork(spec, head)
    assert number_of_weights(network.variables) == 9 + 6 + 2
    pixels = np.full((2, 32, 32, 3), [51, 102, 204], np.uint8)
    np.testing.assert_allclose(network.features(pixels / np.float32(255))[0], [0.2, 0.4, 0.8], 1e-4)
    head.weights.assign(np.eye(3, 2))
    np.testing.assert_allclose(network.logits(pixels, None)[1], [0.2, 0.4], 1e-4)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(network.logits(tf.constant(pixels), seed(3)))
    assert all(gradient is not None for gradient in tape.gradient(loss, network.variables))


def test_an_extractor_without_variables_cannot_be_unfrozen(tmp_path):
    spec, _ = probe_extractor(save_extractor(tmp_path, trainable=False))
    with pytest.raises(ModelError, match="has nothing that can be trained; leave unfreeze out"):
        WholeNetwork(spec, Head(3, 2))


def gradient_image():
    """Red grows to the right, green downward."""
    right, down = np.meshgrid(np.linspace(0, 1, 32), np.linspace(0, 1, 32))
    return np.stack([right, down, np.full_like(right, 0.5)], -1).astype(np.float32)


def test_augmentation_flips_and_crops_and_nothing_else():
    images = np.repeat(gradient_image()[None], 400, 0)
    result = augment(tf.constant(images), seed(7)).numpy()
    assert result.shape == images.shape
    assert result.min() >= 0
    assert result.max() <= 1
    np.testing.assert_allclose(result[..., 2], 0.5, atol=1e-5)
    red, green = result[..., 0].mean(1), result[..., 1].mean(2)
    flipped = red[:, -1] < red[:, 0]
    assert 0.4 < flipped.mean() < 0.6
    assert (green[:, -1] > green[:, 0]).all()  # never upside down
    width = np.abs(red[:, -1] - red[:, 0])
    assert 0.74 < width.min() < 0.8
    assert 0.95 < width.max() <= 1.0
    assert np.std(green[:, 0]) > 0.01  # not always from the top


def test_the_same_seed_augments_the_same():
    images = tf.constant(np.repeat(gradient_image()[None], 8, 0))
    np.testing.assert_array_equal(augment(images, seed(1)), augment(images, seed(1)))
    assert (augment(images, seed(1)).numpy() != augment(images, seed(2)).numpy()).any()
