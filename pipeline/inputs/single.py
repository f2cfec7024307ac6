"""Lists a single image: any file or URL that is of no other kind."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.inputs import truth
from pipeline.inputs.kinds import Input, InputKind, file_at
from pipeline.records import ImageRef


def _images(source: Input) -> Iterator[ImageRef]:
    wanted = source.truth_column is not None
    yield ImageRef(source.uri, truth.parent(source.uri) if wanted else None)


IMAGE = InputKind(recognize=file_at, images=_images)
