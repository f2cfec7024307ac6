"""The embedded default: what pipeline/sample's scripts have made."""

import numpy as np

from pipeline import sample
from pipeline.models.loading import load_classifier
from pipeline.models.probing import probe_classifier
from tools.sample.drawings import LABELS, draw

# Training's images have seeds that begin with 0, 1 and 2.
SEED = 3


def test_held_out_drawings_are_labeled_right():
    spec = probe_classifier("sample")
    assert spec.labels == LABELS
    classifier = load_classifier(spec, top_k=1)
    truth = [n % len(LABELS) for n in range(300)]
    drawings = [
        np.asarray(draw(LABELS[class_id], np.random.default_rng((SEED, n)), 224))
        for n, class_id in enumerate(truth)
    ]
    predicted = [result.class_ids[0] for result in classifier(np.stack(drawings))]
    assert np.mean(np.equal(predicted, truth)) >= 0.95


def test_the_same_seed_draws_the_same_and_another_something_else():
    def drawn(label, seed):
        return draw(label, np.random.default_rng(seed), 64).tobytes()

    assert drawn("car", 1) == drawn("car", 1)
    assert len({drawn(label, seed) for label in LABELS for seed in range(5)}) == 50


def test_model_and_images_stay_small():
    files = [
        path
        for folder in (sample.MODEL_DIR, sample.FEATURES_DIR, sample.IMAGES_DIR)
        for path in folder.rglob("*")
        if path.is_file()
    ]
    assert sum(path.stat().st_size for path in files) < 3_000_000
