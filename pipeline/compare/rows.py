"""Defines what a comparison keeps of a row, and tells what kind of model wrote it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pipeline.models import trained_on

# Probabilities that are rounded to six digits may add up to a little more than 1.
_MOST_SUM = 1.001


class Row(NamedTuple):
    """What a comparison needs of a row.

    ``label``: None below the threshold, or if the image failed. ``score``: of the best class, in
    [0, 1]. ``predicted``: the names of the predictions, best first. ``truth``: as in the row.
    ``width``, ``height``: of the image, in pixels. ``version``: of its file. ``trained_on``:
    whether the model was trained on it. ``reason`` and ``message``: of a failure; else ``reason``
    is None.
    """

    label: str | None = None
    score: float = 0.0
    predicted: Sequence[str] = ()
    truth: str | None = None
    width: int = 0
    height: int = 0
    version: str = ""
    trained_on: bool = False
    reason: str | None = None
    message: str = ""


def row_of(row: Mapping[str, Any]) -> Row:
    """Take from a row, as JSON has it, what a comparison needs.

    Raises:
      KeyError or TypeError: it is not a row of a label run.
    """
    if "reason" in row:
        return Row(
            version=row.get("version") or "",
            reason=row["reason"],
            message=row["message"],
        )
    return Row(
        label=row["label"],
        score=row["score"],
        predicted=[one["label"] for one in row["predictions"]],
        truth=row.get("truth"),
        width=row["width"],
        height=row["height"],
        version=row.get("version") or "",
        trained_on=trained_on.said_in(row),
    )


class SeveralLabels:
    """Finds out from rows alone whether their model gives an image several labels.

    With one label, a run writes the same number of predictions in each row, at least one, and their
    probabilities add up to 1 at most.
    """

    def __init__(self) -> None:
        self.found = False
        self._predictions: dict[Any, int] = {}

    def see(self, row: Mapping[str, Any]) -> None:
        """Take one more row into account, as JSON has it."""
        if self.found or "reason" in row:
            return
        predictions = row["predictions"]
        count = len(predictions)
        self.found = (
            not count
            or self._predictions.setdefault(row.get("run_id"), count) != count
            or sum(one["score"] for one in predictions) > _MOST_SUM
        )
