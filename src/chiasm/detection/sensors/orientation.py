"""The EXIF orientation of image files: cameras store frames as they lie, and note how to turn them.

Source: CIPA DC-008, Exchangeable image file format (EXIF) 2.32, tag 274.
"""

from __future__ import annotations

import struct
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from chiasm.errors import DataError

Pixels = TypeVar("Pixels", bound=NDArray[Any])

UPRIGHT = 1
_TAG, _SHORT = 274, 3
_TIFF_ORDERS = {b"II": "<", b"MM": ">"}
_BACK = {6: 8, 8: 6}  # every other turn is its own inverse


def upright(
    pixels: Pixels, content: bytes, *, partner: tuple[int, int] | None, name: str
) -> Pixels:
    """Turn an image as it is to be looked at, or leave it as the partner of its pixels lies.

    Args:
        pixels: ``(H, W, ...)`` as OpenCV decodes the file, which turns TIFF files alone.
        content: the bytes of the file.
        partner: height and width of the 3D points that the pixels belong to; None without any.
        name: of the file in messages.

    Raises:
        DataError: it cannot be told by the sizes whether the 3D points belong to the image as it
            is stored or as it is looked at.
    """
    orientation = orientation_of(content)
    if orientation == UPRIGHT:
        return pixels
    if content[:2] in _TIFF_ORDERS:
        stored, looked_at = turned(pixels, _BACK.get(orientation, orientation)), pixels
    else:
        stored, looked_at = pixels, turned(pixels, orientation)
    if partner is None:
        return looked_at
    fitting = [image for image in (stored, looked_at) if image.shape[:2] == partner]
    if len(fitting) == 2:
        raise DataError(
            f"{name} is to be turned when it is looked at (EXIF orientation {orientation}), and "
            "nothing tells whether its 3D points belong to the image as it is stored or turned. "
            "Remove the note (exiftool -Orientation= FILE) where they belong to it as stored, else "
            "save the image turned."
        )
    return fitting[0] if fitting else pixels


def orientation_of(content: bytes) -> int:
    """Return the EXIF orientation of a JPEG, PNG, WebP or TIFF file's bytes.

    It is 1 to 8; 1 (as stored) where there is none, and where the note is damaged.
    """
    try:
        return _first_directory(_note(content))
    except (struct.error, IndexError, ValueError):
        return UPRIGHT


def turned(pixels: Pixels, orientation: int) -> Pixels:
    """Turn ``(H, W, ...)`` as it is to be looked at.

    Example:
        >>> turned(np.array([[1, 2]]), 6).tolist()  # by 90 degrees clockwise
        [[1], [2]]
    """
    image: Any = pixels
    if orientation >= 5:
        image = np.swapaxes(image, 0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)  # type: ignore[return-value]


def _note(content: bytes) -> bytes:
    """Return the TIFF structure with the notes of a file; b"" without one."""
    if content[:2] in _TIFF_ORDERS:
        return content
    if content[:2] == b"\xff\xd8":
        return _jpeg_note(content)
    if content[:8] == b"\x89PNG\r\n\x1a\n":
        return _chunk(content, 8, b"eXIf", ">")
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return _chunk(content, 12, b"EXIF", "<")
    return b""


def _jpeg_note(content: bytes) -> bytes:
    place = 2
    while content[place] == 0xFF and content[place + 1] != 0xDA:  # the pixels follow
        (length,) = struct.unpack_from(">H", content, place + 2)
        segment = content[place + 4 : place + 2 + length]
        if content[place + 1] == 0xE1 and segment[:6] == b"Exif\0\0":
            return segment[6:]
        place += 2 + length
    return b""


def _chunk(content: bytes, place: int, name: bytes, order: str) -> bytes:
    """Return the content of a named chunk of PNG (big-endian) or WebP (little-endian)."""
    while place + 8 <= len(content):
        first, second = content[place : place + 4], content[place + 4 : place + 8]
        # PNG has the length before the name, WebP behind it.
        tag, size = (second, first) if order == ">" else (first, second)
        (length,) = struct.unpack(order + "I", size)
        if tag == name:
            chunk = content[place + 8 : place + 8 + length]
            return chunk.removeprefix(b"Exif\0\0")
        place += 8 + length + (4 if order == ">" else length % 2)  # check sum; padding
    return b""


def _first_directory(note: bytes) -> int:
    """Return the orientation in the first directory of a TIFF structure."""
    order = _TIFF_ORDERS.get(note[:2])
    if order is None or struct.unpack_from(order + "H", note, 2) != (42,):
        return UPRIGHT
    (place,) = struct.unpack_from(order + "I", note, 4)
    (entries,) = struct.unpack_from(order + "H", note, place)
    for number in range(entries):
        tag, kind, _, value = struct.unpack_from(order + "HHIH", note, place + 2 + 12 * number)
        if tag == _TAG:
            return value if kind == _SHORT and 1 <= value <= 8 else UPRIGHT
    return UPRIGHT
