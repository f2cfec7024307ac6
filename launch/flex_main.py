"""What the launcher of the flex template runs: the label command with the template's parameters.

A parameter that is true or false becomes a flag or none; an empty one is none.
"""

import sys

from pipeline.__main__ import console
from pipeline.options import label_arguments

if __name__ == "__main__":
    sys.argv[1:] = ["label", *label_arguments(sys.argv[1:])]
    console()
