"""Images whose given class is improbable, among features of which the classes are known."""

import numpy as np
import pytest

from pipeline.finetune import discriminant
from pipeline.finetune.discriminant import FOLDS, folds_of
from pipeline.finetune.mislabeled import LEAST_PICTURES, find, improbable

SIZE = 40


def drawn(*images, size=SIZE, distance=5.0, seed=0):
    """Features around the means of classes with so many images each, and the classes."""
    rng = np.random.default_rng(seed)
    classes = np.repeat(np.arange(len(images)), images)
    means = distance * rng.standard_normal((len(images), size)) / size**0.5
    features = means[classes] + rng.standard_normal((len(classes), size))
    return np.maximum(features, -1).astype(np.float32), classes


def flipped(classes, share=0.05, seed=1):
    """Wrong classes for some images, drawn from the others, and which images they are."""
    rng = np.random.default_rng(seed)
    wrong = np.sort(rng.choice(len(classes), round(share * len(classes)), replace=False))
    given = classes.copy()
    count = classes.max() + 1
    given[wrong] = (given[wrong] + rng.integers(1, count, len(wrong))) % count
    return given, wrong


def found_in(features, given, pictures=None):
    pictures = np.arange(len(given)) if pictures is None else pictures
    return find(features, given, np.array(pictures), given.max() + 1)


@pytest.mark.parametrize("images", [(300, 300), (400, 60, 100), (30,) * 40, (2000, 40)])
def test_wrong_classes_are_found(images):
    """Two classes, unbalanced ones, many; a list at random would be right in one of twenty."""
    features, classes = drawn(*images)
    given, wrong = flipped(classes)
    found = found_in(features, given)
    right = np.isin(found.images, wrong)
    assert right.mean() > 0.8
    assert right.sum() > 0.65 * len(wrong)
    assert (found.suggested[right] == classes[found.images[right]]).mean() > 0.95
    assert (found.given == given[found.images]).all() and (found.given != found.suggested).all()
    assert found.checked == len(classes) and found.passed_over == 0
    above = found.probabilities - found.given_probabilities
    assert (above > 0).all() and (np.diff(above) <= 0).all()
    assert found.probabilities.max() <= 1


def test_hardly_any_image_is_listed_if_all_classes_are_right():
    features, classes = drawn(200, 200, 200)
    assert len(found_in(features, classes).images) <= 0.02 * len(classes)


@pytest.mark.parametrize("images", [(300, 300), (540, 60)])
def test_nothing_is_said_if_features_tell_nothing(images):
    """Else many of the small class would seem to be of the large one."""
    features, classes = drawn(*images, distance=0)
    found = found_in(features, classes)
    assert (len(found.images), found.checked, found.passed_over) == (0, 0, 600)
    assert found.in_words("a").endswith("the features hardly tell the classes apart")


def test_more_features_than_images_and_than_a_covariance_takes(monkeypatch):
    monkeypatch.setattr(discriminant, "MOST_FEATURES", 150)
    features, classes = drawn(40, 40, size=400, distance=30)
    given, wrong = flipped(classes)
    assert sorted(found_in(features, given).images) == wrong.tolist()


def test_a_picture_does_not_vouch_for_its_own_copies():
    """Ten copies of an image with a wrong class: alone, they would be learned by heart."""
    features, classes = drawn(60, 60, distance=8)
    copies = np.repeat(features[:1], 10, 0)
    features, given = np.concatenate([features, copies]), np.append(classes, [1] * 10)
    pictures = np.append(np.arange(120), [0] * 10)
    assert set(range(120, 130)) <= set(found_in(features, given, pictures).images)
    folds = folds_of(given, pictures)
    assert len(set(folds[[0, *range(120, 130)]])) == 1


def test_folds_have_equally_many_images_of_each_class():
    classes = np.repeat([0, 1, 2], [100, 35, 10])
    folds = folds_of(classes, np.arange(145))
    counts = np.array([np.bincount(folds[classes == n], minlength=FOLDS) for n in range(3)])
    assert (counts.max(1) - counts.min(1) <= 1).all()
    assert (folds == folds_of(classes, np.arange(145))).all()


def test_small_classes_are_passed_over_and_said():
    features, classes = drawn(40, 40, LEAST_PICTURES - 1)
    found = found_in(features, classes)
    assert (found.checked, found.passed_over) == (80, LEAST_PICTURES - 1)
    assert "9 are not checked: their classes have fewer than 10 pictures" in found.in_words("a")
    copies = np.append(np.arange(80), [80] * (LEAST_PICTURES - 1))
    more = found_in(
        np.repeat(features, [1] * 88 + [9], 0), np.append(classes, [2] * 8), [*copies, *[80] * 8]
    )
    assert more.passed_over == LEAST_PICTURES + 7  # copies do not make a class larger


def test_one_class_that_is_large_enough_is_not_checked():
    features, classes = drawn(40, 5)
    found = found_in(features, classes)
    assert (found.checked, found.passed_over, len(found.images)) == (0, 45, 0)
    assert found.in_words("a") == (
        "wrong classes are not looked for: fewer than two classes have 10 pictures or more"
    )
    assert found.to_json()["why"]


def test_images_that_do_not_count_are_neither_learned_from_nor_listed():
    features, classes = drawn(100, 100)
    given, _ = flipped(classes)
    apart = np.full(200, -1)
    both = found_in(np.concatenate([features, features]), np.append(given, apart))
    assert both.images.tolist() == found_in(features, given).images.tolist()
    assert both.checked == 200


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_features_that_tell_nothing_or_everything(value):
    """No warning of numpy, which is an error here: no variance, and all of one class alike."""
    classes = np.repeat([0, 1], 30)
    features = (value * classes)[:, None] * np.ones(4, np.float32)
    given = classes.copy()
    given[0] = 1
    found = found_in(features.astype(np.float32), given)
    assert found.images.tolist() == ([0] if value else [])


def test_the_rule_takes_what_both_prunings_take():
    """By hand: thresholds 0.6 and 0.55; of each class, one image is confidently of the other."""
    probabilities = np.array(
        [[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.7, 0.3], [0.44, 0.56]]
    )
    classes = np.array([0, 0, 0, 1, 1, 1])
    assert improbable(probabilities, classes).tolist() == [2, 4]
    assert improbable(probabilities, np.array([0, 0, 1, 1, 0, 1])).tolist() == []
