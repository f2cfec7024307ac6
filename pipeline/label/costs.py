"""Computes what an image costs, in time by stage and in money."""

from __future__ import annotations

from pipeline.images.loading import READ_THREADS, cores
from pipeline.records import StageSeconds

_WORDS = {"read": "reading", "decode": "decoding", "predict": "predicting"}


def bottleneck(seconds: float, found: int, labeled: int, spent: StageSeconds) -> str:
    """Say what a run in one process waited for.

    A stage delays an image by the time that it takes, divided by the number of images that it
    handles at a time: ``READ_THREADS`` for reading, one per core for decoding, one batch for
    predicting. The stages overlap; on a CPU, decoding and predicting share the cores.

    Args:
      seconds: wall time of the run.
      found: number of images, labeled and failed.
      labeled: number of images labeled.
      spent: sums of their stages' seconds over the labeled images.
    """
    at_a_time = StageSeconds(read=READ_THREADS, decode=cores(), predict=1)
    milliseconds = {
        stage: total / at_a_time._asdict()[stage] / max(labeled, 1) * 1000
        for stage, total in spent._asdict().items()
    }
    run = seconds / max(found, 1) * 1000
    first, second, third = sorted(milliseconds, key=milliseconds.__getitem__, reverse=True)
    shares = (
        f"{_WORDS[second]} {milliseconds[second]:.1f}, {_WORDS[third]} {milliseconds[third]:.1f}"
    )
    if milliseconds[first] < run / 2:
        return (
            f"start-up, and what is between the stages: of {run:.1f} ms per image, "
            f"{_WORDS[first]} took {milliseconds[first]:.1f}, {shares}"
        )
    return f"{_WORDS[first]}: {milliseconds[first]:.1f} of {run:.1f} ms per image; {shares}"


def per_million(seconds: float, images: float, price_per_hour: float | None) -> float | None:
    """Compute the price of a million images at a run's rate; None without a price.

    Args:
      seconds: wall time of the run.
      images: number of images that it labeled or failed.
      price_per_hour: price of all machines it ran on, in any currency.
    """
    if price_per_hour is None or not images:
        return None
    return round(seconds / images / 3600 * price_per_hour * 1_000_000, 4)
