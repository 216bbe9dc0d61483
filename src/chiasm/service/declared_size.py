"""The size that a file declares, checked before anything of it is decoded or unpacked.

Every format that may hold more than its bytes, by compression or by a header that lies, is measured
here. What is not measured is not decoded.
"""

from __future__ import annotations

import math
import re
import struct
import zipfile
import zlib
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import tifffile

from chiasm.detection.sensors.point_clouds import is_cloud
from chiasm.errors import DataError
from chiasm.files.decoding import TIFF_MARKS

# Some programs write each row as a page.
_MOST_PAGES = 8192

_PNG = b"\x89PNG\r\n\x1a\n"

_JPEG = b"\xff\xd8\xff"

_NPY = b"\x93NUMPY"

_ZIP, _EXR = b"PK\x03\x04", b"v/1\x01"

_PORTABLE = re.compile(rb"(?:P5|P6|Pf|PF)(?:\s+(?:#[^\n]*\n\s*)*)(\d{1,9})\s+(\d{1,9})\s")

_ARCHIVES = (b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"7z\xbc\xaf")

# Codecs that unpack to the size that the page declares. Codecs of whole pictures (PNG, JPEG 2000,
# JPEG XL, WebP ...) hold another size, which their decoders use instead.
_PLAIN_CODECS = frozenset({"NONE", "LZW", "DEFLATE", "ADOBE_DEFLATE", "PACKBITS", "ZSTD", "LZMA"})

# Bytes of a header that are read: of a .npy file, of a cloud or OpenEXR file, of a camera's file.
_HEADER, _LONGEST_HEADER, _MOST_FACTS = 16_384, 65_536, 100_000

_MATLAB, _PACKED = b"MATLAB", 15
_MATLAB_HDF = b"MATLAB 7.3"  # which no reader here opens

_EXR_PARTS = 0x1800  # flags of the version: deep pixels, several parts

# JPEG markers of frame headers, which hold height and width (ITU-T T.81, table B.1).
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of what is decoded from one file.

    Attributes:
        pixels: of an image.
        values: of a series, or of an array (three per pixel).
    """

    pixels: int
    values: int


def kind_of(content: bytes, where: str) -> str:
    """Return ``"png"``, ``"jpeg"``, ``"bmp"``, ``"webp"``, ``"tiff"``, ``"npy"`` or ``"other"``.

    Decides by the first bytes. Raises ``DataError`` for an empty file and for archives, which are
    not unpacked as images.
    """
    check_not_empty(content, where)
    if content.startswith(_ARCHIVES):
        raise DataError(
            f"{where} is an archive (zip, npz, gzip or similar); send the files themselves, arrays "
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
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "webp"
    return "tiff" if content[:4] in TIFF_MARKS else "other"


def check_not_empty(content: bytes, where: str) -> None:
    """Raise ``DataError`` for a file of 0 bytes."""
    if not content:
        raise DataError(f"{where} is empty (0 bytes); send the file again.")


def check_sensor_file(content: bytes, where: str, limits: Limits) -> None:
    """Check what a file of depth, heights or points of any format declares.

    Raises ``DataError`` if that is too large, or cannot be told.
    """
    check_not_empty(content, where)
    if content.startswith(_ZIP):
        check_archive(content, where, limits.values)
    elif content[:4] in TIFF_MARKS:
        try:
            with tifffile.TiffFile(BytesIO(content)) as file:
                check_tiff(file, where=where, limits=limits, length=len(content), plain=True)
        except DataError:
            raise
        except Exception as cause:
            raise _broken_tiff(where, cause) from cause
    elif content.startswith(_EXR):
        _check_size(*_exr(content, where), where, limits)
    elif found := _PORTABLE.match(content[:4096]):
        _check_size(int(found[1]), int(found[2]), where, limits)
    elif is_cloud(content):
        check_cloud(content, where, limits)
    elif kind_of(content, where) == "other":
        check_table(content, where, limits.values)
    else:
        check_image(content, where, limits)


def check_facts(content: bytes, where: str) -> None:
    """Check a file of a camera, which is small whatever its format; raises ``DataError``."""
    check_not_empty(content, where)
    if len(content) > _MOST_FACTS:
        raise DataError(
            f"{where} has {len(content):,} bytes; the intrinsics of a camera take less than "
            f"{_MOST_FACTS:,}."
        )
    if content.startswith(_ZIP):
        check_archive(content, where, _MOST_FACTS)
    elif content.startswith(_NPY):
        check_array(content, where, _MOST_FACTS)
    elif content.startswith(_MATLAB):
        check_matlab(content, where, 8 * _MOST_FACTS)


def check_archive(content: bytes, where: str, values: int) -> None:
    """Check that a zip archive holds arrays of at most ``values`` numbers together.

    Raises ``DataError`` for another archive, and for one that declares more.
    """
    left = values
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            members = archive.infolist()
            if not members or any(not member.filename.endswith(".npy") for member in members):
                raise DataError(
                    f"{where} is an archive, and no npz of numpy; send the files themselves."
                )
            for member in members:
                with archive.open(member) as stream:
                    head = stream.read(_HEADER)
                array = declared_array(head, f"{member.filename} of {where}", texts=True)
                left -= array.count
                if left < 0:
                    break
                array.check_length(member.file_size, f"{member.filename} of {where}")
    except DataError:
        raise
    except Exception as cause:  # a damaged archive makes zipfile raise nearly anything
        raise DataError(f"{where} cannot be read as an npz archive ({cause}).") from cause
    if left < 0:
        raise DataError(
            f"{where} declares more than {values:,} values, which this service takes at most."
        )


def check_matlab(content: bytes, where: str, most: int) -> None:
    """Check that what is packed in a MATLAB file (to version 7) takes at most ``most`` bytes.

    Raises ``DataError`` if it takes more, or the file is damaged.

    References:
        MathWorks, MAT-File Format, 2022, chapter 1: elements of type 15 are zlib streams.
    """
    if content.startswith(_MATLAB_HDF):
        return
    order = "<" if content[126:128] == b"IM" else ">"
    at, left = 128, most
    while at + 8 <= len(content):
        kind, size = struct.unpack_from(order + "II", content, at)
        if kind == _PACKED:
            stream = zlib.decompressobj()
            try:
                left -= len(stream.decompress(content[at + 8 : at + 8 + size], max(left, 0) + 1))
            except zlib.error as cause:
                raise DataError(f"{where} is a damaged MATLAB file ({cause}).") from cause
        else:
            left -= size
        if left < 0:
            raise DataError(
                f"{where} unpacks to more than {most:,} bytes, which this service takes at most."
            )
        at += 8 + size


def check_cloud(content: bytes, where: str, limits: Limits) -> None:
    """Check the points that the header of a PLY or PCD file declares; raises ``DataError``."""
    end = b"end_header" if content.startswith(b"ply") else b"\nDATA"
    head = content[: max(0, content.find(end, 0, _LONGEST_HEADER))]
    counts = [int(n) for n in re.findall(rb"^element\s+\S+\s+(\d{1,12})", head, re.MULTILINE)]
    sides = re.findall(rb"^(?:WIDTH|HEIGHT)\s+(\d{1,9})", head, re.MULTILINE)
    repeated = re.findall(rb"^COUNT\s+([\d ]+)", head, re.MULTILINE)
    fields = sum(int(n) for line in repeated for n in line.split()[:1000])
    points = max([*counts, math.prod(map(int, sides)) if sides else 0])
    if points > limits.pixels or points * fields > 4 * limits.values:
        raise DataError(
            f"{where} declares {points:,} points; this service takes clouds of at most "
            f"{limits.pixels:,} (option --max-megapixels)."
        )


def check_image(content: bytes, where: str, limits: Limits) -> str:
    """Check the size that an image declares, and return the image's kind.

    Raises ``DataError`` if the size is too large or unknown, or the file is not an image.
    """
    kind = kind_of(content, where)
    if kind == "other":
        raise DataError(f"{where} is not a PNG, JPEG, BMP, WebP, TIFF or .npy file.")
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
            raise _broken_tiff(where, cause) from cause
    else:
        _check_size(*_SIZES[kind](content, where), where, limits)
    return kind


def check_tiff(
    file: tifffile.TiffFile, *, where: str, limits: Limits, length: int, plain: bool = False
) -> None:
    """Check the size that an open TIFF of ``length`` bytes declares.

    ``plain`` requires numbers that are stored uncompressed or losslessly packed, and not as
    embedded pictures.

    Raises ``DataError`` if the size is too large or unknown, or the file is cut short.
    """
    try:
        width, height = _tiff(file, where, length, plain=plain)
    except DataError:
        raise
    except Exception as cause:  # a damaged file makes tifffile raise nearly anything
        raise _broken_tiff(where, cause) from cause
    _check_size(width, height, where, limits)


def _broken_tiff(where: str, cause: Exception) -> DataError:
    return DataError(f"{where} cannot be decoded as TIFF ({cause}); it may be damaged.")


def _check_size(width: int, height: int, where: str, limits: Limits) -> None:
    if width < 1 or height < 1 or width * height > limits.pixels:
        raise DataError(
            f"{where} declares {width} x {height} pixels; this service decodes images of "
            f"1 to {limits.pixels:,} pixels (option --max-megapixels)."
        )


def check_array(content: bytes, where: str, values: int) -> None:
    """Check the shape and type that a .npy file declares; raises ``DataError``."""
    array = declared_array(content, where)
    if array.count > values:
        raise DataError(
            f"{where} declares {array.count:,} values; this service takes arrays of at most "
            f"{values:,} values."
        )
    array.check_length(len(content), where)


@dataclass(frozen=True, slots=True)
class DeclaredArray:
    """What a .npy file declares.

    Attributes:
        count: of values.
        nbytes: that they take, behind the header of ``header`` bytes.
    """

    count: int
    nbytes: int
    header: int

    def check_length(self, length: int, where: str) -> None:
        """Raise ``DataError`` for a file of fewer bytes."""
        if length < self.header + self.nbytes:
            raise DataError(f"{where} is cut short: its {self.count:,} values need more bytes.")


def declared_array(head: bytes, where: str, *, texts: bool = False) -> DeclaredArray:
    """Read the head of a .npy file; raises ``DataError`` for values that are no numbers.

    ``texts`` lets facts in words pass, which archives hold beside numbers.
    """
    stream = BytesIO(head)
    try:
        version = np.lib.format.read_magic(stream)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, _, dtype = read(stream)
    except Exception as cause:  # the header is a Python literal: it may raise nearly anything
        raise DataError(f"{where} has no valid .npy header; write it with numpy.save.") from cause
    if dtype.hasobject or dtype.kind not in ("fiubUS" if texts else "fiub"):
        raise DataError(f"{where} holds {dtype} values; numbers were expected.")
    if any(side < 0 for side in shape):
        raise DataError(f"{where} declares the shape {shape}, which is none.")
    count = math.prod(int(side) for side in shape)
    if dtype.kind in "US":
        return DeclaredArray(count * dtype.itemsize, count * dtype.itemsize, stream.tell())
    return DeclaredArray(count, count * dtype.itemsize, stream.tell())


def check_series(content: bytes, where: str, limits: Limits) -> None:
    """Check type and size of a recorder's file before it is decoded; raises ``DataError``."""
    check_not_empty(content, where)
    if content.startswith(_ZIP):
        check_archive(content, where, limits.values)
        return
    if content.startswith(_MATLAB):
        check_matlab(content, where, 8 * limits.values)
        return
    kind = kind_of(content, where)
    if kind == "npy":
        check_array(content, where, limits.values)
    elif kind != "other":
        raise DataError(
            f"{where} is a {kind.upper()} file; a series is a table, .npy, .npz, .mat or an "
            "instrument's XML. A picture of a pattern belongs into the field image."
        )
    else:
        check_table(content, where, limits.values)


def check_table(content: bytes, where: str, values: int) -> None:
    """Check the number of cells of a CSV; raises ``DataError``."""
    cells = sum(content.count(mark) for mark in (b",", b";", b"\t", b" ", b"\n")) + 1
    if cells > values:
        raise DataError(
            f"{where} has {cells:,} cells; this service takes series of at most {values:,} values."
        )


def _png(content: bytes, where: str) -> tuple[int, int]:
    if len(content) < 33 or content[12:16] != b"IHDR":
        raise DataError(f"{where} is cut short: the size at the start of a PNG is missing.")
    width, height = struct.unpack(">II", content[16:24])
    return width, height


def _bmp(content: bytes, where: str) -> tuple[int, int]:
    if len(content) < 26:
        raise DataError(f"{where} is cut short: the size at the start of a BMP is missing.")
    width, height = struct.unpack("<ii", content[18:26])
    return abs(width), abs(height)


def _webp(content: bytes, where: str) -> tuple[int, int]:
    """Return width and height of a WebP (RFC 9649), of its canvas where it has one."""
    kind, body = content[12:16], content[20:]
    if kind == b"VP8X" and len(body) >= 10:
        width, height = (int.from_bytes(body[at : at + 3], "little") + 1 for at in (4, 7))
        return width, height
    if kind == b"VP8L" and len(body) >= 5 and body[0] == 0x2F:
        bits = int.from_bytes(body[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 " and len(body) >= 10:
        width, height = struct.unpack("<HH", body[6:10])
        return width & 0x3FFF, height & 0x3FFF
    raise DataError(f"{where} is cut short: the size at the start of a WebP is missing.")


def _exr(content: bytes, where: str) -> tuple[int, int]:
    """Return the width of an OpenEXR file, and its height times its channels over four.

    References:
        OpenEXR File Layout, section Header: attributes of name, type, size and value.
    """
    if len(content) < 8 or struct.unpack_from("<I", content, 4)[0] & _EXR_PARTS:
        raise DataError(
            f"{where} is an OpenEXR file of several parts or deep pixels; send one image."
        )
    at, window, channels = 8, None, 1
    while at < min(len(content), _LONGEST_HEADER) and content[at]:
        name, _, rest = content[at : at + 600].partition(b"\0")
        kind, _, rest = rest.partition(b"\0")
        at += len(name) + len(kind) + 2
        if len(rest) < 4:
            break
        (size,) = struct.unpack_from("<I", content, at)
        value = content[at + 4 : at + 4 + min(size, _LONGEST_HEADER)]
        if name == b"dataWindow" and len(value) == 16:
            window = struct.unpack("<4i", value)
        elif name == b"channels":
            channels = max(1, value.count(b"\0\0\0\1\0\0\0\1\0\0\0"))
        at += 4 + size
    if window is None:
        raise DataError(f"{where} is damaged: no size is found in the OpenEXR header.")
    left, top, right, bottom = window
    return right - left + 1, (bottom - top + 1) * -(-channels // 4)


def _jpeg(content: bytes, where: str) -> tuple[int, int]:
    at = 2
    while at + 9 <= len(content):
        if content[at] != 0xFF:
            break
        marker = content[at + 1]
        if marker == 0xFF or marker == 0x01 or 0xD0 <= marker <= 0xD8:
            at += 1 if marker == 0xFF else 2
            continue
        # Decoders skip 0x00 as filling and end at the others: they would decode another frame
        # than the one measured here.
        if marker <= 0xBF or marker in (0xD9, 0xDA):
            break
        if marker in _FRAMES:
            height, width = struct.unpack(">HH", content[at + 5 : at + 9])
            return width, height
        at += 2 + max(2, int(struct.unpack(">H", content[at + 2 : at + 4])[0]))
    raise DataError(f"{where} is damaged: no size is found in the JPEG's header.")


def _tiff(file: tifffile.TiffFile, where: str, length: int, *, plain: bool) -> tuple[int, int]:
    """Return width and height of the largest page, or of the series if that is larger.

    Values beyond four per pixel count as further height.
    """
    if _more_pages_than(file, _MOST_PAGES):
        raise DataError(f"{where} holds more than {_MOST_PAGES} pages; send one part.")
    # Pages besides the series: OpenCV decodes the first page, whatever the series declares.
    sizes = [_checked_page(page, where, plain=plain) for page in file.pages]
    series = file.series[0]
    _check_numbers(series.dtype, where)
    shape = tuple(int(side) for side in series.shape)
    stored = sum(int(count) for count in file.pages.first.databytecounts)
    if stored > length:
        raise DataError(
            f"{where} is cut short: its pixels take {stored:,} bytes, and it has fewer."
        )
    if len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, 4)):
        sizes.append((shape[1], shape[0]))
    else:
        # Not the shape of an image: the decoder says what is wrong, if the size is within limits.
        sizes.append((max(1, -(-math.prod(shape) // 4)), 1))
    if any(side < 1 for size in sizes for side in size):
        return 0, 0
    return max(sizes, key=math.prod)


def _checked_page(page: Any, where: str, *, plain: bool) -> tuple[int, int]:
    """Return width and height of a page."""
    compression = page.compression
    codec = compression.name if isinstance(compression, tifffile.COMPRESSION) else str(compression)
    if plain and codec not in _PLAIN_CODECS:
        raise DataError(
            f"{where} is a TIFF with {codec} pictures inside; save its numbers without "
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


_SIZES = {"png": _png, "jpeg": _jpeg, "bmp": _bmp, "webp": _webp}
