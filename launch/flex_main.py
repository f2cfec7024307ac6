"""Runs the label command with the flex template's parameters, in the template's launcher.

A parameter that is true becomes a switch; one that is false or empty is left out.
"""

import os
import sys

from pipeline.__main__ import console
from pipeline.config.commands import label_arguments


def arguments(parameters: list[str], image: str) -> list[str]:
    """Make the arguments of the label command.

    Args:
      parameters: the template's, and those of Beam that its launcher adds.
      image: the container image that this runs in, and that the workers get.
    """
    return [
        "label",
        *label_arguments(parameters),
        f"--sdk_container_image={image}",
        "--sdk_location=container",
        # For the image, the model, and images decoded ahead; gcloud has no flag for it.
        "--disk_size_gb=50",
        # Bundles at a time: one predicts while others wait for images.
        "--number_of_worker_harness_threads=4",
    ]


if __name__ == "__main__":
    sys.argv[1:] = arguments(sys.argv[1:], os.environ["IMAGE"])
    console()
