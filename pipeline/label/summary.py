"""Makes the content of ``summary.json``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from pipeline.config.job_options import written
from pipeline.inputs.passed_over import PassedOverTally
from pipeline.label import notes
from pipeline.label.costs import bottleneck, per_million
from pipeline.label.runs import Run
from pipeline.records import TIME
from pipeline.redaction import name_of
from pipeline.runners.identity import versions
from pipeline.runners.options import runs_in_one_process
from pipeline.tally import Tally, reconcile


def is_quiet(summary: Mapping[str, Any]) -> bool:
    """Tell whether a run among others found nothing to do."""
    return bool(summary["skipped"]) and not summary["labeled"] + summary["failed"]


def summarize(
    run: Run,
    started: datetime,
    built: datetime,
    passed_over: PassedOverTally,
    merged: int,
    gone: int,
    told_apart: int,
    found: Tally,
    skipped: Tally,
    labeled: Tally,
    failed: Tally,
    labeled_before: Tally,
    failed_before: Tally,
    new: Tally | None = None,
    taken: Tally | None = None,
) -> dict[str, Any]:
    """Make the content of ``summary.json``; times are in seconds.

    Times and rate are those of this attempt, or of an earlier one if the run was finished before
    and this attempt labeled nothing. The times of the stages are averages over the images that it
    labeled: reading and predicting in wall time, decoding in CPU time.

    Args:
      run: the run.
      started: start of this attempt, UTC.
      built: when its pipeline was about to begin, UTC.
      passed_over: what the inputs list and this job does not take for images.
      merged: how often images were listed once more.
      gone: how many images of earlier attempts are no longer listed.
      told_apart: number of images that only the credentials in their URIs tell apart.
      found: tally of the images that the inputs list.
      skipped: tally of the images that earlier runs have labeled.
      labeled: tally of the images that this attempt labeled.
      failed: tally of the images that failed in this attempt.
      labeled_before: tally of the images that earlier attempts of this run labeled.
      failed_before: tally of the images that failed in earlier attempts of this run.
      new: tally of the images that were to do, if only some of them are ``taken``.
      taken: see ``new``.

    Raises:
      ReconciliationError: what went in did not come out.
    """
    taken_over = labeled_before.images + failed_before.images
    all_labeled = Tally().merge(labeled_before).merge(labeled)
    all_failed = Tally().merge(failed_before).merge(failed)
    left_out = new.without(taken) if new is not None and taken is not None else None
    if left_out is not None:
        found = found.without(left_out)
    reconcile(found, all_labeled, all_failed, skipped)
    return {
        "run_id": run.run_id,
        "found": found.images,
        "merged": merged,
        "no_longer_found": gone,
        "told_apart": told_apart,
        **passed_over.to_json(),
        "labeled": all_labeled.images,
        "failed": all_failed.images,
        "skipped": skipped.images,
        **({} if left_out is None else {"left_out": left_out.images}),
        "taken_over": taken_over,
        "below_threshold": all_labeled.below_threshold,
        **(
            {}
            if run.corrections is None
            else {"labeled_by_person": all_labeled.by_person, "corrected": all_labeled.changed}
        ),
        "failure_reasons": _by_count(all_failed.reasons),
        "failure_examples": {
            reason: {"image": image, "message": message}
            for reason, (image, message) in sorted(all_failed.examples.items())
        },
        "labels": _by_count(all_labeled.labels),
        "started_at": f"{run.started:{TIME}}",
        **_measures(run, started, built, labeled, failed),
        "model": {
            "handle": name_of(run.spec.handle),
            "fingerprint": run.spec.fingerprint,
            "height": run.spec.height,
            "width": run.spec.width,
            "classes": len(run.spec.labels),
            "takes": run.spec.scale_words,
            "returns": run.spec.returns,
            **({"multi_label": True} if run.spec.is_multi_label else {}),
        },
        "settings": run.settings,
        "options": written(run.config),
        "versions": versions(),
    }


def _measures(
    run: Run, started: datetime, built: datetime, labeled: Tally, failed: Tally
) -> dict[str, Any]:
    price = run.config.price_per_hour
    if run.finished is not None and not labeled.images:
        kept = {name: run.finished[name] for name in notes.MEASURES}
        kept["startup_seconds"] = run.finished.get("startup_seconds")
        cost = run.finished.get("cost_per_million_images")
        if price != run.finished["options"].get("price_per_hour"):
            rate = kept["images_per_second"]
            cost = per_million(1, rate, price) if rate else None
        return {**kept, "price_per_hour": price, "cost_per_million_images": cost}
    finished = datetime.now(timezone.utc)
    seconds = (finished - started).total_seconds()
    images = labeled.images + failed.images
    return {
        "finished_at": f"{finished:{TIME}}",
        "seconds": round(seconds, 3),
        "startup_seconds": round((built - started).total_seconds(), 3),
        "images_per_second": round(images / seconds, 2),
        "stage_seconds_per_image": {
            stage: round(total / max(labeled.timed, 1), 6)
            for stage, total in labeled.seconds._asdict().items()
        },
        "bottleneck": (
            bottleneck(seconds, images, labeled.images, labeled.seconds)
            if images and runs_in_one_process(run.config.beam_args)
            else None
        ),
        "price_per_hour": price,
        "cost_per_million_images": per_million(seconds, images, price),
    }


def _by_count(counts: Counter[str]) -> dict[str, int]:
    """Sort by count, the highest first; equal ones are in alphabetical order."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
