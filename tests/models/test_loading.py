import shutil

import numpy as np
import pytest
from helpers.models import color_logits, save_model

from pipeline.errors import ModelError
from pipeline.models.loading import load_classifier
from pipeline.models.probing import probe_classifier
from pipeline.models.tensorflow_import import tf


def batch(*colors, size=32):
    """uint8 ``[N, size, size, 3]`` of images of one color each."""
    return np.stack([np.full((size, size, 3), color, np.uint8) for color in colors])


def test_another_model_under_the_same_handle_is_refused(tmp_path):
    spec = probe_classifier(save_model(tmp_path / "m"))
    shutil.rmtree(tmp_path / "m")
    save_model(tmp_path / "m", lambda images: -color_logits(images))
    with pytest.raises(ModelError, match=f"on this worker, but was {spec.fingerprint}"):
        load_classifier(spec, 1)


def test_a_model_saved_anew_in_the_same_folder_is_the_new_model(tmp_path):
    save_model(tmp_path / "m")
    probe_classifier(str(tmp_path / "m"))
    shutil.rmtree(tmp_path / "m")
    save_model(tmp_path / "m", lambda images: -color_logits(images))
    spec = probe_classifier(str(tmp_path / "m"))
    (result,) = load_classifier(spec, 3)(batch((255, 0, 0)))
    assert result.class_ids[-1] == 0


def test_the_launchers_model_is_not_loaded_a_second_time(color_model, monkeypatch):
    spec = probe_classifier(color_model)
    monkeypatch.setattr(tf.saved_model, "load", None)
    assert load_classifier(spec, 1) is not None
