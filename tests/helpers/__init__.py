"""What tests of several rooms share: models, images, servers, stores, and runs of the jobs."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
