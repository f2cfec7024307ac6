"""What the launcher of the flex template runs: the label command with the template's parameters.

A parameter that is true or false becomes a flag or none; an empty one is none.
"""

import os
import sys

from pipeline.__main__ import console
from pipeline.config.commands import label_arguments


def arguments(parameters: list[str], image: str) -> list[str]:
    """What the label command is given.

    Args:
      parameters: of the template, and what its launcher adds of Beam's.
      image: the one that this is in; the workers' is the same.
    """
    return [
        "label",
        *label_arguments(parameters),
        f"--sdk_container_image={image}",
        "--sdk_location=container",
        # The image, the model, and what is decoded ahead; gcloud has no flag for it.
        "--disk_size_gb=50",
        # Bundles at a time: one predicts while others wait for images.
        "--number_of_worker_harness_threads=4",
    ]


if __name__ == "__main__":
    sys.argv[1:] = arguments(sys.argv[1:], os.environ["IMAGE"])
    console()
