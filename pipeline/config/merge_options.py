"""The arguments of ``merge``."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.config import values
from pipeline.config.flags import Group, Rows, flag
from pipeline.config.report_options import ReportConfig
from pipeline.formats.registry import FORMATS


@dataclass(frozen=True, kw_only=True)
class MergeConfig(ReportConfig):
    """The arguments of ``merge``; ``folder`` has the folders of runs, or is that of one."""

    into: str | None = flag(
        None,
        type=values.utf8,
        metavar="FOLDER",
        group=Group.FILES,
        rows=Rows.SAME,
        help="folder or bucket path for the table",
        unset="merged, in that folder",
    )
    output_format: tuple[str, ...] = flag(
        ("jsonl",),
        type=values.formats,
        metavar="FORMAT,FORMAT",
        group=Group.WRITING,
        rows=Rows.SAME,
        help=f"format of the rows: one or several of {', '.join(FORMATS)}",
    )
    gzip: bool = flag(
        False,
        group=Group.WRITING,
        rows=Rows.SAME,
        help="compress the rows (Parquet always is)",
    )
