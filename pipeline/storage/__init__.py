"""Read, list and write files anywhere: on this machine, in any store that Beam knows, on a server.

Whatever a store or its client raises leaves this room as a ``StoreError``. Nothing else does: a bug
in this package keeps its own exception. Only ``read_bytes``, which reads the images, raises an
``ImageError`` instead.
"""

from pipeline.storage.conditional import (
    Versioned,
    delete_if,
    honors_conditions,
    read_versioned,
    write_if,
)
from pipeline.storage.http import open_http
from pipeline.storage.listing import exists, find, has_folders, list_files, list_pages
from pipeline.storage.memory import BUDGET, UNKNOWN, Claim
from pipeline.storage.object_stores import check_access
from pipeline.storage.ranges import Page, Range
from pipeline.storage.read import open_file, read_bytes, read_content
from pipeline.storage.uris import absolute, is_http, is_remote, join, local_path, split
from pipeline.storage.versions import find_versions, is_unchanged, size_in, version, version_of
from pipeline.storage.write import (
    configure,
    create,
    delete,
    make_folder,
    rename,
    rename_all,
    upload,
    write_file,
)

__all__ = [
    "BUDGET",
    "UNKNOWN",
    "Claim",
    "Page",
    "Range",
    "Versioned",
    "absolute",
    "check_access",
    "configure",
    "create",
    "delete",
    "delete_if",
    "exists",
    "find",
    "find_versions",
    "has_folders",
    "honors_conditions",
    "is_http",
    "is_remote",
    "is_unchanged",
    "join",
    "list_files",
    "list_pages",
    "local_path",
    "make_folder",
    "open_file",
    "open_http",
    "read_bytes",
    "read_content",
    "read_versioned",
    "rename",
    "rename_all",
    "size_in",
    "split",
    "upload",
    "version",
    "version_of",
    "write_file",
    "write_if",
]
