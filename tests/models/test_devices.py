"""No GPU is needed here: where one makes a difference, the test says that there is one."""

import numpy as np
import pytest
from helpers.models import COLORS, save_hungry_model

from pipeline.errors import DeviceError
from pipeline.models import devices, predictors
from pipeline.models.devices import Execution, padded_size
from pipeline.models.loading import load_classifier
from pipeline.models.probing import probe_classifier
from pipeline.models.tensorflow_import import tf


@pytest.fixture(autouse=True)
def _float32_afterwards():
    yield
    devices.set_precision("float32")


def batch(count):
    return [np.full((32, 32, 3), list(COLORS.values())[n % 3], np.uint8) for n in range(count)]


def classes(classifier, count=7):
    return [answer.class_ids[0] for answer in classifier(batch(count))]


@pytest.mark.parametrize(
    ("images", "largest", "padded"),
    [
        (1, 1, 1),
        (64, 64, 64),
        (33, 64, 64),
        (32, 64, 32),
        (5, 64, 8),
        (100, 100, 100),
        (70, 100, 100),
        (65, 64, 65),
    ],
)
def test_batches_have_few_sizes(images, largest, padded):
    assert padded_size(images, largest) == padded


@pytest.mark.parametrize(
    ("execution", "subject"),
    [(Execution(require_gpu=True), "require_gpu"), (Execution("float16"), "precision float16")],
)
def test_without_a_gpu_what_needs_one_is_refused(color_model, monkeypatch, execution, subject):
    monkeypatch.setattr(devices, "has_gpu", lambda: False)
    with pytest.raises(DeviceError, match=f"^{subject}: TensorFlow sees no GPU here; check "):
        load_classifier(probe_classifier(color_model), 1, execution)


def test_with_a_gpu_it_is_not(color_model, monkeypatch):
    monkeypatch.setattr(devices, "has_gpu", lambda: True)
    devices.require_device(Execution("float16", require_gpu=True))


@pytest.mark.parametrize("execution", [Execution("bfloat16"), Execution(xla=True)])
def test_answers_are_the_same(color_model, execution):
    classifier = load_classifier(probe_classifier(color_model), 1, execution)
    assert classes(classifier) == [0, 1, 2, 0, 1, 2, 0]


def test_a_model_is_always_probed_in_float32(color_model):
    classifier = load_classifier(probe_classifier(color_model), 1, Execution("bfloat16"))
    assert classes(classifier, 1) == [0]
    assert tf.config.optimizer.get_experimental_options()["auto_mixed_precision_onednn_bfloat16"]
    probe_classifier(color_model)
    options = tf.config.optimizer.get_experimental_options()
    assert not options["auto_mixed_precision_onednn_bfloat16"]


@pytest.mark.parametrize(("gpu", "sizes"), [(False, [8, 5, 3]), (True, [8, 8, 4])])
def test_batches_are_filled_up_on_a_gpu_only(color_model, monkeypatch, gpu, sizes):
    seen = []
    call = predictors._call
    monkeypatch.setattr(predictors, "has_gpu", lambda: gpu)
    monkeypatch.setattr(
        predictors,
        "_call",
        lambda function, pixels, batch: seen.append(len(pixels)) or call(function, pixels, batch),
    )
    classifier = load_classifier(probe_classifier(color_model), 1)
    assert classes(classifier, 8) == [0, 1, 2, 0, 1, 2, 0, 1]
    assert classes(classifier, 5) == [0, 1, 2, 0, 1]
    assert classes(classifier, 3) == [0, 1, 2]
    assert seen == sizes


def test_images_that_do_not_fit_in_memory_together_are_labeled_in_parts(tmp_path, capsys):
    from pipeline.models.handler import SavedModelHandler

    spec = probe_classifier(save_hungry_model(tmp_path))
    handler = SavedModelHandler(lambda: load_classifier(spec, 1), batch_size=16)
    loaded = handler.load_model()
    for count in (16, 16, 3):
        answers = handler.run_inference(batch(count), loaded)
        assert [answer.value.class_ids[0] for answer in answers] == [n % 3 for n in range(count)]
    assert capsys.readouterr().err.splitlines() == [
        f"warning: {many} images at a time do not fit in the device's memory; going on with {few}"
        for many, few in ((16, 8), (8, 4))
    ]


def test_a_batch_is_not_filled_up_to_what_did_not_fit(tmp_path, monkeypatch):
    from pipeline.models.handler import SavedModelHandler

    monkeypatch.setattr(predictors, "has_gpu", lambda: True)
    spec = probe_classifier(save_hungry_model(tmp_path, most=12))
    handler = SavedModelHandler(lambda: load_classifier(spec, 1), batch_size=24)
    loaded = handler.load_model()
    for count in (24, 24, 11):
        assert len(handler.run_inference(batch(count), loaded)) == count
