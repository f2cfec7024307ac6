"""The flags that all jobs on images have."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pipeline.config import values
from pipeline.config.client_flags import ClientConfig
from pipeline.config.flags import BEAM_ARGS, Group, Rows, flag, flags_of
from pipeline.errors import UsageError
from pipeline.formats.registry import FORMATS
from pipeline.inputs.globs import ALWAYS_EXCLUDED
from pipeline.limits import DEFAULT_LIMITS, Limits
from pipeline.models.scaling import SCALES
from pipeline.models.spec import Stated
from pipeline.redaction import Naming, in_lists, redact_all, without_secret_flags

RESAMPLE = ("bicubic", "bilinear")


# Without a flag, the greatest fraction of the images that may fail, if there are many.
_MOST_FAILURES = 0.1
_MANY = 20


def input_flag(help: str) -> Any:
    """Define ``--input``, which each job explains in its own words."""
    return flag(
        type=values.uri,
        metavar="URI",
        is_repeatable=True,
        group=Group.FILES,
        rows=Rows.OTHER_IMAGES,
        help=f"{help}; may be repeated",
    )


def model_flag(help: str) -> Any:
    """Define ``--model``, which each job explains in its own words."""
    return flag(
        type=values.not_empty,
        metavar="HANDLE",
        group=Group.FILES,
        rows=Rows.OTHER_VALUES,
        help=help,
    )


def uri_column_flag(old_name: str = "") -> Any:
    """Define ``--uri_column``."""
    return flag(
        "image",
        type=str,
        metavar="NAME",
        group=Group.TABLES,
        rows=Rows.SAME,
        help="column with the images' paths or URIs",
        old_name=old_name,
    )


def truth_column_flag(help: str, old_name: str = "") -> Any:
    """Define ``--truth_column``, which each job explains in its own words."""
    return flag(
        "label",
        type=str,
        metavar="NAME",
        group=Group.TABLES,
        rows=Rows.SAME,
        help=help,
        old_name=old_name,
    )


def limit_flag(help: str) -> Any:
    """Define ``--limit``, which each job explains in its own words."""
    return flag(
        None,
        type=values.positive,
        metavar="N",
        group=Group.FILES,
        rows=Rows.OTHER_IMAGES,
        help=help,
        unset="all images",
    )


def output_format_flag() -> Any:
    """Define ``--output_format``."""
    return flag(
        ("jsonl",),
        type=values.formats,
        metavar="FORMAT,FORMAT",
        group=Group.WRITING,
        rows=Rows.SAME,
        help=f"format of the rows: one or several of {', '.join(FORMATS)}",
    )


def gzip_flag() -> Any:
    """Define ``--gzip``."""
    return flag(
        False,
        group=Group.WRITING,
        rows=Rows.SAME,
        help="compress the rows (Parquet always is)",
    )


@dataclass(frozen=True, kw_only=True)
class JobConfig(ClientConfig):
    """The flags that all jobs on images have."""

    input: tuple[str, ...]  # each job explains these two
    model: str
    output: str = flag(
        type=values.utf8,
        metavar="FOLDER",
        group=Group.FILES,
        rows=Rows.SAME,
        help="folder or bucket path for the results",
    )
    exclude: tuple[str, ...] = flag(
        (),
        type=values.glob,
        metavar="GLOB",
        is_repeatable=True,
        group=Group.FILES,
        rows=Rows.OTHER_IMAGES,
        help="files and folders that folders and globs leave out: by name, as '*_thumb.jpg', or, "
        "with a slash, by path below the input, as 'trips/**/raw'; may be repeated",
        unset=f"only what is always left out: {' '.join(ALWAYS_EXCLUDED)}",
    )
    resample: str | None = flag(
        None,
        choices=RESAMPLE,
        group=Group.READING,
        rows=Rows.OTHER_VALUES,
        help="filter that images are resized with",
        unset="what the model was trained with, if it says so in assets/preprocessing.json, else "
        "bicubic",
    )
    max_failure_ratio: float | None = flag(
        None,
        type=values.ratio,
        metavar="R",
        group=Group.READING,
        rows=Rows.SAME,
        help="exit with 1 if more than this fraction of the images fails; without this flag, only "
        f"of {_MANY} images or more, or if all fail",
        unset=str(_MOST_FAILURES),
    )
    max_image_bytes: int = flag(
        DEFAULT_LIMITS.max_image_bytes,
        type=values.positive,
        metavar="N",
        group=Group.READING,
        rows=Rows.OTHER_IMAGES,
        help="a file with more bytes fails as too_large",
    )
    max_image_pixels: int = flag(
        DEFAULT_LIMITS.max_image_pixels,
        type=values.positive,
        metavar="N",
        group=Group.READING,
        rows=Rows.OTHER_IMAGES,
        help="an image with more pixels fails as too_many_pixels",
    )
    read_timeout_seconds: float = flag(
        DEFAULT_LIMITS.read_timeout_seconds,
        type=values.seconds,
        metavar="S",
        group=Group.READING,
        rows=Rows.SAME,
        help="time for each of four attempts to read an image from a store or server",
    )
    keep_parameters: tuple[str, ...] = flag(
        (),
        type=values.parameters,
        metavar="NAME,NAME",
        group=Group.READING,
        rows=Rows.OTHER_IMAGES,
        help="parameters of URLs that are part of an image's name although they look like "
        "credentials; they appear in all results",
    )
    drop_parameters: tuple[str, ...] = flag(
        (),
        type=values.parameters,
        metavar="NAME,NAME",
        group=Group.READING,
        rows=Rows.OTHER_IMAGES,
        help="parameters of URLs that are no part of an image's name; URLs that differ only in "
        "them are one image",
    )
    scale: str | None = flag(
        None,
        choices=tuple(SCALES),
        group=Group.MODEL,
        rows=Rows.OTHER_VALUES,
        help="values that the model takes for a pixel: "
        + "; ".join(f"{name}: {scale.words}" for name, scale in SCALES.items()),
        unset="what its preprocessing.json or its graph says, else unit, as on the Hub",
    )
    model_output: str | None = flag(
        None,
        type=values.not_empty,
        metavar="NAME",
        group=Group.MODEL,
        rows=Rows.OTHER_VALUES,
        help="the one of the model's outputs that has the scores",
        unset="the only one with a row of numbers for each image",
    )
    channels_first: bool = flag(
        False,
        group=Group.MODEL,
        rows=Rows.OTHER_VALUES,
        help="transpose images for a model that takes [N, 3, height, width]",
    )
    model_fingerprint: str | None = flag(
        None,
        type=values.fingerprint,
        metavar="sha256:…",
        group=Group.MODEL,
        rows=Rows.SAME,  # the model has the same one, or is refused
        help="fingerprint of the only model to use, as rows have it; any other is refused",
        unset="any model",
    )

    @property
    def named(self) -> Iterable[str]:
        """The files that the command line itself names."""
        return (*self.input, self.model)

    @property
    def stated(self) -> Stated:
        """What the flags say of the model."""
        return Stated(
            fingerprint=self.model_fingerprint,
            resample=self.resample,
            output=self.model_output,
            scale=self.scale,
            channels_first=self.channels_first,
        )

    def too_many_failed(
        self, failed: int, images: int, of_how_many: int | None = None
    ) -> str | None:
        """Say so if more images failed than ``max_failure_ratio`` allows; else None.

        Args:
          failed: number of images that failed.
          images: number of all images that were tried.
          of_how_many: number of images that there are, if these are a sample of them.
        """
        allowed = self.max_failure_ratio
        if allowed is None:
            if (of_how_many or images) < _MANY and failed < images:
                return None  # one bad file of six says nothing about the rest
            allowed = _MOST_FAILURES
        ratio = failed / max(images, 1)
        if ratio <= allowed:
            return None
        words = "the images" if of_how_many is None else "the sample"
        return f"{ratio:.1%} of {words} failed, more than --max_failure_ratio {allowed} allows"

    def __post_init__(self) -> None:
        """Refuse flags that contradict each other.

        Raises:
          UsageError: they do.
        """
        both = set(map(in_lists, self.keep_parameters)) & set(map(in_lists, self.drop_parameters))
        if both:
            raise UsageError(
                "is a part of names and is none",
                subject="drop_parameters",
                given=min(both),
                remedy="leave it out here or in {keep_parameters}",
            )

    @property
    def naming(self) -> Naming | None:
        """How names are made of URIs; None for the rules alone."""
        if not self.keep_parameters and not self.drop_parameters:
            return None
        keep, drop = (map(in_lists, some) for some in (self.keep_parameters, self.drop_parameters))
        return Naming(frozenset(keep), frozenset(drop))

    @property
    def limits(self) -> Limits:
        """What no image may take more of."""
        return Limits(self.max_image_bytes, self.max_image_pixels, self.read_timeout_seconds)


def written(config: JobConfig) -> dict[str, Any]:
    """The flags as a run's summary has them: by name, as in ``--help``, without secrets."""
    flags = {flag.name: getattr(config, flag.name) for flag in flags_of(type(config))}
    return redact_all({**flags, BEAM_ARGS: without_secret_flags(config.beam_args)})
