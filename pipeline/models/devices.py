"""What a model runs on, and with which arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.errors import DeviceError

PRECISIONS = ("float32", "float16", "bfloat16")


@dataclass(frozen=True)
class Execution:
    """On which device a model runs, and with which arithmetic.

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


def require_device(execution: Execution) -> None:
    """Refuse to go on if the device that is asked for is not here.

    Raises:
      DeviceError: a GPU is needed, and there is none.
    """
    for needs, argument, value in (
        (execution.require_gpu, "require_gpu", None),
        (execution.precision == "float16", "precision", execution.precision),
    ):
        if needs and not has_gpu():
            raise DeviceError(
                "TensorFlow sees no GPU here",
                subject=argument,
                given=value,
                remedy="check the driver with nvidia-smi, and that TensorFlow was installed with "
                "its CUDA libraries: pip install tensorflow[and-cuda]",
            )


def set_precision(precision: str) -> None:
    """Set the precision of the models that this thread runs from now on.

    Args:
      precision: one of ``PRECISIONS``.

    TensorFlow keeps one setting for the process, but each thread what it has made of it.
    """
    from pipeline.models.tensorflow_import import tf  # takes seconds to import

    tf.config.optimizer.set_experimental_options(
        {
            "auto_mixed_precision": precision == "float16",
            "auto_mixed_precision_onednn_bfloat16": precision == "bfloat16",
        }
    )


def has_gpu() -> bool:
    """Tell whether TensorFlow sees a GPU."""
    from pipeline.models.tensorflow_import import tf

    return bool(tf.config.list_physical_devices("GPU"))


def padded_size(images: int, largest: int) -> int:
    """Choose how many images to fill a batch up to where each new size costs a compilation.

    It is the next power of two, or the largest batch so far if that is less: however many images
    bundles leave over, there are few sizes.

    Args:
      images: in the batch.
      largest: images in the largest batch so far.
    """
    return max(images, min(1 << (images - 1).bit_length(), largest))
