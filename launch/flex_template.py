"""Prints the metadata of the flex template: a parameter for each flag of the label command.

python launch/flex_template.py > launch/flex_template.json
"""

import json

from pipeline.config.options import label_flags

DESCRIPTION = """\
Labels images with a TensorFlow Hub classifier or another SavedModel; every image comes out once, \
labeled or failed with a reason."""


def metadata() -> dict:
    """The content of ``flex_template.json``."""
    return {
        "name": "Image labeling",
        "description": DESCRIPTION,
        "parameters": [
            {
                "name": flag.name,
                "label": flag.name.replace("_", " ").capitalize(),
                "helpText": flag.help,
                "isOptional": True,  # as --config may have any of them
                "paramType": "TEXT",
                **({"regexes": ["^(true|false)?$"]} if flag.is_switch else {}),
            }
            for flag in label_flags()
        ],
    }


if __name__ == "__main__":
    print(json.dumps(metadata(), indent=2))
