"""What a model runs on, and with which arithmetic."""

from __future__ import annotations

import os
from dataclasses import dataclass

from pipeline.errors import DeviceError

PRECISIONS = ("float32", "float16", "bfloat16")


@dataclass(frozen=True)
class Execution:
    """How a model is to be run.

    Attributes:
      precision: of the network's arithmetic, one of ``PRECISIONS``; what needs more keeps float32.
        ``float16`` is for GPUs, ``bfloat16`` for CPUs with instructions for it (AVX512-BF16, AMX).
      xla: compile the model with XLA, for GPUs; on a CPU it makes MobileNetV2 ten times slower.
      require_gpu: refuse to run on a CPU.
    """

    precision: str = "float32"
    xla: bool = False
    require_gpu: bool = False


DEFAULT_EXECUTION = Execution()


def check(execution: Execution) -> None:
    """See that the device that is asked for is here.

    Raises:
      DeviceError: a GPU is needed, and there is none.
    """
    for needs, flag in (
        (execution.require_gpu, "--require_gpu"),
        (execution.precision == "float16", "--precision float16"),
    ):
        if needs and not has_gpu():
            raise DeviceError(
                f"{flag}: TensorFlow sees no GPU here; check the driver with nvidia-smi, and that "
                "TensorFlow was installed with its CUDA libraries: pip install tensorflow[and-cuda]"
            )


def set_precision(precision: str) -> None:
    """Have TensorFlow use it in the models that this thread runs from now on.

    TensorFlow keeps one setting for the process, but each thread what it has made of it.
    """
    from pipeline.models.tensorflow_import import tf  # takes seconds to import

    tf.config.optimizer.set_experimental_options(
        {
            "auto_mixed_precision": precision == "float16",
            "auto_mixed_precision_onednn_bfloat16": precision == "bfloat16",
        }
    )


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def has_gpu() -> bool:
    """Whether TensorFlow sees a GPU."""
    from pipeline.models.tensorflow_import import tf

    return bool(tf.config.list_physical_devices("GPU"))


def padded_size(images: int, largest: int) -> int:
    """How many images a batch is filled up to where each new size costs a compilation or tuning.

    The next power of two, or the largest batch so far if that is less: however many images bundles
    leave over, there are few sizes.
    """
    return max(images, min(1 << (images - 1).bit_length(), largest))
