"""Files anywhere: on this machine, in any store that Beam knows, on a server.

Everything that a store or its client raises comes out of here as a ``StoreError``, and nothing else
does: a mistake in this package's own code stays what it is. Only ``read_bytes``, which reads the
images, makes an ``ImageError`` of it.
"""

from pipeline.storage.http import open_http
from pipeline.storage.listing import exists, find, has_folders, list_files, regex_of
from pipeline.storage.object_stores import check_access
from pipeline.storage.read import open_file, read_bytes
from pipeline.storage.uris import absolute, is_http, is_remote, join, local_path, split
from pipeline.storage.versions import is_unchanged, size_in, version, version_of
from pipeline.storage.write import configure, delete, make_folder, rename, write_file

__all__ = [
    "absolute",
    "check_access",
    "configure",
    "delete",
    "exists",
    "find",
    "has_folders",
    "is_http",
    "is_remote",
    "is_unchanged",
    "join",
    "list_files",
    "local_path",
    "make_folder",
    "open_file",
    "open_http",
    "read_bytes",
    "regex_of",
    "rename",
    "size_in",
    "split",
    "version",
    "version_of",
    "write_file",
]
