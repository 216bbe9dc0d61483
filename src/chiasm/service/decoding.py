"""Decode the files of a request into the arrays that a model takes, within limits."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from chiasm.detection.readers.camera import (
    CAMERA_COLUMNS,
    back_project,
    camera_for,
    camera_from_text,
)
from chiasm.detection.sensors.orientation import upright
from chiasm.diagnosis.readers.checked_sample import series_of_file
from chiasm.discharge import MeasuringSystem, Pulses
from chiasm.errors import DataError
from chiasm.files.decoding import TIFF_MARKS, Numbers, TiffCheck, numbers_of
from chiasm.files.images import depth_image, point_map, rgb_from_bytes
from chiasm.samples import FloatArray
from chiasm.service.multipart import Upload
from chiasm.service.refusals import shortened

PART_FIELDS = ("rgb", "xyz", "depth", *CAMERA_COLUMNS, "depth_unit", "source")

RECORDING_FIELDS = (
    *("image", "series", "frequency", "samples_per_cycle", "rows_in_time"),
    *("charge", "voltage_kv", "source"),
)

_FILES = frozenset({"rgb", "xyz", "depth", "image", "series"})


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Arrays of one part.

    Attributes:
        rgb: ``(H, W, 3)`` float32 in [0, 1], or None.
        xyz: ``(H, W, 3)`` float32 metres, 0 where missing, or None.
        notes: what was assumed when they were decoded.
    """

    rgb: FloatArray | None
    xyz: FloatArray | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """Arrays of one recording.

    Attributes:
        image: ``(H, W, 3)`` float32 in [0, 1], or None.
        series: ``(C, T)`` float32, recorder counts, or None.
        frequency: of the mains, Hz.
        samples_per_cycle: values of the series per mains cycle.
        pulses: single ones, where the recorder lists them.
        system: calibration and voltage.
    """

    image: FloatArray | None
    series: FloatArray | None
    frequency: float
    samples_per_cycle: int
    pulses: Pulses | None = None
    system: MeasuringSystem = field(default_factory=MeasuringSystem)


def check_fields(
    files: Mapping[str, Upload], fields: Mapping[str, str], allowed: tuple[str, ...]
) -> None:
    """Raise ``DataError`` for an unknown field, and for text in place of a file or vice versa."""
    for name in (*files, *fields):
        if name not in allowed:
            raise DataError(
                f"The field {shortened(name)!r} is unknown; this model takes {', '.join(allowed)}."
            )
        if (name in files) != (name in _FILES):
            expected = "a file" if name in _FILES else "text"
            raise DataError(f"The field {name!r} must be {expected}.")


def decode_part(files: Mapping[str, Upload], fields: Mapping[str, str], limits: Limits) -> Part:
    """Decode a part; raises ``DataError`` in a sentence that names file and field."""
    check_fields(files, fields, PART_FIELDS)
    if "xyz" in files and "depth" in files:
        raise DataError("Both xyz and depth were sent; send the one that the sensor measured.")
    rgb = _colour(files["rgb"], limits) if "rgb" in files else None
    xyz = None
    remarks: list[str] = []
    if "xyz" in files:
        xyz = _points(files["xyz"], limits, remarks)
    elif "depth" in files:
        xyz = _points_of_depth(files["depth"], fields, limits, remarks)
    if rgb is not None:
        partner = None if xyz is None else (xyz.shape[0], xyz.shape[1])
        upload = files["rgb"]
        rgb = upright(rgb, upload.content, partner=partner, name=upload.where)
    return Part(rgb, xyz, tuple(remarks))


def decode_recording(
    files: Mapping[str, Upload], fields: Mapping[str, str], limits: Limits, *, channels: int
) -> Recording:
    """Decode a recording; raises ``DataError`` in a sentence that names file and field.

    Rows of a table are points in time if the model takes one channel, and channels otherwise; the
    field ``rows_in_time`` overrides this.
    """
    check_fields(files, fields, RECORDING_FIELDS)
    rows_in_time = fields.get("rows_in_time", str(channels == 1)).strip().lower()
    if rows_in_time not in ("true", "false"):
        raise DataError(f"rows_in_time is {shortened(rows_in_time)!r}; true or false was expected.")
    image = _colour(files["image"], limits) if "image" in files else None
    per_cycle = number(fields, "samples_per_cycle", 128.0)
    if per_cycle != int(per_cycle) or not 2 <= per_cycle <= 2**20:
        raise DataError(f"samples_per_cycle is {per_cycle:g}; a whole number from 2 was expected.")
    frequency = number(fields, "frequency", 60.0)
    if "series" not in files:
        return Recording(image, None, frequency, int(per_cycle))
    upload = files["series"]
    _check_series(upload, limits)
    given = "rows_in_time" in fields
    recorded = series_of_file(
        (upload.where, upload.content),
        channels=1 if rows_in_time == "true" else max(channels, 2),
        frequency=frequency,
        samples_per_cycle=int(per_cycle),
        layout="" if not given else "rows" if rows_in_time == "true" else "channels",
        charge=number(fields, "charge", 1.0) if fields.get("charge", "").strip() else None,
        voltage_kv=(
            number(fields, "voltage_kv", 1.0) if fields.get("voltage_kv", "").strip() else None
        ),
    )
    return Recording(
        recorded.image if image is None else image,
        recorded.series,
        recorded.frequency,
        recorded.samples_per_cycle,
        recorded.pulses,
        recorded.system,
    )


def number(fields: Mapping[str, str], name: str, default: float) -> float:
    """Return the value of a field; raises ``DataError`` unless it is a positive number."""
    text = fields.get(name, "").strip()
    try:
        value = float(text) if text else default
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise DataError(f"{name} is {shortened(text)!r}; a positive number was expected.")
    return value


def _colour(upload: Upload, limits: Limits) -> FloatArray:
    if check_image(upload.content, upload.where, limits) != "npy":
        return rgb_from_bytes(upload.content, upload.where)
    pixels = _array(upload)
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        raise DataError(
            f"{upload.where} has shape {pixels.shape}; (height, width, 3) was expected."
        )
    if pixels.dtype in (np.uint8, np.uint16):
        return pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)
    if pixels.dtype.kind != "f" or not (
        np.isfinite(pixels).all() and pixels.min(initial=0) >= 0 and pixels.max(initial=0) <= 1
    ):
        raise DataError(
            f"{upload.where} holds {pixels.dtype} values that are not colours: send unsigned "
            "integers of 8 or 16 bits, or floats in [0, 1] without NaN."
        )
    return np.ascontiguousarray(pixels, dtype=np.float32)


def _points(upload: Upload, limits: Limits, remarks: list[str]) -> FloatArray:
    kind = kind_of(upload.content, upload.where)
    if kind == "tiff":
        numbers = numbers_of(upload.content, upload.where, _tiff_check(upload, limits))
        return point_map(numbers, upload.where, remarks=remarks)
    check_image(upload.content, upload.where, limits)
    if kind == "npy":
        return point_map(Numbers(_array(upload)), upload.where, remarks=remarks)
    raise DataError(
        f"{upload.where} is a {kind.upper()} file; points must be a TIFF of three floats per "
        "pixel or a .npy file. Send a depth image in the field 'depth', with fx, fy, cx and cy."
    )


def _points_of_depth(
    upload: Upload, fields: Mapping[str, str], limits: Limits, remarks: list[str]
) -> FloatArray:
    camera = camera_from_text(
        {name: fields.get(name, "") for name in CAMERA_COLUMNS}, "The request"
    )
    unit = number(fields, "depth_unit", 0.001)
    kind = kind_of(upload.content, upload.where)
    if kind != "tiff":
        check_image(upload.content, upload.where, limits)
    if kind == "npy":
        counts = _array(upload)
        if counts.ndim != 2:
            raise DataError(
                f"{upload.where} has shape {counts.shape}; (height, width) was expected."
            )
        numbers = Numbers(counts)
    else:
        numbers = numbers_of(upload.content, upload.where, _tiff_check(upload, limits))
    depth = depth_image(numbers, upload.where, unit, remarks=remarks)
    return back_project(depth, camera_for(camera, depth.shape, upload.where))


def _tiff_check(upload: Upload, limits: Limits) -> TiffCheck:
    return partial(
        check_tiff, where=upload.where, limits=limits, length=len(upload.content), plain=True
    )


def _check_series(upload: Upload, limits: Limits) -> None:
    """Check type and size of a series before it is decoded."""
    kind = kind_of(upload.content, upload.where)
    if kind == "npy":
        check_array(upload.content, upload.where, limits.values)
    elif kind != "other" or upload.content[:2] == b"PK":
        name = kind.upper() if kind != "other" else "ZIP"
        raise DataError(f"{upload.where} is a {name} file; a series must be a table or .npy.")
    else:
        check_table(upload.content, upload.where, limits.values)


def _array(upload: Upload) -> NDArray[Any]:
    try:
        loaded = np.load(BytesIO(upload.content), allow_pickle=False)
    except (ValueError, EOFError, OSError) as cause:
        raise DataError(f"{upload.where} cannot be read as a numpy array ({cause}).") from cause
    return np.asarray(loaded)


# Some programs write each row as a page.
_MOST_PAGES = 8192

_PNG = b"\x89PNG\r\n\x1a\n"

_JPEG = b"\xff\xd8\xff"

_NPY = b"\x93NUMPY"

_ARCHIVES = (b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"7z\xbc\xaf")

# Codecs that unpack to the size that the page declares. Codecs of whole pictures (PNG, JPEG 2000,
# JPEG XL, WebP ...) hold another size, which their decoders use instead.
_PLAIN_CODECS = frozenset({"NONE", "LZW", "DEFLATE", "ADOBE_DEFLATE", "PACKBITS", "ZSTD", "LZMA"})

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
    """Return ``"png"``, ``"jpeg"``, ``"bmp"``, ``"tiff"``, ``"npy"`` or ``"other"``.

    Decides by the first bytes. Raises ``DataError`` for an empty file and for archives, which are
    never unpacked.
    """
    if not content:
        raise DataError(f"{where} is empty (0 bytes); send the file again.")
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
    return "tiff" if content[:4] in TIFF_MARKS else "other"


def check_image(content: bytes, where: str, limits: Limits) -> str:
    """Check the size that an image declares, and return the image's kind.

    Raises ``DataError`` if the size is too large or unknown, or the file is not an image.
    """
    kind = kind_of(content, where)
    if kind == "other":
        raise DataError(f"{where} is not a PNG, JPEG, BMP, TIFF or .npy file.")
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
    stream = BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, _, dtype = read(stream)
    except Exception as cause:  # the header is a Python literal: it may raise nearly anything
        raise DataError(f"{where} has no valid .npy header; write it with numpy.save.") from cause
    if dtype.hasobject or dtype.kind not in "fiub":
        raise DataError(f"{where} holds {dtype} values; numbers were expected.")
    count = 1
    for side in shape:
        count *= int(side)
    if any(side < 0 for side in shape) or count > values:
        raise DataError(
            f"{where} declares the shape {shape}; this service takes arrays of at most "
            f"{values:,} values."
        )
    if len(content) - stream.tell() < count * dtype.itemsize:
        raise DataError(f"{where} is cut short: its shape {shape} needs more bytes than it has.")


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


_SIZES = {"png": _png, "jpeg": _jpeg, "bmp": _bmp}
