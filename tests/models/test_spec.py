import subprocess
import sys
from pathlib import Path

import pytest

import pipeline


@pytest.mark.parametrize(
    ("module", "without"),
    [
        ("pipeline.models.spec", {"tensorflow", "apache_beam", "numpy"}),
        ("pipeline.transforms", {"tensorflow"}),  # to wire a pipeline takes no model
        ("pipeline.label.runs", {"tensorflow"}),
    ],
)
def test_what_needs_only_specs_does_not_import_tensorflow(module, without):
    code = f"import sys, {module}; print(*{without} & sys.modules.keys())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(pipeline.__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "\n"
