"""Keeps what matters of rows in 28 bytes each: writes files of entries, and looks images up there.

A file has the entries in the order of the hashes of the images' names, and an index after them. A
disk that changes them would have images skipped or labeled again, and nobody would see it, so all
that is read is checked: the index has a checksum of each range, and its own is beside the file.

A name is hashed to 128 bits. Among 10⁹ images that are looked up among 10⁹ others, one is taken
for another with a probability of 10¹⁸ / 2¹²⁸, which is 3 · 10⁻²¹. A version is hashed to 64 bits,
and is compared with those of the same image only. A changed image is taken for what it was before
with a probability of 2⁻⁶⁴, which is 5 · 10⁻²⁰.
"""

from __future__ import annotations

import functools
import hashlib
import tempfile
import uuid
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline import storage
from pipeline.errors import RunError
from pipeline.records import Failure, Labeled, Reason
from pipeline.tally import CombineTallies

# The join is divided by the first bits of the hash; 10⁸ images make 25,000 in each bucket.
BUCKET_BITS = 12
_LEAST_BITS = 4

# What a process reads at once and keeps, in bytes. Of larger files it reads a bucket at a time.
_KEPT_BYTES = 2**26
# What is gathered in memory, and travels between workers, before it goes into a file; in bytes.
_GATHERED_BYTES = 2**25
# Entries in memory when files are merged, apart from copies.
_MERGED_AT_ONCE = 2**21

# ``run`` is an index into the run ids of the file, times 4, plus the verdict.
_ENTRY = np.dtype([("high", ">u8"), ("low", ">u8"), ("version", ">u8"), ("run", ">u4")])
# Of a range of hashes, the number of entries before it, and the CRC-32 of its own.
_RANGE = np.dtype([("start", ">u8"), ("checksum", ">u4")])
_GATHERED = np.dtype([("high", ">u8"), ("low", ">u8"), ("version", ">u8"), ("verdict", "u1")])

# Verdicts of a row: it does not hold for good, it does, or only for the versions that made it.
_NO, _YES, _OF_VERSION = range(3)


class Seen(NamedTuple):
    """What matters of a row: the run, the file's version, and a verdict about the image."""

    run_id: str
    version: str
    verdict: int

    def holds(self, same_versions: frozenset[str]) -> bool:
        """Tell whether the image need not be labeled again for as long as it has this version.

        Args:
          same_versions: the ids of the runs by the same versions of this package.
        """
        if self.verdict == _OF_VERSION:
            return self.run_id in same_versions
        return self.verdict == _YES


def seen_of(row: Labeled | Failure) -> Seen:
    """Return what matters of a row."""
    verdict = _YES if isinstance(row, Labeled) or row.is_for_good else _NO
    if isinstance(row, Failure) and Reason(row.reason).is_of_version:
        verdict = _OF_VERSION
    return Seen(row.run_id, row.version, verdict)


def bucket_of(name: str) -> int:
    """Return the bucket that an image is in by its name."""
    return int.from_bytes(_hash_of(name)[:2], "big") >> (16 - BUCKET_BITS)


def _hash_of(name: str) -> bytes:
    # A row that somebody has edited may contain lone surrogates.
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _version_hash(version: str) -> bytes:
    return hashlib.blake2b(version.encode("utf-8", "surrogatepass"), digest_size=8).digest()


class File(NamedTuple):
    """A file of entries, which its index follows: one item for each of 2^bits ranges of hashes.

    ``checksum``: the CRC-32 of the index.
    """

    path: str
    entries: int
    bits: int
    run_ids: tuple[str, ...]
    checksum: int

    @property
    def size(self) -> int:
        """The file's size in bytes."""
        return self.entries * _ENTRY.itemsize + (2**self.bits + 1) * _RANGE.itemsize


class Reader:
    """Looks images up in files of entries.

    Args:
      files: with what earlier runs have seen.
    """

    def __init__(self, files: Sequence[File]):
        self._run_ids = sorted({run_id for file in files for run_id in file.run_ids})
        self._large: list[File] = []
        kept, size = [np.empty(0, _ENTRY)], 0
        for file in sorted(files, key=lambda file: (file.size, file.path)):
            size += file.size
            if size <= _KEPT_BYTES:
                kept.append(self._read(file, _index_of(file), 0, 2**file.bits))
            else:
                self._large.append(file)
        self._kept = _by_hash(np.concatenate(kept))
        self._kept_high = self._kept["high"].astype(np.uint64)
        self._indices: dict[str, np.ndarray] = {}

    def look_up(
        self, bucket: int, versions: Mapping[str, Iterable[str]]
    ) -> Iterator[tuple[str, list[Seen]]]:
        """Yield what runs have seen of each image that any has seen.

        Args:
          bucket: of all these images.
          versions: the present versions of each image, by its name. ``Seen`` has one of these, or
            something that is none.
        """
        entries = self._of_bucket(bucket)
        names = list(versions)
        hashes = [_hash_of(name) for name in names]
        highs = np.array([int.from_bytes(one[:8], "big") for one in hashes], np.uint64)
        column = entries["high"].astype(np.uint64)
        starts, ends = (np.searchsorted(column, highs, side) for side in ("left", "right"))
        for n in np.flatnonzero(starts < ends):
            low = int.from_bytes(hashes[n][8:], "big")
            found = [one for one in entries[starts[n] : ends[n]] if one["low"] == low]
            if found:
                known = {_number_of(version): version for version in versions[names[n]]}
                yield names[n], [self._seen(one, known) for one in found]

    def _seen(self, entry: Any, known: Mapping[int, str]) -> Seen:
        run, version = int(entry["run"]), int(entry["version"])
        return Seen(self._run_ids[run >> 2], known.get(version, f"\0{version:x}"), run & 3)

    def _of_bucket(self, bucket: int) -> np.ndarray:
        shift = 64 - BUCKET_BITS
        bounds = np.array([bucket << shift, ((bucket + 1) << shift) - 1], np.uint64)
        start = np.searchsorted(self._kept_high, bounds[0], "left")
        end = np.searchsorted(self._kept_high, bounds[1], "right")
        entries = self._kept[start:end]
        if not self._large:
            return entries
        found = [entries]
        for file in self._large:
            if file.path not in self._indices:
                self._indices[file.path] = _index_of(file)
            at = bucket >> (BUCKET_BITS - file.bits)
            found.append(self._read(file, self._indices[file.path], at, at + 1))
        return _by_hash(np.concatenate(found))

    def _read(self, file: File, index: np.ndarray, first: int, last: int) -> np.ndarray:
        return _with_runs(_read(file, index, first, last), file.run_ids, self._run_ids)


@functools.lru_cache(maxsize=1)
def opened(files: tuple[File, ...]) -> Reader:
    """Return what looks images up, the same for all threads of this process."""
    return Reader(files)


def are_kept(files: Iterable[File]) -> bool:
    """Tell whether a reader holds all of these files in memory."""
    return sum(file.size for file in files) <= _KEPT_BYTES


def _read(file: File, index: np.ndarray, first: int, last: int) -> np.ndarray:
    """Read the entries of some ranges, from ``first`` on, before ``last``."""
    starts = index["start"][first : last + 1].astype(np.int64) * _ENTRY.itemsize
    data = memoryview(_bytes_of(file, int(starts[0]), int(starts[-1])))
    bounds = (starts - starts[0]).tolist()
    for n, checksum in enumerate(index["checksum"][first:last].tolist()):
        if zlib.crc32(data[bounds[n] : bounds[n + 1]]) != checksum:
            raise _damaged(file)
    return np.frombuffer(data, _ENTRY)


def _index_of(file: File) -> np.ndarray:
    data = _bytes_of(file, file.entries * _ENTRY.itemsize, file.size)
    if zlib.crc32(data) != file.checksum:
        raise _damaged(file)
    return np.frombuffer(data, _RANGE)


def _bytes_of(file: File, start: int, end: int) -> bytes:
    if start == end:
        return b""
    with storage.open_file(file.path) as content:
        content.seek(start)
        data = content.read(end - start)
    if len(data) != end - start:
        raise _damaged(file)
    return data


def _damaged(file: File) -> RunError:
    return RunError(f"{file.path} is damaged; delete it, and run the same command again")


def _number_of(version: str) -> int:
    return int.from_bytes(_version_hash(version), "big")


def _with_runs(entries: np.ndarray, before: Sequence[str], now: Sequence[str]) -> np.ndarray:
    """Copy entries, with their runs as indices into other run ids."""
    places = {run_id: n for n, run_id in enumerate(now)}
    indices = np.array([places[run_id] for run_id in before], np.uint32)
    entries = entries.copy()
    if len(entries):
        runs = entries["run"].astype(np.uint32)
        entries["run"] = indices[runs >> 2] << 2 | runs & 3
    return entries


def _by_hash(entries: np.ndarray) -> np.ndarray:
    return entries[np.argsort(entries["high"].astype(np.uint64))]


def _latest(entries: np.ndarray) -> np.ndarray:
    """Sort entries, and keep only the latest of each image and version."""
    columns = {name: entries[name].astype(np.uint64) for name in _ENTRY.names or ()}
    order = np.lexsort([columns[name] for name in ("run", "version", "low", "high")])
    is_last = np.ones(len(order), bool)
    if len(order):
        is_last[:-1] = False
        for name in ("version", "low", "high"):
            column = columns[name][order]
            is_last[:-1] |= column[1:] != column[:-1]
    return entries[order[is_last]]


class Gathered:
    """What rows say, gathered: for each run id, 25 bytes a row; what is too much, in files."""

    def __init__(self, folder: str):
        self.folder = folder
        self.rows: dict[str, bytearray] = {}
        self.files: list[File] = []

    def add(self, name: str, seen: Seen) -> None:
        """Add what matters of the row of an image."""
        rows = self.rows.setdefault(seen.run_id, bytearray())
        rows.extend(_hash_of(name) + _version_hash(seen.version) + bytes([seen.verdict]))
        if len(rows) > _GATHERED_BYTES:
            self.save()

    def merge(self, other: Gathered) -> None:
        """Add what others are."""
        self.files += other.files
        for run_id, rows in other.rows.items():
            self.rows.setdefault(run_id, bytearray()).extend(rows)
        if sum(map(len, self.rows.values())) > _GATHERED_BYTES:
            self.save()

    def save(self) -> None:
        """Put what is in memory into a file."""
        run_ids = sorted(self.rows)
        pieces = []
        for n, run_id in enumerate(run_ids):
            rows = np.frombuffer(bytes(self.rows[run_id]), _GATHERED)
            entries = np.empty(len(rows), _ENTRY)
            for name in ("high", "low", "version"):
                entries[name] = rows[name]
            entries["run"] = n << 2 | rows["verdict"].astype(np.uint32)
            pieces.append(entries)
        if pieces:
            entries = _latest(np.concatenate(pieces))
            self.files.append(_write(self.folder, [entries], len(entries), run_ids))
        self.rows = {}


class Gather(CombineTallies):
    """Pairs of an image's name and ``Seen`` → ``Gathered``.

    Args:
      folder: of the ledger, for what is too much for the memory.
    """

    def __init__(self, folder: str):
        super().__init__()
        self._folder = folder

    def create_accumulator(self) -> Gathered:  # noqa: D102
        return Gathered(self._folder)

    def add_input(self, gathered: Gathered, pair: tuple[str, Seen]) -> Gathered:  # noqa: D102
        gathered.add(*pair)
        return gathered


def merge_files(folder: str, files: Sequence[File]) -> list[File]:
    """Merge files into a new one; of nothing, into none.

    Raises:
      StoreError: one of them cannot be read, or the new one cannot be written.
      RunError: one of them is damaged.
    """
    if not files:
        return []
    run_ids = sorted({run_id for file in files for run_id in file.run_ids})
    total = sum(file.entries for file in files)
    return [_write(folder, _ranges(files, run_ids, total), total, run_ids)]


def _ranges(files: Sequence[File], run_ids: Sequence[str], total: int) -> Iterator[np.ndarray]:
    """Read files together, one range of hashes after another, as much as memory should hold."""
    bits = (total // _MERGED_AT_ONCE).bit_length()
    bits = max(_LEAST_BITS, min(bits, *(file.bits for file in files)))
    indices = [_index_of(file) for file in files]
    for n in range(2**bits):
        pieces = [
            _with_runs(
                _read(file, index, n << file.bits - bits, (n + 1) << file.bits - bits),
                file.run_ids,
                run_ids,
            )
            for file, index in zip(files, indices, strict=True)
        ]
        yield _latest(np.concatenate(pieces))


def _write(
    folder: str, pieces: Iterable[np.ndarray], expected: int, run_ids: Sequence[str]
) -> File:
    """Write sorted entries, one piece after another, and their index."""
    bits = min(BUCKET_BITS, max(_LEAST_BITS, (expected // 1024).bit_length()))
    index = np.zeros(2**bits + 1, _RANGE)
    counts, checksums = np.zeros(2**bits, np.int64), [0] * 2**bits
    path = storage.join(folder, f"entries-{uuid.uuid4().hex}.bin")
    local = None if storage.is_remote(folder) else folder  # on the disk that has to have the room
    if local is not None:
        storage.make_folder(folder)
    with tempfile.TemporaryDirectory(dir=local) as temporary:
        file = Path(temporary, "entries")
        with file.open("wb") as content:
            for piece in pieces:
                data = memoryview(piece.astype(_ENTRY).tobytes())  # NumPy joins in native order
                content.write(data)
                ranges = (piece["high"].astype(np.uint64) >> np.uint64(64 - bits)).astype(np.int64)
                found, at = np.bincount(ranges, minlength=2**bits), 0
                for n in np.flatnonzero(found).tolist():
                    end = at + int(found[n]) * _ENTRY.itemsize
                    checksums[n] = zlib.crc32(data[at:end], checksums[n])
                    at = end
                counts += found
            index["start"][1:] = np.cumsum(counts)
            index["checksum"][:-1] = checksums
            content.write(index.tobytes())
        storage.upload(file, path)
    total, checksum = int(index["start"][-1]), zlib.crc32(index.tobytes())
    return File(path, total, bits, tuple(run_ids), checksum)
