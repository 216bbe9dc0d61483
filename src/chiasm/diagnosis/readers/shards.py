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
    """The position and checksum of some bytes.

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
    """Appends bytes after the last of the used ones.

    Bytes after those were written by a process that was killed before it recorded them; they are
    removed. Only one writer may exist at a time. Raises ``DataError`` if a shard is shorter than
    its used bytes.
    """

    def __init__(self, folder: Path, used: Iterable[Blob]) -> None:
        self.folder = folder
        ends: dict[int, int] = {0: 0}
        for blob in used:
            ends[blob.shard] = max(ends.get(blob.shard, 0), blob.offset + blob.size)
        for number, end in ends.items():
            path = shard_path(folder, number)
            size = path.stat().st_size if path.exists() else 0
            if size < end:
                raise DataError(
                    f"{path} has {size} bytes where {end} were written; it was damaged: delete "
                    f"{folder} and convert again."
                )
        self.number = max(ends)
        self._stream = self._open(self.number, ends[self.number])

    def append(self, content: memoryview) -> Blob:
        """Append the bytes of a contiguous buffer; they are on the disk after ``flush``."""
        if self._stream.tell() >= SHARD_BYTES:
            self.close()
            self.number += 1
            self._stream = self._open(self.number, 0)
        self._stream.write(bytes(-self._stream.tell() % _ALIGNMENT))
        offset = self._stream.tell()
        self._stream.write(content)
        return Blob(shard=self.number, offset=offset, size=content.nbytes, crc=zlib.crc32(content))

    def flush(self) -> None:
        """Wait until all appended bytes are on the disk."""
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def close(self) -> None:
        """Flush and close the file."""
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
    """Reads blobs without copying; maps each shard once per process, and can be pickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._maps: dict[int, ByteArray] = {}

    def read(self, blob: Blob) -> ByteArray:
        """Return the bytes of a blob, ``(size,)`` uint8, a read-only view of the map.

        Raises ``DataError`` if the shard is missing or ends before the blob.
        """
        shard = self._maps.get(blob.shard)
        if shard is None or len(shard) < blob.offset + blob.size:
            shard = self._maps[blob.shard] = self._map(blob)
        return shard[blob.offset : blob.offset + blob.size]

    def check(self, blob: Blob, where: str) -> None:
        """Raise ``DataError``, which names ``where``, if the checksum of the bytes differs."""
        if zlib.crc32(self.read(blob).data) != blob.crc:
            raise DataError(
                f"{shard_path(self.folder, blob.shard)} is damaged at byte {blob.offset}, {where}: "
                f"delete {self.folder} and convert again."
            )

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "_maps": {}}

    def _map(self, blob: Blob) -> ByteArray:
        path = shard_path(self.folder, blob.shard)
        size = path.stat().st_size if path.exists() else 0
        if size < blob.offset + blob.size:
            raise DataError(
                f"{path} has {size} bytes where {blob.offset + blob.size} were expected; delete "
                f"{self.folder} and convert again."
            )
        return np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))


def shard_path(folder: Path, number: int) -> Path:
    """Return the path of a shard."""
    return folder / f"recordings-{number:05d}.bin"
