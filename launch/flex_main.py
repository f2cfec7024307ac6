"""Runs the label command with the flex template's parameters, in the template's launcher.

A parameter that is true becomes a switch; one that is false or empty is left out.
"""

import os
import sys
from collections.abc import Iterable, Iterator

from pipeline.__main__ import console
from pipeline.config.commands import LABEL, label_arguments
from pipeline.config.flags import check_beam_args
from pipeline.console import say
from pipeline.errors import UsageError


def known(parameters: Iterable[str]) -> Iterator[str]:
    """Leave out, with a warning, what neither label nor Beam knows.

    Dataflow checks the template's parameters itself, so it is the launcher that passes these on.

    Args:
      parameters: of the form ``--name=value``.
    """
    names = {f"--{name}" for flag in LABEL.flags for name in (flag.name, flag.old_name) if name}
    for parameter in parameters:
        name = parameter.partition("=")[0]
        try:
            if name not in names:
                check_beam_args([parameter], LABEL.parser)
        except UsageError:
            say(f"warning: {name} of the template's launcher is left out, as Beam does not know it")
            continue
        yield parameter


def arguments(parameters: list[str], image: str) -> list[str]:
    """Make the arguments of the label command.

    Args:
      parameters: the template's, and those of Beam that its launcher adds.
      image: the container image that this runs in, and that the workers get.
    """
    return [
        "label",
        *label_arguments(known(parameters)),
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
