"""Serves a folder over http, each object so many milliseconds after it was asked for.

    python benchmarks/slow_store.py FOLDER MILLISECONDS

Prints its address, then serves until it is killed. As little Python as possible runs for a request,
since it runs on the same cores as what is measured.
"""

from __future__ import annotations

import asyncio
import sys
import urllib.parse
from pathlib import Path


async def serve(folder: Path, seconds: float) -> None:
    """Answer GET requests for ever, many at a time, over connections that stay open."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while request := await reader.readline():
            while (await reader.readline()).strip():
                pass
            await asyncio.sleep(seconds)
            path = urllib.parse.unquote(request.split()[1].decode()).lstrip("/")
            body = (folder / path).read_bytes()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), float(sys.argv[2]) / 1000))
