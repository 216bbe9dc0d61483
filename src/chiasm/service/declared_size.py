"""What a file says of its own size, read before anything is decoded."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import tifffile

from chiasm.data.images import TIFF_MARKS
from chiasm.errors import DataError

# Some writers make a page of each row.
_MOST_PAGES = 8192
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_NPY = b"\x93NUMPY"
_ARCHIVES = (b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"7z\xbc\xaf")
# What is unpacked to a size that the page declares. Codecs of whole pictures (PNG, JPEG 2000,
# JPEG XL, WebP ...) have a size of their own inside, which their decoders believe instead.
_UNPACKED = frozenset({"NONE", "LZW", "DEFLATE", "ADOBE_DEFLATE", "PACKBITS", "ZSTD", "LZMA"})
# Frame headers of JPEG (ITU-T T.81, table B.1) that hold height and width.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that is decoded of one file.

    Attributes:
        pixels: of an image.
        values: of a series, or of an array (three to a pixel).
    """

    pixels: int
    values: int


def kind_of(content: bytes, where: str) -> str:
    """``"png"``, ``"jpeg"``, ``"bmp"``, ``"tiff"``, ``"npy"`` or ``"other"``, by the first bytes.

    Raises ``DataError`` for nothing at all and for archives, which are never unpacked.
    """
    if not content:
        raise DataError(f"{where} is empty (0 bytes); send the file again.")
    if content.startswith(_ARCHIVES):
        raise DataError(
            f"{where} is an archive (zip, npz, gzip or alike); send the files themselves, arrays "
            "as .npy."
        )
    if content.startswith(_PNG):
        return "png"
    if content.startswith(_JPEG):
        return "jpeg"
    if content.startswith(b"BM"):
        return "bmp"
    if content.startswith(_NPY):
        return "npy"
    return "tiff" if content[:4] in TIFF_MARKS else "other"


def check_image(content: bytes, where: str, limits: Limits) -> str:
    """Check that an image's declared size is bearable; returns its kind.

    Raises ``DataError`` where it is too large, cannot be told, or is no image.
    """
    kind = kind_of(content, where)
    if kind == "other":
        raise DataError(f"{where} is no PNG, JPEG, BMP, TIFF or .npy file.")
    if kind == "npy":
        check_array(content, where, limits.values)
        return kind
    if kind == "tiff":
        try:
            with tifffile.TiffFile(BytesIO(content)) as file:
                check_tiff(file, where=where, limits=limits, length=len(content))
        except DataError:
            raise
        except Exception as cause:
            raise _no_tiff(where, cause) from cause
    else:
        _check_size(*_SIZES[kind](content, where), where, limits)
    return kind


def check_tiff(
    file: tifffile.TiffFile, *, where: str, limits: Limits, length: int, plain: bool = False
) -> None:
    """Check what an open TIFF of ``length`` bytes declares.

    ``plain`` asks that its numbers be stored as they are or losslessly packed, and not as
    pictures within the picture.

    Raises ``DataError`` where it is too large, cut short, or cannot be told.
    """
    try:
        width, height = _tiff(file, where, length, plain=plain)
    except DataError:
        raise
    except Exception as cause:  # a damaged file makes tifffile raise nearly anything
        raise _no_tiff(where, cause) from cause
    _check_size(width, height, where, limits)


def _no_tiff(where: str, cause: Exception) -> DataError:
    return DataError(f"{where} cannot be decoded as TIFF ({cause}); it may be damaged.")


def _check_size(width: int, height: int, where: str, limits: Limits) -> None:
    if width < 1 or height < 1 or width * height > limits.pixels:
        raise DataError(
            f"{where} says that it is {width} x {height} pixels; this service decodes images of "
            f"1 to {limits.pixels:,} pixels (option --max-megapixels)."
        )


def check_array(content: bytes, where: str, values: int) -> None:
    """Check what the header of a .npy file declares; raises ``DataError`` in a sentence."""
    stream = BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, _, dtype = read(stream)
    except Exception as cause:  # the header is a Python literal: it may raise nearly anything
        raise DataError(f"{where} has no header that numpy.save would write.") from cause
    if dtype.hasobject or dtype.kind not in "fiub":
        raise DataError(f"{where} holds {dtype} values; numbers were expected.")
    count = 1
    for side in shape:
        count *= int(side)
    if any(side < 0 for side in shape) or count > values:
        raise DataError(
            f"{where} says that its shape is {shape}; this service takes arrays of at most "
            f"{values:,} values."
        )
    if len(content) - stream.tell() < count * dtype.itemsize:
        raise DataError(f"{where} is cut short: its shape {shape} needs more bytes than it has.")


def check_table(content: bytes, where: str, values: int) -> None:
    """Check that a CSV has no more cells than are bearable; raises ``DataError``."""
    cells = content.count(b",") + content.count(b"\n") + 1
    if cells > values:
        raise DataError(
            f"{where} has {cells:,} cells; this service takes series of at most {values:,} values."
        )


def _png(content: bytes, where: str) -> tuple[int, int]:
    if len(content) < 33 or content[12:16] != b"IHDR":
        raise DataError(f"{where} is cut short: a PNG begins with its size, and this one does not.")
    width, height = struct.unpack(">II", content[16:24])
    return width, height


def _bmp(content: bytes, where: str) -> tuple[int, int]:
    if len(content) < 26:
        raise DataError(f"{where} is cut short: a BMP begins with its size.")
    width, height = struct.unpack("<ii", content[18:26])
    return abs(width), abs(height)


def _jpeg(content: bytes, where: str) -> tuple[int, int]:
    at = 2
    while at + 9 <= len(content):
        if content[at] != 0xFF:
            break
        marker = content[at + 1]
        if marker == 0xFF or marker == 0x01 or 0xD0 <= marker <= 0xD8:
            at += 1 if marker == 0xFF else 2
            continue
        # Decoders skip 0x00 as filling and end at the others, so that what follows would be
        # measured in another place than it is decoded.
        if marker <= 0xBF or marker in (0xD9, 0xDA):
            break
        if marker in _FRAMES:
            height, width = struct.unpack(">HH", content[at + 5 : at + 9])
            return width, height
        at += 2 + max(2, int(struct.unpack(">H", content[at + 2 : at + 4])[0]))
    raise DataError(f"{where} is damaged: no size is found in the JPEG's header.")


def _tiff(file: tifffile.TiffFile, where: str, length: int, *, plain: bool) -> tuple[int, int]:
    """Width and height of the largest page, or of all that is read as one array.

    The height also counts what no picture has a place for.
    """
    if _more_pages_than(file, _MOST_PAGES):
        raise DataError(f"{where} holds more than {_MOST_PAGES} pages; send one part.")
    # Not the series alone: other decoders take the first page, whatever the series says.
    sizes = [_checked_page(page, where, plain=plain) for page in file.pages]
    series = file.series[0]
    _check_numbers(series.dtype, where)
    shape = tuple(int(side) for side in series.shape)
    kept = sum(int(count) for count in file.pages.first.databytecounts)
    if kept > length:
        raise DataError(f"{where} is cut short: its pixels take {kept:,} bytes, and it has fewer.")
    if len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, 4)):
        sizes.append((shape[1], shape[0]))
    else:
        # Of another shape than an image: whoever decodes it says what is wrong, if it is bearable.
        sizes.append((max(1, -(-math.prod(shape) // 4)), 1))
    if any(side < 1 for size in sizes for side in size):
        return 0, 0
    return max(sizes, key=math.prod)


def _checked_page(page: Any, where: str, *, plain: bool) -> tuple[int, int]:
    """Width and height of a page."""
    packed = getattr(page.compression, "name", str(page.compression))
    if plain and packed not in _UNPACKED:
        raise DataError(
            f"{where} is a TIFF with {packed} pictures inside; save its numbers without "
            "compression, or with LZW, Deflate, PackBits, Zstandard or LZMA."
        )
    _check_numbers(page.dtype, where)
    width, height = int(page.imagewidth), int(page.imagelength)
    values = width * height * int(page.imagedepth) * int(page.samplesperpixel)
    return (width, height) if values <= 4 * width * height else (max(1, -(-values // 4)), 1)


def _check_numbers(dtype: np.dtype[Any] | None, where: str) -> None:
    if dtype is None or dtype.kind not in "fiub" or dtype.itemsize > 8:
        raise DataError(
            f"{where} holds {dtype or 'unknown'} values; whole numbers or floats of 16 to 64 bits "
            "were expected."
        )


def _more_pages_than(file: tifffile.TiffFile, most: int) -> bool:
    try:
        file.pages[most]
    except IndexError:
        return False
    return True


_SIZES = {"png": _png, "jpeg": _jpeg, "bmp": _bmp}
