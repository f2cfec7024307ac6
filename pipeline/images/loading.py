"""Reads and decodes images ahead of the model, with many threads, most of which wait."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from pipeline import storage
from pipeline.errors import ImageError
from pipeline.images.decode import decode
from pipeline.limits import DEFAULT_LIMITS, Limits
from pipeline.records import DecodedImage, Failure, ImageInfo, ImageRef, Reason, StageSeconds
from pipeline.redaction import name_of, redact, without

T = TypeVar("T")
U = TypeVar("U")
Key = TypeVar("Key")

# Turns a URI or ``ImageRef`` into what a model takes; raises ``ImageError``.
Decode = Callable[["str | ImageRef"], DecodedImage]

# Threads that read and decode, per process. Most of them wait: at 100 ms per object, this many
# threads read 640 objects per second.
READ_THREADS = 64

# Images read and decoded ahead of the model, for each bundle, or two batches if that is more. At
# 224×224 they take 19 MB.
READ_AHEAD = 128


def cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# Held while decoding, by one thread per core. More would not be faster, but would take memory for
# whole images, and time from the model.
DECODING = threading.BoundedSemaphore(cores())

# Shared by all bundles of a process, so that their number is bounded. Started when first used.
_THREADS = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="read")


def as_ref(image: str | ImageRef) -> ImageRef:
    """Make an ``ImageRef`` of a URI."""
    return image if isinstance(image, ImageRef) else ImageRef(image)


@contextlib.contextmanager
def room_for(ref: ImageRef, limits: Limits) -> Iterator[storage.Claim | None]:
    """In this context, there is room in memory for the image's file; waits for it.

    The file's size is that in the listing, if it is known.
    """
    if ref.data is not None:
        yield None
        return
    size = storage.size_in(ref.version)
    with storage.BUDGET.claim(
        min(storage.UNKNOWN if size is None else size, limits.max_image_bytes)
    ) as claim:
        yield claim


def read_image(
    ref: ImageRef, limits: Limits, claim: storage.Claim | None = None
) -> tuple[bytes, ImageRef]:
    """Read an image's file, unless its bytes came along.

    Args:
      ref: the image.
      limits: of it.
      claim: what ``room_for`` yields; None if the memory is not bounded.

    Returns:
      The bytes; and the image, with the version that its server said if that was unknown.

    Raises:
      ImageError: it cannot be read.
    """
    if ref.data is not None:
        if len(ref.data) > limits.max_image_bytes:
            raise ImageError(
                Reason.TOO_LARGE,
                f"{len(ref.data)} bytes are more than max_image_bytes {limits.max_image_bytes}",
            )
        return ref.data, ref
    data, version = storage.read_content(
        ref.uri, limits.max_image_bytes, limits.read_timeout_seconds, claim=claim
    )
    return data, ref._replace(version=ref.version or version)


def read_and_decode(
    ref: str | ImageRef,
    *,
    height: int,
    width: int,
    resample: str,
    limits: Limits = DEFAULT_LIMITS,
    checksum: bool = False,
) -> DecodedImage:
    """Read one image, unless its bytes came along, and decode it.

    Args:
      ref: the image.
      height: of the pixels.
      width: of the pixels.
      resample: the filter to resize with, a key of ``resizing.RESAMPLING``.
      limits: of each image.
      checksum: whether that of an image without a truth is wanted, too.

    Returns:
      What is known of the image, and its pixels, uint8 ``[height, width, 3]``.

    Raises:
      ImageError: it cannot be read or decoded.
    """
    ref = as_ref(ref)
    with room_for(ref, limits) as claim:
        started = time.perf_counter()
        data, ref = read_image(ref, limits, claim)
        read = time.perf_counter() - started
        with DECODING:
            started = time.thread_time()
            decoded = decode(data, height, width, resample, max_pixels=limits.max_image_pixels)
            here = time.thread_time() - started
            seconds = StageSeconds(read=read, decode=here + decoded.sandbox_seconds)
        is_hashed = checksum or ref.truth is not None
        content = hashlib.sha256(data).hexdigest() if is_hashed else ""
        del data  # before others have the room
    info = ImageInfo(
        uri=name_of(ref.uri, ref.naming),
        width=decoded.width,
        height=decoded.height,
        seconds=seconds,
        truth=ref.truth,
        content=content,
        version=ref.version,
        carried=ref.carried,
        place=ref.place,
    )
    return DecodedImage(info, decoded.pixels)


def decode_or_fail(ref: str | ImageRef, *, decode: Decode, run_id: str) -> DecodedImage | Failure:
    """Decode one image, or say why that is impossible.

    Args:
      ref: the image.
      decode: reads and decodes it.
      run_id: goes into a failure's row.
    """
    ref = as_ref(ref)
    if ref.problem is not None:
        return failure_of(ref, *ref.problem, run_id)
    try:
        return decode(ref)
    except ImageError as error:
        return failure_of(ref, error.reason, error.message, run_id)


def failure_of(image: ImageRef | ImageInfo, reason: Reason, message: str, run_id: str) -> Failure:
    """Make the row of a failed image, without the secrets in its URI and message."""
    name = image.uri
    if isinstance(image, ImageRef):
        name = name_of(image.uri, image.naming)
        message = without(message, image.uri)
    return Failure(
        name, reason.stage, reason.value, redact(message), run_id, image.version, image.carried
    )


def read_ahead(batch_size: int) -> int:
    """Choose how many images to read and decode ahead of a model with this batch size."""
    return max(READ_AHEAD, 2 * batch_size)


class InFlight(Generic[Key, T, U]):
    """Calls of a function in the threads; results come in the order in which the calls end.

    So a slow call holds up only itself.

    Args:
      function: what is called, with one value at a time.
    """

    def __init__(self, function: Callable[[T], U]):
        self._function = function
        self._done: SimpleQueue[tuple[Key, Future[U]]] = SimpleQueue()
        self._count = 0

    def __len__(self) -> int:
        """Count the calls whose results have not been taken."""
        return self._count

    def submit(self, key: Key, value: T) -> None:
        """Call the function as soon as a thread is free."""
        future = _THREADS.submit(self._function, value)
        future.add_done_callback(lambda future: self._done.put((key, future)))
        self._count += 1

    def take(self) -> tuple[Key, U]:
        """Wait for the next result; return it with the key of its call."""
        key, future = self._done.get()
        self._count -= 1
        return key, future.result()


def in_threads(function: Callable[[T], U], values: Sequence[T]) -> list[U]:
    """Call a function on each value, in the threads that read and decode.

    Returns:
      The results, in the order of the values.
    """
    return list(_THREADS.map(function, values))


def done_within(seconds: float, function: Callable[[T], U], values: Iterable[T]) -> list[U]:
    """Call a function on some values in those threads, and return what is there in that time.

    The calls that take longer go on, and their results are dropped.
    """
    futures = [_THREADS.submit(function, value) for value in values]
    wait(futures, seconds)
    return [future.result() for future in futures if future.done()]


@contextlib.contextmanager
def meanwhile(function: Callable[[T], Any], values: Iterable[T]) -> Iterator[None]:
    """Have those threads call a function on some values meanwhile; ends when they have."""
    futures = [_THREADS.submit(function, value) for value in values]
    yield
    for future in futures:
        future.result()
