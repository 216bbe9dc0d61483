"""Check the two ends of image files without decoding them: size, and whether they are complete."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO

from chiasm.errors import DataError

_PNG, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
_JPEG, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
_TAIL = 4096  # bytes at the end in which a mark is looked for: some cameras write after it
_AGAIN = "copy the file again from its origin, or remove the part"
# TIFF tags: width, height, and where strips and tiles lie.
_WIDTH, _HEIGHT = 256, 257
_OFFSETS, _LENGTHS = (273, 324), (279, 325)
_TIFF_BYTES = {1: 1, 3: 2, 4: 4, 16: 8}
_TIFF_FORMAT = {1: "B", 3: "H", 4: "I", 16: "Q"}


def check_ends(path: Path | str) -> tuple[int, int] | None:
    """Check that a file can be opened, is not empty and is complete, as far as its ends tell.

    PNG and JPEG must have their mark of the end, and a TIFF all bytes that its directory names. Of
    other formats only the length is looked at. A file that passes may still be damaged inside.

    Returns:
        Height and width in pixels; None where the header does not tell them quickly.

    Raises:
        DataError: the file is absent, empty or cut off.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            length = os.fstat(stream.fileno()).st_size
            if not length:
                raise DataError(f"{path} is empty (0 bytes); {_AGAIN}.")
            start = stream.read(24)
            if start[:8] == _PNG:
                _check_mark(stream, path, length, _PNG_END, "PNG")
                width, height = struct.unpack(">II", start[16:24])
                return height, width
            if start[:3] == _JPEG:
                _check_mark(stream, path, length, _JPEG_END, "JPEG")
                return None
            if start[:4] in (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+"):
                return _check_tiff(stream, path, length, start)
    except OSError as cause:
        raise DataError(f"{path} cannot be opened: {cause.strerror or cause}.") from cause
    except struct.error as cause:
        raise DataError(f"{path} is cut off in its header; {_AGAIN}.") from cause
    return None


def _check_mark(stream: BinaryIO, path: Path, length: int, mark: bytes, name: str) -> None:
    stream.seek(max(0, length - _TAIL))
    if mark not in stream.read():
        raise DataError(f"{path} is cut off: the end of the {name} file is missing; {_AGAIN}.")


def _check_tiff(stream: BinaryIO, path: Path, length: int, start: bytes) -> tuple[int, int] | None:
    """Check that the first directory and all strips or tiles that it names lie in the file."""
    order = "<" if start[:2] == b"II" else ">"
    big = start[2:4] in (b"+\x00", b"\x00+")
    place = struct.unpack(f"{order}Q", start[8:16])[0] if big else _of(order, "I", start[4:8])
    cut = DataError(f"{path} is cut off: it ends before its image data; {_AGAIN}.")
    if not 8 <= place < length:
        raise cut
    stream.seek(place)
    count = _of(order, "Q" if big else "H", stream.read(8 if big else 2))
    size, inline = (20, 8) if big else (12, 4)
    entries = stream.read(size * min(count, 10_000))
    if len(entries) < size * count:
        raise cut
    values: dict[int, tuple[int, ...]] = {}
    for number in range(count):
        entry = entries[size * number : size * (number + 1)]
        tag, kind = struct.unpack(f"{order}HH", entry[:4])
        if tag not in (_WIDTH, _HEIGHT, *_OFFSETS, *_LENGTHS) or kind not in _TIFF_BYTES:
            continue
        many = _of(order, "Q" if big else "I", entry[4 : 12 if big else 8])
        bytes_needed = many * _TIFF_BYTES[kind]
        content = entry[-inline:][:bytes_needed]
        if bytes_needed > inline:
            stream.seek(_of(order, "Q" if big else "I", entry[-inline:]))
            content = stream.read(bytes_needed) if bytes_needed <= length else b""
        if len(content) < bytes_needed:
            raise cut
        values[tag] = struct.unpack(f"{order}{many}{_TIFF_FORMAT[kind]}", content)
    for offsets, lengths in zip(_OFFSETS, _LENGTHS, strict=True):
        ends = zip(values.get(offsets, ()), values.get(lengths, ()), strict=False)
        if any(first + bytes_there > length for first, bytes_there in ends):
            raise cut
    if _WIDTH in values and _HEIGHT in values:
        return values[_HEIGHT][0], values[_WIDTH][0]
    return None


def _of(order: str, kind: str, content: bytes) -> int:
    return int(struct.unpack(f"{order}{kind}", content)[0])
