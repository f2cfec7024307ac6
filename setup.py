"""Defines the package and its dependencies; ``requirements.txt`` is a lock made from them.

Dataflow's ``--setup_file`` takes this file as well, and installs the package on every worker.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "pipeline/__init__.py").read_text())[1]

setup(
    name="image-labeling",
    version=VERSION,
    description="Label images at scale with TensorFlow Hub classifiers, on Apache Beam",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    python_requires=">=3.10,<3.14",
    packages=find_packages(include=["pipeline", "pipeline.*"]),
    package_data={
        "pipeline": ["py.typed"],
        "pipeline.compare": ["*.jinja"],
        "pipeline.html": ["*.jinja"],
        "pipeline.models": ["*.txt"],
        "pipeline.finetune": ["*.jinja"],
        "pipeline.report": ["*.jinja"],
        "pipeline.sample": ["features/**", "images/**", "model/**"],
    },
    install_requires=[
        # On Python 3.10, tensorflow-metadata and the Bigtable client that newer Beams ask for
        # need protobufs that exclude each other.
        'apache-beam[gcp,aws]>=2.77,<2.78; python_version >= "3.11"',
        'apache-beam[gcp,aws]>=2.75,<2.77; python_version < "3.11"',
        # It has no wheels for ARM on Linux; Pillow is used there.
        'cykooz-resizer>=4,<5; platform_machine != "aarch64"',
        "google-cloud-bigquery>=3.30,<4",
        # Its versions are dates; the last one for Python 3.10 is from 2025.
        "imagecodecs>=2025.3.30",
        "jinja2>=3.1,<4",
        "numpy>=2.1,<2.5",
        "pi-heif>=1.4,<2",
        "pillow>=12.1.1,<13",
        "pyarrow>=18,<26",
        "pyyaml>=6,<7",
        "requests>=2.32,<3",
        "rich>=14,<16",
        "setuptools<82",  # tensorflow-hub imports its pkg_resources
        "simplejpeg>=1.9,<2",
        "tensorboard>=2.20,<2.22",
        "tensorflow>=2.21,<2.22",
        "tensorflow-hub>=0.16.1,<0.17",
        "tf-keras>=2.21,<2.22",
        "tenacity>=9,<10",
        "tfx-bsl>=1.21,<1.22",
        "urllib3>=2.3,<3",
    ],
    entry_points={"console_scripts": ["image-labeling = pipeline.__main__:console"]},
)
