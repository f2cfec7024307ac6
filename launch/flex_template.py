"""Prints the metadata of the flex template: a parameter for each flag of the label command.

python launch/flex_template.py > launch/flex_template.json
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # this checkout's flags, not an installed one's

from pipeline.config.commands import LABEL

DESCRIPTION = """\
Labels images with a TensorFlow Hub classifier or another SavedModel; every image comes out once, \
labeled or failed with a reason."""


def metadata() -> dict:
    """Make the content of ``flex_template.json``."""
    return {
        "name": "Image labeling",
        "description": DESCRIPTION,
        "parameters": [
            {
                "name": flag.name,
                "label": flag.name.replace("_", " ").capitalize(),
                "helpText": flag.explanation,
                "isOptional": True,  # since --config may have any of them
                "paramType": "TEXT",
                **({"regexes": ["^(true|false)?$"]} if flag.is_switch else {}),
            }
            for flag in LABEL.flags
        ],
    }


if __name__ == "__main__":
    print(json.dumps(metadata(), indent=2))
