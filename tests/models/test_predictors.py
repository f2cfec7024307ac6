import numpy as np
import pytest
from helpers.models import color_logits, color_probabilities, save_model

from pipeline.errors import PredictionError
from pipeline.models.loading import load_classifier
from pipeline.models.probing import probe_classifier
from pipeline.models.tensorflow_import import tf


def batch(*colors, size=32):
    """uint8 ``[N, size, size, 3]`` of images of one color each."""
    return np.stack([np.full((size, size, 3), color, np.uint8) for color in colors])


def test_best_classes_first_with_probabilities(color_model):
    classifier = load_classifier(probe_classifier(color_model), top_k=2)
    red, mixed = classifier(batch((255, 0, 0), (0, 51, 102)))
    logits = np.exp([10.0, 0, 0])
    assert red.class_ids == (0, 1)
    np.testing.assert_allclose(red.scores, (logits / logits.sum())[:2], rtol=1e-4)
    logits = np.exp([4.0, 2.0, 0.0])
    assert mixed.class_ids == (2, 1)
    np.testing.assert_allclose(mixed.scores, (logits / logits.sum())[:2], rtol=1e-4)


def test_softmax_is_applied_once(tmp_path, color_model):
    probabilities = probe_classifier(save_model(tmp_path, color_probabilities))
    images = batch((255, 0, 0), (9, 80, 30))
    for a, b in zip(
        load_classifier(probabilities, 3)(images),
        load_classifier(probe_classifier(color_model), 3)(images),
        strict=True,
    ):
        assert a.class_ids == b.class_ids
        np.testing.assert_allclose(a.scores, b.scores, rtol=1e-5)


def test_more_than_all_classes_are_all(color_model):
    (result,) = load_classifier(probe_classifier(color_model), top_k=99)(batch((0, 0, 255)))
    assert len(result.class_ids) == len(result.scores) == 3


def test_a_batch_of_any_size(color_model):
    classifier = load_classifier(probe_classifier(color_model), 1)
    for n in (1, 2, 7, 64):
        assert [r.class_ids for r in classifier(batch(*[(0, 255, 0)] * n))] == [(1,)] * n


def only_in_large_batches(otherwise):
    """Well behaved when probed with two images, not with more."""
    return lambda images: tf.cond(
        tf.shape(images)[0] > 2, lambda: otherwise(images), lambda: color_logits(images)
    )


@pytest.mark.parametrize(
    ("otherwise", "message"),
    [
        (lambda images: color_logits(images)[1:], "returned 2 results for a batch of 3 images"),
        (lambda images: color_logits(images) / 0.0, "not finite"),
        (
            lambda images: tf.matmul(color_logits(images), tf.ones([tf.shape(images)[0] + 1, 3])),
            r"the model fails on a batch of 3 images: Matrix size-incompatible: In\[0\]: \[3,3\]",
        ),
    ],
)
def test_a_model_that_goes_wrong_later(tmp_path, otherwise, message):
    spec = probe_classifier(save_model(tmp_path, only_in_large_batches(otherwise)))
    classifier = load_classifier(spec, 3)
    with pytest.raises(PredictionError, match=message):
        classifier(batch(*[(0, 0, 0)] * 3))
