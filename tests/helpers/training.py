"""Small trainings: points that a head learns to tell apart, and the phase that trains it."""

import numpy as np

from pipeline.finetune.training import History, Part, Phase, adam

CLASSES = 3


def clouds(count, seed, shift=0.0):
    """Points around three centers, which a line cannot tell apart without fail."""
    rng = np.random.default_rng(seed)
    classes = np.arange(count) % CLASSES
    values = shift + np.eye(CLASSES)[classes] + rng.normal(0, 0.45, (count, CLASSES))
    return Part(np.arange(count), classes, lambda indices: values[indices].astype(np.float32))


def phase(tmp_path, network, **changes):
    """A phase of training with these arguments changed."""
    arguments = {
        "name": "head",
        "network": network,
        "optimizer": adam(0.01, mixed_precision=False),
        "train": clouds(200, 0),
        "validation": clouds(60, 1),
        "class_weights": np.ones(CLASSES),
        "batch_size": 32,
        "history": History(),
        "checkpoints": None,
        "tensorboard": str(tmp_path / "tensorboard"),
    }
    return Phase(**(arguments | changes))
