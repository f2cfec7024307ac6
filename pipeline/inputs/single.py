"""Lists a single image: any file or URL that is of no other kind."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from pipeline import storage
from pipeline.formats.registry import table_suffixes
from pipeline.inputs import truth
from pipeline.inputs.kinds import Input, InputKind, file_at, only_files
from pipeline.records import ImageRef

# Of files that name images or hold many, in formats that are not read. As an image, such a file
# would be a single failure, and the images in it would be missing without a word.
_LISTS = (".json", ".ndjson", ".tsv", ".tab", ".lst", ".list", ".xml", ".yaml", ".yml")
_TABLES = (".xlsx", ".xls", ".ods", ".avro", ".orc", ".feather", ".arrow", ".pq", ".npz", ".h5")
_ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")


def _images(source: Input) -> Iterator[ImageRef]:
    suffix = posixpath.splitext(source.uri)[1].lower()
    if not storage.is_http(source.uri) and suffix in (*_LISTS, *_TABLES, *_ARCHIVES):
        raise source.error(
            f"is no image, and {suffix} files are not read",
            f"write a list as .txt, a table as {table_suffixes()}, and unpack an archive",
        )
    wanted = source.truth_column is not None
    yield ImageRef(source.uri, truth.parent(source.uri) if wanted else None)


IMAGE = InputKind(recognize=file_at, images=_images, has_only_files=only_files)
