"""The arguments of ``compare``."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.config import values
from pipeline.config.client_flags import ClientConfig
from pipeline.config.flags import Group, Rows, flag


@dataclass(frozen=True, kw_only=True)
class CompareConfig(ClientConfig):
    """The arguments of ``compare``."""

    run_a: str = flag(
        type=values.not_empty,
        metavar="RUN_A",
        group=Group.ARGUMENTS,
        rows=Rows.SAME,
        help="folder of a run, of all nights, or of a merged table; or its bucket path",
    )
    run_b: str = flag(
        type=values.not_empty,
        metavar="RUN_B",
        group=Group.ARGUMENTS,
        rows=Rows.SAME,
        help="the same of what shall take the place of RUN_A",
    )
    output: str | None = flag(
        None,
        type=values.utf8,
        metavar="DIR",
        group=Group.FILES,
        rows=Rows.SAME,
        help="folder or bucket path for compare.html, compare.json and compare.csv",
        unset="RUN_B",
    )
    max_changed: float | None = flag(
        None,
        type=values.ratio,
        metavar="R",
        group=Group.GATES,
        rows=Rows.SAME,
        help="exit with 1 if more than this share of the images that RUN_A labeled have another "
        "label in RUN_B, or failed there",
    )
    max_drop: float | None = flag(
        None,
        type=values.ratio,
        metavar="A",
        group=Group.GATES,
        rows=Rows.SAME,
        help="exit with 1 if the accuracy of RUN_B is lower by more than this, such as 0.01; the "
        "drop is that seen on the images of known truth, without an allowance for chance",
    )
