"""The emulator of Google Cloud Storage, with preconditions on generations, which it lacks.

A program; its arguments are the emulator's. It serves one request after the other, so that nothing
comes between a check and its write.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from gcp_storage_emulator import server
from gcp_storage_emulator.__main__ import main
from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import objects

Handler = Callable[..., Any]


def conditional(handler: Handler, name_of: Callable[[Any], str]) -> Handler:
    """Make a handler of requests refuse those whose precondition does not hold."""

    def handle(request: Any, response: Any, storage: Any, *args: Any, **kwargs: Any) -> Any:
        [expected] = request.query.get("ifGenerationMatch", [None])
        if expected is not None:
            try:
                found = storage.get_file_obj(request.params["bucket_name"], name_of(request))
            except NotFound:
                found = {"generation": "0"}
            if str(found["generation"]) != expected:
                response.status = HTTPStatus.PRECONDITION_FAILED
                message = "At least one of the pre-conditions you specified did not hold."
                response.json({"error": {"code": 412, "message": message}})
                return None
        return handler(request, response, storage, *args, **kwargs)

    return handle


def _name_in_path(request: Any) -> str:
    return str(request.params["object_id"])


def _name_in_body(request: Any) -> str:
    return str((request.query.get("name") or [None])[0] or request.data["meta"]["name"])


if __name__ == "__main__":
    objects._multipart_upload = conditional(objects._multipart_upload, _name_in_body)
    for _, handlers in server.HANDLERS:
        for method, handler in handlers.items():
            if handler in (objects.delete, objects.download, objects.get):
                handlers[method] = conditional(handler, _name_in_path)
    sys.exit(main())
