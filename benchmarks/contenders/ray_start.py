"""Starts Ray on two cores, with nothing that would disturb the measurement."""

from __future__ import annotations

import os

# Read when Ray is imported.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_DATA_DISABLE_PROGRESS_BARS"] = "1"

import ray

__all__ = ["ray", "start"]


def start() -> None:
    """Start Ray in and below this process."""
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="error",
        object_store_memory=10**9,
    )
