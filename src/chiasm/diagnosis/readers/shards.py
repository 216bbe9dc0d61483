"""Arrays and bytes appended to a few large files, read back through memory maps."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from io import BufferedRandom
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiasm.errors import DataError

ByteArray = NDArray[np.uint8]
SHARD_BYTES = 2**30
_ALIGNMENT = 64


@dataclass(frozen=True, slots=True)
class Blob:
    """Where some bytes lie, and what they should be.

    Attributes:
        shard: number of the file.
        offset: of the first byte in it.
        size: bytes.
        crc: CRC-32 of the bytes (ISO 3309).
    """

    shard: int
    offset: int
    size: int
    crc: int


class ShardWriter:
    """Appends bytes behind those that are already in use.

    What lies behind the last of ``used`` was written by a process that was killed before it could
    say so, and is cut off. Not for two writers at once. Raises ``DataError`` where a shard is
    shorter than what is said to lie in it.
    """

    def __init__(self, folder: Path, used: Iterable[Blob]) -> None:
        self.folder = folder
        ends: dict[int, int] = {0: 0}
        for blob in used:
            ends[blob.shard] = max(ends.get(blob.shard, 0), blob.offset + blob.size)
        for number, end in ends.items():
            path = shard_path(folder, number)
            there = path.stat().st_size if path.exists() else 0
            if there < end:
                raise DataError(
                    f"{path} has {there} bytes where {end} were written; it was damaged: delete "
                    f"{folder} and convert again."
                )
        self.number = max(ends)
        self._stream = self._open(self.number, ends[self.number])

    def append(self, content: bytes | ByteArray) -> Blob:
        """Write some bytes behind the others; they are safe after ``flush``."""
        if self._stream.tell() >= SHARD_BYTES:
            self.close()
            self.number += 1
            self._stream = self._open(self.number, 0)
        self._stream.write(bytes(-self._stream.tell() % _ALIGNMENT))
        offset = self._stream.tell()
        self._stream.write(content)
        size = content.nbytes if isinstance(content, np.ndarray) else len(content)
        return Blob(shard=self.number, offset=offset, size=size, crc=zlib.crc32(content))

    def flush(self) -> None:
        """Return when all that was appended is on the disk."""
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def close(self) -> None:
        """Flush, and let go of the file."""
        self.flush()
        self._stream.close()

    def _open(self, number: int, end: int) -> BufferedRandom:
        path = shard_path(self.folder, number)
        path.touch()
        stream = path.open("r+b")
        stream.truncate(end)
        stream.seek(end)
        return stream


class ShardReader:
    """Reads blobs without copying; maps each shard once a process, and can be pickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._maps: dict[int, ByteArray] = {}

    def read(self, blob: Blob) -> ByteArray:
        """Return the bytes of a blob, ``(size,)`` uint8, read-only, straight from the map.

        Raises ``DataError`` for a shard that is missing or shorter than the blob's end.
        """
        shard = self._maps.get(blob.shard)
        if shard is None or len(shard) < blob.offset + blob.size:
            shard = self._maps[blob.shard] = self._map(blob)
        return shard[blob.offset : blob.offset + blob.size]

    def check(self, blob: Blob, what: str) -> None:
        """Raise ``DataError`` about ``what`` where the bytes are not those once written."""
        if zlib.crc32(self.read(blob)) != blob.crc:
            raise DataError(
                f"{shard_path(self.folder, blob.shard)} is damaged at byte {blob.offset}, {what}: "
                f"delete {self.folder} and convert again."
            )

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "_maps": {}}

    def _map(self, blob: Blob) -> ByteArray:
        path = shard_path(self.folder, blob.shard)
        there = path.stat().st_size if path.exists() else 0
        if there < blob.offset + blob.size:
            raise DataError(
                f"{path} has {there} bytes where {blob.offset + blob.size} were expected; delete "
                f"{self.folder} and convert again."
            )
        return np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))


def shard_path(folder: Path, number: int) -> Path:
    """Path of a shard."""
    return folder / f"recordings-{number:05d}.bin"
