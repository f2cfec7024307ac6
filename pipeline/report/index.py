"""Writes the page of an output that has a folder for each run: all runs, and what changes."""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from pipeline import html, storage
from pipeline.errors import OutputError, StoreError
from pipeline.evaluation import Drift, class_drift
from pipeline.html import percent, texts
from pipeline.html.figures import Tile
from pipeline.html.plots import Plot, Series, line_plot
from pipeline.outputs import layout
from pipeline.report.reading import read_summary

# Older runs are counted, but have no line of their own; it bounds the size of the page.
MOST_RUNS = 1000

_THREADS = 16


class Night(NamedTuple):
    """A run.

    ``name``: of its folder. ``summary``: the content of its ``summary.json``. ``drift``: of its
    class mix since the last run before it that labeled images; None if either has none. ``since``:
    the name of that run. ``same_model``: whether it had the same model. ``has_page``: whether its
    folder has a report.
    """

    name: str
    summary: Mapping[str, Any]
    drift: Drift | None
    since: str | None
    same_model: bool
    has_page: bool

    @property
    def link(self) -> str | None:
        """The address of its page, from the index; None without one."""
        return f"{urllib.parse.quote(self.name)}/{layout.REPORT}" if self.has_page else None

    @property
    def accuracy(self) -> float | None:
        """Share of correct labels, in [0, 1]; None if it was not measured."""
        return (self.summary.get("evaluation") or {}).get("accuracy")

    @property
    def stands_out(self) -> bool:
        """Whether chance alone hardly explains the drift; False if images have several labels."""
        has_several = self.summary["model"].get("multi_label")
        return self.drift is not None and self.drift.stands_out and not has_several


class Runs(NamedTuple):
    """The runs of an output, the latest first, and the names of the folders that cannot be read."""

    nights: list[Night]
    unreadable: list[str]


def find_runs(folder: str) -> Runs:
    """Read the summaries of all whole runs of an output.

    Args:
      folder: absolute path or URI.

    Raises:
      StoreError: the folder cannot be listed.
    """
    paths = storage.find(
        folder, *(f"{layout.RUN_FOLDER}*/{x}" for x in (layout.SUMMARY, layout.REPORT))
    )
    names = sorted(path.split("/")[-2] for path in paths if path.endswith(f"/{layout.SUMMARY}"))
    pages = {path.split("/")[-2] for path in paths if path.endswith(f"/{layout.REPORT}")}
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="summary") as pool:
        summaries = list(pool.map(lambda name: _summary(storage.join(folder, name)), names))
    whole = [(name, one) for name, one in zip(names, summaries, strict=True) if one is not None]
    unreadable = [name for name, one in zip(names, summaries, strict=True) if one is None]
    return Runs(in_order(whole, pages)[::-1], unreadable)


def in_order(runs: Sequence[tuple[str, Mapping[str, Any]]], pages: set[str]) -> list[Night]:
    """Compare each run with the last one before it that labeled images.

    Args:
      runs: names of folders and summaries, the earliest first.
      pages: the names of those that have a report.
    """
    nights = []
    before: tuple[str, Mapping[str, Any]] | None = None
    for name, summary in runs:
        drift, since, same = None, None, True
        if before is not None:
            since, earlier = before
            drift = class_drift(summary["labels"], earlier["labels"])
            same = summary["model"].get("fingerprint") == earlier["model"].get("fingerprint")
        nights.append(Night(name, summary, drift, since, same, name in pages))
        if summary["labeled"]:
            before = name, summary
    return nights


def make(folder: str, runs: Runs) -> list[str]:
    """Write the page of an output, and return lines for the console.

    Args:
      folder: absolute path or URI.
      runs: at least one can be read.
    """
    path = storage.join(folder, layout.REPORT)
    storage.write_file(path, render_index(folder, runs).encode(), mime_type="text/html")
    nights = runs.nights
    labeled, failed = (sum(n.summary[x] for n in nights) for x in ("labeled", "failed"))
    line = f"{len(nights):,} runs: {labeled:,} labeled + {failed:,} failed"
    if runs.unreadable:
        line += f"; {len(runs.unreadable):,} cannot be read, such as {runs.unreadable[0]}"
    return [line, path]


def render_index(folder: str, runs: Runs) -> str:
    """Render the page of an output as HTML.

    Args:
      folder: absolute path or URI.
      runs: at least one can be read.
    """
    nights = runs.nights[:MOST_RUNS]
    return html.render(
        Path(__file__).parent / "index.html.jinja",
        sections=[("runs", "Runs"), *([("curves", "Over time")] if len(nights) > 1 else [])],
        folder=texts.name(folder),
        nights=nights,
        left_out=len(runs.nights) - len(nights),
        unreadable=runs.unreadable,
        summed_up=_tiles(runs.nights),
        curves=_curves(nights[::-1]) if len(nights) > 1 else [],
        has_accuracy=any(night.accuracy is not None for night in nights),
    )


def _summary(folder: str) -> dict[str, Any] | None:
    try:
        return read_summary(folder)
    except (OutputError, StoreError):
        return None


def _tiles(nights: Sequence[Night]) -> list[Tile]:
    labeled, failed, skipped = (
        sum(night.summary[name] for night in nights) for name in ("labeled", "failed", "skipped")
    )
    quiet = sum(not night.summary["labeled"] + night.summary["failed"] for night in nights)
    last = next((night for night in nights if night.summary["labeled"]), None)
    drift = last and last.drift
    share = percent(failed / (labeled + failed)) if labeled + failed else ""
    return [
        Tile("Runs", f"{len(nights):,}", f"{quiet:,} of them with nothing new" if quiet else ""),
        Tile("Labeled", f"{labeled:,}", f"{skipped:,} times skipped, as labeled before"),
        Tile("Failed", f"{failed:,}", share if failed else "none", is_bad=failed > 0),
        Tile(
            "Last drift of the class mix",
            f"{drift.distance:.2f}" if drift else "–",
            _explained(last) if last and drift else "there is nothing to compare with",
            is_bad=bool(last and last.stands_out),
        ),
    ]


def _explained(night: Night) -> str:
    words = "more than chance explains" if night.stands_out else "Jensen-Shannon distance, 0 to 1"
    return words if night.same_model else f"{words}; another model"


def _curves(nights: Sequence[Night]) -> list[Plot]:
    """Plot what changes over the runs, the earliest first."""
    last = len(nights) - 1
    places = sorted({0, last // 2, last})
    ticks = [(float(n), texts.day(nights[n].summary.get("started_at"))) for n in places]

    def plot(title: str, caption: str, series: list[Series]) -> Plot:
        return line_plot(
            f"{title}, by run. The numbers are in the table above.", caption, series, x_ticks=ticks
        )

    def points(of: str) -> list[tuple[float, float | None]]:
        return [(n, night.summary[of]) for n, night in enumerate(nights)]

    drifts = [(n, night.drift and night.drift.distance) for n, night in enumerate(nights)]
    chance = [(n, night.drift and night.drift.by_chance) for n, night in enumerate(nights)]
    return [
        plot(
            "Images that were labeled and that failed",
            "Images by run",
            [
                Series("labeled", "", points("labeled"), True),
                Series("failed", "second", points("failed"), True),
            ],
        ),
        *(
            [
                plot(
                    "Drift of the class mix",
                    "Jensen-Shannon distance from the last run that labeled images",
                    [
                        Series("drift", "", drifts, True),
                        Series(
                            "what chance alone stays below, 99 times in 100", "faint", chance, True
                        ),
                    ],
                )
            ]
            if any(y is not None for _, y in drifts)
            else []
        ),
    ]
