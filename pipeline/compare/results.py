"""Sums up a comparison: for ``compare.json``, for the console, and for a scheduler."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from pipeline.compare.counts import OTHER, Comparison, Side
from pipeline.compare.sources import Source
from pipeline.errors import UsageError
from pipeline.evaluation import jensen_shannon_distance, share_of, wilson_interval
from pipeline.label import notes
from pipeline.redaction import name_of

# Pairs of labels, and labels, that are listed.
_MOST_LISTED = 100


class Gate(NamedTuple):
    """A limit. ``name``: of its argument. ``value``: what must not be above ``limit``."""

    name: str
    limit: float
    value: float

    @property
    def passed(self) -> bool:
        """Whether the value is not above the limit."""
        return self.value <= self.limit


def gates(counts: Comparison, max_changed: float | None, max_drop: float | None) -> list[Gate]:
    """Hold a comparison against limits.

    Args:
      counts: of all images.
      max_changed: the largest share in [0, 1] of the images that the first run labeled which may
        have another label in the second, or may have failed there; None for no limit.
      max_drop: by how much in [0, 1] the accuracy may fall at most; None for no limit.

    Raises:
      UsageError: what has a limit cannot be measured.
    """
    found = []
    if max_changed is not None:
        came = counts.came.total()
        share = share_of(counts.changed + came, counts.compared + came)
        if share is None:
            raise UsageError(
                "RUN_A has not labeled any of the images that both runs have",
                subject="max_changed",
                given=max_changed,
            )
        found.append(Gate("max_changed", max_changed, share))
    if max_drop is not None:
        truth = counts.truth
        if not truth.images:
            raise UsageError(
                "the truth of no image is known that counts, so the accuracy is not",
                subject="max_drop",
                given=max_drop,
                remedy="label at least one of the runs with {truth}",
            )
        found.append(Gate("max_drop", max_drop, (truth.a - truth.b) / truth.images))
    return found


def summarize(counts: Comparison, a: Source, b: Source, limits: list[Gate]) -> dict[str, Any]:
    """Make the content of ``compare.json``.

    Args:
      counts: of all images.
      a: the first run.
      b: the second run.
      limits: what ``gates`` returned.
    """
    same = counts.compared - counts.changed
    measure = "Jensen-Shannon distance"
    return {
        "a": _run(a, counts.a),
        "b": _run(b, counts.b),
        "settings_changed": _settings_changed(a, b),
        "multi_label": counts.multi_label,
        "images_in_both": counts.both,
        "other_versions": counts.other_versions,
        "labeled_in_both": counts.compared,
        "changed": counts.changed,
        "label_lost": counts.lost,
        "label_gained": counts.gained,
        "agreement": share_of(same, counts.compared),
        "agreement_interval": (
            list(wilson_interval(same, counts.compared)) if counts.compared else None
        ),
        "changes": [
            {"a": before or None, "b": after or None, "images": images}
            for (before, after), images in _most(counts.pairs)
        ],
        **(
            {"removed": dict(_most(counts.removed)), "added": dict(_most(counts.added))}
            if counts.multi_label
            else {}
        ),
        "score": {
            "mean_a": share_of_sum(counts.a.score_sum, counts.compared),
            "mean_b": share_of_sum(counts.b.score_sum, counts.compared),
            "mean_difference_of_unchanged": share_of_sum(counts.difference_sum, same),
            "largest_difference_of_unchanged": counts.largest_difference if same else None,
        },
        "drift": {
            "measure": measure,
            "labels": distance(counts.a.labels, counts.b.labels),
            "scores": distance(counts.a.scores, counts.b.scores),
        },
        "failures": {
            "both": counts.failed_in_both,
            "came": counts.came.total(),
            "went": counts.went.total(),
            "came_reasons": dict(_most(counts.came)),
            "went_reasons": dict(_most(counts.went)),
        },
        "truth": counts.truth.to_json(),
        "gates": [{**gate._asdict(), "passed": gate.passed} for gate in limits],
    }


def _run(source: Source, side: Side) -> dict[str, Any]:
    summary = source.summary
    model = (summary or {}).get("model") or {}
    return {
        "folder": name_of(source.folder),
        "runs": len(source.runs),
        "run_id": (summary or {}).get("run_id"),
        "started_at": (summary or {}).get("started_at"),
        "model": model.get("handle"),
        "model_fingerprint": model.get("fingerprint"),
        "images": side.images,
        "labeled": side.labeled,
        "failed": side.images - side.labeled,
        "only_here": side.only,
        "only_here_examples": side.examples.items(),
    }


def _settings_changed(a: Source, b: Source) -> str | None:
    before, now = ((source.summary or {}).get("settings") for source in (a, b))
    if not isinstance(before, Mapping) or not isinstance(now, Mapping):
        return None
    return notes.changed(before, now)


def _most(counts: Counter[Any]) -> list[tuple[Any, int]]:
    rest = (OTHER, (OTHER, OTHER))  # no label of its own, so it comes last
    ordered = sorted(counts.items(), key=lambda item: (item[0] in rest, -item[1], str(item[0])))
    return ordered[:_MOST_LISTED]


def share_of_sum(total: float, images: int) -> float | None:
    """Return a mean; None of no images."""
    return total / images if images else None


def distance(before: Counter[Any], after: Counter[Any]) -> float | None:
    """Return how far two mixes are from each other, in [0, 1]; None if one has no images.

    See ``jensen_shannon_distance``.
    """
    names = list({**before, **after})
    counts = np.array([[mix[name] for name in names] for mix in (before, after)], np.int64)
    return jensen_shannon_distance(*counts) if counts.sum(1).all() else None


def in_words(result: Mapping[str, Any]) -> str:
    """Sum up a comparison in one line for the console.

    Args:
      result: the content of ``compare.json``.
    """
    compared = result["labeled_in_both"]
    parts = [f"{result['changed']:,} of {compared:,} images changed their label"]
    if compared:
        low, high = result["agreement_interval"]
        parts.append(f"agreement {result['agreement']:.3f} (95 % interval {low:.3f} to {high:.3f})")
    truth = result["truth"]
    if truth is not None:
        parts.append(
            f"accuracy {truth['accuracy_a']:.3f} → {truth['accuracy_b']:.3f} on "
            f"{truth['images']:,} images (McNemar's mid-p {truth['p']:.2g})"
        )
    drift = result["drift"]
    if compared:
        parts.append(
            f"drift of labels {drift['labels']:.3f}, of scores {drift['scores']:.3f} "
            f"({drift['measure']})"
        )
    failures = result["failures"]
    parts.append(f"{failures['came']:,} failures came, {failures['went']:,} went")
    if result["other_versions"]:
        parts.append(f"the files of {result['other_versions']:,} images have changed in between")
    only = [result[side]["only_here"] for side in ("a", "b")]
    if any(only):
        parts.append(f"{only[0]:,} images only in RUN_A, {only[1]:,} only in RUN_B")
    return "; ".join(parts)


def failed_gates(result: Mapping[str, Any]) -> list[str]:
    """Say in a line each which limits are exceeded, beginning with the argument's name."""
    words = {
        "max_changed": (
            "{:.4f} of the images that RUN_A labeled have another label in RUN_B, or failed there"
        ),
        "max_drop": "the accuracy has fallen by {:.4f}",
    }
    return [
        f"{gate['name']} {gate['limit']:g} is exceeded: {words[gate['name']].format(gate['value'])}"
        for gate in result["gates"]
        if not gate["passed"]
    ]
