"""Reads what runs have noted about themselves, and compares it with a command."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

from pipeline import storage
from pipeline.config.flags import Rows, flags_of
from pipeline.config.label_options import LabelConfig
from pipeline.errors import OutputError
from pipeline.formats.registry import fastest
from pipeline.inputs.find import as_utf8
from pipeline.inputs.kinds import Input
from pipeline.models.spec import ModelSpec
from pipeline.outputs import layout
from pipeline.records import TIME
from pipeline.redaction import name_of

# What stays the same in the summary of a finished run, if the same command finds nothing new.
MEASURES = (
    "finished_at",
    "seconds",
    "images_per_second",
    "stage_seconds_per_image",
    "bottleneck",
)

_IF_THERE = ("startup_seconds", "cost_per_million_images", "evaluation")

# What an evaluation lacks where the rows do not have the scores of all classes any more.
_OF_ALL_SCORES = ("mean_average_precision", "average_precision", "averaged", "cut")

# Flags that add something to the results of a run, which would be gone without them.
_ADDING = (
    "truth",
    "truth_column",
    "carry",
    "threshold",
    "target_precision",
    "corrections",
    "copy_to",
    "output_table",
    "gzip",
)


# Settings with which the same images get other rows.
MAKE_OTHER_ROWS = [
    *(flag.name for flag in flags_of(LabelConfig) if flag.rows is Rows.OTHER_VALUES),
    "threshold",
]

_DEFAULTS = {flag.name: flag.default for flag in flags_of(LabelConfig)}


def settings(config: LabelConfig, inputs: Sequence[Input], spec: ModelSpec) -> dict[str, Any]:
    """Collect the flags that change rows; for some, their meaning counts, not their spelling."""
    found: dict[str, Any] = {
        "input": sorted(name_of(as_utf8(source.uri)) for source in inputs),
        "exclude": sorted(config.exclude),
        "model": spec.fingerprint,
        "labels_file": f"sha256:{hashlib.sha256(json.dumps(spec.labels).encode()).hexdigest()}",
        "signature": spec.signature,
        "resample": spec.resample,
        "scale": spec.scale,
        "model_output": spec.output,
        "channels_first": spec.channels_first,
        "returns": spec.returns,
        "temperature": spec.temperature,
    }
    if any(source.kind.has_columns for source in inputs):
        found["uri_column"] = config.uri_column
    if spec.is_multi_label:  # then no row has what is below
        found["threshold"] = config.threshold
    for flag in flags_of(type(config)):
        if flag.rows is not Rows.SAME and flag.name not in found:
            value = getattr(config, flag.name)
            found[flag.name] = list(value) if isinstance(value, tuple) else value  # as in JSON
    return found


def read_all(output: str, name: str) -> dict[str, dict[str, Any] | None]:
    """Read the notes of this name that the runs under an output left, by folder."""
    paths = storage.find(output, f"{layout.RUN_FOLDER}*/{name}")
    with ThreadPoolExecutor(16) as pool:
        return {
            path.removesuffix(f"/{name}"): note
            for path, note in zip(paths, pool.map(read, paths), strict=True)
        }


def read(path: str) -> dict[str, Any] | None:
    """Read a run's ``run.json`` or ``summary.json``; None if it is not there, or not a note."""
    if not storage.exists(path):
        return None
    with storage.open_file(path) as file:
        content = file.read()
    try:
        note = json.loads(content)
        datetime.strptime(note["started_at"], TIME)
    except (KeyError, TypeError, ValueError):
        return None
    return note if "run_id" in note and isinstance(note.get("settings"), dict) else None


def add_job(path: str, job: Mapping[str, Any]) -> None:
    """Add the job that a run has become to its ``run.json``.

    Raises:
      StoreError: it cannot be written.
    """
    note = read(path)
    if note is not None:
        storage.write_file(path, json.dumps(note | {"job": dict(job)}, indent=2).encode())


def shards_of(summary: Mapping[str, Any]) -> list[str]:
    """Return globs of a run's rows, in one of the formats that its summary names."""
    options = summary.get("options") or {}
    written = options.get("output_format") or ["jsonl"]
    suffix = fastest(written).suffix(bool(options.get("gzip")))
    return [f"{name}-*-of-*{suffix}" for name in (layout.LABELS, layout.FAILURES)]


def end_of(summary: Mapping[str, Any]) -> str:
    """Return when a run ended, as ``TIME``, but not before it began, whatever the clock said."""
    return str(max(summary["started_at"], summary.get("finished_at", "")))


# What the versions did that had no such setting; of others, what is done now.
_BEFORE = {"scale": "unit", "temperature": 1.0}


def changed(
    before: Mapping[str, Any], now: Mapping[str, Any], keys: Iterable[str] | None = None
) -> str | None:
    """List the settings that have changed, in words."""
    found = []
    for key in now if keys is None else [key for key in keys if key in now]:
        # A run of a version that had no such setting was made as that version did it.
        old, new = before.get(key, _BEFORE.get(key, now[key])), now[key]
        if old != new:
            short = all(isinstance(value, (int, float, str, type(None))) for value in (old, new))
            hashed = str(new).startswith("sha256:")
            found.append(
                f"{key} was {old}, is {new}" if short and not hashed else f"{key} has changed"
            )
    return ", ".join(found) or None


def finished(note: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what a finished run has, from its summary or from a later attempt's note.

    None if the run has not been finished so far.
    """
    if note.get("finished"):
        return dict(note["finished"])
    options = note.get("options")
    if not isinstance(options, dict) or not all(name in note for name in MEASURES):
        return None
    kept = (*_ADDING, "output_format", "price_per_hour")
    return {
        **{name: note[name] for name in (*MEASURES, *_IF_THERE) if name in note},
        "options": {name: options[name] for name in kept if name in options},
    }


def keeping(
    config: LabelConfig, given: LabelConfig, before: Mapping[str, Any], output: str
) -> LabelConfig:
    """Make a command keep what a finished run has: its formats of rows, and its price.

    Args:
      config: the command line, with the threshold that fits the model.
      given: the command line as it was given.
      before: what ``finished`` returned.
      output: the folder.

    Raises:
      OutputError: the command would take away something else, as it lacks a flag.
    """
    options = before["options"]
    for name in _ADDING:
        had, has = options.get(name), getattr(given, name)
        words = "" if had is True else f" ({had})"
        default = _DEFAULTS[name]
        is_lost = bool(had) and had != default and has == default
        if name == "truth_column":
            is_lost = is_lost and given.truth is not None and options.get("truth") == given.truth
        if name == "threshold":
            is_lost = is_lost and had != config.threshold
        elif isinstance(had, list):
            lost = [one for one in had if one not in has]
            is_lost, words = bool(lost), f" ({','.join(lost)})"
        if is_lost:
            raise OutputError(
                f"the results in {output} were made with it{words}, and would lose what it gave",
                subject=name,
                remedy=f"give {{{name}}} again, or {{if_exists}}=overwrite to begin anew",
            )
        if name == "gzip" and has and not had:
            raise OutputError(
                f"the rows in {output} are not compressed, and would be replaced",
                subject=name,
                remedy="leave {gzip} out, or give {if_exists}=overwrite to begin anew",
            )
    formats = dict.fromkeys([*options.get("output_format", ()), *config.output_format])
    price = options.get("price_per_hour") if config.price_per_hour is None else None
    return dataclasses.replace(
        config,
        output_format=tuple(formats),
        price_per_hour=config.price_per_hour if price is None else price,
    )


def known_before(evaluation: dict[str, Any], before: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a finished run's evaluation in place of one that only lacks some of the scores.

    The rows of images that have several labels keep only the scores of these.

    Args:
      evaluation: of the rows as they are now.
      before: what ``finished`` returned.
    """
    known = (before or {}).get("evaluation")
    return known if known and _rest(known) == _rest(evaluation) else evaluation


def _rest(evaluation: Any) -> Any:
    if isinstance(evaluation, Mapping):
        found = evaluation.items()
        return {name: _rest(value) for name, value in found if name not in _OF_ALL_SCORES}
    return (
        [_rest(one) for one in evaluation] if isinstance(evaluation, (list, tuple)) else evaluation
    )
