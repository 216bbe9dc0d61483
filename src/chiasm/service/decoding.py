"""From the files of a request to the arrays that a model takes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiasm.data.discharge.series_files import checked_series, numbers_from_bytes
from chiasm.data.images import (
    TiffCheck,
    checked_xyz,
    depth_from_bytes,
    rgb_from_bytes,
    xyz_from_bytes,
)
from chiasm.data.intrinsics import CAMERA_COLUMNS, camera_from_text
from chiasm.data.pinhole import back_project
from chiasm.errors import DataError
from chiasm.samples import FloatArray
from chiasm.service.declared_size import (
    Limits,
    check_array,
    check_image,
    check_table,
    check_tiff,
    kind_of,
)
from chiasm.service.parts_of_request import Upload
from chiasm.service.refusals import shortened

PART_FIELDS = ("rgb", "xyz", "depth", *CAMERA_COLUMNS, "depth_unit", "source")
RECORDING_FIELDS = ("image", "series", "frequency", "samples_per_cycle", "rows_in_time", "source")
_FILES = frozenset({"rgb", "xyz", "depth", "image", "series"})


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Arrays of one part.

    Attributes:
        rgb: ``(H, W, 3)`` float32 in [0, 1], or None.
        xyz: ``(H, W, 3)`` float32 metres, 0 where missing, or None.
    """

    rgb: FloatArray | None
    xyz: FloatArray | None


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """Arrays of one recording.

    Attributes:
        image: ``(H, W, 3)`` float32 in [0, 1], or None.
        series: ``(C, T)`` float32, recorder counts, or None.
        frequency: of the mains, Hz.
        samples_per_cycle: values of the series per mains cycle.
    """

    image: FloatArray | None
    series: FloatArray | None
    frequency: float
    samples_per_cycle: int


def check_fields(
    files: Mapping[str, Upload], fields: Mapping[str, str], allowed: tuple[str, ...]
) -> None:
    """Raise ``DataError`` for a field that a model of this kind does not know."""
    for name in (*files, *fields):
        if name not in allowed:
            raise DataError(
                f"The field {shortened(name)!r} is unknown; this model takes {', '.join(allowed)}."
            )
        if (name in files) != (name in _FILES):
            wanted = "a file" if name in _FILES else "text"
            raise DataError(f"The field {name!r} must be {wanted}.")


def decode_part(files: Mapping[str, Upload], fields: Mapping[str, str], limits: Limits) -> Part:
    """Decode a part; raises ``DataError`` in a sentence that names file and field."""
    check_fields(files, fields, PART_FIELDS)
    if "xyz" in files and "depth" in files:
        raise DataError("Both xyz and depth were sent; send the one that the sensor measured.")
    rgb = _colour(files["rgb"], limits) if "rgb" in files else None
    xyz = None
    if "xyz" in files:
        xyz = _points(files["xyz"], limits)
    elif "depth" in files:
        xyz = _points_of_depth(files["depth"], fields, limits)
    return Part(rgb, xyz)


def decode_recording(
    files: Mapping[str, Upload], fields: Mapping[str, str], limits: Limits, *, channels: int
) -> Recording:
    """Decode a recording; raises ``DataError`` in a sentence that names file and field.

    Rows of a table follow each other in time where the model takes one channel, and are channels
    otherwise, unless ``rows_in_time`` says so.
    """
    check_fields(files, fields, RECORDING_FIELDS)
    rows_in_time = fields.get("rows_in_time", str(channels == 1)).strip().lower()
    if rows_in_time not in ("true", "false"):
        raise DataError(f"rows_in_time is {shortened(rows_in_time)!r}; true or false was expected.")
    image = _colour(files["image"], limits) if "image" in files else None
    series = None
    if "series" in files:
        series = _series(files["series"], limits, rows_in_time=rows_in_time == "true")
    cycle = number(fields, "samples_per_cycle", 128.0)
    if cycle != int(cycle) or not 2 <= cycle <= 2**20:
        raise DataError(f"samples_per_cycle is {cycle:g}; a whole number from 2 was expected.")
    return Recording(image, series, number(fields, "frequency", 60.0), int(cycle))


def number(fields: Mapping[str, str], name: str, default: float) -> float:
    """A field that is a positive number; raises ``DataError`` for any other."""
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
        raise DataError(f"{upload.where} has shape {pixels.shape}; (height, width, 3) is wanted.")
    if pixels.dtype in (np.uint8, np.uint16):
        return pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)
    if pixels.dtype.kind != "f" or not (
        np.isfinite(pixels).all() and pixels.min(initial=0) >= 0 and pixels.max(initial=0) <= 1
    ):
        raise DataError(
            f"{upload.where} holds {pixels.dtype} values that are no colours: send unsigned 8 or "
            "16 bits, or floats in [0, 1] without NaN."
        )
    return np.ascontiguousarray(pixels, dtype=np.float32)


def _points(upload: Upload, limits: Limits) -> FloatArray:
    kind = kind_of(upload.content, upload.where)
    if kind == "tiff":
        return xyz_from_bytes(upload.content, upload.where, _tiff_check(upload, limits))
    check_image(upload.content, upload.where, limits)
    if kind == "npy":
        return checked_xyz(_array(upload), upload.where)
    raise DataError(
        f"{upload.where} is a {kind.upper()} file; points are a TIFF of three floats a pixel "
        "or a .npy file. A depth image goes into the field 'depth', with fx, fy, cx and cy."
    )


def _points_of_depth(upload: Upload, fields: Mapping[str, str], limits: Limits) -> FloatArray:
    camera = camera_from_text(
        {name: fields.get(name, "") for name in CAMERA_COLUMNS}, "The request"
    )
    unit = number(fields, "depth_unit", 0.001)
    kind = kind_of(upload.content, upload.where)
    if kind != "tiff":
        check_image(upload.content, upload.where, limits)
    if kind != "npy":
        check = _tiff_check(upload, limits)
        return back_project(depth_from_bytes(upload.content, upload.where, unit, check), camera)
    counts = _array(upload)
    if counts.ndim != 2:
        raise DataError(f"{upload.where} has shape {counts.shape}; (height, width) is wanted.")
    metres = counts.astype(np.float64) * unit
    metres = np.where(np.isfinite(metres), metres, 0)
    if (metres < 0).any():
        raise DataError(f"{upload.where} has negative depth.")
    return back_project(metres, camera)


def _tiff_check(upload: Upload, limits: Limits) -> TiffCheck:
    return partial(
        check_tiff, where=upload.where, limits=limits, length=len(upload.content), plain=True
    )


def _series(upload: Upload, limits: Limits, *, rows_in_time: bool) -> FloatArray:
    kind = kind_of(upload.content, upload.where)
    if kind == "npy":
        check_array(upload.content, upload.where, limits.values)
        return checked_series(_array(upload), upload.where, rows_in_time=rows_in_time)
    if kind != "other":
        raise DataError(f"{upload.where} is a {kind.upper()} file; a series is CSV or .npy.")
    check_table(upload.content, upload.where, limits.values)
    return numbers_from_bytes(upload.content, upload.where, rows_in_time=rows_in_time)


def _array(upload: Upload) -> NDArray[Any]:
    try:
        loaded = np.load(BytesIO(upload.content), allow_pickle=False)
    except (ValueError, EOFError, OSError) as cause:
        raise DataError(f"{upload.where} cannot be read as a numpy array ({cause}).") from cause
    return np.asarray(loaded)
