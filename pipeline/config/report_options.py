"""The arguments of ``report``."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.config import values
from pipeline.config.client_flags import ClientConfig
from pipeline.config.flags import Group, Rows, flag


@dataclass(frozen=True, kw_only=True)
class ReportConfig(ClientConfig):
    """The arguments of ``report``."""

    folder: str = flag(
        type=values.not_empty,
        metavar="DIR",
        group=Group.ARGUMENTS,
        rows=Rows.SAME,
        help="a run's folder or bucket path, or the output of runs with --incremental",
    )
