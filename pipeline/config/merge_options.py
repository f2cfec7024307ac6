"""The arguments of ``merge``."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.config import values
from pipeline.config.flags import Group, Rows, flag
from pipeline.config.job_options import gzip_flag, output_format_flag
from pipeline.config.report_options import ReportConfig


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
    output_format: tuple[str, ...] = output_format_flag()
    gzip: bool = gzip_flag()
